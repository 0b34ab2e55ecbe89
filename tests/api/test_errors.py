"""Bad input gets OpenAI's envelope, before any provider is called."""

import http.client
import json
from typing import Any

import pytest
from tests.mocks.openai import Upstream
from tests.program import Program

from stile.core.body import MAX_DEPTH

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "Hello"}]


def nested(levels: int) -> bytes:
    """A body that nests so deeply: itself, its messages, the message and its content make four levels."""
    inner = b"[" * (levels - 3) + b"]" * (levels - 3)
    return b'{"model":"ok","messages":[{"role":"user","content":' + inner + b"}]}"


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"", "invalid_json", None),
        (b"{", "invalid_json", None),
        (b'{"model":"ok","messages":[}', "invalid_json", None),
        (b"[]", "invalid_json", None),
        (b'"text"', "invalid_json", None),
        (b"\xff\xfe", "invalid_json", None),
        (b"{} trailing", "invalid_json", None),
        (b"{}", "missing_required_parameter", "model"),
        (b'{"model":"ok"}', "missing_required_parameter", "messages"),
        (b'{"model":"","messages":[{}]}', "missing_required_parameter", "model"),
        (b'{"model":1,"messages":[{}]}', "invalid_type", "model"),
        (b'{"model":"ok","messages":{}}', "invalid_type", "messages"),
        (b'{"model":"ok","messages":[]}', "empty_array", "messages"),
        (b'{"model":"ok","messages":[ ]}', "empty_array", "messages"),
        (b'{"model":"ok","messages":[{}],"stream":"yes"}', "invalid_type", "stream"),
        (b'{"model":"ok","messages":[{}],"stream_options":[]}', "invalid_type", "stream_options"),
        (b'{"model":"ok","messages":[{}],"max_tokens":"5"}', "invalid_type", "max_tokens"),
        (b'{"model":"ok","messages":[{}],"tools":{}}', "invalid_type", "tools"),
        (nested(MAX_DEPTH + 1), "invalid_json", None),
        (nested(100_000), "invalid_json", None),
    ],
    ids=range(20),
)
def test_a_malformed_call_is_a_400(
    gateway: Program, upstream: Upstream, body: bytes, code: str, param: str | None
) -> None:
    before = len(upstream.calls)
    answer = gateway.ask("POST", CHAT, body)
    assert answer.status == 400
    assert answer.error["type"] == "invalid_request_error"
    assert (answer.error["code"], answer.error["param"]) == (code, param)
    assert len(upstream.calls) == before


def test_nesting_is_allowed_up_to_the_bound(gateway: Program) -> None:
    assert gateway.ask("POST", CHAT, nested(MAX_DEPTH)).status == 200


def test_brackets_in_texts_are_not_nesting(gateway: Program) -> None:
    body = {"model": "ok", "messages": [{"role": "user", "content": '\\"[{' * 1000}]}
    assert gateway.ask("POST", CHAT, body).status == 200


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_over_the_limit_is_a_413(gateway: Program, upstream: Upstream, announced: bool) -> None:
    before = len(upstream.calls)
    connection = http.client.HTTPConnection(*gateway.address, timeout=10)
    headers = {"authorization": f"Bearer {gateway.key}"}
    if announced:
        connection.putrequest("POST", CHAT)
        for name, value in (*headers.items(), ("content-length", str(33 * 1024 * 1024))):
            connection.putheader(name, value)
        connection.endheaders()
    else:
        chunks = (b"x" * 1024 * 1024 for _ in range(33))
        connection.request("POST", CHAT, chunks, headers, encode_chunked=True)
    response = connection.getresponse()
    assert response.status == 413
    assert json.loads(response.read())["error"]["code"] == "request_too_large"
    connection.close()
    assert len(upstream.calls) == before


@pytest.mark.parametrize("path", ["/v1", "/v1/chat", "/v1/chat/completions/", "/v1/nothing", "/metric"])
def test_an_unknown_path_is_a_404(gateway: Program, path: str) -> None:
    answer = gateway.ask("GET", path)
    assert (answer.status, answer.error["code"]) == (404, "unknown_url")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", CHAT, "POST"), ("DELETE", CHAT, "POST"), ("POST", "/v1/models", "GET, HEAD")],
)
def test_a_wrong_method_is_a_405(gateway: Program, method: str, path: str, allowed: str) -> None:
    answer = gateway.ask(method, path)
    assert (answer.status, answer.error["code"]) == (405, "method_not_supported")
    assert answer.headers["allow"] == allowed


def test_a_model_that_does_not_exist_is_a_404(gateway: Program) -> None:
    answer = gateway.ask("POST", CHAT, {"model": "none", "messages": HELLO})
    assert (answer.status, answer.error["code"]) == (404, "model_not_found")
    assert gateway.ask("GET", "/v1/models/none").error["code"] == "model_not_found"


def test_an_expectation_is_met(gateway: Program) -> None:
    body: Any = {"model": "ok", "messages": HELLO}
    assert gateway.ask("POST", CHAT, body, headers={"expect": "100-continue"}).status == 200


def test_a_websocket_handshake_is_refused_in_the_envelope(gateway: Program) -> None:
    headers = {
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    answer = gateway.ask("GET", "/v1/responses", headers=headers)
    assert (answer.status, answer.error["code"]) == (426, "websocket_not_supported")


def test_no_message_repeats_a_key(gateway: Program) -> None:
    for answer in (
        gateway.ask("POST", CHAT, {"model": gateway.key, "messages": HELLO}),
        gateway.ask("GET", f"/v1/models/{gateway.key}"),
        gateway.ask("GET", f"/{gateway.key}"),
        gateway.ask("GET", "/v1/models", key=gateway.key[:-1] + ("0" if gateway.key[-1] != "0" else "1")),
    ):
        assert answer.status in (401, 404)
        assert gateway.key[:60].encode() not in answer.body
