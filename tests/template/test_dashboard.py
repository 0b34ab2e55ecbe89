"""Every number and list of the dashboard, every alarm and every saved query is answered from the lines of a run: the
gateway as a Lambda function, called over the Runtime API, with a scripted provider and with Cognito out of reach."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.emf import Metrics, check, math_of
from tests.insights import query
from tests.mocks.openai import USAGE, Upstream
from tests.program import wait_for
from tests.template.cloudformation import ROOT, evaluate
from tests.template.test_observability import alarms, widgets
from tests.template.test_template import of_type
from tests.test_serverless import Gateway, State, relayed, serving, state

__all__ = ["state"]  # a fixture

STAGE = {"stage": "stile/live"}
PRICED = "gpt-4o-mini"
GOOD, BROKEN, THROTTLED, REFUSED = 5, 3, 2, 4
CLIENT = "OpenAI/Python 2.54.0"


@dataclass
class Run:
    """What the function logged, and what the clients saw of it."""

    lines: list[dict[str, Any]]
    key_id: str
    failed_request_id: str
    costly: int
    traced: str

    def calls(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"] == "call"]


@pytest.fixture(scope="module")
def run(output: Path, state: State, upstream: Upstream) -> Run:
    folder = output / "dashboard"
    folder.mkdir()
    models = [*relayed(upstream, "ok", "500", "429"), (PRICED, f"openai/{PRICED}", upstream.base)]
    traced = "0af7651916cd43dd8448eb211c80319c"
    with serving(folder, state, *models, STILE_STAGE=STAGE["stage"]) as gateway:
        for number in range(GOOD):
            gateway.ask("ok", stream=bool(number % 2)).body()
        for _ in range(BROKEN):
            failed = gateway.ask("500", stream=False)
            failed.body()
        for _ in range(THROTTLED):
            gateway.ask("429").body()
        for _ in range(REFUSED):
            ask(gateway, "sk-stile-wrong", traceparent=f"00-{traced}-b7ad6b7169203331-01").body()
        costly = wait_for(lambda: priced(gateway), "the prices of models")
        lines = read(gateway)
    (folder / "away").mkdir()
    nobody = {"STILE_STAGE": STAGE["stage"], "AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER": "http://127.0.0.1:9"}
    with serving(folder / "away", state, *models, snap_start=False, **nobody) as gateway:
        gateway.ask("ok").body()
        lines += read(gateway)
    key_id = next(line["key_id"] for line in lines if line["event"] == "call")
    return Run(lines, key_id, failed.head().headers["x-request-id"], costly, traced)


def ask(gateway: Gateway, key: str, **headers: str) -> Any:
    event = {
        "httpMethod": "GET",
        "path": "/v1/models",
        "headers": {"authorization": f"Bearer {key}", "user-agent": f"{CLIENT} (linux)", **headers},
        "requestContext": {},
    }
    return gateway.api.invoke(event)


def priced(gateway: Gateway) -> int | None:
    """How many calls of the priced model there were, once one of them has a cost."""
    gateway.ask(PRICED, stream=False).body()
    calls = [call for call in gateway.calls() if call["model"] == PRICED]
    return len(calls) if "cost_usd" in calls[-1] else None


def read(gateway: Gateway) -> list[dict[str, Any]]:
    gateway.api.waiting()
    return [json.loads(line) for line in gateway.running.out.read_text().splitlines()]


def values_of(metrics: Metrics, parts: list[Any]) -> dict[str, float | None]:
    """What a widget's metrics and expressions come to: by id, or by place."""
    found: dict[str, float | None] = {}
    for number, part in enumerate(parts):
        options = part[-1] if isinstance(part[-1], dict) else {}
        name = options.get("id", f"m{number}")
        if "expression" in options:
            found[name] = math_of(options["expression"], found)
        elif part[0] == "Stile":
            found[name] = metrics.statistic(part[0], part[1], dict([part[2:4]]), options["stat"])
    return found


def test_the_lines_of_the_run_are_metrics_by_the_specification(run: Run) -> None:
    assert [fault for line in run.calls() for fault in check(line)] == []
    assert len(Metrics(run.lines).series) == 10
    assert {series[2] for series in Metrics(run.lines).series} == {tuple(STAGE.items())}


@pytest.mark.parametrize(
    "widget", [widget for widget in widgets() if widget["type"] == "metric"], ids=lambda w: w["properties"]["title"]
)
def test_every_number_of_the_dashboard_is_there(run: Run, widget: dict[str, Any]) -> None:
    found = values_of(Metrics(run.lines), widget["properties"]["metrics"])
    own = [part for part in widget["properties"]["metrics"] if isinstance(part[0], dict) or part[0] == "Stile"]
    assert len(found) == len(own)
    assert None not in found.values(), found


