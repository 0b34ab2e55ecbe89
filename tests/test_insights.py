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
        ("deep.er.0 = 8", ""),
        ("deep.er.0 != 7", ""),
        ("deep.er.0 < 7 or deep.er.0 >= 8", ""),
        ("ms <= 15", "ab"),
        ("error in ['x']", ""),
        ("error like 'None'", ""),
        ("error like /None/", ""),
        ("not (ms > 5 or user = 'b')", "aa"),
        ("ms * 2 + 5 = 15", "a"),
        ("ms - 5 - 5 = 5", "b"),
        ("ms * (1 + 1) = 10", "a"),
        ("ms / 0 = 1", ""),
        ("error like 'Late'", ""),
        ("user != 5", "abaa"),
        ("event = 'call' | filter user = 'b'", "b"),
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
    line = {"time": "2026-11-24T10:01:31.500Z"}
    midnight = 1_795_478_400_000
    assert query("display bin(2s) as s, bin(1m) as m, bin(2h) as h, bin(1d) as d", [line]) == [
        {"s": midnight + 36_090_000, "m": midnight + 36_060_000, "h": midnight + 36_000_000, "d": midnight}
    ]
    assert query("stats count() as n by user | stats sum(n) as all, avg(n / 2)", LINES) == [{"all": 4, "avg(n/2)": 1}]


def test_rows_are_sorted_cut_and_shown() -> None:
    assert users("sort ms desc | limit 2") == ["a", "b"]
    assert query("fields user, ms * 2 as twice | sort twice desc | limit 1", LINES) == [{"user": "a", "twice": 50}]
    assert query("SOURCE 'group' | filter ms = 15 | fields user", LINES) == [{"user": "b"}]
    assert len(query("fields user", LINES * 2501)) == 10_000
    assert users("sort ms | filter event = 'call'") == users("sort ms asc | limit 3") == ["a", "b", "a"]
    assert query("fields user | fields ms | filter ms = 5", LINES) == [{"user": "a", "ms": 5}]
    assert query("fields user | filter ms = 5 | display ms", LINES) == [{"ms": 5}]
    assert [row["user"] for row in query("# first\nfilter ms = 5\n# second\n| fields user", LINES)] == ["a"]


def test_times_and_the_whole_text_are_there() -> None:
    (row,) = query("fields @timestamp, @message | filter ms = 5", LINES)
    assert row["@timestamp"] == 1_795_514_460_000
    assert '"user": "a"' in row["@message"]


@pytest.mark.parametrize(
    "text",
    [
        "fields userr",
        "display userr",
        "filter userr = 'a'",
        "filter ispresent(userr)",
        "filter user = 'a' or not userr in ['a']",
        "stats sum(mss)",
        "stats count(*) by userr",
        "sort mss",
        "stats count(*) as n by user | filter ms = 5",
        "sort twice | fields ms * 2 as twice",
    ],
)
def test_a_field_that_no_line_has_is_refused(text: str) -> None:
    with pytest.raises(QueryError, match="no line has"):
        query(text, LINES)


def test_a_line_of_more_fields_than_are_found_is_refused() -> None:
    assert query("fields f199", [{f"f{number}": number for number in range(200)}]) == [{"f199": 199}]
    with pytest.raises(QueryError, match="201 fields"):
        query("fields f199", [{f"f{number}": number for number in range(201)}])


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
        "filter user in [",
        "filter user in ['a'",
        "filter user not in ['a']",
        "filter user",
        "filter (ms + 5) * 2 = 20",
        "filter user = ",
        "filter ms = 5 and",
        "filter user like",
        "stats count(",
        "stats count(*) by bin(5)",
        "stats sum(ms",
        "fields user |",
        "",
    ],
)
def test_what_it_does_not_know_it_refuses(text: str) -> None:
    with pytest.raises(QueryError):
        query(text, LINES)
