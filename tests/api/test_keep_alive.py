"""Signs of life over a socket: what a client gets of a model call while its provider is silent.

The provider holds its answer back until a test has read as many signs as it wants and opens the gate.
"""

import contextlib
import http.client
import json
import tempfile
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import openai
import pytest
from tests import leaks, program
from tests.mocks import openai as mock
from tests.mocks.openai import DONE, SETTLED, TEXT, Upstream
from tests.program import Program, wait_for

HELLO: Any = [{"role": "user", "content": "Hello"}]
WHOLE = "".join(TEXT)
COMMENT = b": keep-alive\n\n"
BOTH = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
SILENT = ["held", "held-reset", "held-other", "held-400", "stall-mid", "gated", "slow", "never-ending"]
FALLS = "falls"


@contextlib.contextmanager
def running(folder: Path, upstream: Upstream, **settings: str) -> Iterator[Program]:
    """A gateway that gives a sign of life every second, and tries everything once."""
    config = folder / "config.yaml"
    config.write_text(json.dumps(model_file(upstream)))
    lively = {"STILE_KEEP_ALIVE_SECONDS": "1", "STILE_WHOLE_KEEP_ALIVE_SECONDS": "1"}
    with program.running(folder, STILE_CONFIG=str(config), **lively, **settings) as gateway:
        yield gateway


def model_file(upstream: Upstream) -> dict[str, Any]:
    def entry(name: str, script: str) -> dict[str, Any]:
        access = {"api_base": upstream.base, "api_key": leaks.PROVIDER_KEY}
        return {"model_name": name, "litellm_params": {"model": f"openai/{script}", **access}}

    return {
        "model_list": [*(entry(name, name) for name in SILENT), entry(FALLS, "held-reset")],
        "router_settings": {"num_retries": 0, "fallbacks": [{FALLS: ["held"]}]},
    }


@pytest.fixture(scope="module")
def lively(output: Path, upstream: Upstream) -> Iterator[Program]:
    with running(Path(tempfile.mkdtemp(dir=output)), upstream) as gateway:
        yield gateway


@pytest.fixture
def gate(upstream: Upstream) -> Iterator[Upstream]:
    """The provider with its gate closed; open at the end, whatever happens."""
    upstream.gate.clear()
    upstream.closed.clear()
    yield upstream
    upstream.gate.set()


@pytest.fixture
def sdk(lively: Program) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{lively.base}/v1", api_key=lively.key, max_retries=0) as client:
        yield client


@contextlib.contextmanager
def connected(gateway: Program) -> Iterator[http.client.HTTPConnection]:
    with contextlib.closing(http.client.HTTPConnection(*gateway.address, timeout=program.WAIT)) as connection:
        yield connection


def ask(connection: http.client.HTTPConnection, gateway: Program, model: str, *, stream: bool) -> HTTPResponse:
    """One call, up to the head of its answer."""
    body = json.dumps({"model": model, "messages": HELLO, "stream": stream})
    headers = {"authorization": f"Bearer {gateway.key}", "origin": "https://page.example"}
    connection.request("POST", "/v1/chat/completions", body, headers)
    return connection.getresponse()


def signs(answer: HTTPResponse, count: int, *, stream: bool) -> None:
    """Wait for signs of life, and for nothing else."""
    sign = COMMENT if stream else b" "
    assert answer.read(count * len(sign)) == count * sign


def error_of(body: bytes, *, stream: bool) -> dict[str, Any]:
    """The error that a body tells of, behind signs of life, as the only event or as the whole of it."""
    if stream:
        events = [event for event in body.split(b"\n\n") if event and not event.startswith(b":")]
        assert len(events) == 1, "the error is one event, and the last"
        assert b"\n" not in events[0]
        body = events[0].removeprefix(b"data: ")
    error: dict[str, Any] = json.loads(body)["error"]
    return error


