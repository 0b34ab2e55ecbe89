"""Model calls over a socket, with the real SDK, to a scripted provider."""

import asyncio
import json
import socket
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionChunk
from tests import leaks
from tests.mocks import openai as mock
from tests.mocks.openai import TEXT, Upstream
from tests.program import Program, wait_for

HELLO: Any = [{"role": "user", "content": "Hello"}]
WHOLE = "".join(TEXT)


@pytest.fixture
def sdk(gateway: Program) -> Any:
    with openai.OpenAI(base_url=f"{gateway.base}/v1", api_key=gateway.key, max_retries=0) as client:
        yield client


def text_of(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_the_sdk_gets_a_whole_answer_through_the_relay(sdk: openai.OpenAI) -> None:
    answer = sdk.chat.completions.create(model="ok", messages=HELLO)
    assert answer.choices[0].message.content == WHOLE
    assert answer.usage is not None
    assert answer.usage.total_tokens == 18


@pytest.mark.parametrize("model", ["ok", "split"])
def test_the_sdk_streams_through_the_relay_however_chunks_are_cut(sdk: openai.OpenAI, model: str) -> None:
    chunks = list(sdk.chat.completions.create(model=model, messages=HELLO, stream=True))
    assert text_of(chunks) == WHOLE
    assert all(chunk.choices for chunk in chunks), "the usage chunk that nobody asked for was held back"


def test_a_caller_who_asks_for_usage_gets_the_usage_chunk(sdk: openai.OpenAI) -> None:
    stream = sdk.chat.completions.create(
        model="ok", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    last = list(stream)[-1]
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens == 7


def test_the_asynchronous_sdk_streams(gateway: Program) -> None:
    async def run() -> str:
        async with openai.AsyncOpenAI(base_url=f"{gateway.base}/v1", api_key=gateway.key, max_retries=0) as client:
            stream = await client.chat.completions.create(model="split", messages=HELLO, stream=True)
            return text_of([chunk async for chunk in stream])

    assert asyncio.run(run()) == WHOLE


def test_the_sdk_streams_from_echo(sdk: openai.OpenAI) -> None:
    stream = sdk.chat.completions.create(
        model="echo", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert text_of(chunks).endswith("Hello")
    assert "not a language model" in text_of(chunks)
    usage = chunks[-1].usage
    assert usage is not None
    assert usage.completion_tokens == len(text_of(chunks).split())


def test_echo_answers_the_last_user_message_in_parts(sdk: openai.OpenAI) -> None:
    messages: Any = [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "no"},
        {"role": "user", "content": [{"type": "text", "text": "second"}]},
    ]
    content = sdk.chat.completions.create(model="echo", messages=messages).choices[0].message.content or ""
    assert content.endswith("second")


def test_embeddings_go_through_the_relay(sdk: openai.OpenAI) -> None:
    answer = sdk.embeddings.create(model="ok", input=["a"], encoding_format="float")
    assert answer.data[0].embedding == [0.1, 0.2]


def test_a_tool_call_comes_through_as_it_is(sdk: openai.OpenAI) -> None:
    chunks = list(sdk.chat.completions.create(model="tool-call", messages=HELLO, stream=True))
    calls = chunks[0].choices[0].delta.tool_calls
    assert calls is not None
    assert calls[0].function is not None
    assert calls[0].function.arguments == '{"a":1}'


def test_the_first_chunk_is_here_while_the_provider_still_holds_back_the_rest(
    gateway: Program, upstream: Upstream
) -> None:
    upstream.gate.clear()
    with openai.OpenAI(base_url=f"{gateway.base}/v1", api_key=gateway.key, max_retries=0) as client:
        stream = iter(client.chat.completions.create(model="gated", messages=HELLO, stream=True))
        first = [next(stream), next(stream)]
        upstream.gate.set()
        assert text_of([*first, *stream]) == WHOLE


def test_what_was_checked_is_what_is_sent(gateway: Program, upstream: Upstream) -> None:
    body = b'{"model":"nowhere","mo\\u0064el":"ok","messages":[{"role":"user","content":"a"}],"x_new":{"a":[1, 2.50]}}'
    assert gateway.ask("POST", "/v1/chat/completions", body).status == 200
    sent = upstream.last("ok").body
    assert sent.count(b'"model"') == 1
    assert b"nowhere" not in sent
    assert b'"x_new":{"a":[1, 2.50]}' in sent, "fields that nobody knows pass untouched"


def test_headers_pass_by_allow_list_both_ways(gateway: Program, upstream: Upstream) -> None:
    headers = {
        "x-api-key": gateway.key,
        "cookie": "session=1",
        "x-forwarded-for": "10.1.2.3",
        "openai-organization": "org-mine",
        "openai-beta": "assistants=v2",
        "accept-encoding": "gzip",
    }
    body = {"model": "ok", "messages": HELLO}
    answer = gateway.ask("POST", "/v1/chat/completions?api-key=secret&x=1", body, headers=headers)
    sent = upstream.last("ok")
    assert sent.headers["authorization"] == f"Bearer {leaks.PROVIDER_KEY}"
    assert sent.headers["openai-beta"] == "assistants=v2"
    assert sent.headers["accept-encoding"] == "identity"
    assert sent.path == "/v1/chat/completions"
    assert not {"x-api-key", "cookie", "x-forwarded-for", "openai-organization"} & sent.headers.keys()
    assert not {"set-cookie", "x-ratelimit-remaining-requests"} & answer.headers.keys()
    assert answer.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize(("model", "asked"), [("ok", True), ("refuses-usage", False)])
def test_usage_is_asked_for_unless_the_provider_refuses(
    gateway: Program, upstream: Upstream, model: str, asked: bool
) -> None:
    body = {"model": model, "messages": HELLO, "stream": True}
    answer = gateway.ask("POST", "/v1/chat/completions", body)
    assert answer.status == 200
    assert ("stream_options" in upstream.last(model).json) is asked
    line = gateway.line_of(answer.headers["x-request-id"])
    assert line["usage_estimated"] is not asked
    assert line["output_tokens"] > 0


@pytest.mark.parametrize("model", ["groq", "mistral"])
def test_usage_is_read_wherever_the_provider_puts_it(gateway: Program, model: str) -> None:
    answer = gateway.ask("POST", "/v1/chat/completions", {"model": model, "messages": HELLO, "stream": True})
    line = gateway.line_of(answer.headers["x-request-id"])
    assert (line["input_tokens"], line["output_tokens"], line["usage_estimated"]) == (11, 7, False)
    assert b"11" in answer.body, "an event with more in it than usage passes"


def test_provider_failures_keep_status_and_body(sdk: openai.OpenAI, gateway: Program) -> None:
    with pytest.raises(openai.RateLimitError) as limited:
        sdk.chat.completions.create(model="429", messages=HELLO)
    assert limited.value.response.headers["retry-after"] == "7"
    assert limited.value.code == "rate_limit_exceeded"
    with pytest.raises(openai.InternalServerError, match="Internal error"):
        sdk.chat.completions.create(model="500", messages=HELLO, stream=True)
    refused = gateway.ask("POST", "/v1/chat/completions", {"model": "401", "messages": HELLO})
    assert refused.status == 401
    assert refused.error["message"] == "Incorrect API key provided: ***"


@pytest.mark.parametrize(
    ("model", "status", "stream"),
    [
        ("nowhere", 502, False),
        ("nowhere", 502, True),
        ("reset-before", 502, False),
        ("reset-before", 502, True),
        ("reset-in-head", 502, True),
        ("short", 502, False),
        ("redirect", 502, False),
    ],
)
def test_a_provider_that_cannot_answer_is_a_502(gateway: Program, model: str, status: int, stream: bool) -> None:
    answer = gateway.ask("POST", "/v1/chat/completions", {"model": model, "messages": HELLO, "stream": stream})
    assert answer.status == status
    assert answer.error["type"] == "upstream_error"


def test_a_break_in_mid_stream_ends_with_an_error_event(gateway: Program, upstream: Upstream) -> None:
    upstream.gate.clear()
    with openai.OpenAI(base_url=f"{gateway.base}/v1", api_key=gateway.key, max_retries=0) as client:
        stream = client.chat.completions.create(model="reset-mid", messages=HELLO, stream=True)
        iterator = iter(stream)
        assert text_of([next(iterator), next(iterator), next(iterator)]) == "".join(TEXT[:2])
        upstream.gate.set()
        with pytest.raises(openai.APIError, match="broke off"):
            next(iterator)
    line = gateway.line_of(stream.response.headers["x-request-id"])
    assert line["error"] == "upstream_broken"
    assert line["usage_estimated"] is True
    assert line["output_tokens"] > 0


def test_a_stream_that_only_the_connections_close_ends_must_say_that_it_is_done(gateway: Program) -> None:
    with openai.OpenAI(base_url=f"{gateway.base}/v1", api_key=gateway.key, max_retries=0) as client:
        assert text_of(list(client.chat.completions.create(model="unframed", messages=HELLO, stream=True))) == WHOLE
        stream = client.chat.completions.create(model="unframed-cut", messages=HELLO, stream=True)
        with pytest.raises(openai.APIError, match="broke off"):
            list(stream)


def test_a_callers_own_wish_for_usage_goes_up_and_so_does_the_refusal(gateway: Program, upstream: Upstream) -> None:
    seen = upstream.count("refuses-usage")
    body = {"model": "refuses-usage", "messages": HELLO, "stream": True, "stream_options": {"include_usage": True}}
    assert gateway.ask("POST", "/v1/chat/completions", body).status == 400
    assert upstream.count("refuses-usage") == seen + 1


@pytest.mark.parametrize("model", ["never-ending", "slow"])
def test_a_client_that_goes_away_ends_the_call_upstream(gateway: Program, upstream: Upstream, model: str) -> None:
    upstream.closed.clear()
    seen = upstream.count(model)
    body = json.dumps({"model": model, "messages": HELLO, "stream": True}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.key}\r\n"
    with socket.create_connection(gateway.address) as client:
        client.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        wait_for(lambda: upstream.count(model) > seen, "the call to arrive")
    assert upstream.closed.wait(mock.SETTLED), "the provider's connection was closed"
    line = wait_for(
        lambda: next(
            (line for line in gateway.lines() if (line.get("model"), line.get("status")) == (model, 499)), None
        ),
        "the log line",
    )
    assert line["error"] == "client_gone"


def test_a_large_body_goes_through(sdk: openai.OpenAI, upstream: Upstream) -> None:
    long: Any = [{"role": "user", "content": "x" * 3_000_000}]
    sdk.chat.completions.create(model="ok", messages=long)
    assert len(upstream.last("ok").body) > 3_000_000
