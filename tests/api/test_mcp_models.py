"""The tools `chat` and `embed` before a provider: what goes up, what comes back, and how it fails."""

import asyncio
import contextlib
import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import leaks, program, rpc
from tests import stage as stages
from tests.conftest import model_file
from tests.mocks.openai import Upstream
from tests.mocks.provider import SETTLED, Exchange
from tests.program import Program, wait_for
from tests.rpc import MODERN, Client
from tests.stage import Stage, whole_chat

REVISIONS = ("2025-11-25", MODERN)  # of each era


@pytest.fixture(params=REVISIONS)
def client(request: pytest.FixtureRequest, stage: Stage) -> Client:
    return Client(stage.gateway, request.param)


def progress(model: str, prompt: str = "Hi") -> dict[str, Any]:
    return {"name": "chat", "arguments": {"model": model, "prompt": prompt}, "_meta": {"progressToken": 1}}


def test_a_chat_goes_up_as_it_was_said(stage: Stage, client: Client) -> None:
    stage.says(whole_chat())
    found = client.call(
        "chat",
        model="chat",
        system="Be short.",
        messages=[{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}],
        prompt="3",
        max_tokens=9,
        temperature=0.5,
    )
    assert found["isError"] is True
    found = client.call("chat", model="chat", system="Be short.", prompt="3", max_tokens=9, temperature=0.5)
    assert found["structuredContent"] == {
        "model": "chat",
        "text": "Hello there",
        "finish_reason": "stop",
        "usage": {"input_tokens": 11, "output_tokens": 7, "estimated": False},
    }
    assert stage.heard.json == {
        "model": "scripted",
        "messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "3"}],
        "temperature": 0.5,
        "max_tokens": 9,
    }
    stage.says(whole_chat())
    conversation = [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}]
    client.call("chat", model="relayed", messages=conversation, max_tokens=9)
    assert stage.heard.json == {"model": "scripted", "messages": conversation, "max_completion_tokens": 9}
    assert "x-own" in stage.heard.headers


@pytest.mark.parametrize("model", ["translated", "claude"])
def test_a_model_of_another_dialect_is_asked_by_the_translator(stage: Stage, client: Client, model: str) -> None:
    stage.says(
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude-x",
            "content": [{"type": "text", "text": "Bonjour"}],
            "stop_reason": "max_tokens",
            "usage": {"input_tokens": 5, "output_tokens": 2},
        }
    )
    found = client.call("chat", model=model, prompt="Hi", max_tokens=2)["structuredContent"]
    assert (found["text"], found["finish_reason"]) == ("Bonjour", "length")
    assert found["usage"] == {"input_tokens": 5, "output_tokens": 2, "estimated": False}
    assert stage.heard.path == "/v1/messages"


def test_progress_comes_while_the_model_speaks(stage: Stage, client: Client) -> None:
    more = threading.Event()

    async def script(exchange: Exchange) -> None:
        first, *rest = stages.chat({"content": "Guten "}, {"content": "Tag"})
        await exchange.start("text/event-stream")
        await exchange.chunk(first)
        assert await asyncio.to_thread(more.wait, SETTLED)
        for chunk in rest:
            await exchange.chunk(chunk)
        await exchange.end()

    stage.provider.script = script
    with opened(client, progress("chat")) as response:
        seen = until(response, b"Guten ")
        assert b"Tag" not in seen
        more.set()
        rest = response.read()
    assert b'"message":"Tag"' in rest
    assert b'"text":"Guten Tag"' in rest
    line = stage.gateway.line_of(str(response.getheader("x-request-id")))
    assert (line["status"], line["stream"], line["output_tokens"]) == (200, True, 7)


@pytest.mark.parametrize("streams", [True, False], ids=["progress", "whole"])
def test_a_client_that_goes_away_ends_the_call_of_the_model(stage: Stage, client: Client, streams: bool) -> None:
    asked, gone = threading.Event(), threading.Event()

    async def script(exchange: Exchange) -> None:
        if streams:
            await exchange.start("text/event-stream")
            await exchange.chunk(stages.chat({"content": "Guten "})[0])
        asked.set()
        await exchange.hung_up()
        gone.set()

    stage.provider.script = script
    params = progress("chat") if streams else {"name": "chat", "arguments": {"model": "chat", "prompt": "Hi"}}
    connection = begun(client, params)
    assert asked.wait(SETTLED)
    if streams:
        until(connection.getresponse(), b"Guten ")
    connection.close()
    assert gone.wait(SETTLED)
    wait_for(lambda: stage.gateway.calls()[-1]["error"] == "client_gone", "the line of the call")
    stage.says(whole_chat())
    assert client.call("chat", model="chat", prompt="Hi")["isError"] is False


