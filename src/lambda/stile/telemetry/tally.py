"""The same numbers as CloudWatch's for a gateway on one machine, since it started, in Prometheus's text format
(prometheus.io, "Exposition formats", version 0.0.4)."""

from bisect import bisect_right
from collections.abc import Iterator

from msgspec import UNSET

from stile.telemetry.records import CallRecord, ErrorKind

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

# Seconds: from what the gateway itself takes to what a long answer does.
_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_AT_ONCE = 1000


class _Histogram:
    """Counts of times. `new`: milliseconds that are not counted yet, for counting many at once costs each call less."""

    def __init__(self) -> None:
        self.new: list[float] = []
        self._below = [0] * len(_BOUNDS)  # how many are not above each bound
        self._count = 0
        self._sum = 0.0

    def fold(self) -> None:
        """Count the new ones."""
        times = sorted(self.new)
        self.new.clear()
        for number, bound in enumerate(_BOUNDS):
            self._below[number] += bisect_right(times, bound * 1000)
        self._count += len(times)
        self._sum += sum(times) / 1000

    def lines(self, name: str, told: str) -> Iterator[str]:
        self.fold()
        yield from _head(name, "histogram", told)
        for bound, count in zip((*_BOUNDS, "+Inf"), (*self._below, self._count), strict=True):
            yield f'{name}_bucket{{le="{bound}"}} {count}'
        yield f"{name}_sum {self._sum:.9g}"
        yield f"{name}_count {self._count}"


class Tally:
    """What all calls come to. Its size does not grow with them."""

    def __init__(self) -> None:
        self._calls = 0
        self._errors: dict[ErrorKind, int] = {}
        self._input = self._output = 0
        self._cost = 0.0
        self._latency, self._first_byte, self._overhead = _Histogram(), _Histogram(), _Histogram()

    def add(self, record: CallRecord) -> None:
        """Count one call, whose record is complete."""
        self._calls += 1
        if record.error_kind is not None:
            self._errors[record.error_kind] = self._errors.get(record.error_kind, 0) + 1
        if record.input_tokens is not None:
            self._input += record.input_tokens
            self._output += record.output_tokens or 0
        if record.cost_usd is not UNSET:
            self._cost += record.cost_usd
        if record.attempts:
            self._latency.new.append(record.total_ms)
            if record.ttfb_ms is not None:
                self._first_byte.new.append(record.ttfb_ms)
            if record.overhead_ms is not None:
                self._overhead.new.append(record.overhead_ms)
            if len(self._latency.new) >= _AT_ONCE:
                for histogram in (self._latency, self._first_byte, self._overhead):
                    histogram.fold()

    def text(self) -> str:
        """All of it."""
        return "\n".join([*self._counters(), *self._histograms(), ""])

    def _counters(self) -> Iterator[str]:
        yield from _head("stile_calls_total", "counter", "Calls of every kind.")
        yield f"stile_calls_total {self._calls}"
        yield from _head("stile_call_errors_total", "counter", "Calls that ended with an error, by its kind.")
        for kind in sorted(self._errors):
            yield f'stile_call_errors_total{{kind="{kind}"}} {self._errors[kind]}'
        yield from _head("stile_tokens_total", "counter", "Tokens that models took and gave.")
        yield f'stile_tokens_total{{direction="input"}} {self._input}'
        yield f'stile_tokens_total{{direction="output"}} {self._output}'
        yield from _head("stile_cost_usd_total", "counter", "What models with a known price cost.")
        yield f"stile_cost_usd_total {self._cost:.9g}"

    def _histograms(self) -> Iterator[str]:
        yield from self._latency.lines("stile_call_seconds", "Whole time of calls that reached a target.")
        yield from self._first_byte.lines("stile_first_byte_seconds", "Their time until the head of the answer.")
        yield from self._overhead.lines("stile_overhead_seconds", "The gateway's own part of that.")


def _head(name: str, kind: str, told: str) -> tuple[str, str]:
    return f"# HELP {name} {told}", f"# TYPE {name} {kind}"
