"""What a server of MCP offers: tools, resources and prompts, and who may use which of them.

A tool that a caller may not use does not exist for them, in lists and in calls alike. Arguments are validated by the
same type that the tool's schema is made of, before anything is done.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from stile.api import shapes
from stile.api.mcp.exchange import Exchange
from stile.core.records import Caller, Scope

Block = Mapping[str, Any]  # content as the protocol has it: `type`, and what that type needs


class Outcome(msgspec.Struct, frozen=True):
    """What a tool has to say: blocks for the model, and the same as data where the tool has an output schema."""

    content: Sequence[Block]
    data: Mapping[str, Any] | None = None
    failed: bool = False


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """One tool. `run` is given arguments of the type `takes`; a PublicError that it raises becomes a failed outcome.

    `input_schema` and `output_schema`: JSON Schema. `hints`: ToolAnnotations of the protocol. `needs`: the scope that a
    key must have. `fresh`: the caller is looked up anew.
    """

    name: str
    title: str
    description: str
    takes: Any
    input_schema: Mapping[str, Any]
    output_schema: Mapping[str, Any] | None = None
    hints: Mapping[str, bool] = {}
    needs: Scope | None = None
    fresh: bool = False
    run: Callable[[Any, Exchange], Awaitable[Outcome]]

    def is_for(self, caller: Caller) -> bool:
        """Whether this caller may use it."""
        has = self.needs is None or self.needs in caller.scopes or (self.needs == "keys" and caller.is_admin)
        return has and caller.may_call(self.name)


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """Something to read, or, as a template, a family of them: then `uri` has names in braces."""

    uri: str
    name: str
    title: str
    description: str
    mime_type: str


class Library(Protocol):
    """The resources."""

    @property
    def templates(self) -> Sequence[Resource]:
        """Families of them."""

    def list(self, caller: Caller) -> Sequence[Resource]:
        """Those that this caller may read."""

    def read(self, uri: str, caller: Caller) -> Block | None:
        """One of them: `mimeType`, and `text` or `blob`. None where there is none that the caller may read."""

    def complete(self, argument: str, begun: str, caller: Caller) -> Sequence[str]:
        """What an argument, of a prompt or of a template's address, may be, as far as it is written."""


class Argument(msgspec.Struct, frozen=True):
    """What a prompt can be given."""

    name: str
    description: str
    required: bool = False


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """A prompt that people choose. `uses`: the tool without which it makes no sense. `write` gives its messages."""

    name: str
    title: str
    description: str
    arguments: Sequence[Argument] = ()
    uses: str | None = None
    write: Callable[[Mapping[str, str]], Sequence[Block]]


class Offer:
    """All that one server has."""

    def __init__(self, tools: Sequence[Tool], library: Library, prompts: Sequence[Prompt], instructions: str) -> None:
        self.all_tools = {tool.name: tool for tool in tools}
        self.library = library
        self.instructions = instructions
        self._prompts = {prompt.name: prompt for prompt in prompts}

    def tools(self, caller: Caller) -> Sequence[Tool]:
        """Those that this caller may use."""
        return [tool for tool in self.all_tools.values() if tool.is_for(caller)]

    def prompts(self, caller: Caller) -> Sequence[Prompt]:
        """Those whose tool this caller may use."""
        return [prompt for prompt in self._prompts.values() if self._suits(prompt, caller)]

    def prompt(self, name: str, caller: Caller) -> Prompt | None:
        """One of them, by its name."""
        prompt = self._prompts.get(name)
        return prompt if prompt is not None and self._suits(prompt, caller) else None

    def _suits(self, prompt: Prompt, caller: Caller) -> bool:
        return prompt.uses is None or self.all_tools[prompt.uses].is_for(caller)


def schema(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """The JSON Schema of a type, with nothing referred to: many clients and models do not follow references."""
    (root,), parts = msgspec.json.schema_components([kind], ref_template="{name}")
    found: dict[str, Any] = shapes.shown(_whole(root, parts))
    return {name: value for name, value in found.items() if name != "description"}


def _whole(node: Any, parts: Mapping[str, Any]) -> Any:
    if isinstance(node, list):
        return [_whole(item, parts) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" not in node:
        return {name: _whole(value, parts) for name, value in node.items()}
    found = {name: _whole(value, parts) for name, value in parts[node["$ref"]].items() if name != "title"}
    if "description" in found:  # a docstring, with its line breaks
        found["description"] = " ".join(found["description"].split())
    return found


def text(said: str) -> Block:
    """A block of text."""
    return {"type": "text", "text": said}


def data(value: msgspec.Struct) -> Outcome:
    """An outcome that is data: as such, and as JSON for models and for clients that know no other way."""
    fields = msgspec.to_builtins(value)
    return Outcome([text(msgspec.json.encode(fields).decode())], fields)