def test_the_numbers_are_what_was_done(run: Run) -> None:
    metrics = Metrics(run.lines)

    def of(name: str, stat: str = "Sum") -> float | None:
        return metrics.statistic("Stile", name, STAGE, stat)

    assert of("errors", "SampleCount") == len(run.calls())
    assert of("errors") == BROKEN + 1  # and the call that found no Cognito
    assert of("provider_errors") == BROKEN
    assert of("throttles") == THROTTLED
    assert of("auth_failures") == REFUSED
    assert of("cold_starts") == 2
    assert of("tokens") == (GOOD + run.costly) * USAGE["total_tokens"]
    assert of("total_ms", "SampleCount") == GOOD + BROKEN + THROTTLED + run.costly
    cost = 11 * 0.15e-6 + 7 * 0.6e-6  # OpenAI's list price
    assert of("cost_usd", "Maximum") == pytest.approx(cost)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *((w["properties"]["title"], w["properties"]["query"]) for w in widgets() if w["type"] == "log"),
        *((q["Name"], q["QueryString"]) for q in of_type(evaluate(), "AWS::Logs::QueryDefinition")),
    ],
    ids=lambda text: text[:40],
)
def test_every_query_has_an_answer(run: Run, name: str, text: str) -> None:
    filled = {"REQUEST_ID": run.failed_request_id, "TRACE_ID": run.traced, "KEY_ID": run.key_id}
    for placeholder, value in filled.items():
        text = text.replace(placeholder, value)
    rows = query(text, run.lines)
    assert rows, name
    assert all(any(value is not None for value in row.values()) for row in rows)


def test_one_failed_call_is_found_by_what_its_client_was_told(run: Run) -> None:
    """As doc/operations.md says."""
    (saved,) = (
        found["QueryString"]
        for found in of_type(evaluate(), "AWS::Logs::QueryDefinition")
        if found["Name"] == "stile/One request by its id"
    )
    assert "*One request by its id*" in (ROOT / "doc" / "operations.md").read_text()
    (row,) = query(saved.replace("REQUEST_ID", run.failed_request_id), run.lines)
    assert (row["event"], row["status"], row["error"], row["target"]) == ("call", 500, "upstream_error", "openai/500")


def test_tokens_and_cost_by_model_are_the_sums_of_the_calls(run: Run) -> None:
    (text,) = (
        w["properties"]["query"] for w in widgets() if w["properties"].get("title") == "Cost and tokens by model"
    )
    rows = {row["model"]: row for row in query(text, run.lines)}
    assert rows["ok"] == {"model": "ok", "usd": None, "input": GOOD * 11, "output": GOOD * 7, "calls": GOOD}
    assert rows[PRICED]["calls"] == run.costly
    assert rows[PRICED]["usd"] > 0


@pytest.mark.parametrize("name", alarms())
def test_every_alarm_has_a_number_to_look_at(run: Run, name: str) -> None:
    alarm, metrics = alarms()[name], Metrics(run.lines)
    found: dict[str, float | None] = {}
    for part in alarm.get("Metrics", [alarm]):
        if "Expression" in part:
            found[part["Id"]] = math_of(part["Expression"], found)
            continue
        metric, stat = part.get("MetricStat", {}).get("Metric", part), part.get("MetricStat", {}).get("Stat")
        dimensions = {pair["Name"]: pair["Value"] for pair in metric["Dimensions"]}
        stat = stat or alarm.get("Statistic") or alarm["ExtendedStatistic"]
        value = metrics.statistic(metric["Namespace"], metric["MetricName"], dimensions, stat)
        assert value is not None or metric["Namespace"] == "AWS/Lambda", metric
        found[part.get("Id", "all")] = value
    assert found


def test_a_run_with_many_failures_sounds_the_alarm_of_the_error_rate_and_a_quiet_one_does_not() -> None:
    alarm = alarms()["ErrorRateAlarm"]
    (expression,) = (part["Expression"] for part in alarm["Metrics"] if "Expression" in part)
    assert math_of(expression, {"failed": 3.0, "calls": 40.0}) > alarm["Threshold"]
    assert math_of(expression, {"failed": 1.0, "calls": 40.0}) <= alarm["Threshold"]
    assert math_of(expression, {"failed": 3.0, "calls": 4.0}) <= alarm["Threshold"]
