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