def test_a_provider_that_refuses_is_quoted_and_the_tool_has_failed(stage: Stage, client: Client) -> None:
    said = f"no credit left on {leaks.PROVIDER_KEY}"
    stage.says({"error": {"message": said, "type": "insufficient_quota", "code": "insufficient_quota"}}, 402)
    answer = client.ask("tools/call", {"name": "chat", "arguments": {"model": "chat", "prompt": "Hi"}})
    found = answer.json["result"]
    assert found["isError"] is True
    assert "structuredContent" not in found
    assert found["content"][0]["text"].startswith("openai/scripted refused the call (402): no credit left on ")
    assert leaks.PROVIDER_KEY not in answer.body.decode()
    line = stage.gateway.line_of(answer.headers["x-request-id"])
    assert (line["status"], line["error"], line["mcp_name"]) == (200, "upstream_error", "chat")


def test_a_provider_that_breaks_off_leaves_what_it_said_and_a_failed_tool(stage: Stage, client: Client) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.start("text/event-stream")
        await exchange.chunk(stages.chat({"content": "Guten "})[0])
        exchange.reset()

    stage.provider.script = script
    note, last = rpc.events(client.ask("tools/call", progress("chat")))
    assert note["params"]["message"] == "Guten "
    assert last["result"]["isError"] is True


def test_texts_are_embedded(gateway: Program, upstream: Upstream) -> None:
    for revision in REVISIONS:
        client = Client(gateway, revision)
        found = client.call("embed", model="ok", input=["one"], dimensions=2)["structuredContent"]
        usage = {"input_tokens": 5, "output_tokens": 0, "estimated": False}
        assert found == {"model": "ok", "embeddings": [[0.1, 0.2]], "usage": usage}
        assert upstream.last("ok").json == {"model": "ok", "input": ["one"], "dimensions": 2}
        refused = client.call("embed", model="echo", input="x")
        assert refused["isError"] is True
        assert "only chats" in refused["content"][0]["text"]


def test_a_call_whose_time_is_over_says_so_to_the_message_that_waits(folder: Path, upstream: Upstream) -> None:
    config = folder / "config.yaml"
    config.write_text(model_file(upstream))
    with program.running(folder, STILE_CONFIG=str(config), STILE_TIMEOUT_SECONDS="1") as gateway:
        # The first message imports the SDK, which may take its time and all of this second.
        wait_for(lambda: Client(gateway, MODERN).ask("tools/list").status == 200, "the first answer")
        for revision in REVISIONS:
            client = Client(gateway, revision)
            upstream.gate.clear()
            try:
                answer = client.ask("tools/call", {"name": "chat", "arguments": {"model": "gated", "prompt": "x"}})
                *_, last = rpc.events(client.ask("tools/call", progress("gated")))
            finally:
                upstream.gate.set()
            for told in (answer.json, last):
                assert told["id"] == 7
                assert told["error"]["data"]["code"] == "upstream_timeout"
            assert answer.status == 504


def begun(client: Client, params: dict[str, Any]) -> http.client.HTTPConnection:
    """A connection on which a tool was called."""
    connection = http.client.HTTPConnection(*client.gateway.address, timeout=SETTLED)
    headers = {"authorization": f"Bearer {client.gateway.key}", **client.headers("tools/call", params)}
    connection.request("POST", "/mcp", json.dumps(client.message("tools/call", params)), headers)
    return connection


@contextlib.contextmanager
def opened(client: Client, params: dict[str, Any]) -> Iterator[http.client.HTTPResponse]:
    """A call of a tool whose answer has begun."""
    with contextlib.closing(begun(client, params)) as connection:
        yield connection.getresponse()


def until(response: http.client.HTTPResponse, mark: bytes) -> bytes:
    """What has come when this has."""
    seen = b""
    while mark not in seen:
        more = response.read1()
        assert more, f"ended without {mark!r}: {seen!r}"
        seen += more
    return seen
