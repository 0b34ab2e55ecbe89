"""The tools `chat`, `embed` and `list_models`: calls of models, as /v1 makes them."""

import contextlib
from collections.abc import AsyncGenerator
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from stile.api.mcp.exchange import Exchange
from stile.api.mcp.offer import Outcome, Tool, data, schema, text
from stile.api.openai import OpenAI
from stile.calls import Calls, ModelCall
from stile.core.operations import Operation
from stile.core.routes import Routes
from stile.dialects import chat_answer
from stile.dialects.chat_answer import Said, Usage
from stile.dialects.chat_stream import ChatStream
from stile.errors import ModelNotFound, Unprocessable, UpstreamFailed

_READ_ONLY = {"readOnlyHint": True, "destructiveHint": False}
_Model = Annotated[
    str, Meta(min_length=1, max_length=256, description="A model of this gateway; `list_models` names them")
]


class _Arguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a tool is called with."""


class ChatMessage(_Arguments, frozen=True, kw_only=True):
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class Chat(_Arguments, frozen=True, kw_only=True):
    """What `chat` takes."""

    model: _Model
    prompt: Annotated[str, Meta(description="What to ask. Either this or `messages`")] | UnsetType = UNSET
    messages: (
        Annotated[
            list[ChatMessage], Meta(min_length=1, max_length=1000, description="A conversation, its last message last")
        ]
        | UnsetType
    ) = UNSET
    system: Annotated[str, Meta(description="Instructions that come before the conversation")] | UnsetType = UNSET
    max_tokens: Annotated[int, Meta(ge=1, le=10**7, description="The longest answer")] | UnsetType = UNSET
    temperature: Annotated[float, Meta(ge=0, le=2)] | UnsetType = UNSET


class Tokens(msgspec.Struct, frozen=True):
    """Tokens sent and received. `estimated`: the provider did not say."""

    input_tokens: int
    output_tokens: int
    estimated: bool


class ChatAnswer(msgspec.Struct, frozen=True):
    """What `chat` answers. `finish_reason`: `stop`, or `length` where the answer was cut off."""

    model: str
    text: str
    finish_reason: str
    usage: Tokens


class Embed(_Arguments, frozen=True, kw_only=True):
    """What `embed` takes."""

    model: _Model
    input: (
        Annotated[str, Meta(min_length=1)]
        | Annotated[list[Annotated[str, Meta(min_length=1)]], Meta(min_length=1, max_length=2048)]
    )
    dimensions: (
        Annotated[int, Meta(ge=1, le=100_000, description="The length of the vectors, where the model lets one choose")]
        | UnsetType
    ) = UNSET


class Embeddings(msgspec.Struct, frozen=True):
    """What `embed` answers: a vector for each text."""

    model: str
    embeddings: list[list[float]]
    usage: Tokens


class ListModels(_Arguments, frozen=True, kw_only=True):
    """What `list_models` takes: nothing."""


class ListedModel(msgspec.Struct, frozen=True):
    """A model, and who provides it."""

    id: str
    provider: str


class Models(msgspec.Struct, frozen=True):
    """What `list_models` answers."""

    models: list[ListedModel]


class _Vector(msgspec.Struct):
    embedding: list[float]
    index: int | None = None


class _Vectors(msgspec.Struct):
    data: list[_Vector]


class _Refusal(msgspec.Struct):
    message: str


class _Refused(msgspec.Struct):
    error: _Refusal


class ModelTools:
    """The tools, over the same calls as /v1."""

    def __init__(self, calls: Calls, openai: OpenAI, routes: Routes) -> None:
        self._calls = calls
        self._openai = openai
        self._routes = routes

    def tools(self) -> list[Tool]:
        return [
            Tool(
                name="chat",
                title="Ask a model",
                description="Ask any language model that this gateway serves, and get its answer as text: a second"
                " opinion, a cheaper or a stronger model, one with other knowledge. It sees nothing of this"
                " conversation but what it is sent, so send all that it needs. `list_models` names the models.",
                takes=Chat,
                input_schema=schema(Chat),
                output_schema=schema(ChatAnswer),
                hints=_READ_ONLY | {"idempotentHint": False, "openWorldHint": True},
                needs="inference",
                run=self._chat,
            ),
            Tool(
                name="embed",
                title="Embed texts",
                description="Turn texts into vectors by an embedding model of this gateway, for search and comparison.",
                takes=Embed,
                input_schema=schema(Embed),
                output_schema=schema(Embeddings),
                hints=_READ_ONLY | {"idempotentHint": True, "openWorldHint": True},
                needs="inference",
                run=self._embed,
            ),
            Tool(
                name="list_models",
                title="List models",
                description="The models of this gateway that this API key may use, for `chat` and `embed`.",
                takes=ListModels,
                input_schema=schema(ListModels),
                output_schema=schema(Models),
                hints=_READ_ONLY | {"idempotentHint": True, "openWorldHint": False},
                needs="inference",
                run=self._list_models,
            ),
        ]

    async def _chat(self, asked: Chat, exchange: Exchange) -> Outcome:
        fields: dict[str, Any] = {"model": asked.model, "messages": _messages(asked)}
        if asked.temperature is not UNSET:
            fields["temperature"] = asked.temperature
        if asked.max_tokens is not UNSET:
            fields[self._length_field(asked.model)] = asked.max_tokens
        stream = exchange.open()
        body = await self._ask("chat", fields, exchange, stream=stream)
        if isinstance(body, bytes):
            whole = chat_answer.whole(body)
            said, reason = _text(whole.said), whole.finish
            exchange.tell(said)
        else:
            said, reason = await _heard(body, exchange)
        exchange.flush()
        answer = ChatAnswer(asked.model, said, reason, _tokens(exchange))
        return Outcome([text(said)], msgspec.to_builtins(answer))

    def _length_field(self, model: str) -> str:
        group = self._routes.find(model)
        # OpenAI's newer models refuse the old name, and others' servers do not know the new one.
        newer = group is not None and "responses" in group.targets[0].urls
        return "max_completion_tokens" if newer else "max_tokens"

    async def _embed(self, asked: Embed, exchange: Exchange) -> Outcome:
        body = await self._ask("embeddings", msgspec.structs.asdict(asked), exchange)
        try:
            found = msgspec.json.decode(_whole(body), type=_Vectors)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise UpstreamFailed("The provider's answer is not a list of embeddings.", code="upstream_broken") from None
        vectors = sorted(found.data, key=lambda each: each.index or 0)  # which keeps the order where none is said
        if len(vectors) != (1 if isinstance(asked.input, str) else len(asked.input)):
            raise UpstreamFailed("The provider's answer has not as many embeddings as texts.", code="upstream_broken")
        return data(Embeddings(asked.model, [each.embedding for each in vectors], _tokens(exchange)))

    async def _list_models(self, asked: ListModels, exchange: Exchange) -> Outcome:  # noqa: ARG002
        usable = self._openai.usable(exchange.caller)
        return data(Models([ListedModel(model.id, model.owned_by) for model in usable]))

    async def _ask(
        self, operation: Operation, fields: dict[str, Any], exchange: Exchange, *, stream: bool = False
    ) -> bytes | AsyncGenerator[bytes, None]:
        """The model's answer. Raises PublicError, also for what a provider refuses."""
        said = {name: value for name, value in fields.items() if value is not UNSET}
        if stream:
            said["stream"] = True
        body = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in said.items()}
        size = sum(len(bytes(value)) for value in body.values())
        call = ModelCall(
            operation, fields["model"], body, size, stream, wants_usage=True, headers=(), trace=exchange.trace
        )
        try:
            answer = await self._calls.make(exchange.caller, call, exchange.record, exchange.ends)
        except ModelNotFound:
            told = f"The model '{call.model}' does not exist. `list_models` names those that you can use."
            raise ModelNotFound(told) from None
        if answer.status >= 400:
            raise UpstreamFailed(
                f"{exchange.record.target} refused the call ({answer.status}): {_refusal(_whole(answer.body))}",
                code="upstream_error",
            )
        return answer.body


