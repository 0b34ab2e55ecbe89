"""What CloudWatch makes of lines in its embedded metric format.

`check` is written from AWS's text: "Specification: Embedded metric format" in CloudWatch's user guide, "Dimension" and
"MetricDatum" in its API reference. `Metrics` answers what its console would: statistics of a metric, and math of them.
"""

import ast
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeGuard

MAX_BYTES = 1024 * 1024  # of an event in CloudWatch Logs, which a line with metrics is
MAX_VALUE = 2.0**360
_SIZES = (
    "Bytes",
    "Kilobytes",
    "Megabytes",
    "Gigabytes",
    "Terabytes",
    "Bits",
    "Kilobits",
    "Megabits",
    "Gigabits",
    "Terabits",
)
UNITS = {
    *("Seconds", "Microseconds", "Milliseconds", "Percent", "Count", "None", "Count/Second"),
    *_SIZES,
    *(f"{size}/Second" for size in _SIZES),
}
_NAMESPACE = re.compile(r"(?!:)[\w.\-/#: ]{1,255}", re.ASCII)
_FORTNIGHT, _TWO_HOURS = 14 * 86_400_000, 2 * 3_600_000

Line = Mapping[str, Any]
Series = tuple[str, str, tuple[tuple[str, str], ...]]  # namespace, metric, dimensions


def check(line: Line, *, now_ms: float | None = None, size: int | None = None) -> list[str]:
    """What of the specification a line with metrics does not obey; `size`: its bytes, `now_ms`: when it is taken."""
    meta = line.get("_aws")
    if not isinstance(meta, dict):
        return ["_aws is no object"]
    faults = []
    stamp = meta.get("Timestamp")
    if not _is_number(stamp) or stamp != int(stamp):
        faults.append("_aws.Timestamp is no whole number of milliseconds")
    elif now_ms is not None and not now_ms - _FORTNIGHT <= stamp <= now_ms + _TWO_HOURS:
        faults.append("_aws.Timestamp is too old or in the future")
    if size is not None and size > MAX_BYTES:
        faults.append("the line is too long")
    directives = meta.get("CloudWatchMetrics")
    if not isinstance(directives, list):
        return [*faults, "_aws.CloudWatchMetrics is no array"]
    seen: set[tuple[str, str, tuple[str, ...]]] = set()
    for directive in directives:
        faults += _directive(directive, line, seen)
    return faults


def _directive(directive: Any, line: Line, seen: set[tuple[str, str, tuple[str, ...]]]) -> list[str]:
    if not isinstance(directive, dict) or not {"Namespace", "Dimensions", "Metrics"} <= directive.keys():
        return ["a directive lacks Namespace, Dimensions or Metrics"]
    namespace, sets, metrics = directive["Namespace"], directive["Dimensions"], directive["Metrics"]
    faults = [f"a directive has {name}" for name in directive.keys() - {"Namespace", "Dimensions", "Metrics"}]
    if not isinstance(namespace, str) or not _NAMESPACE.fullmatch(namespace) or not namespace.strip():
        faults.append("the namespace is no name")
    elif namespace.startswith("AWS/"):
        faults.append("the namespace is AWS's own")
    if not isinstance(sets, list) or not sets or not all(isinstance(each, list) for each in sets):
        return [*faults, "Dimensions is no array of arrays"]
    if not isinstance(metrics, list) or not all(isinstance(each, dict) for each in metrics):
        return [*faults, "Metrics is no array of objects"]
    if len(metrics) > 100:
        faults.append("there are more than 100 metrics")
    for names in sets:
        faults += _dimensions(names, line)
    for metric in metrics:
        faults += _metric(metric, line)
        for names in sets:
            key = (str(namespace), str(metric.get("Name")), tuple(sorted(map(str, names))))
            if key in seen:
                faults.append(f"{metric.get('Name')} is there twice")
            seen.add(key)
    return faults


