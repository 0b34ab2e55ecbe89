"""What OpenAI's Responses API answers, whole and as the events of a stream, for a scripted provider; and one that keeps
what it answered."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from tests.mocks.provider import Exchange

Json = dict[str, Any]

USAGE = {
    "input_tokens": 11,
    "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
    "output_tokens": 7,
    "output_tokens_details": {"reasoning_tokens": 3},
    "total_tokens": 18,
}
_NOT_FOUND = {"message": "Response not found.", "type": "invalid_request_error", "param": "response_id", "code": None}
_SYNCHRONOUS = {
    "message": "Cannot cancel a synchronous response.",
    "type": "invalid_request_error",
    "param": None,
    "code": None,
}


class Item(NamedTuple):
    """One item of an answer: as it begins, what is told of it in between, and as it is in the end."""

    begun: Json
    steps: list[tuple[str, Json]]
    done: Json


def message(*words: str, id: str = "msg_1", status: str = "completed") -> Item:  # noqa: A002 (OpenAI's name for it)
    part = {"type": "output_text", "text": "".join(words), "annotations": [], "logprobs": []}
    deltas = [("output_text.delta", {"delta": word, "logprobs": [], "obfuscation": "x7"}) for word in words]
    return _message(id, status, part, deltas, ("output_text.done", {"text": part["text"], "logprobs": []}))


def refusal(*words: str, id: str = "msg_1") -> Item:  # noqa: A002
    part = {"type": "refusal", "refusal": "".join(words)}
    deltas = [("refusal.delta", {"delta": word}) for word in words]
    return _message(id, "completed", part, deltas, ("refusal.done", {"refusal": part["refusal"]}))


def reasoning(*words: str, id: str = "rs_1", sealed: str = "gAAAAABsealed") -> Item:  # noqa: A002
    part = {"type": "summary_text", "text": "".join(words)}
    steps: list[tuple[str, Json]] = [
        ("reasoning_summary_part.added", {"part": {**part, "text": ""}}),
        *(("reasoning_summary_text.delta", {"delta": word}) for word in words),
        ("reasoning_summary_text.done", {"text": part["text"]}),
        ("reasoning_summary_part.done", {"part": part}),
    ]
    frame = {"id": id, "type": "reasoning", "encrypted_content": sealed}
    steps = [(kind, {**fields, "summary_index": 0}) for kind, fields in steps]
    return Item({**frame, "summary": []}, steps, {**frame, "summary": [part]})


def function_call(name: str, *pieces: str, id: str = "fc_1", call_id: str = "call_1") -> Item:  # noqa: A002
    frame = {"id": id, "type": "function_call", "call_id": call_id, "name": name}
    arguments = "".join(pieces)
    steps: list[tuple[str, Json]] = [("function_call_arguments.delta", {"delta": piece}) for piece in pieces]
    steps.append(("function_call_arguments.done", {"arguments": arguments, "name": name}))
    begun = {**frame, "arguments": "", "status": "in_progress"}
    return Item(begun, steps, {**frame, "arguments": arguments, "status": "completed"})


def custom_tool_call(name: str, *pieces: str, id: str = "ctc_1", call_id: str = "call_1") -> Item:  # noqa: A002
    frame = {"id": id, "type": "custom_tool_call", "call_id": call_id, "name": name}
    told = "".join(pieces)
    steps: list[tuple[str, Json]] = [("custom_tool_call_input.delta", {"delta": piece}) for piece in pieces]
    steps.append(("custom_tool_call_input.done", {"input": told}))
    begun = {**frame, "input": "", "status": "in_progress"}
    return Item(begun, steps, {**frame, "input": told, "status": "completed"})


def web_search(query: str, id: str = "ws_1") -> Item:  # noqa: A002
    action = {"type": "search", "query": query}
    frame = {"id": id, "type": "web_search_call", "action": action}
    steps: list[tuple[str, Json]] = [
        (f"web_search_call.{step}", {}) for step in ("in_progress", "searching", "completed")
    ]
    return Item({**frame, "status": "in_progress"}, steps, {**frame, "status": "completed"})


def whole(*items: Item, **fields: Any) -> Json:
    """A whole answer, with more in it than the published types name."""
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1764000000,
        "status": "completed",
        "background": False,
        "billing": {"payer": "developer"},
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "metadata": {},
        "model": "scripted-2026-11-01",
        "output": [item.done for item in items],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": "low", "summary": "auto"},
        "store": True,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": USAGE,
        **fields,
    }


def events(*items: Item, **fields: Any) -> list[bytes]:
    """The same as a stream."""
    end = whole(*items, **fields)
    begun = {**end, "status": "in_progress", "output": [], "usage": None, "error": None, "incomplete_details": None}
    steps: list[tuple[str, Json]] = [("created", {"response": begun}), ("in_progress", {"response": begun})]
    for place, item in enumerate(items):
        at = {"item_id": item.done["id"], "output_index": place}
        steps.append(("output_item.added", {"output_index": place, "item": item.begun}))
        steps += [(kind, {**at, **said}) for kind, said in item.steps]
        steps.append(("output_item.done", {"output_index": place, "item": item.done}))
    steps.append((end["status"], {"response": end}))
    return [event(f"response.{kind}", {"sequence_number": number, **said}) for number, (kind, said) in enumerate(steps)]


def event(kind: str, fields: Json) -> bytes:
    data = json.dumps({"type": kind, **fields}, ensure_ascii=False)
    return f"event: {kind}\ndata: {data}\n\n".encode()


def error(code: str, said: str, number: int) -> bytes:
    """A failure in place of an event."""
    return event("error", {"code": code, "message": said, "param": None, "sequence_number": number})


@dataclass
class Shelf:
    """A provider that keeps its answers, as OpenAI does unless `store` is false: shows them, deletes them, stops those
    that are made in the background. What it says next is `answers`, one after the other."""

    answers: list[Sequence[Item]] = field(default_factory=list)
    kept: dict[str, tuple[Json, list[Json]]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)

    async def script(self, exchange: Exchange) -> None:
        call = exchange.call
        self.asked.append((call.method, call.path))
        url = urlsplit(call.path)
        id_, _, under = url.path.removeprefix("/v1/responses").strip("/").partition("/")
        if not id_:
            await self._create(exchange)
        elif id_ not in self.kept:
            await _say(exchange, {"error": _NOT_FOUND}, 404)
        else:
            await self._kept(exchange, id_, under, parse_qs(url.query))

    async def _create(self, exchange: Exchange) -> None:
        asked = exchange.call.json
        id_ = f"resp_{len(self.asked)}"
        said = self.answers.pop(0)
        answer = whole(*said, id=id_, background=bool(asked.get("background")), store=asked.get("store", True))
        if answer["background"]:
            answer |= {"status": "queued", "output": [], "usage": None}
        if answer["store"]:
            self.kept[id_] = (answer, list(_as_items(asked["input"])))
        if not asked.get("stream"):
            await _say(exchange, answer)
            return
        await _stream(exchange, events(*said, id=id_, store=answer["store"]))

    async def _kept(self, exchange: Exchange, id_: str, under: str, query: dict[str, list[str]]) -> None:
        answer, given = self.kept[id_]
        match exchange.call.method, under:
            case "GET", "" if query.get("stream") == ["true"]:
                after = int(query.get("starting_after", ["-1"])[0])
                await _stream(exchange, events(id=id_)[after + 1 :])
            case "GET", "":
                await _say(exchange, answer)
            case "DELETE", "":
                del self.kept[id_]
                await _say(exchange, {"id": id_, "object": "response", "deleted": True})
            case "POST", "cancel" if answer["background"]:
                answer["status"] = "cancelled"
                await _say(exchange, answer)
            case "POST", "cancel":
                await _say(exchange, {"error": _SYNCHRONOUS}, 400)
            case "GET", "input_items":
                ends = {"first_id": given[0]["id"], "last_id": given[-1]["id"], "has_more": False}
                await _say(exchange, {"object": "list", "data": given, **ends})
            case method, _:
                await _say(exchange, {"error": {"message": f"Not allowed to {method}."}}, 405)


def _as_items(given: str | list[Json]) -> Iterator[Json]:
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    for number, item in enumerate(items):
        content = item["content"]
        parts = [{"type": "input_text", "text": content}] if isinstance(content, str) else content
        yield {"type": "message", "status": "completed", **item, "content": parts, "id": f"msg_in_{number}"}


async def _say(exchange: Exchange, body: Json, status: int = 200) -> None:
    await exchange.answer(status, json.dumps(body).encode())


async def _stream(exchange: Exchange, sent: list[bytes]) -> None:
    await exchange.start("text/event-stream; charset=utf-8")
    for part in sent:
        await exchange.chunk(part)
    await exchange.end()


def _message(id_: str, status: str, part: Json, deltas: Sequence[tuple[str, Json]], done: tuple[str, Json]) -> Item:
    empty = {**part, "refusal" if part["type"] == "refusal" else "text": ""}
    steps = [("content_part.added", {"part": empty}), *deltas, done, ("content_part.done", {"part": part})]
    frame = {"id": id_, "type": "message", "role": "assistant"}
    return Item(
        {**frame, "status": "in_progress", "content": []},
        [(kind, {**fields, "content_index": 0}) for kind, fields in steps],
        {**frame, "status": status, "content": [part]},
    )
