"""/mcp under attack: messages that are none, headers and bodies that disagree, clients that leave, providers that fail.

Whatever comes, the answer is the protocol's, quickly; the gateway goes on; the log has a line, and nobody's arguments.
"""

import asyncio
import concurrent.futures
import contextlib
import http.client
import json
import random
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from tests import leaks, program, rpc
from tests.mocks.provider import SETTLED, Exchange
from tests.program import Program, wait_for
from tests.rpc import MODERN, REVISIONS, Client
from tests.stage import Stage, whole_chat

from stile.api.mcp.exchange import Exchange as McpExchange
from stile.api.mcp.offer import Offer, Resource
from stile.api.mcp.sdk import Sdk
from stile.core.records import Caller
from stile.telemetry.records import CallRecord

ECHO = {"name": "chat", "arguments": {"model": "echo", "prompt": "Hi"}}
ERAS = ("2025-11-25", MODERN)
INVALID_REQUEST = -32600


@pytest.fixture(params=REVISIONS)
def client(request: pytest.FixtureRequest, stage: Stage) -> Client:
    return Client(stage.gateway, request.param)


@pytest.fixture(params=ERAS)
def of_each_era(request: pytest.FixtureRequest, stage: Stage) -> Client:
    return Client(stage.gateway, request.param)


@pytest.fixture
def modern(stage: Stage) -> Client:
    return Client(stage.gateway, MODERN)


def call_line(gateway: Program, request_id: str) -> dict[str, Any]:
    """The call's own line: a change of keys has one more with the same id."""
    found = wait_for(
        lambda: [line for line in gateway.calls() if line["request_id"] == request_id], f"the line of {request_id}"
    )
    assert len(found) == 1
    return found[0]


def post(client: Client, body: bytes, method: str = "tools/list", **headers: str) -> program.Answer:
    """Any bytes, with the headers of a message that is one."""
    sent = client.headers(method, ECHO) | {name.replace("_", "-"): value for name, value in headers.items()}
    return client.gateway.ask("POST", "/mcp", body, headers=sent)


def altered(client: Client, **fields: Any) -> bytes:
    """A tools/list with other fields; `...` takes one away."""
    message = {**client.message("tools/list"), **fields}
    return json.dumps({name: value for name, value in message.items() if value is not ...}).encode()


# What a message is


@pytest.mark.parametrize("given", [0, -1, 2**63, 10**30, "", "7", "007", "x" * 300, "\u2028é"])
def test_an_id_comes_back_as_it_was(client: Client, given: object) -> None:
    answer = post(client, altered(client, id=given))
    assert (answer.status, answer.json["id"]) == (200, given)


@pytest.mark.parametrize("given", [None, 1.5, True, [], {}, [1]], ids=repr)
def test_a_request_whose_id_is_none_is_refused_and_not_taken_for_a_notification(client: Client, given: object) -> None:
    answer = post(client, altered(client, id=given))
    assert answer.status == 400
    assert (answer.json["error"]["code"], answer.json["id"]) == (INVALID_REQUEST, None)
    assert call_line(client.gateway, answer.headers["x-request-id"])["error"] == "invalid_request"


