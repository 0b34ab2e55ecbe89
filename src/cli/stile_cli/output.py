"""What is shown: records alone on standard output, everything that is said about them on standard error.

Whatever a gateway says goes to a terminal without its control characters.
"""

import json
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click

_UNITS = ((86_400 * 365, "year"), (86_400 * 30, "month"), (86_400, "day"), (3600, "hour"), (60, "minute"))
_KEPT = "\n\t"
_LEAST = 9  # columns that a cell needs to be read


def plain(text: object) -> str:
    """A text without what would steer a terminal."""
    return "".join(sign if sign.isprintable() or sign in _KEPT else "�" for sign in str(text))


def put_json(record: Any) -> None:
    """A record alone, on standard output."""
    click.echo(json.dumps(record, indent=2, ensure_ascii=not _takes_unicode()))


def put(text: str) -> None:
    """A line on standard output."""
    click.echo(plain(text))


def tell(text: str) -> None:
    """A line on standard error."""
    click.echo(plain(text), err=True)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], empty: str) -> None:
    """Rows that fit the terminal; the first column's cells stay whole, so that they can be copied. In one that is too
    narrow the rows are shown one after another; where there is none, one row a line with tabs, for other programs.
    """
    if not rows:
        tell(empty)
        return
    if not sys.stdout.isatty():
        for row in rows:
            click.echo("\t".join(plain(cell).replace("\t", " ").replace("\n", " ") for cell in row))
        return
    from rich.console import Console  # only who looks at a table pays for it
    from rich.table import Table
    from rich.text import Text

    console = Console()
    first = max(len(row[0]) for row in rows)
    if console.width < first + _LEAST * (len(columns) - 1):
        for row in rows:
            fields(list(zip(columns, row, strict=True)))
            put("")
        return
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        shown.add_column(column, overflow="fold", no_wrap=not number, min_width=None if number else first)
    for row in rows:
        shown.add_row(*(Text(plain(cell)) for cell in row))
    console.print(shown)


def fields(pairs: Sequence[tuple[str, str]]) -> None:
    """One record, a field a line."""
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        put(f"{name:{width}}  {value}")


def moment(seconds: int | None, *, utc: bool, never: str = "never") -> str:
    """A time as people say it, or to the second in UTC."""
    if seconds is None:
        return never
    if utc:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    away = seconds - time.time()
    for size, unit in _UNITS:
        if (count := round(abs(away) / size)) >= 1 and abs(away) >= size * 0.95:
            said = f"{count} {unit}{'s' if count > 1 else ''}"
            return f"in {said}" if away > 0 else f"{said} ago"
    return "in a moment" if away > 0 else "just now"


def names(listed: Sequence[str] | None) -> str:
    """A bound of models or tools."""
    return "all" if listed is None else ", ".join(listed)


def _takes_unicode() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") in ("utf8", "utf16")
