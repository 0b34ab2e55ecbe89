"""What a key may do, over HTTP. Keys are made beside the running gateway, in its own directory."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import openai
import pytest
from tests.mocks.openai import Upstream
from tests.program import Program

from stile import build
from stile.adapters.directory_sqlite import SQLiteDirectory
from stile.core import keys
from stile.keyring import Keyring

CHAT = "/v1/chat/completions"
HELLO: Any = [{"role": "user", "content": "Hello"}]
T = TypeVar("T")


def beside(gateway: Program, story: Callable[[Keyring, SQLiteDirectory, str], Awaitable[T]]) -> T:
    """Run a story on the gateway's own directory, with a user made for it."""

    async def main() -> T:
        directory, pepper = build.open_state(gateway.home)
        try:
            keyring = Keyring(directory, pepper)
            user = await keyring.create_user(f"user-{time.time_ns()}@example.com", "member")
            return await story(keyring, directory, user.user_id)
        finally:
            await directory.close()

    return asyncio.run(main())


def make(gateway: Program, **more: Any) -> str:
    async def story(keyring: Keyring, _: SQLiteDirectory, user_id: str) -> str:
        return (await keyring.create_key(user_id, "test", **more)).plaintext

    return beside(gateway, story)


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
    key = make(gateway, models=["echo", "mis*"])
    listed = gateway.ask("GET", "/v1/models", key=key).json["data"]
    assert sorted(model["id"] for model in listed) == ["echo", "mistral"]
    assert chat(gateway, key).status == 200
    refused = chat(gateway, key, "ok")
    assert (refused.status, refused.error["code"]) == (403, "model_not_allowed")
    assert gateway.ask("GET", "/v1/models/ok", key=key).status == 404
    assert chat(gateway, key, "no-such-model").error["code"] == "model_not_found"


def test_a_key_without_the_scope_is_a_403(gateway: Program) -> None:
    answer = chat(gateway, make(gateway, scopes=["mcp"]))
    assert (answer.status, answer.error["code"]) == (403, "missing_scope")


def test_a_members_key_is_shown_the_state_alone(gateway: Program) -> None:
    assert gateway.ask("GET", "/health/ready", key=make(gateway)).json == {"status": "ready"}


def test_an_expired_key_is_a_401(gateway: Program) -> None:
    answer = chat(gateway, make(gateway, expires=int(time.time())))
    assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
    assert "expired" in answer.error["message"]


@pytest.mark.parametrize(
    ("status", "expected"), [("suspended", (403, "key_suspended")), ("revoked", (401, "invalid_api_key"))]
)
def test_a_key_that_was_taken_back_does_not_work(gateway: Program, status: Any, expected: tuple[int, str]) -> None:
    async def story(keyring: Keyring, _: SQLiteDirectory, user_id: str) -> str:
        made = await keyring.create_key(user_id, "test")
        await keyring.set_status(made.record.id, status)
        return made.plaintext

    answer = chat(gateway, beside(gateway, story))
    assert (answer.status, answer.error["code"]) == expected


def test_a_disabled_user_is_a_403(gateway: Program) -> None:
    async def story(keyring: Keyring, directory: SQLiteDirectory, user_id: str) -> str:
        made = await keyring.create_key(user_id, "test")
        await directory.enable(user_id, enabled=False)
        return made.plaintext

    answer = chat(gateway, beside(gateway, story))
    assert (answer.status, answer.error["code"]) == (403, "user_disabled")


def test_a_key_of_another_deployment_is_a_401(gateway: Program) -> None:
    named = keys.read_id(gateway.key.split("-")[2])
    assert named is not None
    forged = keys.Pepper({1: b"x" * 32}).mint(named, b"y" * 32)
    assert chat(gateway, forged).status == 401
