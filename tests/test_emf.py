"""The check of the embedded metric format finds what AWS's specification forbids, and math is CloudWatch's."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from tests.emf import Metrics, check, math_of

NOW = 1_795_000_000_000
GOOD: dict[str, Any] = {
    "_aws": {
        "Timestamp": NOW,
        "CloudWatchMetrics": [
            {"Namespace": "Stile", "Dimensions": [["stage"]], "Metrics": [{"Name": "ms", "Unit": "Milliseconds"}]}
        ],
    },
    "stage": "live",
    "ms": 5,
}


def directive(line: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = line["_aws"]["CloudWatchMetrics"][0]
    return found


def rename(line: dict[str, Any], name: str) -> None:
    """The dimension's name."""
    directive(line).update(Dimensions=[[name]])
    line[name] = "live"


def measure(line: dict[str, Any], count: int, name: str = "m") -> None:
    """So many metrics, all of them in the line."""
    names = [f"{name}{number}" for number in range(count)]
    directive(line).update(Metrics=[{"Name": each} for each in names])
    line.update(dict.fromkeys(names, 1))


BAD: dict[str, Callable[[dict[str, Any]], object]] = {
    "no metadata": lambda line: line.pop("_aws"),
    "no timestamp": lambda line: line["_aws"].pop("Timestamp"),
    "seconds": lambda line: line["_aws"].update(Timestamp=NOW / 1000),
    "half a millisecond": lambda line: line["_aws"].update(Timestamp=NOW + 0.5),
    "no directives": lambda line: line["_aws"].update(CloudWatchMetrics={}),
    "no namespace": lambda line: directive(line).pop("Namespace"),
    "blank namespace": lambda line: directive(line).update(Namespace=" "),
    "long namespace": lambda line: directive(line).update(Namespace="x" * 256),
    "a namespace with a sign of its own": lambda line: directive(line).update(Namespace="Stile!"),
    "a namespace that begins with a colon": lambda line: directive(line).update(Namespace=":Stile"),
    "a namespace that is a number": lambda line: directive(line).update(Namespace=1),
    "AWS's namespace": lambda line: directive(line).update(Namespace="AWS/Lambda"),
    "a member that is not in the specification": lambda line: directive(line).update(Extra=1),
    "dimensions that are no sets": lambda line: directive(line).update(Dimensions=["stage"]),
    "no dimension set": lambda line: directive(line).update(Dimensions=[]),
    "31 dimensions": lambda line: directive(line).update(Dimensions=[["stage"] * 31]),
    "a dimension whose name is a number": lambda line: directive(line).update(Dimensions=[[1]]),
    "a dimension without a name": lambda line: rename(line, ""),
    "a dimension with a long name": lambda line: rename(line, "x" * 256),
    "a dimension whose name begins with a colon": lambda line: rename(line, ":stage"),
    "a dimension that is not there": lambda line: line.pop("stage"),
    "a dimension that is a number": lambda line: line.update(stage=1),
    "an empty dimension": lambda line: line.update(stage=""),
    "a dimension beyond ASCII": lambda line: line.update(stage="é"),
    "a blank dimension": lambda line: line.update(stage=" "),
    "a dimension with a line break": lambda line: line.update(stage="a\nb"),
    "a long dimension": lambda line: line.update(stage="x" * 1025),
    "metrics that are no array": lambda line: directive(line).update(Metrics={"Name": "ms"}),
    "metrics that are no objects": lambda line: directive(line).update(Metrics=["ms"]),
    "101 metrics": lambda line: measure(line, 101),
    "a metric without a name": lambda line: directive(line).update(Metrics=[{"Unit": "Count"}]),
    "a metric with a long name": lambda line: measure(line, 1, "x" * 255),
    "a metric with a member that is not in the specification": lambda line: directive(line)["Metrics"][0].update(Max=1),
    "a metric that is not there": lambda line: line.pop("ms"),
    "a metric that is null": lambda line: line.update(ms=None),
    "a metric that is true": lambda line: line.update(ms=True),
    "a metric that is a text": lambda line: line.update(ms="5"),
    "a metric that is no number": lambda line: line.update(ms=float("nan")),
    "a metric beyond all bounds": lambda line: line.update(ms=2**360 + 1),
    "a metric that is endless": lambda line: line.update(ms=float("inf")),
    "a text among values": lambda line: line.update(ms=[1, "5"]),
    "101 values": lambda line: line.update(ms=[1] * 101),
    "no values": lambda line: line.update(ms=[]),
    "an unknown unit": lambda line: directive(line)["Metrics"][0].update(Unit="Dollars"),
    "an unknown resolution": lambda line: directive(line)["Metrics"][0].update(StorageResolution=5),
    "a metric twice": lambda line: directive(line)["Metrics"].append({"Name": "ms"}),
}


