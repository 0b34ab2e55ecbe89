"""The results as a table for people. Rounds come in, lines of text go out; medians are over the rounds that count."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench import line as lines
from bench.load import Round
from bench.servers import GATEWAY, ROUTED

Rounds = Mapping[str, Mapping[str, Sequence[Round]]]  # server name → scenario → its rounds

AIMS = (
    ("calls-16", "bare relay", 0.7, "of the bare relay's calls/s at 16 connections"),
    ("chunks", "bare relay", 0.8, "of the bare relay's chunks/s"),
    ("calls-16", "LiteLLM proxy", 50, "of LiteLLM proxy's calls/s at 16 connections"),
)
MOST_FOR_ROUTING = 1.03


@dataclass(frozen=True)
class Row:
    """One line: a title, a value for each server that has one, how to write it, and whether ratios make sense."""

    title: str
    values: Mapping[str, float]
    form: str = ",.0f"
    marks: Mapping[str, str] | None = None
    ratio: bool = True


def counted(rounds: Sequence[Round]) -> Sequence[Round]:
    """The rounds that count; all of them where none does."""
    return [one for one in rounds if not one.faults] or rounds


def median(rounds: Sequence[Round], field: str) -> float:
    return statistics.median(getattr(one, field) or 0 for one in counted(rounds))


def rows(
    rounds: Rounds, direct: Sequence[Round], facts: Mapping[str, Mapping[str, float]], cpu_only: bool
) -> list[Row]:
    """All lines of the table; a line is left out where nothing was measured for it."""

    def of(scenario: str, field: str, title: str, form: str = ",.0f") -> Row:
        having = {name: own[scenario] for name, own in rounds.items() if scenario in own}
        return Row(
            title,
            {name: median(own, field) for name, own in having.items()},
            form,
            {name: mark(own) for name, own in having.items()},
        )

    latency = of("calls-1", "p50", "p50 µs at 1 connection")
    table = [of(f"calls-{n}", "rate", f"calls/s, {n} connection{'s' * (n > 1)}") for n in (1, 16, 64)]
    table.append(latency)
    if direct:
        table.append(_less(latency, median(direct, "p50"), "  added to the provider's own, µs"))
    if "bare relay" in latency.values:
        table.append(_less(latency, latency.values["bare relay"], "  added to the bare relay's, µs", ratio=False))
    table += [
        of("calls-16", "cpu", "CPU µs per call, 16 connections"),
        of("python-calls", "cpu", "CPU µs per call, 16 connections"),
        of("chunks", "rate", "chunks/s, 32 streams, one chunk on its way in each"),
        of("chunks", "cpu", "CPU µs per chunk, 32 streams, the same", ",.1f"),
        of("paced", "cpu", "CPU µs per chunk, 32 streams of 50 chunks/s", ",.1f"),
    ]
    for key, title, form in (
        ("idle_mb", "memory when started, MB", ",.0f"),
        ("loaded_mb", "memory after the load, MB", ",.0f"),
        ("start_seconds", "start to first answer, s", ",.2f"),
    ):
        table.append(Row(title, {name: own[key] for name, own in facts.items()}, form))
    return [row for row in table if row.values and not (cpu_only and row.title.startswith("chunks/s"))]


def _less(row: Row, base: float, title: str, ratio: bool = True) -> Row:
    return Row(title, {name: value - base for name, value in row.values.items()}, row.form, ratio=ratio)


def mark(rounds: Sequence[Round]) -> str:
    """`!` where some rounds did not count, `invalid` where none did."""
    bad = sum(bool(one.faults) for one in rounds)
    return "" if not bad else " invalid" if bad == len(rounds) else " !"


def render(table: Sequence[Row], names: Sequence[str]) -> list[str]:
    """The table in Markdown that is also readable as it stands."""
    others = [name for name in names if name != GATEWAY] if GATEWAY in names else []
    cells = [["", *names, *(f"{GATEWAY} / {name}" for name in others)], []]
    for row in table:
        marks = row.marks or {}
        line = [row.title]
        line += [f"{row.values[n]:{row.form}}{marks.get(n, '')}" if n in row.values else "" for n in names]
        line += [_ratio(row, name) for name in others]
        cells.append(line)
    widths = [max(len(line[column]) for line in cells if line) for column in range(len(cells[0]))]
    cells[1] = ["-" * width if not column else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    return [
        "| "
        + " | ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        + " |"
        for line in cells
    ]


def _ratio(row: Row, other: str) -> str:
    own, base = row.values.get(GATEWAY), row.values.get(other)
    if not row.ratio or own is None or not base:
        return ""
    return factor(own / base)


def factor(ratio: float) -> str:
    return f"{ratio:.0%}" if ratio < 2 else f"{ratio:,.1f} ×" if ratio < 10 else f"{ratio:,.0f} ×"


def aims(rounds: Rounds) -> list[str]:
    """One line for each aim that could be judged."""
    lines = []
    for scenario, other, least, words in AIMS:
        own, base = (rounds.get(name, {}).get(scenario) for name in (GATEWAY, other))
        if own and base and (rate := median(base, "rate")):
            ratio = median(own, "rate") / rate
            verdict = "met" if ratio >= least else "NOT met"
            if any(all(one.faults for one in several) for several in (own, base)):
                verdict = "not judged, no valid round"
            lines.append(f"Aim: ≥ {factor(least)} {words}: {factor(ratio)}, {verdict}.")
    return [*lines, *_price(rounds)]


def line(rounds: Rounds) -> list[str]:
    """What it costs a call to be seen."""
    own = rounds.get(GATEWAY, {})
    several = own.get("calls-16") or own.get("python-calls")
    return [lines.report(cost)] if several and (cost := median(several, "cpu")) else []


def _price(rounds: Rounds) -> list[str]:
    """What routing costs a call that needs none of it."""
    routed, plain = (rounds.get(name, {}).get("calls-1", ()) for name in (ROUTED, GATEWAY))
    # Both of a pair were measured within seconds: what the machine did meanwhile matters less than between medians.
    pairs = list(zip(routed, plain, strict=True))
    ratios = [
        one.p50 / other.p50
        for one, other in [pair for pair in pairs if not (pair[0].faults or pair[1].faults)] or pairs
        if one.p50 and other.p50
    ]
    if not ratios:
        return []
    ratio = statistics.median(ratios)
    verdict = "met" if ratio <= MOST_FOR_ROUTING else "NOT met"
    if all(one.faults or other.faults for one, other in pairs):
        verdict = "not judged, no valid round"
    most = f"≤ {MOST_FOR_ROUTING:.0%} of the p50 at 1 connection"
    return [f"Aim: {most} with a hundred models, weights and fallbacks: {ratio:.1%}, {verdict}."]


def faults(rounds: Rounds) -> list[str]:
    """One line for each figure some of whose rounds did not count."""
    lines = []
    for name, own in rounds.items():
        for scenario, several in own.items():
            reasons = Counter(fault for one in several for fault in one.faults)
            if reasons:
                bad = sum(bool(one.faults) for one in several)
                why = "; ".join(f"{reason} ({times} ×)" for reason, times in reasons.items())
                lines.append(f"! {name}, {scenario}: {bad} of {len(several)} rounds invalid: {why}")
    return lines
