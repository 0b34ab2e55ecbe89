"""The figures of cold starts as a table for people, and whether the aims are met. Figures come in, lines go out."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

Figures = dict[str, list[float]]  # by name, one of each round

LITELLM = "litellm"
OTHERS = "others"  # the part of the core's work that was not ours
MUCH = 0.1
# Figure → title, and how it is written.
ROWS: tuple[tuple[str, str, str], ...] = (
    ("ready", "process start to ready for an event, s", ".3f"),
    ("relayed", "process start to first byte, relayed call, s", ".3f"),
    ("in cognito", "the same with users in Cognito and the pepper in Secrets Manager, s", ".3f"),
    ("translated", "process start to first byte, translated call, s", ".3f"),
    (LITELLM, "LiteLLM proxy: process start to first answer, s", ".3f"),
    ("relayed, restored", "restore to first byte, relayed call, s", ".3f"),
    ("translated, restored", "restore to first byte, translated call, s", ".3f"),
    ("relayed MB", "peak memory after a relayed call, MB", ".0f"),
    ("translated MB", "peak memory after a translated call, MB", ".0f"),
    ("litellm MB", "LiteLLM proxy: peak memory after a call, MB", ".0f"),
    ("warm empty", "warm: an empty app on the same host, ms", ".2f"),
    ("warm health", "warm: `GET /health`, ms", ".2f"),
    ("warm echo", "warm: a call of `echo`, ms", ".2f"),
    ("warm relayed", "warm: a relayed call, the provider's time in it, ms", ".2f"),
    ("provider", "the provider, asked without a gateway, ms", ".2f"),
)
# Figure and the most it may be, as a part of the time that LiteLLM's proxy needs to its first answer.
STARTS = (
    ("relayed", 15, "a relayed call's first byte"),
    ("in cognito", 15, "a relayed call's first byte, users in Cognito,"),
    ("translated", 3, "a translated call's first byte"),
)
ADDED_MS = 1.0
ADDED = (("warm health", "`GET /health`"), ("warm echo", "a call of `echo`"), ("warm relayed", "a relayed call"))


def report(figures: Figures, machine: Mapping[str, Any]) -> list[str]:
    """The machine, the table, the aims."""
    (rounds,) = {len(values) for values in figures.values()}
    head = (
        f"{machine['date']}, {machine['cpu']}, {machine['cores']} cores, Python {machine['python']}, "
        f"Linux {machine['kernel']}; on one core each, medians of {rounds} rounds."
    )
    return [head, "", *table(figures), "", *aims(figures), *faults(figures)]


def table(figures: Figures) -> list[str]:
    """In Markdown that is also readable as it stands."""
    cells = [["", "median", "least", "most", "of LiteLLM's"], []]
    cells += [[title, *_spread(figures[name], form), _share(figures, name)] for name, title, form in ROWS]
    widths = [max(len(line[column]) for line in cells if line) for column in range(len(cells[0]))]
    cells[1] = ["-" * width if not column else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    return [f"| {' | '.join(_pad(line, widths))} |" for line in cells]


def aims(figures: Figures) -> list[str]:
    """One line for each aim."""
    lines = []
    for name, part, words in STARTS:
        times = _median(figures, LITELLM) / _median(figures, name)
        verdict = "met" if times >= part else "NOT met"
        lines.append(f"Aim: {words} in ≤ 1/{part} of LiteLLM proxy's start: 1/{times:.1f}, {verdict}.")
    added = {words: _median(figures, name) - _median(figures, "warm empty") for name, words in ADDED}
    listed = ", ".join(f"{words} {value:.2f}" for words, value in added.items())
    verdict = "met" if max(added.values()) <= ADDED_MS else "NOT met"
    lines.append(f"Aim: ≤ {ADDED_MS:.0f} ms more than an empty app when warm: {listed}, {verdict}.")
    return lines


def faults(figures: Figures) -> list[str]:
    """What speaks against these figures, if anything does."""
    disturbed = sum(part > MUCH for part in figures[OTHERS])
    if not disturbed:
        return []
    told = f"{disturbed} of {len(figures[OTHERS])} rounds, other processes did more than {MUCH:.0%} of the core's work"
    return [f"! In {told}: what takes longest is disturbed most, so compare nothing but a quiet machine's figures."]


def _median(figures: Figures, name: str) -> float:
    return statistics.median(figures[name])


def _spread(values: Sequence[float], form: str) -> list[str]:
    return [format(value, form) for value in (statistics.median(values), min(values), max(values))]


def _share(figures: Figures, name: str) -> str:
    """Of LiteLLM proxy's start, or of its memory, where that is what the figure is compared with."""
    if name.startswith(("warm", "provider", LITELLM)):
        return ""
    whole = "litellm MB" if name.endswith("MB") else LITELLM
    return f"1/{_median(figures, whole) / _median(figures, name):,.1f}"


def _pad(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    pairs = zip(line, widths, strict=True)
    return [cell.rjust(width) if column else cell.ljust(width) for column, (cell, width) in enumerate(pairs)]
