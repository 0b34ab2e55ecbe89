"""What the gateway has for MCP beside its tools: the models as resources, and prompts that people choose."""

from collections.abc import Mapping, Sequence
from urllib.parse import quote, unquote

import msgspec

from stile.api.mcp.offer import Argument, Block, Prompt, Resource, Tool, text
from stile.api.openai import OpenAI
from stile.catalog import Model
from stile.core.records import Caller

INSTRUCTIONS = (
    "Stile is a gateway to language models of several providers. `list_models` names those that you may use, `chat`"
    " asks one of them, `embed` makes vectors. A model that you ask sees nothing but what you send it."
)

_MODELS = "stile://models"
_JSON = "application/json"
_OF_MODELS = frozenset({"id", "model", "models"})  # arguments that name models, here and in the prompts


class ModelLibrary:
    """The models as resources, for those who may list them by the tool: it is the same knowledge."""

    templates = (
        Resource(
            uri=f"{_MODELS}/{{id}}",
            name="model",
            title="A model",
            description="One model of this gateway; slashes in its id are written %2F",
            mime_type=_JSON,
        ),
    )

    def __init__(self, openai: OpenAI, tool: Tool) -> None:
        self._openai = openai
        self._tool = tool

    def list(self, caller: Caller) -> Sequence[Resource]:
        if not self._tool.is_for(caller):
            return ()
        every = Resource(
            uri=_MODELS,
            name="models",
            title="Models",
            description="All models of this gateway that this API key may use",
            mime_type=_JSON,
        )
        return [every, *(_resource(model) for model in self._openai.usable(caller))]

    def read(self, uri: str, caller: Caller) -> Block | None:
        if not self._tool.is_for(caller):
            return None
        models = self._openai.usable(caller)
        if uri == _MODELS:
            return _written({"models": [_fields(model) for model in models]})
        base, _, named = uri.rpartition("/")
        found = next((model for model in models if base == _MODELS and model.id == unquote(named)), None)
        return None if found is None else _written(_fields(found))

    def complete(self, argument: str, begun: str, caller: Caller) -> Sequence[str]:
        if argument not in _OF_MODELS or not self._tool.is_for(caller):
            return ()
        before, _, last = begun.rpartition(",") if argument == "models" else ("", "", begun)
        told = f"{before}," if before else ""
        return [told + model.id for model in self._openai.usable(caller) if model.id.startswith(last.strip())]


def _resource(model: Model) -> Resource:
    return Resource(
        uri=f"{_MODELS}/{quote(model.id, safe='')}",
        name=model.id,
        title=model.id,
        description=f"A model of {model.owned_by}",
        mime_type=_JSON,
    )


def _fields(model: Model) -> dict[str, str]:
    return {"id": model.id, "provider": model.owned_by}


def _written(value: object) -> Block:
    return {"mimeType": _JSON, "text": msgspec.json.encode(value).decode()}


def prompts() -> list[Prompt]:
    """Prompts that make use of `chat`."""
    model = Argument("model", "Which model to ask; without it, one that `list_models` names")
    return [
        Prompt(
            name="second_opinion",
            title="Get a second opinion",
            description="Have another model check a question, an answer, or a piece of work, and weigh what it says",
            arguments=[Argument("matter", "What it is about: a question, a text, a plan, code", required=True), model],
            uses="chat",
            write=_second_opinion,
        ),
        Prompt(
            name="compare_models",
            title="Compare models",
            description="Ask several models the same and see how their answers differ",
            arguments=[
                Argument("question", "What to ask them", required=True),
                Argument("models", "Which models, with commas between them; without it, three that are unlike"),
            ],
            uses="chat",
            write=_compare_models,
        ),
    ]


def _second_opinion(said: Mapping[str, str]) -> Sequence[Block]:
    which = f"the model `{said['model']}`" if said.get("model") else "a capable model other than yourself"
    return _user(
        f"Get a second opinion on what follows from {which}, by the tool `chat` (`list_models` names the models)."
        " Send it all that it needs to judge, for it sees nothing of this conversation, and do not tell it what you"
        " think. Then say where it agrees with you, where it does not, and who is right."
        f"\n\n{said['matter']}"
    )


def _compare_models(said: Mapping[str, str]) -> Sequence[Block]:
    named = [name.strip() for name in said.get("models", "").split(",") if name.strip()]
    which = ", ".join(f"`{name}`" for name in named) or "three unlike models that `list_models` names"
    return _user(
        f"Ask each of these models the question below by the tool `chat`, in the same words: {which}. Show the"
        " answers side by side in short, then say in which points they differ and which you would trust."
        f"\n\n{said['question']}"
    )


def _user(said: str) -> Sequence[Block]:
    return [{"role": "user", "content": text(said)}]