def test_a_silent_stream_gets_its_head_and_comments_before_its_first_event(lively: Program, gate: Upstream) -> None:
    with connected(lively) as connection:
        answer = ask(connection, lively, "held", stream=True)
        signs(answer, 2, stream=True)
        gate.gate.set()
        rest = answer.read()
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert rest.replace(COMMENT, b"") == b"".join(mock.events(usage=True)[:-2]) + DONE
    assert rest.endswith(DONE), "there is no sign of life after the end"
    line = lively.line_of(answer.headers["x-request-id"])
    assert (line["status"], line["error"], line["output_tokens"]) == (200, None, 7)
    assert line["bytes_out"] == 2 * len(COMMENT) + len(rest)
    assert line["total_ms"] - line["ttfb_ms"] > 900, "the head went out with the first comment"


def test_a_silent_whole_answer_gets_its_head_and_spaces_before_its_body(lively: Program, gate: Upstream) -> None:
    with connected(lively) as connection:
        answer = ask(connection, lively, "held", stream=False)
        signs(answer, 2, stream=False)
        gate.gate.set()
        rest = answer.read()
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert "content-length" not in answer.headers
    assert answer.headers["access-control-allow-origin"] == "*"
    assert json.loads(rest)["choices"][0]["message"]["content"] == WHOLE
    line = lively.line_of(answer.headers["x-request-id"])
    assert (line["status"], line["error"], line["output_tokens"]) == (200, None, 7)
    assert line["bytes_out"] == 2 + len(rest)
    assert line["total_ms"] - line["ttfb_ms"] > 900


def test_the_sdk_reads_a_stream_whose_head_came_before_the_providers(sdk: openai.OpenAI, gate: Upstream) -> None:
    stream = sdk.chat.completions.create(model="held", messages=HELLO, stream=True)
    gate.gate.set()
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == WHOLE


def test_the_sdk_reads_a_whole_answer_that_begins_with_spaces(sdk: openai.OpenAI, gate: Upstream) -> None:
    with sdk.chat.completions.with_streaming_response.create(model="held", messages=HELLO) as answer:
        gate.gate.set()
        assert answer.parse().choices[0].message.content == WHOLE


def test_the_sdk_reads_embeddings_that_begin_with_spaces(sdk: openai.OpenAI, gate: Upstream) -> None:
    create = sdk.embeddings.with_streaming_response.create
    with create(model="held", input=["a"], encoding_format="float") as answer:
        gate.gate.set()
        assert answer.parse().data[0].embedding == [0.1, 0.2]


@pytest.mark.parametrize(("model", "whole"), [("stall-mid", 1), ("gated", 2)])
def test_comments_stand_between_events_and_never_within_one(
    lively: Program, gate: Upstream, model: str, whole: int
) -> None:
    events = mock.events(usage=True)
    begun = b"".join(events[:whole])
    with connected(lively) as connection:
        answer = ask(connection, lively, model, stream=True)
        assert answer.read(len(begun)) == begun
        signs(answer, 2, stream=True)
        gate.gate.set()
        rest = answer.read()
    assert rest.replace(COMMENT, b"") == b"".join(events[whole:-2]) + DONE


@BOTH
@pytest.mark.parametrize(
    ("model", "codes"),
    [("held-reset", ("upstream_broken", "upstream_broken")), ("held-400", ("too_long", "upstream_error"))],
    ids=["reset", "400"],
)
def test_a_failure_behind_the_head_is_told_in_the_body(
    lively: Program, gate: Upstream, model: str, codes: tuple[str, str], stream: bool
) -> None:
    """`codes`: what the caller is told, and what the log says."""
    with connected(lively) as connection:
        answer = ask(connection, lively, model, stream=stream)
        signs(answer, 1, stream=stream)
        gate.gate.set()
        error = error_of(answer.read(), stream=stream)
    line = lively.line_of(answer.headers["x-request-id"])
    assert (answer.status, line["status"]) == (200, 200)
    assert (error["code"], line["error"]) == codes


