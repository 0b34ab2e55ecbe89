"""Usage, wherever it is."""

import pytest

from stile.core import usage
from stile.core.usage import Usage


@pytest.mark.parametrize(
    ("answer", "expected", "alone"),
    [
        (b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}', Usage(3, 4), True),
        (b'{"choices":[{}],"usage": {"prompt_tokens":3,"completion_tokens":4}}', Usage(3, 4), False),
        (b'{"data":[],"usage":{"prompt_tokens":3,"total_tokens":3}}', Usage(3, 0), False),
        (b'{"usage":{"total_tokens":3}}', Usage(3, 0), False),
        (b'{"usage":{"input_tokens":3,"output_tokens":4}}', Usage(3, 4), False),
        (b'{"choices":[{}],"x_groq":{"usage":{"prompt_tokens":3,"completion_tokens":4}}}', Usage(3, 4), False),
        (b'{"choices":[{"usage":{"prompt_tokens":3,"completion_tokens":4}}]}', Usage(3, 4), False),
        (b'{"usage":{"prompt_tokens":-3,"completion_tokens":4}}', Usage(0, 4), False),
    ],
)
def test_usage_is_found(answer: bytes, expected: Usage, alone: bool) -> None:
    found = usage.find(answer)
    assert found is not None
    assert (found.usage, found.alone) == (expected, alone)


@pytest.mark.parametrize(
    "answer",
    [
        b"{}",
        b'{"usage":null}',
        b'{"usage":{}}',
        b'{"usage":{"prompt_tokens":"3"}}',
        b'{"usage":{',
        b'{"text":"\\"usage\\":{"}',
        b"[DONE]",
    ],
)
def test_where_there_is_none_there_is_none(answer: bytes) -> None:
    assert usage.find(answer) is None


def test_an_estimate_is_marked_and_never_zero() -> None:
    assert usage.estimate(0, 0) == Usage(1, 0, estimated=True)
    assert usage.estimate(400, 40, events=3) == Usage(100, 10, estimated=True)
    assert usage.estimate(400, 0, events=3) == Usage(100, 3, estimated=True)


PARTS = {
    "chat": (
        b'{"model":"gpt","usage":{"prompt_tokens":9,"completion_tokens":8,"prompt_tokens_details":{"cached_tokens":4,'
        b'"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":5}}}',
        Usage(9, 8, cached_tokens=4, reasoning_tokens=5, model="gpt"),
    ),
    "responses": (
        b'{"response":{"model":"gpt","usage":{"input_tokens":9,"output_tokens":8,"input_tokens_details":{"cached_tokens":4},'
        b'"output_tokens_details":{"reasoning_tokens":5}}}}',
        Usage(9, 8, cached_tokens=4, reasoning_tokens=5, model="gpt"),
    ),
    "messages": (
        b'{"message":{"model":"claude","usage":{"input_tokens":3,"cache_read_input_tokens":4,"cache_creation_input_tokens":2,'
        b'"cache_creation":{"ephemeral_1h_input_tokens":1},"output_tokens":8}}}',
        Usage(9, 8, cached_tokens=4, cache_write_tokens=2, cache_write_1h_tokens=1, model="claude"),
    ),
    "DeepSeek": (
        b'{"usage":{"prompt_tokens":9,"completion_tokens":8,"prompt_cache_hit_tokens":4,"prompt_cache_miss_tokens":5}}',
        Usage(9, 8, cached_tokens=4),
    ),
    "Moonshot": (
        b'{"usage":{"prompt_tokens":9,"completion_tokens":8,"cached_tokens":4}}',
        Usage(9, 8, cached_tokens=4),
    ),
    "parts that are null": (
        b'{"model":null,"usage":{"prompt_tokens":9,"completion_tokens":8,"prompt_tokens_details":null}}',
        Usage(9, 8),
    ),
    "parts of another type": (
        b'{"model":"gpt","usage":{"prompt_tokens":9,"completion_tokens":8,"prompt_tokens_details":[1],"cached_tokens":"4"}}',
        Usage(9, 8, model="gpt"),
    ),
    "a model that is no text": (b'{"model":5,"usage":{"prompt_tokens":9,"completion_tokens":8}}', Usage(9, 8)),
    "parts beyond their whole": (
        b'{"usage":{"prompt_tokens":9,"completion_tokens":8,"prompt_tokens_details":{"cached_tokens":40},'
        b'"completion_tokens_details":{"reasoning_tokens":-5}}}',
        Usage(9, 8, cached_tokens=9, reasoning_tokens=0),
    ),
    "figures that no call has": (
        b'{"usage":{"prompt_tokens":9,"completion_tokens":1' + b"0" * 400 + b"}}",
        Usage(9, 0),
    ),
}


@pytest.mark.parametrize(("answer", "expected"), PARTS.values(), ids=PARTS)
def test_parts_of_the_tokens_are_found_where_each_provider_has_them(answer: bytes, expected: Usage) -> None:
    found = usage.find(answer)
    assert found is not None
    assert found.usage == expected


def test_what_a_later_event_does_not_say_stays_as_it_was() -> None:
    """Anthropic's stream: the cache at its beginning, the output at its end."""
    begun = usage.find(PARTS["messages"][0])
    ended = usage.find(b'{"type":"message_delta","usage":{"output_tokens":15}}')
    assert begun is not None
    assert ended is not None
    expected = Usage(9, 15, cached_tokens=4, cache_write_tokens=2, cache_write_1h_tokens=1, model="claude")
    assert ended.after(begun.usage) == expected
