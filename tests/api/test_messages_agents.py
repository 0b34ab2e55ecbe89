"""Messages as an agent has them: Claude Code's own request (recorded of 2.1.319, and made small), streams that are
there while the provider still speaks, and an Anthropic that is overloaded."""

import asyncio
import contextlib
import http.client
import json
from pathlib import Path
from typing import Any

import pytest
from tests.mocks import anthropic, provider
from tests.mocks.provider import Exchange
from tests.stage import Stage, chat, events, whole_chat

PATH = "/v1/messages?beta=true"
RECORDED = Path(__file__).parent.parent / "events" / "claude_code_request.json"
HELLO = [{"role": "user", "content": "Hi"}]
OVERLOADED = anthropic.event("error", error={"type": "overloaded_error", "message": "Overloaded"})
BETAS = (
    "claude-code-20250219,interleaved-thinking-2025-05-14,context-management-2025-06-27,"
    "mid-conversation-tool-changes-2026-07-01,advanced-tool-use-2025-11-20,effort-2025-11-24"
)


def recorded(model: str) -> dict[str, Any]:
    return {**json.loads(RECORDED.read_bytes()), "model": model}


def test_what_claude_code_says_goes_up_as_it_is(stage: Stage) -> None:
    stage.says(anthropic.events())
    answer = stage.ask(PATH, recorded("claude"), anthropic_version="2023-06-01", anthropic_beta=BETAS, x_app="cli")
    assert answer.body == b"".join(anthropic.events())
    assert stage.heard.json == recorded(anthropic.MODEL)
    assert stage.heard.headers["anthropic-beta"] == BETAS
    assert "x-stile-dropped" not in answer.headers


def test_what_claude_code_says_is_understood_by_a_server_that_only_chats(stage: Stage) -> None:
    stage.says(chat({"content": "Hello"}))
    answer = stage.ask(PATH, recorded("chat"), anthropic_version="2023-06-01", anthropic_beta=BETAS)
    assert events(answer.body)[-1]["type"] == "message_stop"
    assert answer.headers["x-stile-dropped"] == "context_management, metadata, thinking, output_config.effort"
    sent = stage.heard.json
    assert sent.keys() == {"model", "messages", "tools", "max_tokens", "stream", "stream_options"}
    assert [message["role"] for message in sent["messages"]] == ["system", "user", "system"]
    assert [tool["function"]["name"] for tool in sent["tools"]] == [tool["name"] for tool in recorded("")["tools"]]
    for only_anthropics in (b"cache_control", b"defer_loading", b"input_schema", b"anthropic-beta"):
        assert only_anthropics not in stage.heard.body
    assert not [name for name in stage.heard.headers if name.startswith("anthropic")]


@pytest.mark.parametrize("model", ["claude", "chat"])
def test_a_stream_is_there_before_the_target_has_said_all(stage: Stage, model: str) -> None:
    opened = asyncio.Event()
    said = anthropic.events(["Hel", "lo"]) if model == "claude" else chat({"content": "Hel"}, {"content": "lo"})
    early = next(place for place, chunk in enumerate(said) if b"Hel" in chunk) + 1

    async def script(exchange: Exchange) -> None:
        await exchange.start("text/event-stream")
        for chunk in said[:early]:
            await exchange.chunk(chunk)
        await asyncio.wait_for(opened.wait(), provider.SETTLED)
        for chunk in said[early:]:
            await exchange.chunk(chunk)
        await exchange.end()

    stage.provider.script = script
    connection = http.client.HTTPConnection(*stage.gateway.address, timeout=provider.SETTLED)
    with contextlib.closing(connection):
        body = json.dumps({"model": model, "max_tokens": 5, "messages": HELLO, "stream": True})
        connection.request("POST", "/v1/messages", body, {"x-api-key": stage.gateway.key})
        response = connection.getresponse()
        first = b""
        while b"Hel" not in first:
            piece = response.read1()
            assert piece, first
            first += piece
        assert b"message_stop" not in first
        assert stage.provider.loop is not None
        stage.provider.loop.call_soon_threadsafe(opened.set)
        found = events(first + response.read())
    assert "".join(event["delta"].get("text", "") for event in found if "delta" in event) == "Hello"
    assert found[-1]["type"] == "message_stop"


def test_an_overload_that_a_stream_begins_with_is_a_status(stage: Stage) -> None:
    stage.says([OVERLOADED])
    answer = stage.ask(PATH, {"model": "claude", "max_tokens": 5, "messages": HELLO, "stream": True})
    assert answer.status == 529
    assert answer.json["error"] == {"type": "overloaded_error", "message": "Overloaded"}
    assert answer.json["request_id"] == answer.headers["request-id"]


def test_an_overload_in_mid_stream_passes_as_it_is(stage: Stage) -> None:
    said = [*anthropic.events()[:4], OVERLOADED]
    stage.says(said)
    answer = stage.ask(PATH, {"model": "claude", "max_tokens": 5, "messages": HELLO, "stream": True})
    assert (answer.status, answer.body) == (200, b"".join(said))


@pytest.mark.parametrize("header", ["x-api-key", "api-key", "authorization"])
def test_a_key_may_come_by_each_clients_header(stage: Stage, header: str) -> None:
    stage.says(whole_chat())
    key = stage.gateway.key
    sent = {header: f"Bearer {key}" if header == "authorization" else key}
    body = {"model": "chat", "max_tokens": 5, "messages": HELLO}
    assert stage.gateway.ask("POST", "/v1/messages", body, key=None, headers=sent).status == 200
    assert key.encode() not in stage.heard.body
    assert key not in str(stage.heard.headers)


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/v1/messages", 405), ("POST", "/v1/messages/batches", 404)]
)
def test_what_is_not_there_is_told_in_anthropics_way(stage: Stage, method: str, path: str, status: int) -> None:
    answer = stage.gateway.ask(method, path)
    assert (answer.status, answer.json["type"]) == (status, "error")
    assert answer.json["request_id"] == answer.headers["request-id"]