def test_the_sdk_raises_a_failure_behind_a_streams_head(sdk: openai.OpenAI, gate: Upstream) -> None:
    stream = sdk.chat.completions.create(model="held-400", messages=HELLO, stream=True)
    gate.gate.set()
    with pytest.raises(openai.APIError, match=r"Too long\."):
        list(stream)


@BOTH
def test_attempts_go_on_behind_the_head(lively: Program, gate: Upstream, stream: bool) -> None:
    with connected(lively) as connection:
        answer = ask(connection, lively, FALLS, stream=stream)
        signs(answer, 1, stream=stream)
        gate.gate.set()
        assert text_of(answer.read(), stream=stream) == WHOLE
    line = lively.line_of(answer.headers["x-request-id"])
    assert (line["attempts"], line["target"], line["error"]) == (2, "openai/held", None)


@BOTH
def test_an_answer_in_the_other_form_cannot_follow_the_head(lively: Program, gate: Upstream, stream: bool) -> None:
    with connected(lively) as connection:
        answer = ask(connection, lively, "held-other", stream=stream)
        signs(answer, 1, stream=stream)
        gate.gate.set()
        error = error_of(answer.read(), stream=stream)
    assert error["code"] == "upstream_broken"
    assert "another form" in error["message"]


@BOTH
def test_a_call_that_is_late_in_silence_ends_with_an_error(folder: Path, upstream: Upstream, stream: bool) -> None:
    with running(folder, upstream, STILE_TIMEOUT_SECONDS="2") as gateway, connected(gateway) as connection:
        answer = ask(connection, gateway, "slow", stream=stream)
        error = error_of(answer.read(), stream=stream)
        line = gateway.line_of(answer.headers["x-request-id"])
    assert (answer.status, error["code"], line["error"]) == (200, "upstream_timeout", "upstream_timeout")


@pytest.mark.parametrize(
    ("model", "stream"), [("slow", True), ("slow", False), ("never-ending", True)], ids=["before", "whole", "between"]
)
def test_a_client_that_goes_away_in_silence_ends_the_call_upstream(
    lively: Program, gate: Upstream, model: str, stream: bool
) -> None:
    with connected(lively) as connection:
        answer = ask(connection, lively, model, stream=stream)
        if model == "never-ending":
            answer.read(len(mock.event({"role": "assistant", "content": "on and on"})))
        signs(answer, 1, stream=stream)
        answer.close()
    assert gate.closed.wait(SETTLED), "the provider's connection was closed"
    line = lively.line_of(answer.headers["x-request-id"])
    assert (line["status"], line["error"]) == (499, "client_gone")


@BOTH
def test_a_connection_is_good_for_the_next_call(lively: Program, gate: Upstream, stream: bool) -> None:
    """The second call is silent for longer than a sign takes, so a sign of the first one would be in its way."""
    with connected(lively) as connection:
        for _ in range(2):
            gate.gate.clear()
            answer = ask(connection, lively, "held", stream=stream)
            signs(answer, 1, stream=stream)
            gate.gate.set()
            assert WHOLE in text_of(answer.read(), stream=stream)


def text_of(body: bytes, *, stream: bool) -> str:
    if not stream:
        return str(json.loads(body)["choices"][0]["message"]["content"])
    events = [json.loads(event[6:]) for event in body.split(b"\n\n") if event.startswith(b"data: {")]
    return "".join(event["choices"][0]["delta"].get("content") or "" for event in events)


def test_a_stop_ends_a_silent_call_with_an_error(folder: Path, gate: Upstream) -> None:
    with running(folder, gate, STILE_DRAIN_SECONDS="0") as gateway, connected(gateway) as connection:
        answer = ask(connection, gateway, "held", stream=True)
        signs(answer, 1, stream=True)
        gateway.process.terminate()
        assert error_of(answer.read(), stream=True)["code"] == "gateway_stopping"
        wait_for(lambda: gateway.process.poll() is not None, "the gateway to end")
