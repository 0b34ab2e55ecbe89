"""The gateway's own program, offering what the conformance suite asks a server for in place of the gateway's tools: the
way of a message is the same, so each scenario judges the gateway's side of the protocol.

What is here follows the suite's scenarios by name. Tools that would ask the client something back (elicitation,
sampling, roots) or that send it log messages are not: the gateway has no place for them.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3] / "src" / "lambda"))

from stile import build, local
from stile.api.mcp.exchange import Exchange
from stile.api.mcp.offer import Argument, Block, Offer, Outcome, Prompt, Resource, Tool, text
from stile.core.records import Caller

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WAV = "UklGRiQAAABXQVZFZm10IBAAAAABAAEARKwAAIhYAQACABAAZGF0YQAAAAA="
IMAGE = {"type": "image", "data": PNG, "mimeType": "image/png"}
NOTHING: dict[str, Any] = {"type": "object", "properties": {}}
DIALECT: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}
REGION: dict[str, Any] = {
    "type": "object",
    "properties": {"region": {"type": "string", "x-mcp-header": "Region"}, "query": {"type": "string"}},
    "required": ["region"],
}


def embedded(uri: str, said: str, mime_type: str = "text/plain") -> Block:
    return {"type": "resource", "resource": {"uri": uri, "mimeType": mime_type, "text": said}}


def answering(name: str, *content: Block, failed: bool = False, schema: Mapping[str, Any] = NOTHING) -> Tool:
    """A tool that always says the same."""

    async def run(_: Any, __: Exchange) -> Outcome:
        return Outcome(content, failed=failed)

    return tool(name, run, schema)


def tool(name: str, run: Any, schema: Mapping[str, Any] = NOTHING) -> Tool:
    return Tool(
        name=name, title=name, description=f"The suite's {name}", takes=dict[str, Any], input_schema=schema, run=run
    )


async def progress(_: Any, exchange: Exchange) -> Outcome:
    exchange.open()
    for piece in ("0", "50", "100"):
        exchange.tell(piece)
        exchange.flush()
    return Outcome([text("done")])


TOOLS = [
    answering("test_simple_text", text("This is a simple text response for testing.")),
    answering("test_image_content", IMAGE),
    answering("test_audio_content", {"type": "audio", "data": WAV, "mimeType": "audio/wav"}),
    answering("test_embedded_resource", embedded("test://embedded-resource", "This is an embedded resource content.")),
    answering(
        "test_multiple_content_types",
        text("Multiple content types test:"),
        IMAGE,
        embedded("test://mixed-content-resource", '{"test":"data","value":123}', "application/json"),
    ),
    answering("test_error_handling", text("This tool intentionally returns an error for testing"), failed=True),
    tool("test_tool_with_progress", progress),
    answering("test_logging_tool", text("nothing was logged")),
    answering("test_streaming_elicitation", text("nothing was asked")),
    answering("json_schema_2020_12_tool", text("valid"), schema=DIALECT),
    answering("test_custom_headers", text("valid"), schema=REGION),
]
PROMPTS = [
    Prompt(
        name="test_simple_prompt",
        title="Simple",
        description="A prompt without arguments",
        write=lambda _: [{"role": "user", "content": text("This is a simple prompt for testing.")}],
    ),
    Prompt(
        name="test_prompt_with_arguments",
        title="Arguments",
        description="A prompt with two arguments",
        arguments=[Argument("arg1", "the first", required=True), Argument("arg2", "the second", required=True)],
        write=lambda said: [
            {"role": "user", "content": text(f"Prompt with arguments: arg1='{said['arg1']}', arg2='{said['arg2']}'")}
        ],
    ),
    Prompt(
        name="test_prompt_with_embedded_resource",
        title="Resource",
        description="A prompt with a resource in it",
        arguments=[Argument("resourceUri", "the resource", required=True)],
        write=lambda said: [
            {"role": "user", "content": embedded(said["resourceUri"], "Embedded resource content for testing.")},
            {"role": "user", "content": text("Please process the embedded resource above.")},
        ],
    ),
    Prompt(
        name="test_prompt_with_image",
        title="Image",
        description="A prompt with an image in it",
        write=lambda _: [
            {"role": "user", "content": IMAGE},
            {"role": "user", "content": text("Please analyze the image above.")},
        ],
    ),
]
CONTENTS: dict[str, Block] = {
    "test://static-text": {"mimeType": "text/plain", "text": "This is the content of the static text resource."},
    "test://static-binary": {"mimeType": "image/png", "blob": PNG},
}


def resource(uri: str, mime_type: str) -> Resource:
    return Resource(uri=uri, name=uri, title=uri, description=f"The suite's {uri}", mime_type=mime_type)


class Shelf:
    """The suite's resources."""

    templates = (resource("test://template/{id}/data", "application/json"),)

    def list(self, caller: Caller) -> Sequence[Resource]:  # noqa: ARG002
        return [resource(uri, str(content["mimeType"])) for uri, content in CONTENTS.items()]

    def read(self, uri: str, caller: Caller) -> Block | None:  # noqa: ARG002
        if uri.startswith("test://template/") and uri.endswith("/data"):
            named = uri.removeprefix("test://template/").removesuffix("/data")
            said = f'{{"id":"{named}","templateTest":true,"data":"Data for ID: {named}"}}'
            return {"mimeType": "application/json", "text": said}
        return CONTENTS.get(uri)

    def complete(self, argument: str, begun: str, caller: Caller) -> Sequence[str]:  # noqa: ARG002
        return [word for word in ("paris", "park", "party") if word.startswith(begun)]


if __name__ == "__main__":
    build._offer = lambda *_: Offer(TOOLS, Shelf(), PROMPTS, "The conformance suite's own tools.")
    sys.exit(local.main(sys.argv[1:], os.environ))