def _messages(asked: Chat) -> list[dict[str, str]]:
    if (asked.prompt is UNSET) == (asked.messages is UNSET):
        raise Unprocessable("Say either 'prompt' or 'messages'.", param="prompt")
    messages = [ChatMessage(role="system", content=asked.system)] if asked.system is not UNSET else []
    if asked.messages is not UNSET:
        messages += asked.messages
    if asked.prompt is not UNSET:
        messages.append(ChatMessage(role="user", content=asked.prompt))
    return [{"role": message.role, "content": message.content} for message in messages]


class _Listener:
    """A Teller that passes the text on as progress, and remembers it."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.pieces: list[str] = []
        self.reason = "stop"

    def begin(self) -> None:
        """There is nothing to tell yet."""

    def add(self, said: Said, chances: list[dict[str, Any]]) -> None:  # noqa: ARG002
        piece = _text(said)
        self.pieces.append(piece)
        self._exchange.tell(piece)

    def finish(self, reason: str, usage: Usage | None) -> None:  # noqa: ARG002
        self.reason = reason

    def events(self) -> bytes:
        return b""


async def _heard(body: AsyncGenerator[bytes, None], exchange: Exchange) -> tuple[str, str]:
    """The text of a stream, told as it comes, and why it ended."""
    listener = _Listener(exchange)
    stream = ChatStream(listener)
    async with contextlib.aclosing(body):
        async for chunk in body:
            stream.feed(chunk)
    stream.close()
    return "".join(listener.pieces), listener.reason


def _text(said: Said) -> str:
    return said.text or said.refusal or ""


def _tokens(exchange: Exchange) -> Tokens:
    record = exchange.record
    return Tokens(record.input_tokens or 0, record.output_tokens or 0, record.usage_estimated)


def _whole(body: bytes | AsyncGenerator[bytes, None]) -> bytes:
    """A body that never streams, by the rules of the port."""
    assert isinstance(body, bytes)  # noqa: S101
    return body


def _refusal(body: bytes) -> str:
    """Why a provider refused a call, in its own words."""
    try:
        return msgspec.json.decode(body, type=_Refused).error.message
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "it did not say why"
