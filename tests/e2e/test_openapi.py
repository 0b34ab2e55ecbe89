"""The API does what its own document says: asked by schemathesis, which makes requests of the document, good and bad
ones, and walks along the document's links.

Whoever asks is an admin, and must not be shut out by what is asked.
"""

import itertools
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import schemathesis
from schemathesis import Case, HookContext, Response, engine
from schemathesis.core.failures import FailureGroup
from schemathesis.engine import events
from schemathesis.generation.stateful.state_machine import StepInput, StepOutput
from schemathesis.openapi.checks import RejectedPositiveData
from tests import program
from tests.program import Program

_Case = Case[Any]

# What a schema cannot say, and the gateway refuses all the same: two fields that exclude each other, a time that has
# passed, a duration that is too long, bytes instead of characters, a cursor that the gateway has not made, and how much
# an attribute of the directory takes.
BEYOND_SCHEMAS = {
    (422, "invalid_value", "expires_in"),
    (422, "invalid_value", "expires_at"),
    (422, "invalid_value", "grace_period"),
    (422, "invalid_value", "name"),
    (422, "invalid_value", "invite"),
    (422, "invalid_value", "cursor"),
    (413, "record_too_large", None),
}
# Of keys and of users.
IDS = re.compile(r"[0-9a-f]{48}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass
class Report:
    """What a run has seen."""

    faults: list[str] = field(default_factory=list)
    answers: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))  # statuses by operation
    unsupported: set[int] = field(default_factory=set)  # statuses where the document has no such method


@pytest.fixture
def served(folder: Path) -> Iterator[Program]:
    """A gateway for one test: each finds it as new as the others."""
    with program.running(folder) as running:
        yield running


def load(gateway: Program, **phases: Any) -> Any:
    """The document as it is served. A seed makes each run ask the same."""
    every = ("examples", "coverage", "fuzzing", "stateful")
    only_good = {"generation": {"mode": "positive"}}
    config = schemathesis.Config.from_dict(
        {
            "base-url": gateway.base,
            "headers": {"Authorization": f"Bearer {gateway.key}"},
            "request-timeout": program.WAIT,
            "continue-on-failure": True,
            "suppress-health-check": ["all"],  # they watch the clock
            "seed": 1,
            "cache": {"enabled": False},
            "generation": {"deterministic": True},
            "phases": {name: phases.get(name, {"enabled": False}) for name in every},
            "operations": [{"include-operation-id": simple(gateway), "phases": {"fuzzing": only_good}}],
        }
    )
    schema = schemathesis.openapi.from_url(f"{gateway.base}/openapi.json", config=config)

    @schema.hook
    def filter_failure(_: HookContext, failure: Exception, __: _Case, response: Response) -> bool:
        if not isinstance(failure, RejectedPositiveData):
            return True
        error = response.json()["error"]
        return (response.status_code, error["code"], error["param"]) not in BEYOND_SCHEMAS

    return schema


def spare(schema: Any, gateway: Program) -> None:
    """Whoever shall be changed is made for that: it is never oneself, and nobody on whom another request counts."""
    count = itertools.count()

    @schema.hook  # type: ignore[untyped-decorator]
    def map_case(_: HookContext, case: _Case) -> _Case:
        if case.method != "GET" and IDS.fullmatch(str(case.path_parameters.get("id"))):
            user = gateway.ask("POST", "/api/users", {"email": f"{next(count)}@others.example.com"}).json["id"]
            key = gateway.ask("POST", f"/api/users/{user}/keys", {"name": "other"}).json["id"]
            case.path_parameters["id"] = user if "/users/" in case.path else key
        return case


def run(schema: Any) -> Report:
    report = Report()
    for event in engine.from_schema(schema).execute():
        if isinstance(event, events.NonFatalError | events.FatalError):
            report.faults.append(str(event))
        elif isinstance(event, events.ScenarioFinished):
            note(event, report)
    return report


def note(scenario: events.ScenarioFinished, report: Report) -> None:
    seen = scenario.recorder
    for case_id, node in seen.cases.items():
        name = operation_id(node.value)
        if (exchange := seen.interactions.get(case_id)) is not None and exchange.response is not None:
            known = node.value.method.lower() == node.value.operation.method.lower()
            (report.answers[name] if known else report.unsupported).add(exchange.response.status_code)
        for check in seen.checks.get(case_id, ()):
            if (told := check.failure_info) is not None:
                report.faults.append(f"{check.name}, {name}: {told.failure}\n{told.code_sample}")


def operation_id(case: _Case) -> str:
    name: str = case.operation.definition.raw["operationId"]
    return name


def operations(gateway: Program) -> Mapping[str, Any]:
    """The document's operations by their ids."""
    paths = gateway.ask("GET", "/openapi.json", key=None).json["paths"]
    return {each["operationId"]: each for item in paths.values() for each in item.values()}


