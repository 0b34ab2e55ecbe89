"""Queries of CloudWatch Logs Insights over lines of JSON, as far as the project's queries use its language.

Written from "CloudWatch Logs Insights language query syntax" in AWS's documentation: the commands fields, filter,
stats, sort, limit and display, comparisons with and/or/not, `in`, `like`, `ispresent`, arithmetic, `bin`, and the
statistics count, count_distinct, sum, avg, min, max and pct. Anything else is refused, so that no query passes for one
that it is not, and so are lines of more fields than Insights finds. A field that a line does not have is null;
comparisons with null are false, statistics leave it out. A field that no line has is refused: it is misspelt, or the
run lacks what the query is for.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

Row = dict[str, Any]
Line = Mapping[str, Any]
Value = Callable[[Row], Any]

_TOKEN = re.compile(
    r"\s*(?:#[^\n]*(?=\n|$)\s*)?(?:(?P<text>'[^']*'|\"[^\"]*\")|(?P<number>\d+(?:\.\d+)?(?![\w]))|(?P<period>\d+[smhd]\b)"
    r"|(?P<regex>/(?:[^/\\\n]|\\.)+/)|(?P<name>@?[A-Za-z_][\w.]*)|(?P<sign><=|>=|!=|[=<>()\[\],+\-*/|%]))\s*(?:#[^\n]*)?"
)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LIMIT = 10_000  # rows, where a query says nothing
_FIELDS = 200  # "Supported logs and discovered fields": of a line of JSON no more are found


class QueryError(ValueError):
    """The query is none that this evaluator knows. The text says what it met."""


def query(text: str, lines: Iterable[Line]) -> list[Row]:
    """The rows that a query answers, without its `SOURCE`. Raises QueryError."""
    commands = _commands(text)
    rows: list[Row] = [_row(line) for line in lines]
    known = {name for row in rows for name in row}
    shown: list[str] | None = None
    for command in commands:
        name = command.name()
        made: set[str] = set()
        if name == "SOURCE":
            command.text()
        elif name in ("fields", "display"):
            shown, rows = _fields(command, rows, [] if name == "display" else shown or [])
            made = set(shown) - command.asked
        elif name == "filter":
            condition = command.condition()
            rows = [row for row in rows if condition(row)]
        elif name == "stats":
            rows, shown = _stats(command, rows)
            made = set(shown)
        elif name == "sort":
            rows = _sorted(command, rows)
        elif name == "limit":
            rows = rows[: int(command.number())]
        else:
            raise QueryError(f"no such command here: {name}")
        command.end()
        if command.asked - known:
            raise QueryError(f"no line has {sorted(command.asked - known)}")
        known = made if name == "stats" else known | made
    return [row if shown is None else {name: row.get(name) for name in shown} for row in rows[:_LIMIT]]


def _row(line: Line) -> Row:
    """The fields of a line as Insights finds them: what is nested by its path, true and false as 1 and 0."""
    row: Row = {"@message": json.dumps(line, ensure_ascii=False)}
    stamp = line.get("time")
    row["@timestamp"] = datetime.fromisoformat(stamp).timestamp() * 1000 if isinstance(stamp, str) else None
    fields = _flat(line, "")
    if len(fields) > _FIELDS:
        raise QueryError(f"a line has {len(fields)} fields, of which {_FIELDS} would be found")
    return row | fields


def _flat(value: Any, path: str) -> Row:
    if isinstance(value, Mapping):
        parts = [_flat(each, f"{path}.{name}" if path else name) for name, each in value.items()]
    elif isinstance(value, list):
        parts = [_flat(each, f"{path}.{number}") for number, each in enumerate(value)]
    else:
        return {path: int(value) if isinstance(value, bool) else value}
    return {name: each for part in parts for name, each in part.items()}


def _commands(text: str) -> list["_Reader"]:
    tokens: list[tuple[str, str]] = []
    place = 0
    text = text.strip()
    while place < len(text):
        found = _TOKEN.match(text, place)
        if found is None:
            raise QueryError(f"cannot be read: {text[place : place + 40]!r}")
        place = found.end()
        assert found.lastgroup is not None
        tokens.append((found.lastgroup, found[found.lastgroup]))
    commands: list[list[tuple[str, str]]] = [[]]
    for token in tokens:
        if token == ("sign", "|"):
            commands.append([])
        else:
            commands[-1].append(token)
    return [_Reader(command) for command in commands]


def _fields(command: "_Reader", rows: list[Row], shown: list[str]) -> tuple[list[str], list[Row]]:
    while True:
        start = command.rest()
        value = command.value()
        name = command.alias() or start.split(",")[0].strip()
        rows = [{**row, name: value(row)} for row in rows]
        shown = [*shown, name]
        if not command.takes(","):
            return shown, rows


def _stats(command: "_Reader", rows: list[Row]) -> tuple[list[Row], list[str]]:
    totals: list[tuple[str, Callable[[list[Row]], Any]]] = []
    while True:
        total, label = command.statistic()
        totals.append((command.alias() or label, total))
        if not command.takes(","):
            break
    groups: list[tuple[str, Value]] = []
    if command.takes("by"):
        while True:
            start = command.rest()
            value = command.value()
            groups.append((command.alias() or start.split(",")[0].strip(), value))
            if not command.takes(","):
                break
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(value(row) for _, value in groups), []).append(row)
    made = [
        {**dict(zip((name for name, _ in groups), key, strict=True)), **{name: total(of) for name, total in totals}}
        for key, of in found.items()
    ]
    return made, [*(name for name, _ in groups), *(name for name, _ in totals)]


def _sorted(command: "_Reader", rows: list[Row]) -> list[Row]:
    value = command.value()
    last = command.takes("desc")
    if not last:
        command.takes("asc")
    there = [row for row in rows if value(row) is not None]
    there.sort(key=lambda row: _comparable(value(row)), reverse=last)
    return there + [row for row in rows if value(row) is None]


def _comparable(value: Any) -> tuple[int, Any]:
    return (0, value) if isinstance(value, int | float) else (1, str(value))


class _Reader:
    """Reads one command's tokens."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._place = 0
        self.asked: set[str] = set()  # fields

    def rest(self) -> str:
        """What is still to be read, as it names a column that has no other name."""
        depth, text = 0, ""
        for _, token in self._tokens[self._place :]:
            depth += (token == "(") - (token == ")")
            if depth == 0 and token in (",", "as", "by"):
                break
            text += token
        return text

    def takes(self, word: str) -> bool:
        """Read this word, if it is next."""
        if self._place < len(self._tokens) and self._tokens[self._place][1] == word:
            self._place += 1
            return True
        return False

    def _kind(self) -> str:
        """Of what is next."""
        return self._tokens[self._place][0] if self._place < len(self._tokens) else "the end"

    def next(self, kind: str) -> str:
        if self._kind() != kind:
            met = self._tokens[self._place][1] if self._place < len(self._tokens) else "the end"
            raise QueryError(f"a {kind} is expected, not {met!r}")
        self._place += 1
        return self._tokens[self._place - 1][1]

    def name(self) -> str:
        return self.next("name")

    def text(self) -> str:
        return self.next("text")[1:-1]

    def number(self) -> float:
        return float(self.next("number"))

    def end(self) -> None:
        if self._place < len(self._tokens):
            raise QueryError(f"nothing is expected here, but {self._tokens[self._place][1]!r}")

    def alias(self) -> str | None:
        return self.name() if self.takes("as") else None

    def condition(self) -> Value:
        """or, and, not, comparisons: each binds tighter than the one before."""
        left = self._all()
        while self.takes("or"):
            left = _either(left, self._all())
        return left

    def _all(self) -> Value:
        left = self._one()
        while self.takes("and"):
            left = _both(left, self._one())
        return left

    def _one(self) -> Value:
        if self.takes("not"):
            denied = self._one()
            return lambda row: not denied(row)
        if self.takes("("):
            inner = self.condition()
            self._close()
            return inner
        if self.takes("ispresent"):
            self.next("sign")
            name = self.name()
            self.asked.add(name)
            self._close()
            return lambda row: row.get(name) is not None
        value = self.value()
        if self.takes("like"):
            return self._like(value)
        if self.takes("in"):
            return self._within(value)
        sign = self.next("sign")
        if sign not in _COMPARED:
            raise QueryError(f"a comparison is expected, not {sign!r}")
        return _compared(sign, value, self.value())

    def _like(self, value: Value) -> Value:
        if self._kind() == "regex":
            form = re.compile(self.next("regex")[1:-1])
            return lambda row: value(row) is not None and form.search(str(value(row))) is not None
        part = self.text()
        return lambda row: value(row) is not None and part in str(value(row))

    def _within(self, value: Value) -> Value:
        if not self.takes("["):
            raise QueryError("a list is expected after in")
        choices = [self._literal()]
        while self.takes(","):
            choices.append(self._literal())
        if not self.takes("]"):
            raise QueryError("a list does not end")
        return lambda row: value(row) in choices

    def _literal(self) -> Any:
        return self.number() if self._kind() == "number" else self.text()

    def value(self) -> Value:
        """Sums of products."""
        left = self._product()
        while self._place < len(self._tokens) and self._tokens[self._place][1] in ("+", "-"):
            left = _arithmetic(self.next("sign"), left, self._product())
        return left

    def _product(self) -> Value:
        left = self._atom()
        while self._place < len(self._tokens) and self._tokens[self._place][1] in ("*", "/"):
            left = _arithmetic(self.next("sign"), left, self._atom())
        return left

    def _atom(self) -> Value:
        kind, text = self._tokens[self._place] if self._place < len(self._tokens) else ("", "the end")
        if kind in ("text", "number"):
            literal = self._literal()
            return lambda _: literal
        if self.takes("("):
            inner = self.value()
            self._close()
            return inner
        if kind != "name":
            raise QueryError(f"a value is expected, not {text!r}")
        name = self.name()
        if not self.takes("("):
            self.asked.add(name)
            return lambda row: row.get(name)
        if name != "bin":
            raise QueryError(f"no such function here: {name}")
        period = self.next("period")
        self._close()
        width = int(period[:-1]) * _SECONDS[period[-1]] * 1000
        return lambda row: None if row.get("@timestamp") is None else row["@timestamp"] // width * width

    def statistic(self) -> tuple[Callable[[list[Row]], Any], str]:
        label = self.rest()
        name = self.name()
        if name not in _STATISTICS:
            raise QueryError(f"no such statistic here: {name}")
        if not self.takes("("):
            raise QueryError(f"{name} needs (")
        if name == "count" and self.takes(")"):
            return len, label
        if name == "count" and self.takes("*"):
            self._close()
            return len, label
        value = self.value()
        share = self.number() if name == "pct" and self.takes(",") else math.nan
        self._close()
        total = _STATISTICS[name]

        def of(rows: list[Row]) -> Any:
            there = [found for row in rows if (found := value(row)) is not None]
            return total(there, share)

        return of, label

    def _close(self) -> None:
        if not self.takes(")"):
            raise QueryError("a ) is missing")


