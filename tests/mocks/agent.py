"""A model as agents know it, in all three dialects: it calls a tool that it is offered, and says what the tool found.

A conversation that has the secret in it already gets an answer with it. Another one gets a call of the first tool that
the script knows, or, without such a tool, a greeting. Streams come in pieces.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tests.mocks import anthropic
from tests.mocks.provider import Exchange, Script

_WORDS = re.compile(r"\S*\s*", re.ASCII)
GREETING = ["Hello ", "from ", "the ", "scripted ", "model."]
Call = tuple[str, dict[str, Any]]


def script(secret: str, tools: Mapping[str, dict[str, Any]], found: str) -> Script:
    """The model. `tools`: the names that it knows, and what it calls each one with; `found`: what it says of a secret
    that it has seen."""

    async def answer(exchange: Exchange) -> None:
        asked = exchange.call.json
        call: Call | None = None
        words = GREETING
        if secret.encode() in exchange.call.body:
            words = _WORDS.findall(found)
        else:
            offered = _offered(asked)
            call = next(((name, tools[name]) for name in tools if name in offered), None)
        path = exchange.call.path.partition("?")[0]
        events, whole = _DIALECTS[path.rpartition("/")[2]](words, call)
        if not asked.get("stream"):
            await exchange.answer(200, json.dumps(whole).encode())
            return
        await exchange.start("text/event-stream")
        for event in events:
            await exchange.chunk(event)
        await exchange.end()

    return answer


def _offered(asked: dict[str, Any]) -> set[str]:
    """The names of all tools of a request, in whichever dialect."""
    tools = asked.get("tools") or []
    return {str(tool.get("name") or (tool.get("function") or {}).get("name")) for tool in tools}


def _chat(words: list[str], call: Call | None) -> tuple[Iterator[bytes], dict[str, Any]]:
    frame = {"id": "chatcmpl-1", "created": 1, "model": "scripted"}
    usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
    message: dict[str, Any] = {"role": "assistant", "content": "".join(words)}
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, *({"content": word} for word in words)]
    if call is not None:
        function = {"name": call[0], "arguments": json.dumps(call[1])}
        message |= {"content": None, "tool_calls": [{"id": "call_1", "type": "function", "function": function}]}
        begun = {"index": 0, "id": "call_1", "type": "function", "function": {**function, "arguments": ""}}
        pieces = [{"index": 0, "function": {"arguments": piece}} for piece in _halves(function["arguments"])]
        deltas = [{"role": "assistant", "content": None}, *({"tool_calls": [piece]} for piece in (begun, *pieces))]
    reason = "stop" if call is None else "tool_calls"

    def events() -> Iterator[bytes]:
        chunk = {**frame, "object": "chat.completion.chunk"}
        for delta in deltas:
            yield _data({**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        yield _data({**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
        yield _data({**chunk, "choices": [], "usage": usage})
        yield b"data: [DONE]\n\n"

    choice = {"index": 0, "message": message, "finish_reason": reason, "logprobs": None}
    return events(), {**frame, "object": "chat.completion", "choices": [choice], "usage": usage}


def _messages(words: list[str], call: Call | None) -> tuple[Iterator[bytes], dict[str, Any]]:
    if call is None:
        whole = anthropic.message({"type": "text", "text": "".join(words)})
        return iter(anthropic.events(words)), whole
    block = {"type": "tool_use", "id": "toolu_1", "name": call[0], "input": call[1]}

    def events() -> Iterator[bytes]:
        yield anthropic.opening()[0]
        yield anthropic.event("content_block_start", index=0, content_block={**block, "input": {}})
        for piece in _halves(json.dumps(call[1])):
            delta = {"type": "input_json_delta", "partial_json": piece}
            yield anthropic.event("content_block_delta", index=0, delta=delta)
        yield from anthropic.closing("tool_use")

    return events(), anthropic.message(block)


def _responses(words: list[str], call: Call | None) -> tuple[Iterator[bytes], dict[str, Any]]:
    details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    usage = {"input_tokens": 11, "output_tokens": 7, "total_tokens": 18, **details}
    begun: dict[str, Any] = {"status": "in_progress"}
    item: dict[str, Any]
    steps: list[tuple[str, dict[str, Any]]]
    if call is None:
        text = "".join(words)
        part = {"type": "output_text", "text": text, "annotations": []}
        item = {"id": "msg_1", "type": "message", "status": "completed", "role": "assistant", "content": [part]}
        place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
        steps = [
            ("response.output_item.added", {"output_index": 0, "item": {**item, **begun, "content": []}}),
            ("response.content_part.added", {**place, "part": {**part, "text": ""}}),
            *(("response.output_text.delta", {**place, "delta": word, "logprobs": []}) for word in words),
            ("response.output_text.done", {**place, "text": text, "logprobs": []}),
            ("response.content_part.done", {**place, "part": part}),
        ]
    else:
        arguments = json.dumps(call[1])
        item = {"id": "fc_1", "type": "function_call", "status": "completed", "call_id": "call_1", "name": call[0]}
        item["arguments"] = arguments
        place = {"item_id": "fc_1", "output_index": 0}
        steps = [
            ("response.output_item.added", {"output_index": 0, "item": {**item, **begun, "arguments": ""}}),
            *(("response.function_call_arguments.delta", {**place, "delta": half}) for half in _halves(arguments)),
            ("response.function_call_arguments.done", {**place, "arguments": arguments, "name": call[0]}),
        ]
    whole = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": "completed",
        "model": "scripted",
        "output": [item],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": usage,
    }
    steps = [
        ("response.created", {"response": {**whole, **begun, "output": [], "usage": None}}),
        *steps,
        ("response.output_item.done", {"output_index": 0, "item": item}),
        ("response.completed", {"response": whole}),
    ]

    def events() -> Iterator[bytes]:
        for number, (kind, fields) in enumerate(steps):
            yield f"event: {kind}\n".encode() + _data({"type": kind, "sequence_number": number, **fields})

    return events(), whole


_DIALECTS = {"completions": _chat, "messages": _messages, "responses": _responses}


def _halves(text: str) -> tuple[str, str]:
    middle = len(text) // 2
    return text[:middle], text[middle:]


def _data(fields: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"
