"""Translated calls, by LiteLLM's SDK, against mocks that speak Anthropic's and Bedrock's dialects on a socket."""

import asyncio
import base64
import contextlib
import json
import os
import struct
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from tests.leaks import PROVIDER_KEY
from tests.mocks import anthropic, bedrock, provider
from tests.mocks.provider import SETTLED, Exchange, Provider, Script

from stile.adapters.media import MediaFetcher
from stile.adapters.upstream_litellm import LiteLLMUpstream
from stile.core.operations import Operation
from stile.core.routes import Target
from stile.core.secret import Secret
from stile.errors import BadRequest, PublicError, UpstreamFailed, UpstreamTimeout
from stile.ports import UpstreamAnswer, UpstreamRequest

T = TypeVar("T")

# LiteLLM looks at every attribute of a chunk, some of which pydantic would rather have it ask the class for.
pytestmark = pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning")

HELLO = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
AWS = {"aws_access_key_id": "AKIA", "aws_secret_access_key": Secret(PROVIDER_KEY), "aws_region_name": "eu-west-1"}
SCRIPTS = {"anthropic": anthropic.chat, "bedrock": bedrock.converse}
MODELS = {"anthropic": anthropic.MODEL, "bedrock": "anthropic.claude-3-haiku-20240307-v1:0"}
NOWHERE = "http://127.0.0.1:9"

Use = Callable[["Call"], Awaitable[T]]


class Call:
    """A model call to one provider, made again and again with other fields."""

    def __init__(self, upstream: LiteLLMUpstream, name: str, url: str, **target: Any) -> None:
        self.upstream = upstream
        self.target = Target(
            **{
                "label": f"{name}/scripted",
                "provider": name,
                "model": MODELS[name],
                "via": "litellm",
                "api_base": url,
                "api_key": Secret(PROVIDER_KEY) if name == "anthropic" else None,
                "options": AWS if name == "bedrock" else {},
                **target,
            }
        )

    async def __call__(
        self, *, operation: Operation = "chat", stream: bool = False, messages: Any = HELLO, **fields: Any
    ) -> UpstreamAnswer:
        body = {"model": "m", **fields}
        if operation == "chat":
            body |= {"messages": messages, "stream": stream}
        raw = {key: msgspec.Raw(msgspec.json.encode(value)) for key, value in body.items()}
        return await self.upstream.send(UpstreamRequest(operation, self.target, raw, stream))


def calling(
    use: Use[T],
    name: str = "anthropic",
    script: Script | None = None,
    *,
    timeout: float = 20,
    fetch: bool = False,
    **target: Any,
) -> tuple[T, Provider]:
    """Run `use` with a provider that follows `script`; its answer, and the provider as it is afterwards."""

    async def run() -> tuple[T, Provider]:
        async with provider.running(script or SCRIPTS[name]) as server:
            fetcher = MediaFetcher(is_allowed=lambda address: address == "127.0.0.1") if fetch else None
            async with closing(LiteLLMUpstream(timeout, fetcher)) as upstream:
                return await use(Call(upstream, name, **{"url": server.url, **target})), server

    return asyncio.run(run())


@contextlib.asynccontextmanager
async def closing(upstream: LiteLLMUpstream) -> AsyncGenerator[LiteLLMUpstream, None]:
    try:
        yield upstream
    finally:
        await upstream.close()


def data(answer: UpstreamAnswer) -> Any:
    assert isinstance(answer.body, bytes)
    return json.loads(answer.body)


def body_of(answer: UpstreamAnswer) -> AsyncGenerator[bytes, None]:
    assert answer.status == 200
    assert dict(answer.headers)[b"content-type"] == b"text/event-stream"
    assert not isinstance(answer.body, bytes)
    return answer.body


async def chunks(answer: UpstreamAnswer) -> list[ChatCompletionChunk]:
    """All chunks of a stream that must end as OpenAI's do."""
    events = [event async for event in body_of(answer)]
    assert all(event.startswith(b"data: ") and event.endswith(b"\n\n") for event in events)
    assert events[-1] == b"data: [DONE]\n\n"
    return [ChatCompletionChunk.model_validate_json(event[6:]) for event in events[:-1]]


