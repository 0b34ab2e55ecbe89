"""What the template makes to be looked at: dashboard, alarms, queries. That they are answered from the gateway's lines
is shown in tests/template/test_dashboard.py."""

import itertools
import json
import re
from typing import Any

import pytest
from tests.template.cloudformation import ROOT, evaluate
from tests.template.test_template import EVERYTHING, of_type, statements, the

from stile.telemetry.metrics import NAMESPACE, SERIES

# Of AWS's lists: "Types of metrics for Lambda functions", "Amazon API Gateway dimensions and metrics".
PUBLISHED = {
    "AWS/Lambda": {"Errors", "Throttles", "ConcurrentExecutions", "Duration", "Invocations"},
    "AWS/ApiGateway": {"Count", "4XXError", "5XXError", "Latency", "IntegrationLatency"},
}
COLUMNS = 24


def widgets() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(the(evaluate(), "AWS::CloudWatch::Dashboard")["DashboardBody"])["widgets"]
    return found


def alarms(**parameters: str) -> dict[str, dict[str, Any]]:
    return {
        name: resource["Properties"]
        for name, resource in evaluate(**parameters).items()
        if resource["Type"] == "AWS::CloudWatch::Alarm"
    }


def measured() -> list[tuple[str, str, dict[str, str]]]:
    """Namespace, name and dimensions of every metric of the dashboard and of the alarms."""
    found = []
    for widget in widgets():
        for metric in widget["properties"].get("metrics", ()):
            if isinstance(metric[0], str):
                namespace, name, *pairs = (part for part in metric if isinstance(part, str))
                found.append((namespace, name, dict(zip(pairs[::2], pairs[1::2], strict=True))))
    for alarm in alarms().values():
        stats = [part["MetricStat"]["Metric"] for part in alarm.get("Metrics", ()) if "MetricStat" in part]
        for metric in stats or [alarm]:
            dimensions = {pair["Name"]: pair["Value"] for pair in metric["Dimensions"]}
            found.append((metric["Namespace"], metric["MetricName"], dimensions))
    return found


def test_the_dashboard_is_a_page_without_holes_at_its_edges() -> None:
    taken: set[tuple[int, int]] = set()
    for widget in widgets():
        cells = set(
            itertools.product(
                range(widget["x"], widget["x"] + widget["width"]), range(widget["y"], widget["y"] + widget["height"])
            )
        )
        assert not taken & cells, widget["properties"]
        taken |= cells
    height = max(y for _, y in taken) + 1
    assert taken == set(itertools.product(range(COLUMNS), range(height)))


def test_every_metric_that_is_looked_at_is_one_that_is_there() -> None:
    for namespace, name, dimensions in measured():
        if namespace == NAMESPACE:
            assert name in SERIES
            assert dimensions == {"stage": "stile/live"}
        else:
            assert name in PUBLISHED[namespace]


def test_every_metric_of_the_gateway_is_looked_at() -> None:
    assert {name for namespace, name, _ in measured() if namespace == NAMESPACE} == SERIES.keys()


def test_the_function_measures_under_the_name_that_is_looked_at() -> None:
    for stage in ("live", "test"):
        variables = the(evaluate(StageName=stage), "AWS::Lambda::Function")["Environment"]["Variables"]
        assert variables["STILE_STAGE"] == f"stile/{stage}"


def test_every_widget_is_of_this_region_and_has_a_title() -> None:
    for widget in widgets()[1:]:
        assert widget["properties"]["region"] == "eu-central-1"
        assert widget["properties"]["title"]
    titles = [widget["properties"]["title"] for widget in widgets()[1:]]
    assert len(titles) == len(set(titles))


def test_the_dashboards_queries_look_at_the_functions_log() -> None:
    queries = [widget["properties"]["query"] for widget in widgets() if widget["type"] == "log"]
    assert queries
    assert all(query.startswith("SOURCE '<Logs>' | ") for query in queries)


def test_every_alarm_tells_when_it_begins_and_when_it_is_over() -> None:
    for name, alarm in alarms().items():
        assert alarm["AlarmActions"] == alarm["OKActions"] == ["<Alarms>"], name
        assert alarm["TreatMissingData"] == "notBreaching", name
        assert alarm["AlarmDescription"].endswith("doc/operations.md, Alarms"), name


def test_a_mail_goes_to_who_is_named() -> None:
    assert not of_type(evaluate(), "AWS::SNS::Subscription")
    mail = the(evaluate(AlarmEmail="ops@example.com"), "AWS::SNS::Subscription")
    assert mail == {"TopicArn": "<Alarms>", "Protocol": "email", "Endpoint": "ops@example.com"}


def test_the_bound_of_a_days_spending_is_a_parameter() -> None:
    assert str(alarms()["SpendAlarm"]["Threshold"]) == "50"
    assert str(alarms(DailySpendAlarm="7.5")["SpendAlarm"]["Threshold"]) == "7.5"
    assert alarms()["SpendAlarm"]["Period"] == 24 * 60 * 60


def test_every_alarm_and_query_has_its_row_in_the_operators_page() -> None:
    page = (ROOT / "doc" / "operations.md").read_text()
    for name in alarms():
        assert f"| `{name}` |" in page
    rows = page.split("| query | answers |\n|---|---|\n")[1].split("\n\n")[0]
    saved = {query["Name"].removeprefix("stile/") for query in of_type(evaluate(), "AWS::Logs::QueryDefinition")}
    assert set(re.findall(r"^\| ([^|]+) \|", rows, re.MULTILINE)) == saved


@pytest.mark.parametrize("parameters", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_saved_queries_are_in_the_stacks_folder(parameters: dict[str, str]) -> None:
    for query in of_type(evaluate(**parameters), "AWS::Logs::QueryDefinition"):
        assert query["Name"].startswith("stile/")
        assert set(query["LogGroupNames"]) <= {"<Logs>", "<AccessLogs>"}


def test_content_is_kept_only_where_it_is_asked_for() -> None:
    without, kept = evaluate(), evaluate(LogContentBytes="4096")
    assert "ContentLogs" not in without
    assert "LogContent" not in {statement["Sid"] for statement in statements(without)}
    (allowed,) = (statement for statement in statements(kept) if statement["Sid"] == "LogContent")
    assert allowed["Resource"] == "<ContentLogs.Arn>"
    variables = the(kept, "AWS::Lambda::Function")["Environment"]["Variables"]
    assert variables["STILE_CONTENT_LOG"] == f"cloudwatch:{kept['ContentLogs']['Properties']['LogGroupName']}"
    assert the(without, "AWS::Lambda::Function")["Environment"]["Variables"]["STILE_CONTENT_LOG"] == ""