def _dimensions(names: list[Any], line: Line) -> list[str]:
    faults = ["a set has more than 30 dimensions"] if len(names) > 30 else []
    for name in names:
        value = line.get(name) if isinstance(name, str) else None
        if not isinstance(name, str) or not 1 <= len(name) <= 255 or name.startswith(":"):
            faults.append("a dimension has no name")
        elif not isinstance(value, str):
            faults.append(f"the dimension {name} is no text in the line")
        elif not 1 <= len(value) <= 1024 or not value.isascii() or not value.isprintable() or not value.strip():
            faults.append(f"the dimension {name} has a value that CloudWatch does not take")
    return faults


def _metric(metric: dict[str, Any], line: Line) -> list[str]:
    name = metric.get("Name")
    if not isinstance(name, str) or not 1 <= len(name) <= 255:
        return ["a metric has no name"]
    faults = [f"{name} has {more}" for more in metric.keys() - {"Name", "Unit", "StorageResolution"}]
    if metric.get("Unit", "None") not in UNITS:
        faults.append(f"{name} has a unit that CloudWatch does not know")
    if metric.get("StorageResolution", 60) not in (1, 60):
        faults.append(f"{name} has a resolution that CloudWatch does not know")
    value = line.get(name)
    values = value if isinstance(value, list) else [value]
    if not 1 <= len(values) <= 100 or not all(_is_number(each) and abs(each) <= MAX_VALUE for each in values):
        faults.append(f"{name} is no number in the line")
    return faults


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


class Metrics:
    """The metrics of a run, all within one period."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self._values: dict[Series, list[float]] = {}
        for line in lines:
            for directive in line.get("_aws", {}).get("CloudWatchMetrics", ()):
                for names in directive["Dimensions"]:
                    dimensions = tuple(sorted((name, line[name]) for name in names))
                    for metric in directive["Metrics"]:
                        value = line[metric["Name"]]
                        series = (directive["Namespace"], metric["Name"], dimensions)
                        self._values.setdefault(series, []).extend(value if isinstance(value, list) else [value])

    @property
    def series(self) -> set[Series]:
        """What costs money every month."""
        return set(self._values)

    def statistic(self, namespace: str, name: str, dimensions: Mapping[str, str], stat: str) -> float | None:
        """None where there is no data."""
        values = sorted(self._values.get((namespace, name, tuple(sorted(dimensions.items()))), ()))
        if not values:
            return None
        if (rank := re.fullmatch(r"p(\d+(?:\.\d+)?)", stat)) is not None:
            return values[max(0, math.ceil(float(rank[1]) / 100 * len(values)) - 1)]
        found: dict[str, Callable[[Sequence[float]], float]] = {
            "Sum": sum,
            "SampleCount": len,
            "Average": lambda all_: sum(all_) / len(all_),
            "Minimum": min,
            "Maximum": max,
        }
        return found[stat](values)


_OPERATORS: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
}


def math_of(expression: str, values: Mapping[str, float | None]) -> float | None:
    """A metric math expression over one period: numbers, ids, + - * /, comparisons, IF and FILL. None where a value is
    missing, as a point is missing in CloudWatch."""
    found: float | None = _math(ast.parse(expression, mode="eval").body, values)
    return found


def _math(node: ast.AST, values: Mapping[str, float | None]) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return values[name]
        case ast.BinOp(left=left, op=op, right=right) | ast.Compare(left=left, ops=[op], comparators=[right]):
            one, other = _math(left, values), _math(right, values)
            return None if one is None or other is None else _OPERATORS[type(op)](one, other)
        case ast.Call(func=ast.Name(id="FILL"), args=[value, otherwise]):
            found = _math(value, values)
            return _math(otherwise, values) if found is None else found
        case ast.Call(func=ast.Name(id="IF"), args=[condition, yes, no]):
            found = _math(condition, values)
            return None if found is None else _math(yes if found else no, values)
    raise ValueError(f"this part of metric math is not known here: {ast.dump(node)}")