def _either(left: Value, right: Value) -> Value:
    return lambda row: left(row) or right(row)


def _both(left: Value, right: Value) -> Value:
    return lambda row: left(row) and right(row)


_COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda one, other: bool(one == other),
    "!=": lambda one, other: bool(one != other),
    "<": lambda one, other: bool(one < other),
    "<=": lambda one, other: bool(one <= other),
    ">": lambda one, other: bool(one > other),
    ">=": lambda one, other: bool(one >= other),
}


def _compared(sign: str, left: Value, right: Value) -> Value:
    def holds(row: Row) -> bool:
        one, other = left(row), right(row)
        if one is None or other is None:
            return False
        if isinstance(one, str) != isinstance(other, str):
            return sign == "!="
        return _COMPARED[sign](one, other)

    return holds


def _arithmetic(sign: str, left: Value, right: Value) -> Value:
    def result(row: Row) -> float | None:
        one, other = left(row), right(row)
        if not isinstance(one, int | float) or not isinstance(other, int | float) or (sign == "/" and other == 0):
            return None
        return {"+": one + other, "-": one - other, "*": one * other}[sign] if sign != "/" else one / other

    return result


_STATISTICS: dict[str, Callable[[list[Any], float], Any]] = {
    "count": lambda found, _: len(found),
    "count_distinct": lambda found, _: len(set(found)),
    "sum": lambda found, _: sum(found) if found else None,
    "avg": lambda found, _: sum(found) / len(found) if found else None,
    "min": lambda found, _: min(found, default=None),
    "max": lambda found, _: max(found, default=None),
    "pct": lambda found, share: sorted(found)[max(0, math.ceil(share / 100 * len(found)) - 1)] if found else None,
}