@pytest.mark.parametrize(
    "fields",
    [
        {"jsonrpc": "1.0"},
        {"jsonrpc": 2.0},
        {"jsonrpc": ...},
        {"method": None},
        {"method": ["tools/list"]},
        {"method": ...},
        {"params": ["x"]},
        {"params": "x"},
        {"id": ..., "method": ..., "jsonrpc": ..., "params": ...},
    ],
    ids=str,
)
def test_what_is_no_request_object_is_called_that_without_the_libraries_words(
    client: Client, fields: dict[str, Any]
) -> None:
    answer = post(client, altered(client, **fields))
    assert (answer.status, answer.json["error"]["code"]) == (400, INVALID_REQUEST)
    for word in ("pydantic", "validation error", "JSONRPCRequest", "input_value"):
        assert word not in answer.body.decode()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda body: b"\xef\xbb\xbf" + body,
        lambda body: body.decode().encode("utf-16"),
        lambda body: body.decode().encode("utf-16-le"),
        lambda body: body.decode().encode("utf-32"),
        lambda body: body + body,
        lambda body: body + b"\0",
        lambda body: body.replace(b'"tools/list"', b'"tools/list\xff"'),
        lambda body: body.replace(b'"tools/list"', b'"tools/list", "x": "\xff"'),
        lambda body: body.replace(b'"tools/list"', b'"tools/list", "x": "\\ud800"'),
        lambda body: body.replace(b'"tools/list"', b'"tools/list", "x": Infinity'),
        lambda body: body.replace(b'"tools/list"', b'"tools/list", "x": ' + b"9" * 5000),
        lambda body: body[:-1],
    ],
    ids=["BOM", "UTF-16", "UTF-16LE", "UTF-32", "two", "NUL", "method", "UTF-8", "surrogate", "inf", "digits", "cut"],
)
def test_bytes_that_are_not_one_json_text_are_refused(client: Client, spoil: Any) -> None:
    answer = post(client, spoil(json.dumps(client.message("tools/list")).encode()))
    assert answer.status == 400
    assert answer.json["error"]["code"] in (-32700, INVALID_REQUEST)


def test_of_a_name_that_comes_twice_all_readers_read_the_last(modern: Client) -> None:
    twice = altered(modern).replace(b'"method": "tools/list"', b'"method": "tools/list", "m\\u0065thod": "tools/call"')
    refused = post(modern, twice)
    assert (refused.status, refused.json["error"]["code"]) == (400, -32020)
    taken = post(modern, twice.replace(b"tools/call", b"prompts/list"), mcp_method="prompts/list")
    assert taken.json["result"]["prompts"]
    assert call_line(modern.gateway, taken.headers["x-request-id"])["mcp_method"] == "prompts/list"


def test_a_response_that_nobody_asked_for_changes_nothing(client: Client) -> None:
    responses: list[dict[str, Any]] = [{"result": {}}, {"error": {"code": 1, "message": "x"}}]
    for said in responses:
        answer = post(client, json.dumps({"jsonrpc": "2.0", "id": 1, **said}).encode())
        assert answer.status in ((400,) if client.is_modern else (202, 400))


def test_a_call_without_an_id_is_not_made(stage: Stage, of_each_era: Client) -> None:
    stage.says(whole_chat())
    asked, before = len(stage.provider.calls), len(stage.gateway.ask("GET", "/api/keys").json["data"])
    for name, arguments in (("chat", {"model": "chat", "prompt": "x"}), ("create_key", {"name": "x"})):
        params = {"name": name, "arguments": arguments, "_meta": {"progressToken": 1}}
        message = {k: v for k, v in of_each_era.message("tools/call", params).items() if k != "id"}
        headers = of_each_era.headers("tools/call", params)
        answer = stage.gateway.ask("POST", "/mcp", message, headers=headers)
        assert (answer.status, answer.body) == (202, b"")
    assert len(stage.provider.calls) == asked
    assert len(stage.gateway.ask("GET", "/api/keys").json["data"]) == before


# Revisions and headers


@pytest.mark.parametrize("name", ["MCP-Protocol-Version", "Mcp-Method", "Mcp-Name"])
@pytest.mark.parametrize("first", [True, False])
def test_a_header_that_comes_twice_is_refused(modern: Client, name: str, first: bool) -> None:
    other = {"MCP-Protocol-Version": "2025-11-25", "Mcp-Method": "tools/list", "Mcp-Name": "embed"}[name]
    pairs = list(modern.headers("tools/call", ECHO).items())
    pairs.insert(0 if first else len(pairs), (name, other))
    status, body = raw(modern.gateway, json.dumps(modern.message("tools/call", ECHO)).encode(), pairs)
    assert (status, json.loads(body)["error"]["code"]) == (400, -32020)


@pytest.mark.parametrize("revision", ["2024-10-07", "2025-07-01", "2099-01-01", "garbage", "2026-07-28x", "x" * 4000])
def test_a_header_of_a_revision_that_never_was_is_refused(stage: Stage, revision: str) -> None:
    plain = Client(stage.gateway, "2025-11-25")
    answer = post(plain, altered(plain), mcp_protocol_version=revision)
    assert answer.status == 400
    assert answer.json["error"]["code"] in (-32602, -32022)
    line = call_line(stage.gateway, answer.headers["x-request-id"])
    assert line["error"]
    assert len(line["mcp_version"]) <= 512


