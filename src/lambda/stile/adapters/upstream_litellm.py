"""Calls to providers of other dialects, translated by LiteLLM's SDK.

What LiteLLM may be told is decided here and in core: parameters by allow-list, messages rebuilt, addresses and
credentials from the configuration alone. It retries nothing on its own account, except a connection that breaks before
the provider answered, once.
"""

import array
import asyncio
import base64
import sys
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

import msgspec

from stile.adapters import litellm_abilities, litellm_errors, litellm_sdk
from stile.adapters.litellm_sdk import Sdk
from stile.core import media, parameters, sse
from stile.core.routes import Target
from stile.core.secret import Secret
from stile.errors import BadRequest, UpstreamFailed, UpstreamTimeout
from stile.ports import Headers, UpstreamAnswer, UpstreamRequest, told_dropped

if TYPE_CHECKING:  # aiohttp comes with it, and is a third of a start's time
    from stile.adapters.media import MediaFetcher

# They sign calls with credentials of their own, so having no key is no reason to give them a false one.
_SIGNING = frozenset({"bedrock", "sagemaker", "sagemaker_chat", "vertex_ai", "vertex_ai_beta"})
_NO_KEY = "none"
# They always say how an answer ended; LiteLLM makes an end up when the stream just stops.
_TELL_THE_END = frozenset({"anthropic", "bedrock"})
_NOT_IN_MODELS = ("://", "..", "?", "#", "\\")

_JSON = [(b"content-type", b"application/json")]
_EVENTS = [(b"content-type", b"text/event-stream")]


class LiteLLMUpstream:
    """The Upstream port over LiteLLM. `timeout`: seconds for a whole call. No `fetcher`: media URLs are refused."""

    def __init__(self, timeout: float, fetcher: "MediaFetcher | None" = None) -> None:
        self._timeout = timeout
        self._fetcher = fetcher
        self._sdk = Sdk()

    async def send(self, request: UpstreamRequest) -> UpstreamAnswer:
        target = request.target
        deadline = asyncio.get_running_loop().time() + self._timeout
        try:
            async with asyncio.timeout_at(deadline):
                if request.operation == "embeddings":
                    return await self._embed(request)
                return await self._chat(request, deadline)
        except TimeoutError:
            raise UpstreamTimeout(f"{target.label} did not answer in time.") from None

    async def warm_up(self) -> None:
        await self._sdk.warm_up()

    async def release(self) -> None:
        await self._sdk.release()

    async def close(self) -> None:
        await self._sdk.close()
        if self._fetcher is not None:
            await self._fetcher.close()

    async def _chat(self, request: UpstreamRequest, deadline: float) -> UpstreamAnswer:
        target = request.target
        wanted = parameters.read(request.fields, parameters.CHAT, target.defaults, drop=target.drop_params)
        arguments = self._arguments(target, request.trace) | wanted
        arguments["messages"] = await self._messages(parameters.decode(request.fields, "messages"))
        if request.stream:
            arguments |= {"stream": True, "stream_options": {"include_usage": True}}
        sdk = await self._sdk.module()
        if target.only_responds:
            litellm_sdk.let_stream(sdk, target.model)
        litellm_abilities.check(sdk, target, arguments["messages"])
        unused = litellm_abilities.dropped(sdk, target, wanted)
        arguments = {name: value for name, value in arguments.items() if name not in unused}
        left_out = sorted(
            {*unused, *(request.fields.keys() & parameters.HINTS), *(request.fields.keys() - parameters.CHAT)}
        )
        with litellm_sdk.recorded_answers() as answers:
            try:
                answer = await sdk.acompletion(**arguments)
                if request.stream and answer.completion_stream is None:
                    await answer.fetch_stream()  # some providers are not called before the first chunk is wanted
            except Exception as error:  # LiteLLM raises whatever went wrong inside it
                return litellm_errors.answer(error, target)
        if request.stream:
            body = _events(answer, answers, target, deadline)
            await anext(body)  # begun, so that closing it closes the connection even when nothing was read
            return told_dropped(UpstreamAnswer(200, _EVENTS, body), left_out)
        return told_dropped(UpstreamAnswer(200, _JSON, answer.model_dump_json(warnings=False).encode()), left_out)

    async def _embed(self, request: UpstreamRequest) -> UpstreamAnswer:
        target = request.target
        arguments = self._arguments(target, request.trace)
        arguments |= parameters.read(request.fields, parameters.EMBEDDINGS, target.defaults, drop=target.drop_params)
        arguments.pop("user", None)  # no provider but OpenAI takes it here
        arguments["input"] = parameters.decode(request.fields, "input")
        media.check_texts(arguments["input"])
        encoding = parameters.decode(request.fields, "encoding_format")
        sdk = await self._sdk.module()
        try:
            answer = await sdk.aembedding(**arguments)
        except Exception as error:  # as above
            return litellm_errors.answer(error, target)
        return UpstreamAnswer(200, _JSON, _embeddings(answer.model_dump(warnings=False), encoding))

    def _arguments(self, target: Target, trace: Headers) -> dict[str, Any]:
        """What LiteLLM is told by the configuration."""
        if any(mark in target.model for mark in _NOT_IN_MODELS):  # some of LiteLLM's providers take it for an address
            raise BadRequest("The model's name may not look like an address.", code="invalid_value", param="model")
        key = target.api_key.reveal() if target.api_key is not None else None
        if key is None and target.api_base is not None and target.provider not in _SIGNING:
            key = _NO_KEY  # or LiteLLM would send what it finds in the environment, meant for another address
        return {
            **{name: _reveal(value) for name, value in target.options.items()},
            "model": _name(target),
            "api_base": target.api_base,
            "api_key": key,
            "extra_headers": {name: value.reveal() for name, value in target.headers.items()} or None,
            "headers": {name.decode(): value.decode() for name, value in trace},  # those above go into some bodies, too
            "timeout": self._timeout,
            "drop_params": target.drop_params,
            "num_retries": 0,
            "max_retries": 0,
        }

    async def _messages(self, messages: Any) -> list[media.Message]:
        rebuilt, remotes = media.rebuild(messages)
        if self._fetcher is None:
            media.refuse(remotes)
        elif remotes:
            contents = await self._fetcher.fetch([remote.url for remote in remotes])
            for remote, content in zip(remotes, contents, strict=True):
                remote.fill(content)
        return rebuilt


