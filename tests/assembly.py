"""A stream of the Responses API, put together again by the rules of its events, and held to them.

What each event says must fit what was said before: numbers follow each other, places are those of what was added,
pieces add up to what is then called done, and the response at the end is what all of it adds up to.
"""

from collections.abc import Callable
from typing import Any

from openai.types.responses import ResponseStreamEvent
from tests import strict

Json = dict[str, Any]
Step = Callable[["_Assembly", Json], None]

_ENDS = ("completed", "incomplete", "failed")
_MAY_CHANGE = {"status", "output", "usage", "error", "incomplete_details", "completed_at"}  # from its start to its end


def of(events: list[Json]) -> Json:
    """The response that a stream ends with. Fails for a stream that is not whole, or that breaks a rule."""
    assembly = _assembled(events)
    assert assembly.end is not None, f"no end: {[event['type'] for event in events]}"
    return assembly.end


def broken_off(events: list[Json]) -> Json:
    """The error that a stream ends with in place of a response. Fails where it breaks a rule until there."""
    *before, last = events
    assert last["type"] == "error"
    strict.check(last, ResponseStreamEvent)
    assert last["sequence_number"] == len(before)
    assert _assembled(before).end is None
    return last


def _assembled(events: list[Json]) -> "_Assembly":
    assembly = _Assembly()
    for number, event in enumerate(events):
        strict.check(event, ResponseStreamEvent)
        assert event["sequence_number"] == number, event
        assert assembly.end is None, f"{event['type']} behind the end"
        assembly.take(event)
    return assembly


class _Assembly:
    """A response in the making."""

    def __init__(self) -> None:
        self.end: Json | None = None
        self._begun: Json | None = None
        self._output: list[Json] = []
        self._done: set[int] = set()
        self._told: set[tuple[int, str, int]] = set()  # what was told whole: place, event, part

    def take(self, event: Json) -> None:
        kind = event["type"].removeprefix("response.")
        if "response" in event:
            self._frame(kind, event["response"])
        else:
            assert self._begun is not None, f"{kind} before the beginning"
            _STEPS.get(kind, _Assembly._placed)(self, event)

    def _frame(self, kind: str, said: Json) -> None:
        if self._begun is None:
            assert kind == "created"
            assert (said["status"] in ("in_progress", "queued"), said["output"], said.get("usage")) == (True, [], None)
            self._begun = said
        else:
            assert kind != "created"
        for name in said.keys() - _MAY_CHANGE:
            assert said[name] == self._begun.get(name), name
        if kind in _ENDS:
            assert said["status"] == kind
            assert self._done == set(range(len(self._output))), "something was begun and never done"
            assert said["output"] == self._output
            self.end = said

    def item_added(self, event: Json) -> None:
        item = event["item"]
        assert event["output_index"] == len(self._output)
        assert item["id"] not in [other["id"] for other in self._output]
        assert item.get("status", "in_progress") == "in_progress"
        assert not any(item.get(name) for name in ("content", "summary", "arguments", "input")), "it begins empty"
        self._output.append({**item, **{name: list(item[name]) for name in ("content", "summary") if name in item}})

    def item_done(self, event: Json) -> None:
        place, item = event["output_index"], event["item"]
        mine = self._output[place]
        assert place not in self._done
        self._done.add(place)
        assert item.get("status") != "in_progress"
        for name, kind in (("arguments", "function_call_arguments"), ("input", "custom_tool_call_input")):
            assert name not in item or (place, kind, -1) in self._told, f"{name} was never told whole"
        for name, kind in (("content", "content_part"), ("summary", "reasoning_summary_part")):
            for part in range(len(mine.get(name, ()))):
                assert (place, kind, part) in self._told, f"a part of {name} was never told whole"
        for name in mine.keys() - {"status", "action", "encrypted_content"}:
            assert item[name] == mine[name], f"{name} is not what was said of it"
        self._output[place] = item

    def part_added(self, event: Json) -> None:
        parts, place = self._parts(event)
        assert place == len(parts)
        assert event["part"].get("text", event["part"].get("refusal")) == ""
        parts.append({**event["part"]})

    def part_done(self, event: Json) -> None:
        parts, place = self._parts(event)
        kind = {"summary_text": "reasoning_summary_text"}.get(event["part"]["type"], event["part"]["type"])
        assert (event["output_index"], kind, place) in self._told, "a text was never told whole"
        self._tell(event, place)
        told = {name: event["part"][name] for name in ("type", "text", "refusal") if name in event["part"]}
        assert told == {name: parts[place][name] for name in told}
        parts[place] = event["part"]

    def _placed(self, event: Json) -> Json:
        """The item that an event is about: one that goes on."""
        place = event["output_index"]
        item = self._output[place]
        assert event["item_id"] == item["id"]
        assert place not in self._done
        return item

    def _parts(self, event: Json) -> tuple[list[Json], int]:
        item = self._placed(event)
        if "summary_index" in event:
            return item["summary"], event["summary_index"]
        return item["content"], event["content_index"]

    def _tell(self, event: Json, part: int) -> None:
        kind = event["type"].removeprefix("response.").removesuffix(".done")
        assert (event["output_index"], kind, part) not in self._told, f"{kind} was told whole twice"
        self._told.add((event["output_index"], kind, part))

    @staticmethod
    def grows(name: str) -> Step:
        """A piece of an item's field."""

        def step(self: "_Assembly", event: Json) -> None:
            self._placed(event)[name] += event["delta"]

        return step

    @staticmethod
    def grown(name: str) -> Step:
        def step(self: "_Assembly", event: Json) -> None:
            item = self._placed(event)
            self._tell(event, -1)
            assert event[name] == item[name], f"{name} is not what its pieces add up to"
            assert event.get("name", item.get("name")) == item.get("name")

        return step

    @staticmethod
    def part_grows(name: str) -> Step:
        """A piece of a part's field."""

        def step(self: "_Assembly", event: Json) -> None:
            parts, place = self._parts(event)
            parts[place][name] += event["delta"]

        return step

    @staticmethod
    def part_grown(name: str) -> Step:
        def step(self: "_Assembly", event: Json) -> None:
            parts, place = self._parts(event)
            self._tell(event, place)
            assert event[name] == parts[place][name], f"{name} is not what its pieces add up to"

        return step


_STEPS: dict[str, Step] = {
    "output_item.added": _Assembly.item_added,
    "output_item.done": _Assembly.item_done,
    "content_part.added": _Assembly.part_added,
    "content_part.done": _Assembly.part_done,
    "reasoning_summary_part.added": _Assembly.part_added,
    "reasoning_summary_part.done": _Assembly.part_done,
    "output_text.delta": _Assembly.part_grows("text"),
    "output_text.done": _Assembly.part_grown("text"),
    "refusal.delta": _Assembly.part_grows("refusal"),
    "refusal.done": _Assembly.part_grown("refusal"),
    "reasoning_summary_text.delta": _Assembly.part_grows("text"),
    "reasoning_summary_text.done": _Assembly.part_grown("text"),
    "function_call_arguments.delta": _Assembly.grows("arguments"),
    "function_call_arguments.done": _Assembly.grown("arguments"),
    "custom_tool_call_input.delta": _Assembly.grows("input"),
    "custom_tool_call_input.done": _Assembly.grown("input"),
}
