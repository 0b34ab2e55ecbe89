"""A call belongs to the trace that its caller names, and the provider is told of it."""

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tests import leaks, program
from tests.mocks import anthropic, provider
from tests.mocks.openai import Upstream
from tests.mocks.provider import Provider
from tests.program import Program
from tests.rpc import MODERN, Client

CHAT = "/v1/chat/completions"
HI = [{"role": "user", "content": "hi"}]
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
ROOT = "1-5759e988-bd862e3fe1be46a994272793"
ROOTS_TRACE = "5759e988bd862e3fe1be46a994272793"
WELL_FORMED = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-0[01]")


@pytest.fixture(scope="module")
def claude() -> Iterator[Provider]:
    with provider.on_a_thread(anthropic.chat) as server:
        yield server


@pytest.fixture(scope="module")
def traced(output: Path, upstream: Upstream, claude: Provider) -> Iterator[Program]:
    folder = output / "trace"
    folder.mkdir()
    config = folder / "config.yaml"
    params = {"api_base": claude.url, "api_key": leaks.PROVIDER_KEY, "extra_headers": {"x-team": "blue"}}
    entries = [
        {"model_name": "ok", "litellm_params": {"model": "openai/ok", "api_base": upstream.base, "api_key": "x"}},
        {"model_name": "claude", "litellm_params": {"model": f"anthropic/{anthropic.MODEL}", **params}},
    ]
    config.write_text(yaml.safe_dump({"model_list": entries}))
    with program.running(folder, STILE_CONFIG=str(config)) as gateway:
        yield gateway


