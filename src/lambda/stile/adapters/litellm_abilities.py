"""What LiteLLM knows that a model can take, asked before anything is sent.

Its map of models is the source, over it what the model file says (`model_info.supports_vision` …). Of a model that the
map does not know nothing is held against it: the provider will say.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from stile.core.media import Message
from stile.core.parameters import HINTS_OF_SOME
from stile.core.routes import Target
from stile.errors import BadRequest

# Kind of content → LiteLLM's word for the ability to take it, and ours for it.
_NEEDS = {
    "image_url": ("supports_vision", "images"),
    "input_audio": ("supports_audio_input", "audio"),
    "file": ("supports_pdf_input", "files"),
}

_OF_PROVIDERS = {"anthropic": {"supports_audio_input": False}}  # of all their models


def check(sdk: Any, target: Target, messages: Sequence[Message]) -> None:
    """Raises BadRequest for content that this model is known not to take."""
    kinds = {part["type"] for message in messages for part in _parts(message)}
    for kind in sorted(kinds & _NEEDS.keys()):
        ability, what = _NEEDS[kind]
        if not target.abilities.get(ability, _of_map(sdk, target).get(ability, True)):
            raise BadRequest(f"{target.label} does not take {what}.", code="unsupported_content", param="messages")


def dropped(sdk: Any, target: Target, names: Iterable[str]) -> list[str]:
    """Those of the parameters that this model does not take and that may be left out: hints, and, where the
    configuration says so, all others."""
    taken = sdk.get_supported_openai_params(target.model, custom_llm_provider=target.provider)
    if taken is None:
        return []
    return sorted(name for name in names if name not in taken and (target.drop_params or name in HINTS_OF_SOME))


def _parts(message: Message) -> list[Message]:
    content = message.get("content")
    return content if isinstance(content, list) else []


def _of_map(sdk: Any, target: Target) -> Mapping[str, bool]:
    """The abilities that the map lists. An entry that does not mention one means that the model lacks it; of files few
    entries speak at all, so they are held against a model only when it says so."""
    entry = next(
        (found for name in (f"{target.provider}/{target.model}", target.model) if (found := sdk.model_cost.get(name))),
        None,
    )
    if entry is None or entry.get("mode") != "chat":
        return _OF_PROVIDERS.get(target.provider, {})
    unsaid = {"supports_vision": False, "supports_audio_input": False}
    return unsaid | {name: bool(value) for name, value in entry.items() if name.startswith("supports_")}