@pytest.mark.parametrize("said", ["2025-06-18", "2099-01-01", None, 20260728, ["2026-07-28"]], ids=str)
def test_a_body_of_another_revision_than_its_header_is_refused(modern: Client, said: object) -> None:
    params = {"_meta": {"io.modelcontextprotocol/protocolVersion": said}}
    answer = modern.ask("tools/list", params)
    assert (answer.status, answer.json["error"]["code"]) == (400, -32020)


@pytest.mark.parametrize("said", [None, 1, {}])
def test_a_hello_without_a_revision_is_refused(stage: Stage, said: object) -> None:
    old = Client(stage.gateway, "2025-06-18")
    hello = {"protocolVersion": said, "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
    answer = old.ask("initialize", hello)
    assert answer.json["error"]["code"] == -32602


@pytest.mark.parametrize("cursor", ["x", "", "-1", "0", "1e1", "１", "9" * 30, "100"])
def test_a_cursor_that_no_page_gave_is_refused(of_each_era: Client, cursor: str) -> None:
    for method in ("tools/list", "resources/list", "resources/templates/list", "prompts/list"):
        status, code = of_each_era.error(method, {"cursor": cursor})
        assert (status, code) == (400 if of_each_era.is_modern else 200, -32602), method


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("content-type", "text/plain"),
        ("content-type", "application/x-www-form-urlencoded"),
        ("content-type", ""),
        ("accept", "text/event-stream"),
        ("accept", "text/html"),
        ("accept", ""),
    ],
)
def test_whatever_form_is_announced_or_wanted_the_answer_is_a_message(client: Client, header: str, value: str) -> None:
    answer = post(client, altered(client), **{header: value})
    assert answer.headers["content-type"] == "application/json"
    assert answer.json["jsonrpc"] == "2.0"
    if answer.status != 200:
        assert "application/json" in answer.json["error"]["message"]


