"""The check of shapes finds what is wrong: if it let things pass, every test that leans on it would be worthless."""

from datetime import datetime
from typing import Any, Literal

import pytest
from anthropic.types import Message, RawMessageStreamEvent
from openai.types import Model
from openai.types.chat import ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from tests import strict
from tests.mocks import anthropic, responses
from tests.stage import events

DELTA = events(b"".join(responses.events(responses.message("Hel", "lo"))))[4]
ADDED = events(b"".join(responses.events(responses.message("Hel", "lo"))))[2]
WHOLE = responses.whole(responses.message("Hello"))
MODEL = {"id": "m", "object": "model", "created": 1, "owned_by": "o"}


def without(fields: dict[str, Any], name: str) -> dict[str, Any]:
    return {field: value for field, value in fields.items() if field != name}


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (DELTA, ResponseStreamEvent),
        (ADDED, ResponseStreamEvent),
        (WHOLE, Response),
        ({**WHOLE, "not_yet_known": {"x": 1}}, Response),
        ({**WHOLE, "created_at": 1}, Response),  # JSON knows one kind of number
        ({**anthropic.message(), "content": [{"type": "text", "text": "x"}]}, Message),
        ({"type": "message_stop"}, RawMessageStreamEvent),
        ("2026-11-01T00:00:00Z", datetime),
        (MODEL, Model),
    ],
)
def test_what_is_right_passes(value: Any, kind: Any) -> None:
    strict.check(value, kind)


@pytest.mark.parametrize(
    ("value", "kind", "fault"),
    [
        (5, datetime, "$: 5 is no time"),
        ("soon", datetime, "$: 'soon' is no time"),
        (1, Literal[True], "$: 1 is none of (True,)"),
        (without(MODEL, "owned_by"), Model, "$: Model has no owned_by"),
        ({**MODEL, "created": "1"}, Model, "$.created: '1' is no int"),
        ({**MODEL, "created": 1.5}, Model, "$.created: 1.5 is no int"),
        ({**MODEL, "created": True}, Model, "$.created: True is no int"),
        ({**MODEL, "id": None}, Model, "$.id: None is no str"),
        ({**MODEL, "object": "list"}, Model, "$.object: 'list' is none of ('model',)"),
        ([MODEL], Model, "$: [{'id': 'm', 'object': 'model', 'created': 1, 'owned_by': 'o'}] is no Model"),
        ({**WHOLE, "created_at": "now"}, Response, "$.created_at: 'now' is no float"),
        ({**WHOLE, "output": {}}, Response, "$.output: {} is no array"),
        ({**WHOLE, "metadata": {"a": 1}}, Response, "$.metadata.a: 1 is no str"),
        ({**WHOLE, "status": "done"}, Response, "$.status"),
        (without(DELTA, "logprobs"), ResponseStreamEvent, "$: ResponseTextDeltaEvent has no logprobs"),
        ({**DELTA, "delta": 1}, ResponseStreamEvent, "$.delta: 1 is no str"),
        ({**DELTA, "type": "response.output_text.delat"}, ResponseStreamEvent, "$.type"),
        (without(DELTA, "type"), ResponseStreamEvent, "type"),
        (
            {**ADDED, "item": without(ADDED["item"], "role")},
            ResponseStreamEvent,
            "$.item: ResponseOutputMessage has no",
        ),
        ({**ADDED, "item": {"type": "message_call"}}, ResponseStreamEvent, "$.item"),
        ({"type": "content_block_stop"}, RawMessageStreamEvent, "$: RawContentBlockStopEvent has no index"),
        ({"type": "content_block_stop", "index": "0"}, RawMessageStreamEvent, "$.index: '0' is no int"),
        ({"id": "c", "object": "chat.completion.chunk", "choices": []}, ChatCompletionChunk, "has no"),
    ],
)
def test_what_is_wrong_is_found(value: Any, kind: Any, fault: str) -> None:
    assert any(fault in found for found in strict.faults(value, kind)), strict.faults(value, kind)
    with pytest.raises(AssertionError):
        strict.check(value, kind)
