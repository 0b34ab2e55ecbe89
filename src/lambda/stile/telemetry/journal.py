"""Writes what is seen: one line for each call and for each change of a user or key, and the program's own log lines in
the same form, as JSON or for people's eyes."""

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET

from stile.errors import ConfigError
from stile.settings import LogLevel, Settings
from stile.telemetry import terminal
from stile.telemetry.metrics import Metrics
from stile.telemetry.records import AuditRecord, CallRecord, TextRecord
from stile.telemetry.redaction import Concealed, shown
from stile.telemetry.sink import Sink
from stile.telemetry.tally import Tally

_STANDARD_OUTPUT = 1
_MAX_TEXT = 32 * 1024  # characters of a message, and of a trace
_MILLISECONDS = [f".{number:03d}Z" for number in range(1000)]
_OWN = "stile"  # the logger above all of the program's own
_LEVELS: dict[str, LogLevel] = {"DEBUG": "debug", "INFO": "info", "ERROR": "error", "CRITICAL": "error"}


class Telemetry:
    """Writes lines to `settings.log_file`, or to standard output.

    `otherwise`: the descriptor of another place than standard output. `tally`: counts calls too. Raises ConfigError
    when the file cannot be written.
    """

    def __init__(self, settings: Settings, *, otherwise: int = _STANDARD_OUTPUT, tally: Tally | None = None) -> None:
        path = settings.log_file
        self._out = _open(path) if path else otherwise
        self._opened = path is not None
        on_terminal = os.isatty(self._out)
        pretty = settings.log_format == "pretty" or (settings.log_format is None and on_terminal)
        self._for_people = terminal.Lines(colour=on_terminal and not os.environ.get("NO_COLOR")) if pretty else None
        self._metrics = Metrics(settings.stage, by_model=settings.metrics_by_model, told=not pretty)
        self._level = settings.log
        self._concealed = Concealed()
        self._encoder = msgspec.json.Encoder()
        self._sink = Sink(self._out, self._lost)
        self._second = 0
        self._second_text = ""
        self.tally = tally

    @property
    def concealed(self) -> Concealed:
        """What the program's own lines never show."""
        return self._concealed

    def call(self, record: CallRecord) -> None:
        """Write one call's line."""
        now = time.time()
        record.time = self._text_of(now)
        if record.path != record.route:  # a path of the table is nobody's choice
            record.path = shown(record.path)
        record.model, record.target = shown(record.model), shown(record.target)
        record.model_served = self._concealed.name(record.model_served)
        if record.mcp_method is not UNSET:
            record.mcp_method, record.mcp_name = shown(record.mcp_method), shown(record.mcp_name)
            record.mcp_version = shown(record.mcp_version)
        record.upstream_ms = int(record.upstream_ms * 100) / 100
        if record.failed_attempts:
            record.failed_attempts = [str(shown(attempt)) for attempt in record.failed_attempts]
        self._metrics.note(record, now)
        if self.tally is not None:
            self.tally.add(record)
        self._sink.put(
            self._encoder.encode(record) if self._for_people is None else _bytes(self._for_people.call(record))
        )

    def audit(self, record: AuditRecord) -> None:
        """Write the line of one change, with known secrets and anything shaped like a key blotted out of its texts."""
        record.time = self._text_of(time.time())
        record.before, record.after = self._redacted(record.before), self._redacted(record.after)
        self._sink.put(self._encoder.encode(record) if not self._for_people else _bytes(self._for_people.audit(record)))

    def text(self, level: LogLevel, logger: str, message: str, trace: str | None = None) -> None:
        """Write one line of free text, with known secrets and anything shaped like a key blotted out."""
        self._sink.put(self._text(level, logger, message, trace))

    def capture_logging(self) -> None:
        """Send to the same place what the program logs from its level up, and what its libraries do from warnings up:
        what they say below may hold anything."""
        logging.getLogger(_OWN).setLevel(self._level.upper())
        root = logging.getLogger()
        root.handlers = [_Handler(self)]
        root.setLevel(logging.ERROR if self._level == "error" else logging.WARNING)
        logging.captureWarnings(capture=True)

    def flush(self) -> None:
        """Write what waits."""
        self._sink.flush()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep lines back until the block ends."""
        self._sink.hold()
        try:
            yield
        finally:
            self._sink.flush()

    def close(self) -> None:
        self._sink.close()
        if self._opened:
            os.close(self._out)

    def _text(self, level: LogLevel, logger: str, message: str, trace: str | None = None) -> bytes:
        now = self._text_of(time.time())
        record = TextRecord(now, level, logger, self._clean(message), self._clean(trace) if trace else UNSET)
        return _bytes(self._for_people.text(record)) if self._for_people else self._encoder.encode(record)

    def _clean(self, text: str) -> str:
        return self._concealed.redact(text[:_MAX_TEXT]).encode("utf-8", "replace").decode()

    def _redacted(self, value: Any) -> Any:
        """Texts one by one, and not the JSON of them all: what is blotted out must not take its signs along."""
        if isinstance(value, str):
            return self._clean(value)
        if isinstance(value, dict):
            return {self._redacted(name): self._redacted(each) for name, each in value.items()}
        return [self._redacted(each) for each in value] if isinstance(value, list | tuple) else value

    def _lost(self, number: int) -> bytes:
        told = f"{number} lines before this one are lost: what they go to did not take them"
        return self._text("warning", "stile.telemetry", told)

    def _text_of(self, now: float) -> str:
        second = int(now)
        if second != self._second:
            self._second_text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
            self._second = second
        return self._second_text + _MILLISECONDS[int((now - second) * 1000)]


def _bytes(line: str) -> bytes:
    return line.encode("utf-8", "replace")


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    except OSError as fault:
        raise ConfigError([f"STILE_LOG_FILE: {path} cannot be written ({fault.strerror})"]) from None


class _Handler(logging.Handler):
    def __init__(self, telemetry: Telemetry) -> None:
        super().__init__()
        self._telemetry = telemetry
        self._traces = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        trace = self._traces.formatException(record.exc_info) if record.exc_info else None
        self._telemetry.text(_LEVELS.get(record.levelname, "warning"), record.name, _message(record), trace)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # a library's own mistake in the call
        return str(record.msg)
