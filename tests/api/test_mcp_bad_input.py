"""What /mcp refuses, in the protocol's own way, and what the log says of it."""

from typing import Any

import pytest
from tests.program import Answer, Program
from tests.rpc import MODERN, REVISIONS, Client

META = "io.modelcontextprotocol/"
CHAT = {"name": "chat", "arguments": {"model": "echo", "prompt": "Hi"}}


@pytest.fixture(params=REVISIONS)
def client(request: pytest.FixtureRequest, gateway: Program) -> Client:
    return Client(gateway, request.param)


@pytest.fixture
def modern(gateway: Program) -> Client:
    return Client(gateway, MODERN)


def told(gateway: Program, answer: Answer) -> tuple[int, int, str]:
    """Status, code, and what the log says."""
    line = gateway.line_of(answer.headers["x-request-id"])
    assert line["status"] == answer.status
    return answer.status, answer.json["error"]["code"], line["error"]


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("mcp-protocol-version", "2025-11-25"),
        ("mcp-protocol-version", "2026-07-29"),
        ("mcp-method", "tools/list"),
        ("mcp-method", ""),
        ("mcp-name", "embed"),
        ("mcp-name", "Chat"),
    ],
)
def test_headers_must_say_what_the_body_says(modern: Client, header: str, value: str) -> None:
    answer = modern.ask("tools/call", CHAT, **{header: value})
    assert told(modern.gateway, answer) == (400, -32020, "header_mismatch")
    assert answer.json["id"] == 7


@pytest.mark.parametrize("missing", ["mcp-protocol-version", "mcp-method", "mcp-name"])
def test_headers_must_be_there(modern: Client, missing: str) -> None:
    headers = {name: value for name, value in modern.headers("tools/call", CHAT).items() if name != missing}
    answer = modern.gateway.ask("POST", "/mcp", modern.message("tools/call", CHAT), headers=headers)
    assert told(modern.gateway, answer) == (400, -32020, "header_mismatch")


def test_a_version_that_is_not_spoken_names_those_that_are(modern: Client) -> None:
    later = Client(modern.gateway, "2099-01-01")
    answer = later.ask("tools/list")
    assert told(modern.gateway, answer) == (400, -32022, "unsupported_protocol_version")
    assert answer.json["error"]["data"] == {"supported": [MODERN], "requested": "2099-01-01"}


def test_a_handshake_for_a_version_that_is_not_spoken_ends_in_one_that_is(gateway: Program) -> None:
    hello = {"protocolVersion": "1999-01-01", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
    headers = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
    answer = gateway.ask("POST", "/mcp", message, headers=headers)
    assert answer.json["result"]["protocolVersion"] == "2025-11-25"


@pytest.mark.parametrize("method", ["nobody/knows", "logging/setLevel", "subscriptions/listen", "tasks/get"])
def test_a_method_that_is_not_there(client: Client, method: str) -> None:
    answer = client.ask(method, {"level": "info"} if method.startswith("logging") else {"notifications": {}})
    status, code, log = told(client.gateway, answer)
    assert (status, code) in ((404, -32601), (200, -32601), (400, -32602))
    assert log in ("method_not_found", "invalid_params")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "required field `model`"),
        ({"model": 1, "prompt": "x"}, "Expected `str`"),
        ({"model": "echo", "prompt": "x", "stream": True}, "no field 'stream'"),
        ({"model": "echo", "prompt": "x", "api_base": "http://169.254.169.254"}, "no field 'api_base'"),
        ({"model": "echo", "prompt": "x", "temperature": 3}, "<= 2"),
        ({"model": "echo", "messages": [{"role": "tool", "content": "x"}]}, "Invalid enum value"),
    ],
)
def test_arguments_must_fit_the_schema(client: Client, arguments: dict[str, Any], said: str) -> None:
    answer = client.ask("tools/call", {"name": "chat", "arguments": arguments})
    line = client.gateway.line_of(answer.headers["x-request-id"])
    assert (line["error"], line["target"]) == ("invalid_arguments", None)
    if client.revision < "2025-11-25":
        assert answer.json["error"]["code"] == -32602
        text = answer.json["error"]["message"]
    else:  # since then it is told to the model, which may try again
        assert answer.json["result"]["isError"] is True
        text = answer.json["result"]["content"][0]["text"]
    assert said in text


