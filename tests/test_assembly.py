"""The rules of a stream find what breaks them: an event that is missing, one too many, one that does not fit."""

from typing import Any

import pytest
from tests import assembly
from tests.mocks import responses
from tests.stage import events

Json = dict[str, Any]

WHOLE = events(
    b"".join(
        responses.events(
            responses.reasoning("Hm, ", "yes"),
            responses.message("Hel", "lo"),
            responses.refusal("I can", "not", id="msg_2"),
            responses.function_call("look", '{"a"', ":1}"),
            responses.custom_tool_call("patch", "*** Be", "gin", call_id="call_2"),
        )
    )
)
PLACES = [place for place, event in enumerate(WHOLE) if event["type"] != "response.in_progress"]
TEXT = next(place for place, event in enumerate(WHOLE) if event["type"] == "response.output_text.delta")


def numbered(stream: list[Json]) -> list[Json]:
    return [{**event, "sequence_number": number} for number, event in enumerate(stream)]


def changed(place: int, **fields: Any) -> list[Json]:
    return [{**event, **fields} if number == place else event for number, event in enumerate(WHOLE)]


def test_a_stream_that_keeps_the_rules_is_put_together() -> None:
    assert assembly.of(WHOLE) == WHOLE[-1]["response"]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: f"{place}-{WHOLE[place]['type']}")
@pytest.mark.parametrize("times", [0, 2])
def test_every_event_is_needed_once(place: int, times: int) -> None:
    with pytest.raises((AssertionError, KeyError, IndexError)):
        assembly.of(numbered([*WHOLE[:place], *[WHOLE[place]] * times, *WHOLE[place + 1 :]]))


@pytest.mark.parametrize(
    "stream",
    [
        changed(TEXT, item_id="msg_9"),
        changed(TEXT, output_index=0),
        changed(TEXT, delta="Hal"),
        changed(TEXT, sequence_number=TEXT + 1),
        changed(len(WHOLE) - 1, response={**WHOLE[-1]["response"], "id": "resp_2"}),
        changed(len(WHOLE) - 1, response={**WHOLE[-1]["response"], "output": WHOLE[-1]["response"]["output"][:-1]}),
        changed(len(WHOLE) - 1, response={**WHOLE[-1]["response"], "status": "in_progress"}),
        numbered([WHOLE[0], *WHOLE[2:]])[:-1],
        numbered([*WHOLE[:TEXT], WHOLE[TEXT + 1], WHOLE[TEXT], *WHOLE[TEXT + 2 :]]),
    ],
)
def test_what_does_not_fit_is_found(stream: list[Json]) -> None:
    with pytest.raises((AssertionError, KeyError, IndexError)):
        assembly.of(stream)


def test_a_stream_that_broke_off_ends_with_its_error_and_no_response() -> None:
    error = events(responses.error("server_error", "It broke.", TEXT + 1))
    assert assembly.broken_off([*WHOLE[: TEXT + 1], *error])["message"] == "It broke."
    for stream in ([*WHOLE[:TEXT], *error], WHOLE[: TEXT + 1], [*WHOLE, *error]):
        with pytest.raises(AssertionError):
            assembly.broken_off(stream)