def text_of(received: list[ChatCompletionChunk]) -> str:
    return "".join(choice.delta.content or "" for chunk in received for choice in chunk.choices)


def refusal(run: Callable[[], object], kind: type[PublicError]) -> PublicError:
    with pytest.raises(kind) as refused:
        run()
    assert PROVIDER_KEY not in f"{refused.value.message} {refused.getrepr(chain=True)}"
    return refused.value


both = pytest.mark.parametrize("name", ["anthropic", "bedrock"])


@both
def test_a_chat_is_answered_in_openais_shape_with_the_providers_usage(name: str) -> None:
    answer, server = calling(lambda call: call(max_tokens=5, temperature=0), name)
    completion = ChatCompletion.model_validate(data(answer))
    assert (answer.status, list(answer.headers)) == (200, [(b"content-type", b"application/json")])
    assert completion.choices[0].message.content == "".join(anthropic.WORDS)
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (11, 7)
    assert len(server.calls) == 1


@both
def test_a_stream_comes_in_openais_chunks_and_ends_with_the_providers_usage(name: str) -> None:
    async def use(call: Call) -> list[ChatCompletionChunk]:
        return await chunks(await call(stream=True))

    received, _ = calling(use, name)
    assert text_of(received) == "".join(anthropic.WORDS)
    assert received[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in received if chunk.choices][-1] == "stop"
    assert [bool(chunk.choices) for chunk in received] == [True] * (len(received) - 1) + [False]
    usage = received[-1].usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (11, 7)


@both
@pytest.mark.parametrize("stream", [False, True])
def test_tools_go_round(name: str, stream: bool) -> None:
    async def use(call: Call) -> tuple[str, str, str]:
        identity, function, arguments = await called(await call(tools=[TOOL], stream=stream))
        said = {"id": identity, "type": "function", "function": {"name": function, "arguments": arguments}}
        result = {"role": "tool", "tool_call_id": identity, "content": "a hill"}
        messages = [*HELLO, {"role": "assistant", "content": None, "tool_calls": [said]}, result]
        answer = data(await call(tools=[TOOL], messages=messages))
        return function, arguments, answer["choices"][0]["message"]["content"]

    async def called(answer: UpstreamAnswer) -> tuple[str, str, str]:
        if not stream:
            completion = ChatCompletion.model_validate(data(answer))
            assert completion.choices[0].finish_reason == "tool_calls"
            [call] = completion.choices[0].message.tool_calls or []
            assert call.type == "function"
            return call.id, call.function.name, call.function.arguments
        received = await chunks(answer)
        pieces = [piece for chunk in received for choice in chunk.choices for piece in choice.delta.tool_calls or []]
        functions = [piece.function for piece in pieces if piece.function is not None]
        arguments = "".join(function.arguments or "" for function in functions)
        return pieces[0].id or "", functions[0].name or "", arguments

    (function, arguments, said), server = calling(use, name)
    assert (function, json.loads(arguments), said) == ("look", {"where": "here"}, "".join(anthropic.WORDS))
    assert b"a hill" in server.last.body


def test_a_model_may_repeat_itself() -> None:
    words = ["again "] * 150

    async def script(exchange: Exchange) -> None:
        await exchange.start("text/event-stream")
        for chunk in anthropic.events(words):
            await exchange.chunk(chunk)
        await exchange.end()

    async def use(call: Call) -> list[ChatCompletionChunk]:
        return await chunks(await call(stream=True))

    received, _ = calling(use, script=script)
    assert text_of(received) == "".join(words)


def test_what_goes_up_is_the_configurations_address_key_headers_and_the_requests_parameters() -> None:
    _, server = calling(
        lambda call: call(temperature=0.5, user="u", stop=["x"], metadata={"a": "b"}, presence_penalty=0),
        headers={"x-team": Secret("blue")},
        defaults={"temperature": 1, "max_tokens": 9},
    )
    sent = server.last
    assert sent.path == "/v1/messages"
    assert (sent.headers["x-api-key"], sent.headers["x-team"]) == (PROVIDER_KEY, "blue")
    assert sent.json == {
        "model": anthropic.MODEL,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
        "temperature": 0.5,
        "max_tokens": 9,
        "stop_sequences": ["x"],
        "metadata": {"user_id": "u"},
    }