@pytest.mark.parametrize(
    "params", [{}, {"name": 1}, {"name": "chat", "arguments": []}, {"name": "chat", "arguments": 1}]
)
def test_parameters_of_a_call_must_be_ones(client: Client, params: dict[str, Any]) -> None:
    status, code, log = told(client.gateway, client.ask("tools/call", params))
    assert (code, log) in ((-32602, "invalid_params"), (-32020, "header_mismatch"))
    assert status == (400 if client.is_modern else 200)


@pytest.mark.parametrize(
    ("body", "code", "log"),
    [
        (b"", -32700, "invalid_json"),
        (b"{", -32700, "invalid_json"),
        (b"\xff{}", -32700, "invalid_json"),
        (b'{"a": NaN}', -32700, "invalid_json"),
        (b"[]", -32600, "invalid_request"),
        (b'[{"jsonrpc":"2.0","id":1,"method":"tools/list"}]', -32600, "invalid_request"),
        (b'"tools/list"', -32700, "invalid_json"),
        (b'{"jsonrpc":"2.0","id":1,"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", -32700, "invalid_json"),
    ],
)
def test_a_body_must_be_one_message(client: Client, body: bytes, code: int, log: str) -> None:
    answer = client.gateway.ask("POST", "/mcp", body, headers=client.headers("tools/list"))
    assert told(client.gateway, answer) == (400, code, log)
    assert answer.json["id"] is None


def test_five_megabytes_are_too_many(client: Client) -> None:
    asked = {"name": "chat", "arguments": {"model": "echo", "prompt": "x" * 5_000_000}}
    answer = client.ask("tools/call", asked)
    assert told(client.gateway, answer) == (413, -32600, "request_too_large")
    asked["arguments"] = {"model": "echo", "prompt": "x" * 4_000_000}
    assert client.ask("tools/call", asked).json["result"]["isError"] is False


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "HEAD"])
def test_only_posts_are_taken_and_nothing_is_held_open(gateway: Program, method: str) -> None:
    answer = gateway.ask(method, "/mcp", headers={"accept": "text/event-stream"})
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    without_key = gateway.ask(method, "/mcp", key=None)
    assert without_key.status == 405


@pytest.mark.parametrize("origin", ["https://evil.example", "http://127.0.0.1.evil.example", "null", "http://[", ""])
def test_pages_of_a_foreign_origin_stay_out(client: Client, origin: str) -> None:
    answer = client.ask("tools/list", origin=origin)
    assert told(client.gateway, answer) == (403, -32600, "origin_not_allowed")
    assert client.with_key("nobody").ask("tools/list", origin=origin).status == 403


def test_a_foreign_host_changes_nothing(client: Client) -> None:
    assert client.ask("tools/list", host="evil.example").status == 200
    answer = client.with_key("nobody").ask("tools/list", host="evil.example")
    assert "evil" not in answer.headers["www-authenticate"]


def test_pages_of_the_same_machine_come_in(client: Client) -> None:
    assert client.ask("tools/list", origin="http://localhost:6274").status == 200
    assert client.ask("tools/list", origin=client.gateway.base).status == 200


def test_the_log_keeps_a_name_within_bounds_and_free_of_keys(client: Client) -> None:
    name = f"{client.gateway.key}{'x' * 1000}"
    answer = client.ask("tools/call", {"name": name, "arguments": {}})
    line = client.gateway.line_of(answer.headers["x-request-id"])
    assert len(line["mcp_name"]) <= 512
    assert client.gateway.key not in answer.body.decode()
    assert client.gateway.key not in str(line)