def seen(gateway: Program, upstream: Upstream, **headers: str) -> tuple[str, dict[str, str]]:
    """The trace in the line of a call, and the headers that the provider got."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = gateway.ask("POST", CHAT, {"model": "ok", "messages": [{}]}, headers=sent)
    assert answer.status == 200, answer.body
    line = gateway.line_of(answer.headers["x-request-id"])
    trace: str = line["trace_id"]
    return trace, upstream.last("ok").headers


def up(headers: dict[str, str]) -> tuple[str, str]:
    """Trace and parent that the provider was told."""
    found = WELL_FORMED.fullmatch(headers["traceparent"])
    assert found is not None, headers
    return found[1], found[2]


def test_the_callers_trace_goes_on(traced: Program, upstream: Upstream) -> None:
    trace, headers = seen(traced, upstream, traceparent=TRACEPARENT, tracestate="vendor=1,other=a:b")
    assert trace == up(headers)[0] == TRACE
    assert up(headers)[1] != PARENT
    assert headers["tracestate"] == "vendor=1,other=a:b"
    assert headers["traceparent"].endswith("-01")
    assert "x-amzn-trace-id" not in headers


@pytest.mark.parametrize(
    "given",
    [
        f"01-{TRACE}-{PARENT}-00",
        f"cc-{TRACE}-{PARENT}-00-what-later-versions-say",
        f"00-{TRACE}-{PARENT}-ff",
        f" {TRACEPARENT} ",
    ],
)
def test_what_can_be_read_is_taken(traced: Program, upstream: Upstream, given: str) -> None:
    trace, headers = seen(traced, upstream, traceparent=given)
    assert trace == up(headers)[0] == TRACE


@pytest.mark.parametrize(
    "given",
    [
        "",
        "garbage",
        "00",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE[:-1]}-{PARENT}-01",
        f"00-{TRACE}a-{PARENT}-01",
        f"00-{TRACE}-{PARENT[:-1]}-01",
        f"00-{TRACE}-{PARENT}-1",
        f"00-{TRACE}-{PARENT}-0g",
        f"00-{TRACE}-{PARENT}-01-more",
        f"00-{TRACE}-{PARENT}-01.",
        f"0-{TRACE}-{PARENT}-01",
        f"00_{TRACE}_{PARENT}_01",
        f"00-{TRACE}-{PARENT}-01\xe9",
        f"{TRACEPARENT},{TRACEPARENT}",
        "x" * 10_000,
    ],
    ids=lambda given: given[:20] or "nothing",
)
def test_what_cannot_be_read_counts_as_absent(traced: Program, upstream: Upstream, given: str) -> None:
    trace, headers = seen(traced, upstream, traceparent=given, tracestate="vendor=1")
    assert trace == up(headers)[0] != TRACE
    assert "tracestate" not in headers


def test_two_parents_are_none(traced: Program, upstream: Upstream) -> None:
    body = b'{"model":"ok","messages":[{}]}'
    lines = [
        f"POST {CHAT} HTTP/1.1",
        "host: x",
        f"authorization: Bearer {traced.key}",
        f"content-length: {len(body)}",
        *[f"traceparent: {TRACEPARENT}"] * 2,
        "connection: close",
    ]
    with socket.create_connection(traced.address) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        while connection.recv(65536):
            pass
    assert up(upstream.last("ok").headers)[0] != TRACE


@pytest.mark.parametrize("state", ["x" * 513, "a=\x01", "a=é"])
def test_notes_of_others_that_cannot_be_passed_on_are_left_out(traced: Program, upstream: Upstream, state: str) -> None:
    body = b'{"model":"ok","messages":[{}]}'
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {traced.key}\r\ncontent-length: {len(body)}\r\n"
    head += f"traceparent: {TRACEPARENT}\r\ntracestate: {state}\r\nconnection: close\r\n\r\n"
    before = upstream.count("ok")
    with socket.create_connection(traced.address) as connection:
        connection.sendall(head.encode() + body)
        answer = b""
        while read := connection.recv(65536):
            answer += read
    if b" 200 " in answer[:20]:  # a web server may refuse what is no header
        assert up(upstream.last("ok").headers)[0] == TRACE
        assert "tracestate" not in upstream.last("ok").headers
    else:
        assert answer.startswith(b"HTTP/1.1 400")
        assert upstream.count("ok") == before


@pytest.mark.parametrize(
    ("sampled", "flags"), [(";Sampled=1", "01"), (";Sampled=0", "00"), (";Sampled=?", "00"), ("", "00")]
)
def test_a_trace_of_x_ray_goes_on_in_both_forms(traced: Program, upstream: Upstream, sampled: str, flags: str) -> None:
    trace, headers = seen(traced, upstream, x_amzn_trace_id=f"Self=1-a-b;Root={ROOT};Parent={PARENT}{sampled}")
    assert trace == up(headers)[0] == ROOTS_TRACE
    assert headers["traceparent"].endswith(flags)
    assert headers["x-amzn-trace-id"] == f"Root={ROOT};Parent={up(headers)[1]};Sampled={int(flags)}"


def test_the_callers_own_trace_goes_before_that_of_x_ray(traced: Program, upstream: Upstream) -> None:
    trace, headers = seen(traced, upstream, traceparent=TRACEPARENT, x_amzn_trace_id=f"Root={ROOT};Sampled=1")
    assert trace == up(headers)[0] == TRACE
    assert f"Root={ROOT};" in headers["x-amzn-trace-id"]


@pytest.mark.parametrize(
    "given",
    ["Root=1-zzz", "Root=1-5759E988-bd862e3fe1be46a994272793", "garbage", f"Root=1-{'0' * 8}-{'0' * 24}", "=" * 9000],
)
def test_what_x_ray_did_not_write_counts_as_absent(traced: Program, upstream: Upstream, given: str) -> None:
    trace, headers = seen(traced, upstream, x_amzn_trace_id=given)
    assert trace == up(headers)[0] not in (ROOTS_TRACE, "0" * 32)
    assert "x-amzn-trace-id" not in headers


def test_a_call_without_a_trace_begins_one(traced: Program, upstream: Upstream) -> None:
    found = {seen(traced, upstream)[0] for _ in range(20)}
    assert len(found) == 20
    assert all(re.fullmatch(r"[0-9a-f]{32}", trace) for trace in found)


@pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/v1/responses"])
@pytest.mark.parametrize("model", ["ok", "claude"])
def test_every_way_to_a_model_tells_of_the_trace(
    traced: Program, upstream: Upstream, claude: Provider, path: str, model: str
) -> None:
    said = {"input": "hi"} if path == "/v1/responses" else {"messages": HI, "max_tokens": 9}
    answer = traced.ask("POST", path, {"model": model, **said}, headers={"traceparent": TRACEPARENT})
    assert answer.status == 200, answer.body
    call = upstream.last("ok") if model == "ok" else claude.last
    assert up(call.headers)[0] == TRACE
    if model == "claude":
        assert call.headers["x-team"] == "blue"
        assert b"traceparent" not in call.body


def test_a_tool_of_mcp_tells_of_the_trace_too(traced: Program, upstream: Upstream) -> None:
    arguments = {"name": "chat", "arguments": {"model": "ok", "prompt": "hi"}}
    answer = Client(traced, MODERN).ask("tools/call", arguments, traceparent=TRACEPARENT)
    assert answer.status == 200
    assert up(upstream.last("ok").headers)[0] == TRACE
