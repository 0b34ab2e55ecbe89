"""What is counted and measured of a call, and how CloudWatch is told in the call's own line.

Each series costs money every month, so there are ten, whoever calls and whatever is called. A call's line names them in
the embedded metric format ("Specification: Embedded metric format" in CloudWatch's user guide); everything else that
one may want to know is a query over the same lines. `errors` is 0 or 1 in each line: its number is the calls, its sum
the failed ones, its average their share.
"""

from typing import Any

import msgspec
from msgspec import UNSET

from stile.telemetry.records import CallRecord, Emf, ErrorKind

NAMESPACE = "Stile"
SERIES = {
    "errors": "Count",
    "provider_errors": "Count",
    "auth_failures": "Count",
    "throttles": "Count",
    "cold_starts": "Count",
    "tokens": "Count",
    "cost_usd": "None",
    "total_ms": "Milliseconds",
    "ttfb_ms": "Milliseconds",
    "overhead_ms": "Milliseconds",
}
OF_MODELS = ("errors", "tokens", "cost_usd", "total_ms", "ttfb_ms")
# Whose fault it is that a call failed: ours, our stores', or the provider's. The caller's own are not failures.
FAILURES: frozenset[ErrorKind | None] = frozenset({"provider", "directory", "gateway"})

_OF_CODES: dict[str, ErrorKind] = {
    "client_gone": "client_gone",
    "directory_unavailable": "directory",
    "change_unconfirmed": "directory",
    "upstream_unreachable": "provider",
    "upstream_broken": "provider",
    "upstream_timeout": "provider",
    "internal_error": "gateway",
    "gateway_stopping": "gateway",
}
_OF_STATUSES: dict[int, ErrorKind] = {401: "authentication", 403: "permission", 429: "throttled"}
_PROVIDERS_OWN = "upstream_error"
# What a provider says of the request itself; its 401 and 403 are about the gateway's key.
_ABOUT_THE_REQUEST = frozenset({400, 404, 405, 409, 413, 415, 422})


def kind_of(error: str | None, status: int) -> ErrorKind | None:
    """The kind of a call's error, from its code and the status that the answer began with."""
    if error is None and status < 400:
        return None
    if error == _PROVIDERS_OWN:
        return "throttled" if status == 429 else "request" if status in _ABOUT_THE_REQUEST else "provider"
    return _OF_CODES.get(error or "") or _OF_STATUSES.get(status) or ("gateway" if status >= 500 else "request")


class Metrics:
    """Notes in records what is counted of them.

    `stage`: the dimension of all series. `by_model`: measure each *configured* model too, in series of its own. `told`:
    whether the lines are for CloudWatch.
    """

    def __init__(self, stage: str, *, by_model: bool, told: bool) -> None:
        self._stage = stage
        self._by_model = by_model
        self._told = told
        self._directives: dict[tuple[bool, ...], msgspec.Raw] = {}

    def note(self, record: CallRecord, now: float) -> None:
        """Fill in what follows from the rest of the record; `now` in seconds since 1970."""
        record.stage = self._stage
        if record.error is not None or record.status >= 400:
            self._note_error(record)
        if record.cold_start:
            record.cold_starts = 1
        if record.input_tokens is not None:
            record.tokens = record.input_tokens + (record.output_tokens or 0)
        if not self._by_model:
            record.model_name = UNSET
        if self._told:
            record.emf = self._emf(record, now)

    def _note_error(self, record: CallRecord) -> None:
        kind = record.error_kind = kind_of(record.error, record.status)
        if kind in FAILURES:
            record.errors = 1
        if kind == "provider":
            record.provider_errors = 1
        elif kind == "authentication":
            record.auth_failures = 1
        elif kind == "throttled":
            record.throttles = 1

    def _emf(self, record: CallRecord, now: float) -> Emf:
        kind, asked = record.error_kind, record.attempts > 0
        there = (
            kind == "provider",
            kind == "authentication",
            kind == "throttled",
            record.cold_start,
            record.tokens is not UNSET,
            record.cost_usd is not UNSET,
            asked,
            asked and record.ttfb_ms is not None,
            asked and record.overhead_ms is not None,
            isinstance(record.model_name, str) and _is_dimension(record.model_name),
        )
        directives = self._directives.get(there)
        if directives is None:  # a few of the 1,024 ever come
            directives = self._directives[there] = _directives(there)
        return Emf(int(now * 1000), directives)


def _is_dimension(name: str) -> bool:
    """Whether CloudWatch takes it for a dimension's value ("Dimension" in its API reference)."""
    return name.isascii() and name.isprintable() and bool(name.strip())


def _directives(there: tuple[bool, ...]) -> msgspec.Raw:
    *others, of_a_model = there
    names = ["errors", *(name for name, is_there in zip(list(SERIES)[1:], others, strict=True) if is_there)]
    found = [_directive(["stage"], names)]
    if of_a_model:
        found.append(_directive(["stage", "model_name"], [name for name in names if name in OF_MODELS]))
    return msgspec.Raw(msgspec.json.encode(found))


def _directive(dimensions: list[str], names: list[str]) -> dict[str, Any]:
    metrics = [{"Name": name, "Unit": SERIES[name]} for name in names]
    return {"Namespace": NAMESPACE, "Dimensions": [dimensions], "Metrics": metrics}