def simple(gateway: Program) -> list[str]:
    """Operations that take an id at most. Any text may be one, so no fuzzing finds a bad one, however long it tries."""
    return [
        name
        for name, said in operations(gateway).items()
        if "requestBody" not in said and all(each["in"] == "path" for each in said.get("parameters", ()))
    ]


def links(said: Any) -> Mapping[str, Any]:
    """Where the answers of an operation lead to."""
    return {name: link for answer in said["responses"].values() for name, link in answer.get("links", {}).items()}


def life(gateway: Program, followed: set[tuple[str, str]]) -> Any:
    """Random walks along the links. Each one begins where the others began: hypothesis may walk the same way again, and
    must meet the same answers."""
    me = gateway.ask("GET", "/api/me").json
    asked: dict[str, str] = {}
    inferred: list[str] = []  # no links but the document's own
    schema = load(gateway, stateful={"inference": {"algorithms": inferred}, "generation": {"mode": "positive"}})

    class Life(schema.as_state_machine()):  # type: ignore[misc]
        def get_call_kwargs(self, _: _Case) -> dict[str, Any]:
            return {"headers": {"Authorization": f"Bearer {gateway.key}"}}

        def step(self, input: StepInput) -> StepOutput:  # noqa: A002 (its name in the base class)
            asked[input.case.id] = operation_id(input.case)
            if input.transition is not None and input.is_applied:
                followed.add((asked[input.transition.parent_id], asked[input.case.id]))
            output: StepOutput = super().step(input)
            return output

        def teardown(self) -> None:
            for user in gateway.ask("GET", "/api/users").json["data"]:
                if user["id"] != me["user"]["id"]:
                    gateway.ask("DELETE", f"/api/users/{user['id']}")
            for key in gateway.ask("GET", "/api/keys").json["data"]:
                if key["id"] != me["key"]["id"]:
                    gateway.ask("DELETE", f"/api/keys/{key['id']}")

    return Life


def test_every_operation_answers_good_and_bad_requests_as_the_document_says(served: Program) -> None:
    schema = load(served, examples={}, coverage={}, fuzzing={"generation": {"max-examples": 20}})
    spare(schema, served)
    report = run(schema)
    assert not report.faults, "\n\n".join(report.faults)
    assert served.ask("GET", "/api/me").status == 200, "the run has shut itself out"
    known = operations(served)
    assert report.unsupported == {405, 200}  # and 200 for OPTIONS, which browsers ask
    assert report.answers.keys() == known.keys()
    for name, said in known.items():
        if name == "bootstrap":  # closed on this gateway, and without a key
            assert {403, 422} <= report.answers[name] <= {400, 403, 422}
        else:
            assert {int(status) for status in said["responses"] if status < "300"} <= report.answers[name], name
            assert 401 in report.answers[name], name


def test_the_life_of_users_and_keys_is_as_the_links_say(served: Program) -> None:
    followed: set[tuple[str, str]] = set()
    settings = hypothesis.settings(
        max_examples=50,
        stateful_step_count=25,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    try:
        life(served, followed).run(settings=settings)
    except FailureGroup as faults:
        pytest.fail(program.KEY.sub("sk-stile-…", str(faults)), pytrace=False)
    assert served.ask("GET", "/api/me").status == 200
    assert followed >= {(name, to) for name, said in operations(served).items() for to in links(said)}


def test_a_key_goes_all_its_way_along_the_links(served: Program) -> None:
    schema, known = load(served), operations(served)
    headers = {"Authorization": f"Bearer {served.key}"}

    def ask(name: str, wanted: str | None = None) -> Response:
        example = known[name].get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")
        body = {} if example is None else {"body": example, "media_type": "application/json"}
        case = schema.find_operation_by_id(name).Case(path_parameters=wanted and {"id": wanted}, **body)
        response: Response = case.call_and_validate(headers=headers)
        return response

    def led(name: str, answer: Response, to: str) -> str:
        assert links(known[name])[to] == {"operationId": to, "parameters": {"id": "$response.body#/id"}}
        found: str = answer.json()["id"]
        return found

    user = ask("createUser")
    key = ask("createKeyOfUser", led("createUser", user, "createKeyOfUser"))
    seen = {}
    for name in ("showKey", "updateKey", "suspendKey", "resumeKey", "rotateKey", "revokeKey", "deleteKey"):
        answer = ask(name, led("createKeyOfUser", key, name))
        seen[name] = (answer.status_code, answer.json().get("status"))
    assert seen == {
        "showKey": (200, "active"),
        "updateKey": (200, "active"),
        "suspendKey": (200, "suspended"),
        "resumeKey": (200, "active"),
        "rotateKey": (200, "active"),
        "revokeKey": (200, "revoked"),
        "deleteKey": (200, None),
    }
    assert ask("showKey", led("createKeyOfUser", key, "showKey")).status_code == 404
    assert ask("deleteUser", led("createUser", user, "deleteUser")).status_code == 200
    assert ask("showUser", led("createUser", user, "showUser")).status_code == 404