def test_no_key_out_of_the_environment_goes_to_an_address_that_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", PROVIDER_KEY)
    _, server = calling(lambda call: call(), api_key=None)
    assert PROVIDER_KEY not in str(server.last.headers)


def test_embeddings_by_bedrock_as_numbers_or_packed() -> None:
    async def use(call: Call) -> tuple[Any, Any]:
        plain = await call(operation="embeddings", input="hi")
        packed = await call(operation="embeddings", input=["hi"], encoding_format="base64", user="u")
        return data(plain), data(packed)

    (plain, packed), server = calling(use, "bedrock", model="amazon.titan-embed-text-v2:0")
    answer = CreateEmbeddingResponse.model_validate(plain)
    assert (answer.data[0].embedding, answer.usage.prompt_tokens) == (bedrock.EMBEDDING, 3)
    assert list(struct.unpack("<2f", base64.b64decode(packed["data"][0]["embedding"]))) == bedrock.EMBEDDING
    assert "titan" in server.last.path


@pytest.mark.parametrize(
    "name",
    [
        "api_base",
        "base_url",
        "api_key",
        "headers",
        "extra_headers",
        "extra_body",
        "mock_response",
        "fallbacks",
        "custom_llm_provider",
        "timeout",
    ],
)
def test_arguments_of_litellms_own_are_refused_before_anything_is_sent(name: str) -> None:
    argument: dict[str, Any] = {name: "http://127.0.0.1:9"}

    async def use(call: Call) -> None:
        with pytest.raises(BadRequest) as refused:
            await call(**argument)
        assert (refused.value.code, refused.value.param) == ("unsupported_parameter", name)
        with pytest.raises(BadRequest):
            await call(operation="embeddings", input="hi", **argument)

    _, server = calling(use)
    assert server.calls == []


@pytest.mark.parametrize("model", ["http://127.0.0.1/x", "../../admin", "x?key=1", "x#y"])
def test_a_models_name_is_never_an_address(model: str) -> None:
    assert refusal(lambda: calling(lambda call: call(), model=model), BadRequest).param == "model"


@both
@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/x.png"}},
        {"type": "file", "file": {"file_id": "http://127.0.0.1:9/x.pdf"}},
    ],
)
def test_media_urls_are_refused_before_anything_is_sent(name: str, part: dict[str, Any]) -> None:
    async def use(call: Call) -> None:
        with pytest.raises(BadRequest) as refused:
            await call(messages=[{"role": "user", "content": [part]}])
        assert refused.value.code == "media_url_not_allowed"

    _, server = calling(use, name)
    assert server.calls == []


def test_a_fetcher_puts_media_into_the_message() -> None:
    async def script(exchange: Exchange) -> None:
        if exchange.call.path == "/x.png":
            await exchange.answer(200, b"pixels", {"content-type": "image/png"})
            return
        await anthropic.chat(exchange)

    async def use(call: Call) -> UpstreamAnswer:
        image = {"type": "image_url", "image_url": {"url": f"{call.target.api_base}/x.png"}}
        return await call(messages=[{"role": "user", "content": [image]}])

    answer, server = calling(use, script=script, fetch=True)
    assert answer.status == 200
    [block] = server.last.json["messages"][0]["content"]
    assert block["source"] == {
        "type": "base64",
        "media_type": "image/png",
        "data": base64.b64encode(b"pixels").decode(),
    }
    assert [call.path for call in server.calls] == ["/x.png", "/v1/messages"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (529, "overloaded_error"),
    ],
)
def test_a_refusal_keeps_the_providers_status_and_words_but_not_its_key(status: int, kind: str, stream: bool) -> None:
    script = anthropic.error(status, kind, f"Nein – “{status}” for {PROVIDER_KEY}", retry_after="7")
    answer, server = calling(lambda call: call(stream=stream), script=script)
    assert answer.status == status
    assert dict(answer.headers) == {b"content-type": b"application/json", b"retry-after": b"7"}
    said = {"message": f"Nein – “{status}” for ***", "type": kind, "param": None, "code": kind}
    assert data(answer) == {"error": said}
    assert len(server.calls) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_bedrocks_refusal_keeps_its_status_and_words(stream: bool) -> None:
    script = provider.status(429, {"message": f"Too many tokens, {PROVIDER_KEY}"}, {"retry-after": "2"})
    answer, _ = calling(lambda call: call(stream=stream), "bedrock", script)
    said = {"message": "Too many tokens, ***", "type": "rate_limit_error", "param": None, "code": "rate_limit_error"}
    assert (answer.status, data(answer), dict(answer.headers)[b"retry-after"]) == (429, {"error": said}, b"2")


