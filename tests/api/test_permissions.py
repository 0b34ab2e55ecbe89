"""What a key may do, over HTTP."""

import time
from typing import Any

import openai
import pytest
from tests import program
from tests.mocks.openai import Upstream
from tests.program import Answer, Program

from stile.core import keys

CHAT = "/v1/chat/completions"
HELLO: Any = [{"role": "user", "content": "Hello"}]


def make(gateway: Program, **more: Any) -> Any:
    """A member's new key, with its text in `key`."""
    user = gateway.ask("POST", "/api/users", {"email": f"user-{time.time_ns()}@example.com"}).json
    return gateway.ask("POST", f"/api/users/{user['id']}/keys", {"name": "test", **more}).json


def chat(gateway: Program, key: str, model: str = "echo") -> Any:
    return gateway.ask("POST", CHAT, {"model": model, "messages": HELLO}, key=key)


@pytest.mark.parametrize("header", ["authorization", "x-api-key", "api-key"])
def test_a_key_comes_in_any_of_three_headers(gateway: Program, header: str) -> None:
    value = f"bearer {gateway.key}" if header == "authorization" else gateway.key
    answer = gateway.ask("GET", "/v1/models", key=None, headers={header: value})
    assert answer.status == 200


@pytest.mark.parametrize("key", [None, "x", "sk-stile-", "sk-1234567890"])
def test_no_key_or_no_such_key_is_a_401(gateway: Program, upstream: Upstream, key: str | None) -> None:
    before = len(upstream.calls)
    answer = gateway.ask("POST", CHAT, {"model": "ok", "messages": HELLO}, key=key)
    assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
    assert len(upstream.calls) == before


def test_a_key_in_the_query_is_no_key(gateway: Program) -> None:
    answer = gateway.ask("GET", f"/v1/models?api_key={gateway.key}&key={gateway.key}", key=None)
    assert answer.status == 401


def test_the_sdk_raises_its_own_error_for_a_wrong_key(gateway: Program) -> None:
    client = openai.OpenAI(base_url=f"{gateway.base}/v1", api_key="wrong", max_retries=0)
    with client, pytest.raises(openai.AuthenticationError):
        client.models.list()


def test_a_key_for_some_models_sees_and_uses_only_those(gateway: Program) -> None:
    key = make(gateway, models=["echo", "mis*"])["key"]
    listed = gateway.ask("GET", "/v1/models", key=key).json["data"]
    assert sorted(model["id"] for model in listed) == ["echo", "mistral"]
    assert chat(gateway, key).status == 200
    refused = chat(gateway, key, "ok")
    assert (refused.status, refused.error["code"]) == (403, "model_not_allowed")
    assert gateway.ask("GET", "/v1/models/ok", key=key).status == 404
    assert chat(gateway, key, "no-such-model").error["code"] == "model_not_found"


def test_a_key_without_the_scope_is_a_403(gateway: Program) -> None:
    answer = chat(gateway, make(gateway, scopes=["mcp"])["key"])
    assert (answer.status, answer.error["code"]) == (403, "missing_scope")


def test_a_members_key_is_shown_the_state_alone(gateway: Program) -> None:
    assert gateway.ask("GET", "/health/ready", key=make(gateway)["key"]).json == {"status": "ready"}


def test_an_expired_key_is_a_401(gateway: Program) -> None:
    key = make(gateway, expires_in=2)["key"]
    answer = program.wait_for(lambda: refused(chat(gateway, key)), "the key to expire")
    assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
    assert "expired" in answer.error["message"]


def refused(answer: Answer) -> Answer | None:
    return answer if answer.status != 200 else None


@pytest.mark.parametrize(
    ("verb", "expected"), [("suspend", (403, "key_suspended")), ("revoke", (401, "invalid_api_key"))]
)
def test_a_key_that_was_taken_back_does_not_work(gateway: Program, verb: str, expected: tuple[int, str]) -> None:
    made = make(gateway)
    assert chat(gateway, made["key"]).status == 200
    assert gateway.ask("POST", f"/api/keys/{made['id']}/{verb}").status == 200
    answer = chat(gateway, made["key"])
    assert (answer.status, answer.error["code"]) == expected


def test_a_disabled_user_is_a_403(gateway: Program) -> None:
    made = make(gateway)
    assert chat(gateway, made["key"]).status == 200
    assert gateway.ask("PATCH", f"/api/users/{made['user_id']}", {"enabled": False}).status == 200
    answer = chat(gateway, made["key"])
    assert (answer.status, answer.error["code"]) == (403, "user_disabled")
    assert gateway.ask("GET", "/api/me", key=made["key"]).error["code"] == "user_disabled"


def test_a_key_of_another_deployment_is_a_401(gateway: Program) -> None:
    named = keys.read_id(gateway.key.split("-")[2])
    assert named is not None
    forged = keys.Pepper({1: b"x" * 32}).mint(named, b"y" * 32)
    answer = chat(gateway, forged)
    assert answer.status == 401
    assert gateway.line_of(answer.headers["x-request-id"])["refused"] == "unminted"