def test_who_waits_for_news_is_refused_at_once_and_holds_nothing_up(folder: Path) -> None:
    with program.running(folder) as gateway:
        for revision in REVISIONS:
            client = Client(gateway, revision)
            answer = client.ask("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
            assert answer.json["error"]["code"] == -32601
            assert gateway.ask("GET", "/health", key=None).status == 200


def test_no_proxy_may_hold_a_stream_back(of_each_era: Client) -> None:
    answer = of_each_era.ask("tools/call", {**ECHO, "_meta": {"progressToken": 1}})
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["x-accel-buffering"] == "no"


# Who leaves, and who is meant


@pytest.mark.parametrize("progress", [False, True], ids=["whole", "progress"])
def test_a_call_whose_client_has_gone_has_ended_and_is_settled_when_it_is_logged(
    stage: Stage, of_each_era: Client, progress: bool
) -> None:
    asked, gone = threading.Event(), threading.Event()

    async def silent(exchange: Exchange) -> None:
        asked.set()
        await exchange.hung_up()
        gone.set()

    stage.provider.script = silent
    before = len(stage.gateway.calls())
    params = {"name": "chat", "arguments": {"model": "chat", "prompt": "one two three four"}}
    if progress:
        params["_meta"] = {"progressToken": 1}
    with connected(of_each_era, params):
        assert asked.wait(SETTLED)
    assert gone.wait(SETTLED)
    line = wait_for(lambda: stage.gateway.calls()[before:], "the line of the call")[0]
    assert (line["error"], line["model"], line["attempts"]) == ("client_gone", "chat", 1)
    assert line["usage_estimated"]
    assert line["input_tokens"] > 0


def test_nobody_cancels_what_another_has_asked_for_under_the_same_id(stage: Stage, of_each_era: Client) -> None:
    asked, more = threading.Event(), threading.Event()

    async def gated(exchange: Exchange) -> None:
        asked.set()
        assert await asyncio.to_thread(more.wait, SETTLED)
        await exchange.answer(200, json.dumps(whole_chat()).encode())

    stage.provider.script = gated
    params = {"name": "chat", "arguments": {"model": "chat", "prompt": "x"}}
    with concurrent.futures.ThreadPoolExecutor(1) as others:
        call = others.submit(of_each_era.ask, "tools/call", params)
        assert asked.wait(SETTLED)
        note = of_each_era.message("notifications/cancelled", {"requestId": 7, "reason": "not mine"})
        del note["id"]
        assert post(of_each_era, json.dumps(note).encode(), "notifications/cancelled").status == 202
        more.set()
        assert call.result().json["result"]["isError"] is False


def test_fifty_callers_at_once_get_what_is_theirs(stage: Stage) -> None:
    gateway = stage.gateway
    callers = []
    for number in range(10):
        user = gateway.ask("POST", "/api/users", {"email": f"crowd-{number}@example.com"}).json["id"]
        for confined in (False, True):
            fields = {"tools": ["chat", "list_keys"], "models": ["echo"]} if confined else {}
            made = gateway.ask("POST", f"/api/users/{user}/keys", {"name": "k", **fields}).json
            callers.append((user, made["key"], confined))

    def one(number: int) -> None:
        user, key, confined = callers[number % len(callers)]
        client = Client(gateway, ERAS[number // 2 % 2], key)
        asked = {"name": "chat", "arguments": {"model": "echo", "prompt": f"secret-{number}-"}}
        whole = client.result("tools/call", asked)
        assert whole["content"][0]["text"].endswith(f"secret-{number}-")
        told = client.ask("tools/call", {**asked, "_meta": {"progressToken": f"token-{number}"}})
        *notes, last = rpc.events(told)
        assert last["result"]["structuredContent"]["text"].endswith(f"secret-{number}-")
        assert {note["params"]["progressToken"] for note in notes} == {f"token-{number}"}
        assert told.body.count(b"secret-") == told.body.count(f"secret-{number}-".encode())
        keys = client.call("list_keys")["structuredContent"]["keys"]
        assert {each["user_id"] for each in keys} == {user}
        assert (client.tools() == ["chat", "list_keys"]) is confined
        assert (client.result("resources/list")["resources"] == []) is confined

    with concurrent.futures.ThreadPoolExecutor(50) as crowd:
        list(crowd.map(one, range(100)))


# Arguments


ARGUMENTS: dict[str, list[dict[str, Any]]] = {
    "chat": [
        {"model": "echo", "prompt": "x"},
        {"model": "echo", "messages": [{"role": "user", "content": "x"}], "system": ""},
        {"model": "echo", "prompt": "x", "temperature": 2, "max_tokens": 10**7},
        {"model": "echo", "prompt": "\u0000\u2028\U0001f600"},
        {"model": "echo", "prompt": ""},
        {"model": "echo", "prompt": None},
        {"model": "echo", "prompt": ["x"]},
        {"model": "echo", "prompt": "x", "temperature": "1"},
        {"model": "echo", "prompt": "x", "temperature": -0.1},
        {"model": "echo", "prompt": "x", "temperature": 1e300},
        {"model": "echo", "prompt": "x", "max_tokens": 0},
        {"model": "echo", "prompt": "x", "max_tokens": 1.5},
        {"model": "echo", "prompt": "x", "max_tokens": True},
        {"model": "echo", "prompt": "x", "max_tokens": 2**70},
        {"model": "echo", "messages": []},
        {"model": "echo", "messages": [{"role": "user"}]},
        {"model": "echo", "messages": [{"role": "user", "content": "x", "name": "y"}]},
        {"model": "echo", "messages": [{"role": "developer", "content": "x"}]},
        {"model": "echo", "messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]},
        {"model": "echo", "messages": [{"role": "user", "content": "x"}] * 1001},
        {"model": "", "prompt": "x"},
        {"model": "x" * 257, "prompt": "x"},
        {"prompt": "x"},
        {},
        {"model": "echo", "prompt": "x", "api_key": "x"},
        {"model": "echo", "prompt": "x", "Prompt": "y"},
    ],
    "embed": [
        {"model": "chat", "input": "x", "dimensions": 1},
        {"model": "chat", "input": ["x", "y"]},
        {"model": "chat", "input": []},
        {"model": "chat", "input": ""},
        {"model": "chat", "input": [""]},
        {"model": "chat", "input": [1]},
        {"model": "chat", "input": {"text": "x"}},
        {"model": "chat", "input": ["x"] * 2049},
        {"model": "chat", "input": "x", "dimensions": 0},
    ],
    "list_models": [{}, {"x": 1}],
    "list_keys": [{}, {"user_id": ""}, {"user_id": 1}, {"user": "x"}],
    "create_key": [
        {"name": ""},
        {"name": None},
        {"name": "a\nb"},
        {"name": "x" * 129},
        {"name": "x", "scopes": ["root"]},
        {"name": "x", "scopes": []},
        {"name": "x", "tools": ["a b"]},
        {"name": "x", "models": [""]},
        {"name": "x", "metadata": []},
        {"name": "x", "expires_in": "soon"},
        {"name": "x", "expires_in": 0},
        {"name": "x", "role": "admin"},
        {"name": "x", "id": "0" * 48},
        {},
    ],
    "revoke_key": [{}, {"id": ""}, {"id": "x" * 65}, {"id": ["x"]}, {"id": "x", "force": True}],
}


@pytest.mark.parametrize("tool", ARGUMENTS)
def test_a_tool_takes_what_its_schema_takes_and_nothing_else(stage: Stage, client: Client, tool: str) -> None:
    stage.says({"object": "list", "data": [{"index": 0, "embedding": [1]}, {"index": 1, "embedding": [2]}]})
    schema = next(each["inputSchema"] for each in client.result("tools/list")["tools"] if each["name"] == tool)
    for arguments in ARGUMENTS[tool]:
        answer = client.ask("tools/call", {"name": tool, "arguments": arguments})
        refused = call_line(client.gateway, answer.headers["x-request-id"])["error"] == "invalid_arguments"
        fits = jsonschema.Draft202012Validator(schema).is_valid(arguments)
        assert refused is not fits, arguments
        if refused and client.revision >= "2025-11-25":
            assert answer.json["result"]["isError"] is True
        elif refused:
            assert answer.json["error"]["code"] == -32602


def _patterns(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("pattern"), str):
            yield schema["pattern"]
        for part in schema.values():
            yield from _patterns(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _patterns(part)


def test_no_pattern_of_a_schema_is_beyond_what_all_clients_read(modern: Client) -> None:
    found = list(_patterns(modern.result("tools/list")["tools"]))
    assert found
    for pattern in found:  # Rust's and Go's expressions, and OpenAI's tools, know no looking around and no references
        assert not re.search(r"\(\?[=!<]|\\[1-9AZbB]", pattern), pattern


def test_arguments_are_in_no_line_of_the_log(stage: Stage, client: Client) -> None:
    planted = f"planted{random.SystemRandom().getrandbits(64):x}"
    for method, params in (
        ("tools/call", {"name": "chat", "arguments": {"model": "echo", "prompt": planted}}),
        ("tools/call", {"name": "chat", "arguments": {"model": "echo", "prompt": planted, planted: planted}}),
        ("tools/call", {"name": "chat", "arguments": {"model": "echo", "prompt": [planted]}}),
        ("tools/call", {"name": "chat", "arguments": planted}),
        ("tools/call", {"name": "revoke_key", "arguments": {"id": planted}}),
        ("prompts/get", {"name": "second_opinion", "arguments": {"matter": planted, "model": planted}}),
        ("prompts/get", {"name": "second_opinion", "arguments": {"matter": [planted]}}),
        ("tools/list", {"cursor": planted}),
        ("completion/complete", {"ref": {"type": "ref/prompt", "name": planted}}),
    ):
        before = len(stage.gateway.calls())
        answer = client.ask(method, params)
        line = call_line(stage.gateway, answer.headers["x-request-id"])
        assert (line["mcp_method"], line["mcp_version"], line["path"]) == (method, client.revision, "/mcp")
        assert line.get("mcp_name") == params.get("name")
        assert len(stage.gateway.calls()) == before + 1
    post(client, b'{"jsonrpc": "2.0", "id": 1, "method": 5, "params": "%s"}' % planted.encode())
    assert planted not in stage.gateway.out.read_text() + stage.gateway.err.read_text()


@pytest.mark.parametrize("given", ["x" * 300, "x" * 100_000], ids=len)
def test_a_failure_is_in_the_log_however_long_the_id_is(client: Client, given: str) -> None:
    answer = post(client, altered(client, id=given, method="nobody/knows"), mcp_method="nobody/knows")
    assert answer.json["error"]["code"] == -32601
    assert call_line(client.gateway, answer.headers["x-request-id"])["error"] == "method_not_found"


# Providers


def _choice(message: dict[str, Any] | None, finish: object = "stop") -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish}]}


SAID: list[tuple[int, object]] = [
    (200, b""),
    (200, b"{}"),
    (200, b"[" * 100_000),
    (200, {"choices": []}),
    (200, _choice(None)),
    (200, _choice({"role": "assistant", "content": None}, None)),
    (200, _choice({"role": "assistant", "content": [{"type": "text", "text": "x"}]})),
    (200, _choice({"role": "assistant", "content": "x"}, 5)),
    (200, _choice({"role": "assistant", "content": {"a": 1}})),
    (200, _choice({"role": "assistant", "content": None, "refusal": "No."})),
    (200, {**_choice({"role": "assistant", "content": "x"}), "usage": {"prompt_tokens": -5, "completion_tokens": 0.5}}),
    (200, {**_choice({"role": "assistant", "content": "x"}), "usage": {"prompt_tokens": 2**70}}),
    (200, {"error": {"message": f"in an answer {leaks.PROVIDER_KEY}"}}),
    (400, {"error": {"message": f"bad temperature {leaks.PROVIDER_KEY}"}}),
    (400, {"error": {"message": None}}),
    (401, {"error": {"message": f"Incorrect API key provided: {leaks.PROVIDER_KEY}"}}),
    (404, b"<html>" + leaks.PROVIDER_KEY.encode() + b"</html>"),
    (429, {"error": {"message": "slow down"}}),
    (500, {"detail": leaks.PROVIDER_KEY}),
    (503, b"\xff\xfe"),
]


@pytest.mark.parametrize("progress", [False, True], ids=["whole", "progress"])
def test_whatever_a_provider_says_a_tool_says_by_its_schema_or_has_failed(
    stage: Stage, of_each_era: Client, progress: bool
) -> None:
    tools = of_each_era.result("tools/list")["tools"]
    schema = next(tool["outputSchema"] for tool in tools if tool["name"] == "chat")
    params: dict[str, Any] = {"name": "chat", "arguments": {"model": "chat", "prompt": "x"}}
    if progress:
        params["_meta"] = {"progressToken": 1}
    for status, body in SAID:
        stage.says(body, status)
        answer = of_each_era.ask("tools/call", params)
        assert answer.status == 200
        streamed = answer.headers["content-type"] == "text/event-stream"
        result = (rpc.events(answer)[-1] if streamed else answer.json)["result"]
        assert result["content"][0]["text"] or not result["isError"], (status, body)
        assert leaks.PROVIDER_KEY not in answer.body.decode()
        if result["isError"]:
            assert "structuredContent" not in result
            assert call_line(stage.gateway, answer.headers["x-request-id"])["error"].startswith("upstream_")
        else:
            jsonschema.validate(result["structuredContent"], schema)
    assert leaks.PROVIDER_KEY not in stage.gateway.out.read_text()


@pytest.mark.parametrize(
    "vectors",
    [[], [[1.0]], [[1.0], [2.0], [3.0]], [[1.0], "AAAA"], [[1.0], [None]]],
    ids=["0", "1", "3", "b64", "null"],
)
def test_vectors_that_are_not_one_for_each_text_are_a_failure(stage: Stage, vectors: list[object]) -> None:
    client = Client(stage.gateway, MODERN)
    stage.says({"object": "list", "data": [{"index": at, "embedding": one} for at, one in enumerate(vectors)]})
    assert client.call("embed", model="chat", input=["a", "b"])["isError"] is True


def test_a_vector_belongs_to_the_text_that_its_index_says(stage: Stage) -> None:
    client = Client(stage.gateway, MODERN)
    stage.says({"object": "list", "data": [{"index": 1, "embedding": [2.0]}, {"index": 0, "embedding": [1.0]}]})
    assert client.call("embed", model="chat", input=["a", "b"])["structuredContent"]["embeddings"] == [[1.0], [2.0]]


# Size and time


def test_a_body_may_be_no_larger_here_than_anywhere(folder: Path) -> None:
    with program.running(folder, STILE_MAX_BODY_BYTES="2000") as gateway:
        client = Client(gateway, MODERN)
        asked = {"name": "chat", "arguments": {"model": "echo", "prompt": "x" * 3000}}
        assert client.ask("tools/call", asked).status == 413


@pytest.mark.parametrize(
    "value",
    [b"[" + b"1," * 900_000 + b"1]", b"[" + b"{}," * 240_000 + b"1]", b'{"a":' * 190 + b"1" + b"}" * 190],
    ids=["numbers", "objects", "depth"],
)
def test_large_arguments_are_refused_before_anything_is_done_with_them(of_each_era: Client, value: bytes) -> None:
    params = {"name": "chat", "arguments": {"model": "echo", "prompt": "@"}}
    body = json.dumps(of_each_era.message("tools/call", params)).encode().replace(b'"@"', value)
    answer = of_each_era.gateway.ask("POST", "/mcp", body, headers=of_each_era.headers("tools/call", params))
    assert answer.json["result"]["isError"] is True
    assert "Expected `str`" in answer.json["result"]["content"][0]["text"]


def test_others_are_answered_while_a_long_answer_is_told(folder: Path) -> None:
    with program.running(folder) as gateway:
        arguments = {"model": "echo", "prompt": "x " * 1_000_000}
        params = {"name": "chat", "arguments": arguments, "_meta": {"progressToken": 1}}
        longest = 0.0
        with concurrent.futures.ThreadPoolExecutor(1) as others:
            call = others.submit(Client(gateway, MODERN).ask, "tools/call", params)
            while not call.done():
                began = time.monotonic()
                assert gateway.ask("GET", "/health", key=None).status == 200
                longest = max(longest, time.monotonic() - began)
        assert rpc.events(call.result())[-1]["result"]["isError"] is False
        assert longest < 2


# The gateway's own faults


def test_an_sdk_that_cannot_be_imported_fails_its_messages_alone(folder: Path) -> None:
    package = folder / "broken" / "mcp"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('the inside')")
    with program.running(folder, PYTHONPATH=str(package.parent)) as gateway:
        for revision in ERAS:
            answer = Client(gateway, revision).ask("tools/list")
            assert (answer.status, answer.json["error"]["code"]) == (500, -32603)
            assert b"the inside" not in answer.body
        hello = {"model": "echo", "messages": [{"role": "user", "content": "x"}]}
        assert gateway.ask("POST", "/v1/chat/completions", hello).status == 200
        assert "the inside" in gateway.out.read_text()
        assert gateway.stop(signal.SIGTERM) == 0
        assert gateway.err.read_text() == ""


class _Broken:
    """A library that fails as nobody has foreseen."""

    templates = ()

    def list(self, caller: Caller) -> list[Resource]:
        raise ValueError(f"the inside of {caller.user_id}")

    def read(self, uri: str, caller: Caller) -> None:
        raise KeyError(f"the inside of {caller.user_id}, {uri}")

    def complete(self, argument: str, begun: str, caller: Caller) -> Sequence[str]:
        raise KeyError(f"the inside of {caller.user_id}, {argument}, {begun}")


@pytest.mark.parametrize("method", ["resources/list", "resources/read"])
@pytest.mark.parametrize("revision", ERAS)
def test_a_fault_of_the_gateway_is_in_its_log_and_not_in_the_answer(
    revision: str, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = Client(Program(None, Path(), Path(), Path(), "", ""), revision)  # type: ignore[arg-type]  # builds messages
    params = {"uri": "stile://models"} if method == "resources/read" else {}
    headers = [(name.encode(), value.encode()) for name, value in client.headers(method, params).items()]
    scope = {"type": "http", "method": "POST", "path": "/mcp", "query_string": b"", "headers": headers}

    async def look_anew() -> Caller:
        raise AssertionError("nobody is looked up anew")

    async def answer() -> bytes:
        sdk = Sdk(Offer([], _Broken(), [], ""), 2**20)
        await sdk.start()
        exchange = McpExchange(
            Caller("u", "k", "member", frozenset({"mcp"})),
            CallRecord("req_1", "POST", "/mcp"),
            asyncio.get_running_loop().time() + SETTLED,
            progress_token=msgspec.Raw(b""),
            look_anew=look_anew,
        )
        try:
            reply = await sdk.answer(scope, json.dumps(client.message(method, params)).encode(), exchange)
        finally:
            await sdk.close()
        assert isinstance(reply.body, bytes)
        return reply.body

    body = asyncio.run(answer())
    assert json.loads(body)["error"]["code"] == -32603
    assert b"the inside" not in body
    assert "the inside of u" in caplog.text


# Anything at all


VALUES: list[Any] = [None, True, -1, 1.5, 2**70, "", "echo", "chat", "\0", "é" * 300, [], {}, [[]], {"a": {}}, [None]]
NAMES = ["id", "method", "params", "_meta", "name", "arguments", "cursor", "uri", "task", "requestState", "model", "x"]
MESSAGES: list[tuple[str, dict[str, Any]]] = [
    ("tools/call", {"name": "chat", "arguments": {"model": "echo", "messages": [{"role": "user", "content": "x"}]}}),
    ("tools/call", {"name": "list_keys", "arguments": {}}),
    ("tools/call", {"name": "revoke_key", "arguments": {"id": "x"}}),
    ("tools/call", {"name": "embed", "arguments": {"model": "echo", "input": ["x"]}}),
    ("tools/list", {}),
    ("resources/read", {"uri": "stile://models"}),
    ("prompts/get", {"name": "second_opinion", "arguments": {"matter": "x"}}),
    ("initialize", {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}),
    ("server/discover", {}),
    ("completion/complete", {"ref": {"type": "ref/prompt", "name": "x"}, "argument": {"name": "a", "value": "b"}}),
]


def _changed(value: Any, chance: random.Random) -> Any:
    if not isinstance(value, dict):
        return chance.choice(VALUES)
    value, kind = dict(value), chance.random()
    if kind < 0.2 or not value:
        value[chance.choice(NAMES)] = chance.choice(VALUES)
    elif kind < 0.35:
        value.pop(chance.choice(list(value)))
    else:
        name = chance.choice(list(value))
        value[name] = _changed(value[name], chance)
    return value


@pytest.mark.parametrize("seed", range(4))
def test_no_message_makes_the_gateway_fail(of_each_era: Client, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(150):
        method, params = chance.choice(MESSAGES)
        message: Any = of_each_era.message(method, params)
        for _ in range(chance.randint(1, 3)):
            message = _changed(message, chance)
        answer = post(of_each_era, json.dumps(message).encode(), method)
        assert answer.status in (200, 202, 400, 404), message
        if answer.body:
            assert answer.json.get("error", {}).get("code") not in (0, -32603), (message, answer.body)
    assert of_each_era.tools()


def raw(gateway: Program, body: bytes, headers: list[tuple[str, str]]) -> tuple[int, bytes]:
    """A request whose headers are sent as they stand here: names may come twice."""
    connection = http.client.HTTPConnection(*gateway.address, timeout=SETTLED)
    with contextlib.closing(connection):
        connection.putrequest("POST", "/mcp")
        for name, value in (*headers, ("Authorization", f"Bearer {gateway.key}"), ("Content-Length", str(len(body)))):
            connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        return response.status, response.read()


@contextlib.contextmanager
def connected(client: Client, params: dict[str, Any]) -> Iterator[http.client.HTTPConnection]:
    """A connection on which a tool was called; at the end the client goes away."""
    connection = http.client.HTTPConnection(*client.gateway.address, timeout=program.WAIT)
    headers = {"authorization": f"Bearer {client.gateway.key}", **client.headers("tools/call", params)}
    connection.request("POST", "/mcp", json.dumps(client.message("tools/call", params)), headers)
    assert isinstance(connection.sock, socket.socket)
    try:
        yield connection
    finally:
        connection.close()
