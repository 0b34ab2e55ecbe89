"""What a call that is made by a chat has in common: the chat, what was left out of it, and the way back."""

import hashlib
from collections.abc import Iterator
from typing import Any, Protocol

import msgspec

from stile.core.body import Fields
from stile.core.parameters import listed
from stile.errors import BadRequest

Json = dict[str, Any]

_MAX_NAME = 64
_DIGEST = 8


class Stream(Protocol):
    """One stream's way back."""

    def feed(self, events: bytes) -> None:
        """Take whole events of the chat. Raises UpstreamFailed for an error among them, or what is no chat."""

    def close(self) -> None:
        """The chat has ended. Raises UpstreamFailed when that was too early."""

    def ready(self) -> bytes:
        """What has been taken since the last time, in the caller's dialect: also when there was a failure behind it."""


class Translation(Protocol):
    """A call by a chat. `fields`: the chat's body; `dropped`: hints and parameters that were left out of it."""

    fields: Fields
    dropped: list[str]

    def whole(self, answer: bytes) -> bytes:
        """A chat's whole answer in the caller's dialect. Raises UpstreamFailed when it is none."""

    def stream(self) -> Stream:
        """The way back of a streamed answer."""

    def at_once(self, answer: bytes) -> bytes:
        """The stream that a chat's whole answer stands for, where a stream was asked for. Raises UpstreamFailed."""


class Names:
    """Functions of a chat have plain names of up to 64 letters, digits, `_` and `-`. Which tool each one stands for.

    `custom`: tools that take free text, which a function takes as its one parameter. `spaces`: function → the namespace
    and the name that the caller knows it by.
    """

    def __init__(self) -> None:
        self.custom: set[str] = set()
        self.spaces: dict[str, tuple[str, str]] = {}

    def in_space(self, space: str, name: str) -> str:
        """The function that stands for a tool of a namespace: always the same one, of a length that chats take."""
        flat = f"{space}__{name}"
        if len(flat) > _MAX_NAME:
            flat = f"{flat[: _MAX_NAME - _DIGEST - 1]}_{hashlib.sha256(flat.encode()).hexdigest()[:_DIGEST]}"
        self.spaces[flat] = (space, name)
        return flat


class Chat(msgspec.Struct):
    """A chat's body, in the making."""

    values: Json
    dropped: list[str]
    names: Names

    def plain(self, *, thinks: bool = False) -> None:
        """Leave out what only the translator knows of a message, and servers that speak like OpenAI may refuse.

        `thinks`: this one wants a model's thoughts back.
        """
        for message in self.values["messages"]:
            message.pop("thinking_blocks", None)
            message.pop("cache_control", None)
            if not thinks:
                message.pop("reasoning_content", None)
            content = message.get("content")
            for part in content if isinstance(content, list) else ():
                part.pop("cache_control", None)
            if isinstance(content, list) and message["role"] != "user" and all("text" in part for part in content):
                message["content"] = "\n\n".join(part["text"] for part in content)  # some take only strings there
        for tool in self.values.get("tools", ()):
            tool.pop("cache_control", None)

    def for_translator(self) -> None:
        """Say what LiteLLM stumbles over, or leaves out, in words that it understands."""
        for message in self.values["messages"]:
            if message.get("refusal") and not message.get("content"):
                message["content"] = message.pop("refusal")
            for call in message.get("tool_calls", ()):
                function = call["function"]
                if not _is_object(function["arguments"]):  # an agent has told the model so, and goes on
                    function["arguments"] = msgspec.json.encode({"arguments": function["arguments"]}).decode()

    def fields(self) -> Fields:
        """The body's top level as it is sent. Raises BadRequest for what JSON cannot say."""
        return {name: raw(value, name) for name, value in self.values.items()}


def _is_object(text: str) -> bool:
    try:
        return isinstance(msgspec.json.decode(text), dict)
    except (msgspec.DecodeError, RecursionError):
        return False


def raw(value: Any, name: str) -> msgspec.Raw:
    """A value as JSON."""
    if isinstance(value, msgspec.Raw):
        return value
    try:
        return msgspec.Raw(msgspec.json.encode(value))
    except (UnicodeEncodeError, ValueError, RecursionError) as fault:  # a lone half of a surrogate pair, for one
        raise BadRequest(f"Invalid value for '{name}': {fault}.", code="invalid_value", param=name) from None


def decoded(fields: Fields) -> Json:
    """The body whole. Raises BadRequest for a value that cannot be read."""
    values = {}
    for name, value in fields.items():
        try:
            values[name] = msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
            raise BadRequest(f"Invalid value for '{name}': {fault}.", code="invalid_value", param=name) from None
    return {name: value for name, value in values.items() if value is not None}


def object_of(value: Any, where: str) -> Json:
    """`value`, which must be an object."""
    if not isinstance(value, dict):
        raise invalid(where, "must be an object")
    return value


def list_of(value: Any, where: str) -> list[Any]:
    """`value`, which must be an array."""
    if not isinstance(value, list):
        raise invalid(where, "must be an array")
    return value


def objects_of(value: Any, where: str) -> Iterator[tuple[str, Json]]:
    """The objects of an array, each with its own path."""
    for place, item in enumerate(list_of(value, where)):
        yield f"{where}[{place}]", object_of(item, f"{where}[{place}]")


def text_of(value: Any, where: str) -> str:
    """`value`, which must be a string."""
    if not isinstance(value, str):
        raise invalid(where, "must be a string")
    return value


def invalid(where: str, why: str) -> BadRequest:
    """A field, by its path, that is not what it should be."""
    return BadRequest(f"Invalid value for '{where}': it {why}.", code="invalid_value", param=where)


def unsupported(where: str, what: str) -> BadRequest:
    """Something that this dialect has and a chat has not."""
    return BadRequest(
        f"This model is asked by chat, which cannot do this: {what}.", code="unsupported_parameter", param=where
    )


def refuse_rest(rest: list[str], dropped: list[str], *, drop: bool) -> None:
    """Parameters that nobody could translate: left out and named where the configuration says so, else refused."""
    if rest and not drop:
        raise BadRequest(
            f"This model does not take {listed(sorted(rest))}. Leave it out, or set drop_params for the model.",
            code="unsupported_parameter",
            param=min(rest),
        )
    dropped.extend(sorted(rest))
