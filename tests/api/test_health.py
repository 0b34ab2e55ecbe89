"""Liveness and readiness."""

from tests.mocks.openai import Upstream
from tests.program import Program


def test_health_needs_no_key_and_leaves_no_line(gateway: Program) -> None:
    answer = gateway.ask("GET", "/health", key=None)
    assert (answer.status, answer.json) == (200, {"status": "ok"})
    assert not [line for line in gateway.lines() if line.get("path") == "/health"]


def test_readiness_is_the_state_alone_without_a_key(gateway: Program) -> None:
    assert gateway.ask("GET", "/health/ready", key=None).json == {"status": "ready"}


def test_an_admin_sees_the_parts(gateway: Program, upstream: Upstream) -> None:
    state = gateway.ask("GET", "/health/ready").json
    assert state["directory"] == "ok"
    assert state["providers"][f"openai at {upstream.base}"] == "ok"
    assert state["providers"]["openai at http://127.0.0.1:9/v1"] == "no answer"


def test_a_wrong_key_is_told_so(gateway: Program) -> None:
    assert gateway.ask("GET", "/health/ready", key="wrong").status == 401
