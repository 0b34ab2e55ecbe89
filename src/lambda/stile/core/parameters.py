"""Which parameters of OpenAI's API may reach a translator, and with what values.

LiteLLM takes `api_base`, `headers`, `mock_response`, `fallbacks` and dozens more as arguments beside the request's own,
so only names that OpenAI publishes pass (openai-python 2.54: CompletionCreateParams, EmbeddingCreateParams), and
`thinking`, which every Anthropic client of LiteLLM knows. All others are refused before anything is sent.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from stile.core.body import Fields
from stile.core.operations import Operation
from stile.errors import BadRequest

# fmt: off
CHAT = frozenset({
    "messages", "model", "audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs",
    "max_completion_tokens", "max_tokens", "metadata", "modalities", "n", "parallel_tool_calls", "prediction",
    "presence_penalty", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention",
    "reasoning_effort", "response_format", "safety_identifier", "seed", "service_tier", "stop", "store",
    "stream", "stream_options", "temperature", "thinking", "tool_choice", "tools", "top_logprobs", "top_p",
    "user", "verbosity", "web_search_options",
})
# fmt: on
EMBEDDINGS = frozenset({"input", "model", "dimensions", "encoding_format", "user"})

_LENGTH = ("max_tokens", "max_completion_tokens")
_SAID_EVERYWHERE = {"temperature": "temperature", "top_p": "top_p", "service_tier": "service_tier"}
# What a model file may set for every call: its name there → the operation's own. Other operations take none of it.
CONFIGURED: Mapping[Operation, Mapping[str, str]] = {
    "chat": {name: name for name in CHAT},
    "embeddings": {name: name for name in EMBEDDINGS},
    "responses": {**_SAID_EVERYWHERE, "parallel_tool_calls": "parallel_tool_calls", "user": "user"}
    | dict.fromkeys(_LENGTH, "max_output_tokens"),
    "messages": {**_SAID_EVERYWHERE} | dict.fromkeys(_LENGTH, "max_tokens"),
}

# Published too, but not to be passed over in silence: a check of the content that no other provider makes.
UNTRANSLATABLE = frozenset({"moderation"})

# Hints to OpenAI's own platform, and what the gateway itself sees to.
# fmt: off
_LEFT_OUT = frozenset({
    "model", "messages", "input", "stream", "stream_options", "encoding_format", "metadata", "prompt_cache_key",
    "prompt_cache_options", "prompt_cache_retention", "safety_identifier", "store",
})
# fmt: on

# fmt: off
# Hints that no translated target has a use for, and those that only some have.
HINTS = frozenset({
    "client_metadata", "metadata", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention",
    "safety_identifier", "store",
})
# fmt: on
HINTS_OF_SOME = frozenset({"service_tier", "user"})

# OpenAI's own defaults: saying them changes nothing, and providers without the parameter would refuse it.
_SAYS_NOTHING: Mapping[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "n": (1,),
    "presence_penalty": (0,),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "tools": ([],),
}
_MAX_LISTED = 20
_TOOL_FIELDS = {"type", "function", "custom", "cache_control"}


def read(fields: Fields, allowed: frozenset[str], defaults: Mapping[str, Any], *, drop: bool = False) -> dict[str, Any]:
    """The request's parameters with `defaults` under them. Raises BadRequest for names that may not pass.

    `drop`: those that nobody knows are left out instead.
    """
    unknown = sorted(fields.keys() - allowed - HINTS)
    if unknown and (not drop or UNTRANSLATABLE.intersection(unknown)):
        raise BadRequest(f"This model does not take {listed(unknown)}.", code="unsupported_parameter", param=unknown[0])
    wanted = {name: value for name, value in defaults.items() if name in allowed and name not in _LEFT_OUT}
    for name in (fields.keys() & allowed) - _LEFT_OUT:
        value = decode(fields, name)
        if value is not None:
            wanted[name] = value
    for name in wanted.keys() & _SAYS_NOTHING.keys():
        if wanted[name] in _SAYS_NOTHING[name]:
            del wanted[name]
    if "tools" in wanted:
        wanted["tools"] = _tools(wanted["tools"])
    return wanted


def listed(names: Sequence[str]) -> str:
    """Names in a message: the first of them, when there are many."""
    return ", ".join(names[:_MAX_LISTED]) + (" …" if len(names) > _MAX_LISTED else "")


def decode(fields: Fields, name: str) -> Any:
    """One field's value; None when it is absent."""
    raw = fields.get(name)
    try:
        return None if raw is None else msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:
        raise BadRequest(f"Invalid value for '{name}': {fault}.", code="invalid_value", param=name) from None


def _tools(tools: Any) -> list[dict[str, Any]]:
    """OpenAI's two kinds of tools alone: others are how LiteLLM and some providers are told to call servers."""
    if not isinstance(tools, list):
        raise BadRequest("'tools' must be an array.", code="invalid_type", param="tools")
    for tool in tools:
        if not isinstance(tool, dict) or tool.get("type") not in ("function", "custom"):
            raise BadRequest("Tools of this model must be of type 'function'.", code="unsupported_tool", param="tools")
    return [{name: value for name, value in tool.items() if name in _TOOL_FIELDS} for tool in tools]
