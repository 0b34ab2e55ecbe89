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


BAD: dict[str, Callable[[dict[str, Any]], object]] = {
    "no metadata": lambda line: line.pop("_aws"),
    "no timestamp": lambda line: line["_aws"].pop("Timestamp"),
    "seconds": lambda line: line["_aws"].update(Timestamp=NOW / 1000),
    "half a millisecond": lambda line: line["_aws"].update(Timestamp=NOW + 0.5),
    "no directives": lambda line: line["_aws"].update(CloudWatchMetrics={}),
    "no namespace": lambda line: directive(line).pop("Namespace"),
    "blank namespace": lambda line: directive(line).update(Namespace=" "),
    "long namespace": lambda line: directive(line).update(Namespace="x" * 256),
    "AWS's namespace": lambda line: directive(line).update(Namespace="AWS/Lambda"),
    "a member that is not in the specification": lambda line: directive(line).update(Extra=1),
    "dimensions that are no sets": lambda line: directive(line).update(Dimensions=["stage"]),
    "no dimension set": lambda line: directive(line).update(Dimensions=[]),
    "31 dimensions": lambda line: directive(line).update(Dimensions=[["stage"] * 31]),
    "a dimension that is not there": lambda line: line.pop("stage"),
    "a dimension that is a number": lambda line: line.update(stage=1),
    "an empty dimension": lambda line: line.update(stage=""),
    "a dimension beyond ASCII": lambda line: line.update(stage="é"),
    "a dimension with a line break": lambda line: line.update(stage="a\nb"),
    "a long dimension": lambda line: line.update(stage="x" * 1025),
    "101 metrics": lambda line: directive(line).update(Metrics=[{"Name": "ms"}] * 101),
    "a metric without a name": lambda line: directive(line).update(Metrics=[{"Unit": "Count"}]),
    "a metric that is not there": lambda line: line.pop("ms"),
    "a metric that is null": lambda line: line.update(ms=None),
    "a metric that is true": lambda line: line.update(ms=True),
    "a metric that is a text": lambda line: line.update(ms="5"),
    "a metric that is no number": lambda line: line.update(ms=float("nan")),
    "101 values": lambda line: line.update(ms=[1] * 101),
    "no values": lambda line: line.update(ms=[]),
    "an unknown unit": lambda line: directive(line)["Metrics"][0].update(Unit="Dollars"),
    "an unknown resolution": lambda line: directive(line)["Metrics"][0].update(StorageResolution=5),
    "a metric twice": lambda line: directive(line)["Metrics"].append({"Name": "ms"}),
}


def test_a_good_line_has_no_fault() -> None:
    assert check(GOOD, now_ms=NOW, size=200) == []
    assert check({**GOOD, "ms": [1, 2.5]}) == []


@pytest.mark.parametrize("spoil", BAD.values(), ids=BAD)
def test_each_rule_is_looked_at(spoil: Callable[[dict[str, Any]], object]) -> None:
    line = copy.deepcopy(GOOD)
    spoil(line)
    assert check(line, now_ms=NOW, size=200)


def test_time_and_size_have_bounds() -> None:
    assert check(GOOD, now_ms=NOW + 15 * 86_400_000)
    assert check(GOOD, now_ms=NOW - 3 * 3_600_000)
    assert check(GOOD, size=257 * 1024)


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