def test_a_good_line_has_no_fault() -> None:
    assert check(GOOD, now_ms=NOW, size=200) == []
    assert check({**GOOD, "ms": [1, 2.5]}) == []


GREATEST: dict[str, Callable[[dict[str, Any]], object]] = {
    "namespace": lambda line: directive(line).update(Namespace="a/B.c-d_e#f:g " + "x" * 241),
    "no dimension in the set": lambda line: directive(line).update(Dimensions=[[]]),
    "30 dimensions": lambda line: directive(line).update(Dimensions=[["stage"] * 30]),
    "dimension's shortest name": lambda line: rename(line, "x"),
    "dimension's name": lambda line: rename(line, "x" * 255),
    "dimension": lambda line: line.update(stage="x" * 1024),
    "metrics": lambda line: measure(line, 100),
    "metric's shortest name": lambda line: measure(line, 1, ""),
    "metric's name": lambda line: measure(line, 1, "x" * 254),
    "values": lambda line: line.update(ms=[1] * 100),
    "value": lambda line: line.update(ms=[-(2.0**360), 2.0**360]),
    "resolution": lambda line: directive(line)["Metrics"][0].update(StorageResolution=1),
    "units": lambda line: directive(line)["Metrics"][0].pop("Unit"),
    "two directives": lambda line: line["_aws"]["CloudWatchMetrics"].append(
        {"Namespace": "Other", "Dimensions": [["stage"], []], "Metrics": [{"Name": "ms"}]}
    ),
}


@pytest.mark.parametrize("change", GREATEST.values(), ids=GREATEST)
def test_what_is_just_allowed_is_no_fault(change: Callable[[dict[str, Any]], object]) -> None:
    line = copy.deepcopy(GOOD)
    change(line)
    assert check(line, now_ms=NOW, size=200) == []


@pytest.mark.parametrize("spoil", BAD.values(), ids=BAD)
def test_each_rule_is_looked_at(spoil: Callable[[dict[str, Any]], object]) -> None:
    line = copy.deepcopy(GOOD)
    spoil(line)
    assert check(line, now_ms=NOW, size=200)


def test_time_and_size_have_bounds() -> None:
    fortnight, two_hours, size = 14 * 86_400_000, 2 * 3_600_000, 1024 * 1024
    assert check(GOOD, now_ms=NOW + fortnight, size=size) == check(GOOD, now_ms=NOW - two_hours) == []
    assert check(GOOD, now_ms=NOW + fortnight + 1) == ["_aws.Timestamp is too old or in the future"]
    assert check(GOOD, now_ms=NOW - two_hours - 1) == ["_aws.Timestamp is too old or in the future"]
    assert check(GOOD, size=size + 1) == ["the line is too long"]


def test_statistics() -> None:
    metrics = Metrics({**GOOD, "ms": value} for value in (1, 2, 3, [4, 10]))
    found = [
        metrics.statistic("Stile", "ms", {"stage": "live"}, stat) for stat in ("Sum", "SampleCount", "Average", "p50")
    ]
    assert found == [20, 5, 4, 3]
    assert metrics.statistic("Stile", "ms", {"stage": "live"}, "p99") == 10
    assert metrics.statistic("Stile", "ms", {}, "Sum") is None
    assert metrics.series == {("Stile", "ms", (("stage", "live"),))}


def test_math() -> None:
    values = {"failed": 2.0, "calls": 8.0, "none": None}
    assert math_of("100 * failed / calls", values) == 25
    assert math_of("IF(calls >= 20, 100 * failed / calls, 0)", values) == 0
    assert math_of("failed - FILL(none, 0)", values) == 2
    assert math_of("failed - none", values) is None
    with pytest.raises(ValueError, match="not known"):
        math_of("METRICS('x')", values)
