"""A call's line for people: one short line, with colours where the terminal shows them."""

from stile.telemetry.records import AuditRecord, CallRecord, TextRecord

_RESET = "\x1b[0m"
_DIM, _RED, _GREEN, _YELLOW, _CYAN = "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[36m"
_OF_LEVELS = {"error": _RED, "warning": _YELLOW, "info": "", "debug": _DIM}
_CLOCK = slice(11, 23)  # of an ISO time: hours to milliseconds


class Lines:
    """Makes the lines. `colour`: with escape sequences."""

    def __init__(self, *, colour: bool) -> None:
        self._colour = colour

    def call(self, record: CallRecord) -> str:
        """Time, status, what was asked, what it used and how long it took, and the id to find the rest by."""
        parts = [
            self._painted(record.time[_CLOCK], _DIM),
            self._painted(str(record.status), _of_status(record)),
            _plain(f"{record.method} {record.path}"),
            *_model(record),
            *_usage(record),
            f"{record.total_ms:.0f} ms",
            *([f"first byte {record.ttfb_ms:.0f} ms"] if record.stream and record.ttfb_ms is not None else []),
            *([self._painted(record.error, _of_status(record))] if record.error else []),
            self._painted(record.request_id, _DIM),
        ]
        return "  ".join(parts)

    def audit(self, record: AuditRecord) -> str:
        """Who changed what."""
        by = record.by_user_id or "the program itself"
        what = f"{record.action}  user {record.user_id}" + (f"  key {record.key_id}" if record.key_id else "")
        outcome = "" if record.outcome == "done" else f"  {record.outcome}"
        return f"{self._painted(record.time[_CLOCK], _DIM)}  {self._painted(_plain(what), _CYAN)}  by {by}{outcome}"

    def text(self, record: TextRecord) -> str:
        """A message; its trace on the lines below."""
        level = self._painted(record.level, _OF_LEVELS[record.level])
        line = f"{self._painted(record.time[_CLOCK], _DIM)}  {level}  {_plain(f'{record.logger}: {record.message}')}"
        trace = record.trace.splitlines() if isinstance(record.trace, str) else []
        return "\n".join([line, *(f"    {_plain(part)}" for part in trace)])

    def _painted(self, text: str, colour: str) -> str:
        return f"{colour}{text}{_RESET}" if self._colour and colour else text


def _of_status(record: CallRecord) -> str:
    return _RED if record.status >= 500 or record.errors else _YELLOW if record.status >= 400 else _GREEN


def _model(record: CallRecord) -> list[str]:
    if record.model is None:
        return []
    return [_plain(record.model if record.target in (None, record.model) else f"{record.model} → {record.target}")]


def _usage(record: CallRecord) -> list[str]:
    if record.input_tokens is None:
        return []
    guess = "about " if record.usage_estimated else ""
    used = f"{guess}{record.input_tokens}+{record.output_tokens or 0} tokens"
    return [used, f"${record.cost_usd:.4g}"] if isinstance(record.cost_usd, float) else [used]


def _plain(text: str) -> str:
    """`text` with what would move a terminal's cursor, or worse, spelt out."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "replace").decode() for letter in text
    )