def test_an_answer_that_is_no_json_is_quoted() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.answer(503, b"<html>out to lunch</html>", {"content-type": "text/html"})

    answer, _ = calling(lambda call: call(), script=script)
    assert (answer.status, data(answer)["error"]["message"]) == (503, "<html>out to lunch</html>")


def test_an_answer_that_litellm_stumbles_over_shows_nothing_of_this_machine() -> None:
    script = provider.status(200, {"id": "1", "choices": [{"message": None}]})
    told = refusal(lambda: calling(lambda call: call(), script=script, provider="perplexity"), UpstreamFailed)
    assert "Invalid response object" in told.message
    assert "Traceback" not in told.message
    assert ".py" not in told.message


def test_what_litellm_cannot_translate_is_a_400() -> None:
    refused = refusal(lambda: calling(lambda call: call(logit_bias={"1": 1}, seed=3)), BadRequest)
    assert (refused.code, refused.param) == ("unsupported_parameter", "logit_bias")
    assert "does not take logit_bias, seed." in refused.message


@both
@pytest.mark.parametrize("stream", [False, True])
def test_nobody_there_is_a_failure(name: str, stream: bool) -> None:
    refused = refusal(lambda: calling(lambda call: call(stream=stream), name, url=NOWHERE), UpstreamFailed)
    assert "cannot be reached" in refused.message


async def reset(exchange: Exchange) -> None:
    exchange.reset()


@both
def test_a_reset_before_the_answer_is_a_failure(name: str) -> None:
    assert refusal(lambda: calling(lambda call: call(), name, reset), UpstreamFailed).code == "upstream_broken"


@both
@pytest.mark.parametrize("stream", [False, True])
def test_silence_is_a_timeout(name: str, stream: bool) -> None:
    run = lambda: calling(lambda call: call(stream=stream), name, Exchange.hung_up, timeout=0.5)  # noqa: E731
    assert refusal(run, UpstreamTimeout).status == 504


OPENINGS: Mapping[str, tuple[str, list[bytes]]] = {
    "anthropic": ("text/event-stream", [*anthropic.opening(), anthropic.text("one")]),
    "bedrock": (bedrock.STREAM, [bedrock.opening(), bedrock.text("one")]),
}


async def begin(exchange: Exchange, name: str) -> None:
    content_type, opening = OPENINGS[name]
    await exchange.start(content_type)
    for chunk in opening:
        await exchange.chunk(chunk)


@both
def test_the_first_chunk_is_there_before_the_provider_sends_its_last(name: str) -> None:
    received = asyncio.Event()
    order = []

    async def script(exchange: Exchange) -> None:
        await begin(exchange, name)
        await asyncio.wait_for(received.wait(), SETTLED)
        order.append("the provider goes on")
        for chunk in anthropic.closing() if name == "anthropic" else bedrock.closing():
            await exchange.chunk(chunk)
        await exchange.end()

    async def use(call: Call) -> None:
        async for event in body_of(await call(stream=True)):
            if b'"one"' in event:
                order.append("the first word is here")
                received.set()

    calling(use, name, script)
    assert order == ["the first word is here", "the provider goes on"]


async def first_word(answer: UpstreamAnswer) -> AsyncGenerator[bytes, None]:
    body = body_of(answer)
    assert b'"one"' in await anext(body)
    return body


