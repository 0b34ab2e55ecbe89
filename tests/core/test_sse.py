"""Streams in passing: the same bytes and the same usage, wherever they are cut."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.mocks import openai as mock

from stile.core import sse
from stile.core.sse import EventCutOff, EventTooLarge, StreamMeter
from stile.core.usage import Usage

CHUNK = {"id": "1", "choices": [{"index": 0, "delta": {"content": 'Grüße 世界 🎉\\n\\n "usage":{'}}]}
TEXT_EVENT = b"data: " + json.dumps(CHUNK, ensure_ascii=False).encode()
USAGE_EVENT = b'data: {"id":"1","choices":[],"usage":{"prompt_tokens":11,"completion_tokens":7}}'
COMMENT = b": keep-alive"
SPLIT_DATA = b'data: {"choices": [],\ndata: "usage": {"prompt_tokens": 11, "completion_tokens": 7}}'
DONE = b"data: [DONE]"

endings = st.sampled_from([b"\n\n", b"\r\n\r\n", b"\r\r"])
streams = st.builds(
    lambda events, ending: b"".join(event + ending for event in events),
    st.lists(st.sampled_from([TEXT_EVENT, USAGE_EVENT, COMMENT, DONE]), max_size=8),
    endings,
)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = [0, *sorted({min(place, len(data)) for place in places}), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(ends) if start < end]


def passed(chunks: list[bytes], *, hide: bool) -> tuple[bytes, Usage | None]:
    meter = StreamMeter(hide_usage=hide)
    out = b"".join(meter.feed(chunk) for chunk in chunks) + meter.close()
    return out, meter.usage


@given(streams, st.lists(st.integers(0, 2000)))
def test_bytes_pass_unchanged_however_they_are_cut(stream: bytes, places: list[int]) -> None:
    out, usage = passed(cut(stream, places), hide=False)
    assert out == stream
    assert (usage is not None) is (USAGE_EVENT in stream)


@given(streams, st.lists(st.integers(0, 2000)))
def test_only_the_usage_event_is_held_back(stream: bytes, places: list[int]) -> None:
    out, usage = passed(cut(stream, places), hide=True)
    kept = b"".join(event for event in sse.split(stream) if not event.startswith(USAGE_EVENT))
    assert out == kept
    assert usage == (Usage(11, 7) if USAGE_EVENT in stream else None)


def test_every_cut_of_a_whole_stream_in_two() -> None:
    stream = b"".join(mock.events(usage=True))
    expected = b"".join(event for event in mock.events(usage=True) if b'"choices": []' not in event)
    for place in range(len(stream) + 1):
        assert passed([stream[:place], stream[place:]], hide=True) == (expected, Usage(11, 7, model="scripted-2026"))


def test_an_event_goes_on_as_soon_as_it_is_whole_and_not_before() -> None:
    meter = StreamMeter(hide_usage=True)
    assert meter.feed(TEXT_EVENT[:20]) == b""
    assert meter.feed(TEXT_EVENT[20:] + b"\n") == b""
    assert meter.feed(b"\n" + DONE) == TEXT_EVENT + b"\n\n"
    assert meter.close() == DONE


def test_data_over_several_lines_is_one_json() -> None:
    assert passed([SPLIT_DATA + b"\n\n"], hide=True) == (b"", Usage(11, 7))


def test_the_last_of_several_usages_counts() -> None:
    events = [
        b'data: {"choices":[{"delta":{}}],"usage":{"prompt_tokens":11,"completion_tokens":%d}}\n\n' % number
        for number in (1, 2, 3)
    ]
    out, usage = passed(events, hide=True)
    assert usage == Usage(11, 3)
    assert out == b"".join(events), "a running total beside text is not held back"


def test_empty_choices_without_usage_pass() -> None:
    azure = b'data: {"choices":[],"prompt_filter_results":[],"usage":null}\n\n'
    assert passed([azure], hide=True) == (azure, None)


def test_a_stream_without_usage_is_estimated_and_never_zero() -> None:
    meter = StreamMeter(hide_usage=True)
    for word in ("one ", "two ", "three and a little more than that "):
        meter.feed(mock.event({"content": word}))
    used = meter.usage_or_estimate(400)
    assert used.estimated
    assert used.input_tokens == 100
    assert 3 <= used.output_tokens <= 20
    assert StreamMeter(hide_usage=True).usage_or_estimate(2).input_tokens == 1


def test_an_event_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 1000)
    meter = StreamMeter(hide_usage=True)
    assert meter.feed(b"data: " + b"x" * 900) == b""
    with pytest.raises(EventTooLarge):
        meter.feed(b"x" * 100)


@given(st.binary(max_size=300), st.lists(st.integers(0, 300)))
def test_any_bytes_pass_without_harm(data: bytes, places: list[int]) -> None:
    whole, broken = b"", StreamMeter(hide_usage=False)
    for chunk in cut(data, places):
        whole += broken.feed(chunk)
    try:
        whole += broken.close()
    except EventCutOff:
        assert data.startswith(whole)
    else:
        assert whole == data


@pytest.mark.parametrize("rest", [b'data: {"a":', b"dat", b"data: ", b"event: x"])
def test_a_stream_that_ends_inside_an_event_says_so(rest: bytes) -> None:
    meter = StreamMeter(hide_usage=True)
    meter.feed(TEXT_EVENT + b"\n\n" + rest)
    with pytest.raises(EventCutOff):
        meter.close()