async def _events(stream: Any, answers: list[Any], target: Target, deadline: float) -> AsyncGenerator[bytes, None]:
    following = stream.__anext__
    try:
        yield b""
        while True:
            async with asyncio.timeout_at(deadline):
                chunk = await following()
            if target.provider in _TELL_THE_END and _is_made_up(chunk, stream):
                raise UpstreamFailed(f"{target.label} broke off its answer.", code="upstream_broken")
            yield _event(chunk)
    except StopAsyncIteration:
        yield sse.event(sse.DONE)
    except UpstreamFailed:
        raise
    except TimeoutError:
        raise UpstreamTimeout(f"{target.label} did not answer in time.") from None
    except Exception as error:  # LiteLLM raises whatever went wrong inside it
        raise litellm_errors.broken(error, target) from None
    finally:
        for answer in answers:
            await answer.aclose()


def _event(chunk: Any) -> bytes:
    extra = chunk.model_extra
    if not extra or extra.get("usage") is None:
        return b"data: %b\n\n" % chunk.model_dump_json(exclude_none=True, warnings=False).encode()
    fields = chunk.model_dump(exclude_none=True, warnings=False)
    if not any(choice.get("delta") or choice.get("finish_reason") for choice in fields["choices"]):
        fields["choices"] = []
    return sse.event(msgspec.json.encode(fields))


def _name(target: Target) -> str:
    return f"openai/responses/{target.model}" if target.only_responds else f"{target.provider}/{target.model}"


def _reveal(option: Any) -> Any:
    """An option's value, also when it is kept as a secret."""
    return option.reveal() if isinstance(option, Secret) else option


def _is_made_up(chunk: Any, stream: Any) -> bool:
    return stream.received_finish_reason is None and bool(chunk.choices) and chunk.choices[0].finish_reason is not None


def _embeddings(answer: dict[str, Any], encoding: str | None) -> bytes:
    """OpenAI's shape; providers answer floats, and callers that want them packed get them packed here."""
    if encoding == "base64":
        for item in answer["data"]:
            if isinstance(item["embedding"], list):
                packed = array.array("f", item["embedding"])
                if sys.byteorder == "big":
                    packed.byteswap()
                item["embedding"] = base64.b64encode(packed.tobytes()).decode()
    return msgspec.json.encode(answer)
