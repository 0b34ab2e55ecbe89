"""The evaluator of queries answers what CloudWatch Logs Insights would, and refuses what it does not know."""

from typing import Any

import pytest
from tests.insights import QueryError, query

LINES: list[dict[str, Any]] = [
    {"time": "2026-11-24T10:01:00.000Z", "event": "call", "user": "a", "ms": 5, "ok": True, "deep": {"er": [7]}},
    {"time": "2026-11-24T10:02:00.000Z", "event": "call", "user": "b", "ms": 15, "ok": False},
    {"time": "2026-11-24T10:07:00.000Z", "event": "call", "user": "a", "ms": 25, "error": "late | # gone"},
    {"time": "2026-11-24T10:08:00.000Z", "event": "audit", "user": "a", "ms": None},
]


def users(text: str) -> list[str]:
    return [row["user"] for row in query(f"{text} | display user", LINES)]


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ('event = "call"', "aba"),
        ("event = 'audit'", "a"),
        ("event != 'call'", "a"),
        ("ms > 5", "ba"),
        ("ms >= 5 and ms < 25", "ab"),
        ("ms = 5 or ms = 15 and user = 'a'", "a"),
        ("(ms = 5 or ms = 15) and user = 'b'", "b"),
        ("not user = 'a'", "b"),
        ("ispresent(error)", "a"),
        ("ispresent(ms)", "aba"),
        ("missing = 1", ""),
        ("missing != 1", ""),
        ("ms in [5, 25]", "aa"),
        ("user in ['b', 'c']", "b"),
        ("error like 'late'", "a"),
        ("error like /^late . #/", "a"),
        ("@message like 'gone'", "a"),
        ("deep.er.0 = 7", "a"),
        ("ok = 1", "a"),
        ("ms / 5 = 3", "b"),
        ("user = 5", ""),
        ("user = 'a' # and nothing else", "aaa"),
    ],
)
def test_lines_are_filtered(condition: str, found: str) -> None:
    assert "".join(users(f"filter {condition}")) == found


def test_statistics_are_of_groups_and_leave_nothing_out_of_what_is_there() -> None:
    text = "stats count(*) as n, count(ms) as there, sum(ms) as total, avg(ms) as mean, pct(ms, 50) as half by user"
    assert query(text, LINES) == [
        {"user": "a", "n": 3, "there": 2, "total": 30, "mean": 15, "half": 5},
        {"user": "b", "n": 1, "there": 1, "total": 15, "mean": 15, "half": 15},
    ]
    assert query("stats count_distinct(user), min(ms), max(ms)", LINES) == [
        {"count_distinct(user)": 2, "min(ms)": 5, "max(ms)": 25}
    ]


def test_times_are_put_into_bins() -> None:
    rows = query("filter event = 'call' | stats count(*) as n by bin(5m)", LINES)
    assert [row["n"] for row in rows] == [2, 1]
    assert rows[1]["bin(5m)"] - rows[0]["bin(5m)"] == 300_000


def test_rows_are_sorted_cut_and_shown() -> None:
    assert users("sort ms desc | limit 2") == ["a", "b"]
    assert query("fields user, ms * 2 as twice | sort twice desc | limit 1", LINES) == [{"user": "a", "twice": 50}]
    assert query("SOURCE 'group' | filter ms = 15 | fields user", LINES) == [{"user": "b"}]


@pytest.mark.parametrize(
    "text",
    [
        "parse @message 'x'",
        "filter user ~ 'a'",
        "filter strlen(user) = 1",
        "stats median(ms)",
        "fields user user",
        "limit ten",
        "filter user = 'a",
        "filter (user = 'a'",
        "filter user in 'a'",
        "dedup user",
        "sort ms down",
    ],
)
def test_what_it_does_not_know_it_refuses(text: str) -> None:
    with pytest.raises(QueryError):
        query(text, LINES)