@both
@pytest.mark.parametrize("how", ["unread", "closed", "cancelled"])
def test_leaving_early_closes_the_providers_connection(name: str, how: str) -> None:
    gone = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await begin(exchange, name)
        await exchange.hung_up()
        gone.set()

    async def read(body: AsyncGenerator[bytes, None]) -> None:
        async for _ in body:
            pass

    async def use(call: Call) -> None:
        answer = await call(stream=True)
        body = body_of(answer) if how == "unread" else await first_word(answer)
        if how != "cancelled":
            await body.aclose()
        else:
            reading = asyncio.create_task(read(body))
            await asyncio.sleep(0)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
        await asyncio.wait_for(gone.wait(), SETTLED)

    calling(use, name, script)


def test_giving_up_on_an_answer_closes_the_providers_connection() -> None:
    asked, gone = asyncio.Event(), asyncio.Event()

    async def script(exchange: Exchange) -> None:
        asked.set()
        await exchange.hung_up()
        gone.set()

    async def use(call: Call) -> None:
        waiting = asyncio.create_task(call())
        await asyncio.wait_for(asked.wait(), SETTLED)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.wait_for(gone.wait(), SETTLED)

    calling(use, script=script)


def breaking(name: str, end: Callable[[Exchange], Awaitable[None]]) -> tuple[Script, Use[None]]:
    """A stream that ends badly once its first word has been read."""
    received = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await begin(exchange, name)
        await asyncio.wait_for(received.wait(), SETTLED)
        await end(exchange)

    async def use(call: Call) -> None:
        body = await first_word(await call(stream=True))
        received.set()
        async for event in body:
            assert b"finish_reason" not in event
            assert b"[DONE]" not in event

    return script, use


@both
def test_a_reset_in_mid_stream_is_a_failure(name: str) -> None:
    script, use = breaking(name, reset)
    assert refusal(lambda: calling(use, name, script), UpstreamFailed).code == "upstream_broken"


@both
def test_a_stream_that_just_stops_is_a_failure(name: str) -> None:
    script, use = breaking(name, Exchange.end)
    assert refusal(lambda: calling(use, name, script), UpstreamFailed).code == "upstream_broken"


@both
def test_silence_in_mid_stream_is_a_timeout(name: str) -> None:
    script, use = breaking(name, Exchange.hung_up)
    assert refusal(lambda: calling(use, name, script, timeout=1), UpstreamTimeout).code == "upstream_timeout"


def test_an_error_in_mid_stream_is_a_failure_in_the_providers_words() -> None:
    async def fail(exchange: Exchange) -> None:
        said = {"type": "overloaded_error", "message": f"Overloaded {PROVIDER_KEY}"}
        await exchange.chunk(anthropic.event("error", error=said))
        await exchange.end()

    script, use = breaking("anthropic", fail)
    assert "Overloaded ***" in refusal(lambda: calling(use, script=script), UpstreamFailed).message


def test_litellm_is_imported_when_needed_off_the_loop_and_without_a_word(tmp_path: Path) -> None:
    """In a process of its own, in a folder with a .env file that LiteLLM would read, with its debug log asked for."""
    program = """
import asyncio, gc, os, sys
from stile.adapters.upstream_litellm import LiteLLMUpstream
from stile.errors import UpstreamFailed
from tests.adapters.test_upstream_litellm import NOWHERE, Call

async def main():
    upstream, turns = LiteLLMUpstream(20), 0
    async def call():
        try:
            await Call(upstream, "anthropic", NOWHERE)()
        except UpstreamFailed as failed:
            return failed.status
    calls = [asyncio.create_task(call()) for _ in range(3)]
    while "litellm.main" not in sys.modules:
        await asyncio.sleep(0.001)
        turns += 1
    assert turns > 10, turns
    assert await asyncio.gather(*calls) == [502, 502, 502]
    await upstream.close()

assert "litellm" not in sys.modules
asyncio.run(main())
import litellm
assert gc.isenabled()
assert "PLANTED" not in os.environ
assert not (litellm.callbacks or litellm.success_callback or litellm.failure_callback)
assert "litellm.proxy.proxy_server" not in sys.modules
"""
    (tmp_path / ".env").write_text("PLANTED=1\n")
    ran = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", program],
        env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "LITELLM_LOG": "DEBUG"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (ran.stdout, ran.stderr, ran.returncode) == ("", "", 0)
