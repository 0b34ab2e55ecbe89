"""What a target's failure means, told by statuses, headers, and the words of real providers."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stile.core import failures
from stile.core.failures import Failure, Kind, Remedy

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC).timestamp()


def read(status: int, body: object = None, **headers: str) -> Failure:
    named = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return failures.read(status, named, json.dumps(body).encode(), NOW)


def openai(message: str, code: object = None, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code, **more}}


def anthropic(message: str, kind: str = "invalid_request_error") -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_011CSHoEeqs5C35K2UUqR7Fy"}


def gemini(message: str, code: int = 400, status: str = "INVALID_ARGUMENT") -> list[dict[str, Any]]:
    """Of its endpoint for OpenAI's dialect: a list of one."""
    return [{"error": {"code": code, "message": message, "status": status}}]


TOO_LONG = {
    "openai": openai(
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 10015 tokens. Please "
        "reduce the length of the messages.",
        "context_length_exceeded",
        param="messages",
    ),
    "openai responses": openai(
        "Your input exceeds the context window of this model. Please adjust your input and try again.",
        "context_length_exceeded",
    ),
    "openai gpt-5": openai(
        "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 300006"
    ),
    "azure": openai(
        "This model's maximum context length is 16384 tokens, however you requested 17219 tokens (13123 in your prompt;"
        " 4096 for the completion). Please reduce your prompt; or completion length."
    ),
    "anthropic": anthropic("prompt is too long: 208310 tokens > 200000 maximum"),
    "anthropic with its answer": anthropic(
        "input length and `max_tokens` exceed context limit: 190240 + 20000 > 204698, decrease input length or "
        "`max_tokens` and try again"
    ),
    "bedrock": {"message": "Input is too long for requested model."},
    "bedrock titan": {"message": "400 Bad Request: Too many input tokens. Max input tokens: 8192, request input: 9127"},
    "bedrock wrapped": {"message": "The model returned the following errors: prompt is too long: 1 tokens > 0 maximum"},
    "bedrock llama": {"message": "This model's maximum context length is 8192 tokens. Please reduce the prompt"},
    "gemini": gemini("The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."),
    "vertex": gemini(
        "Unable to submit request because the input token count is 1200000 but model only supports up to 1048576. "
        "Reduce the input token count and try again."
    ),
    "vllm": {
        "object": "error",
        "message": "This model's maximum context length is 4096 tokens. However, you requested 5034 tokens (4934 in the"
        " messages, 100 in the completion). Please reduce the length of the messages or completion.",
        "type": "BadRequestError",
        "param": None,
        "code": 400,
    },
    "vllm with images": openai(
        "The decoder prompt (length 5034) is longer than the maximum model length of 4096. Make sure that "
        "`max_model_len` is no smaller than the number of text tokens plus multimodal tokens."
    ),
    "llama.cpp": openai("the request exceeds the available context size, try increasing it"),
    "mistral": {
        "object": "error",
        "message": "Prompt contains 40012 tokens and 0 draft tokens, too large for model with 32768 maximum context "
        "length",
        "type": "invalid_request_error",
    },
    "cerebras": openai("Please reduce the length of the messages. Current length is 9000 while limit is 8192"),
}

REFUSED_CONTENT = {
    "openai": openai("Your request was rejected as a result of our safety system.", "content_policy_violation"),
    "openai reasoning": openai(
        "Invalid prompt: your prompt was flagged as potentially violating our usage policy. Please try again with a "
        "different prompt.",
        "invalid_prompt",
    ),
    "azure": openai(
        "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. Please "
        "modify your prompt and retry.",
        "content_filter",
        status=400,
        innererror={
            "code": "ResponsibleAIPolicyViolation",
            "content_filter_result": {"violence": {"filtered": True, "severity": "medium"}},
        },
    ),
    "azure in short": {"error": {"message": "Refused.", "innererror": {"code": "ResponsibleAIPolicyViolation"}}},
    "anthropic": anthropic("Output blocked by content filtering policy"),
    "bedrock": {"message": "The model returned the following errors: Output blocked by content filtering policy"},
    "bedrock nova": {"message": "This request has been blocked by our content filters."},
}

CALLERS_OWN = {
    "openai": openai("Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 200 instead."),
    "openai parameter": openai("Unsupported parameter: 'max_tokens' is not supported with this model.", "unsupported"),
    "anthropic": anthropic("messages: at least one message is required"),
    "anthropic max_tokens": anthropic(
        "max_tokens: 100000 > 64000, which is the maximum allowed number of output tokens"
    ),
    "gemini": gemini("Please ensure that the number of function response parts is equal to that of the calls."),
    "vllm": openai("1 validation error for ChatCompletionRequest: temperature must be non-negative"),
}


@pytest.mark.parametrize("status", [400, 413, 422])
@pytest.mark.parametrize("provider", TOO_LONG)
def test_a_too_long_prompt_is_known_by_its_providers_words(provider: str, status: int) -> None:
    failure = read(status, TOO_LONG[provider])
    assert failure == Failure("context_window", "final")
    assert failure.occasion == "context_window"


@pytest.mark.parametrize("provider", REFUSED_CONTENT)
def test_refused_content_is_known_by_its_providers_words(provider: str) -> None:
    failure = read(400, REFUSED_CONTENT[provider])
    assert failure == Failure("content_policy", "final")
    assert failure.occasion == "content_policy"


@pytest.mark.parametrize("provider", CALLERS_OWN)
def test_any_other_fault_of_a_request_is_the_callers_own(provider: str) -> None:
    failure = read(400, CALLERS_OWN[provider])
    assert failure == failures.REFUSED
    assert failure.occasion == "failure"


def test_a_body_that_is_no_text_is_the_callers_own_fault() -> None:
    assert failures.read(400, [], b"\xff\xfe" * 9000, NOW) == failures.REFUSED


@pytest.mark.parametrize(
    ("status", "kind", "remedy"),
    [
        (401, "unauthorized", "elsewhere"),
        (402, "refused", "final"),
        (403, "forbidden", "elsewhere"),
        (404, "not_found", "elsewhere"),
        (405, "refused", "final"),
        (406, "refused", "final"),
        (408, "timeout", "again"),
        (409, "server_error", "again"),
        (410, "refused", "final"),
        (415, "refused", "final"),
        (425, "server_error", "again"),
        (429, "rate_limited", "again"),
        (431, "refused", "final"),
        (500, "server_error", "again"),
        (501, "server_error", "again"),
        (502, "server_error", "again"),
        (503, "server_error", "again"),
        (504, "server_error", "again"),
        (529, "server_error", "again"),
        (599, "server_error", "again"),
    ],
)
def test_statuses_tell_where_the_next_attempt_goes(status: int, kind: Kind, remedy: Remedy) -> None:
    assert read(status, openai("Something.")) == Failure(kind, remedy)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (429, {"error": {"message": "You exceeded your current quota.", "code": "insufficient_quota"}}),
        (429, {"error": {"message": "You exceeded your current quota.", "type": "insufficient_quota"}}),
    ],
)
def test_a_spent_quota_does_not_come_back_by_waiting(status: int, body: object) -> None:
    failure = read(status, body)
    assert (failure.kind, failure.remedy) == ("rate_limited", "elsewhere")


@pytest.mark.parametrize("status", [409, 429, 500])
def test_a_provider_that_says_not_to_try_again_is_not_tried_again(status: int) -> None:
    assert read(status, x_should_retry="false").remedy == "elsewhere"
    assert read(status, x_should_retry="true").remedy == "again"


def test_anthropics_overload_is_tried_again() -> None:
    assert read(529, anthropic("Overloaded", "overloaded_error")) == Failure("server_error", "again")


@pytest.mark.parametrize("status", [408, 429, 500, 503])
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry_after": "20"}, 20),
        ({"retry_after": "0"}, 0),
        ({"retry_after": " 3 "}, 3),
        ({"retry_after": "1.5"}, 1.5),
        ({"retry_after_ms": "1500"}, 1.5),
        ({"retry_after_ms": "12.5", "retry_after": "30"}, 0.0125),
        ({"retry_after_ms": "soon", "retry_after": "30"}, 30),
        ({"retry_after": "Sun, 01 Mar 2026 12:00:30 GMT"}, 30),
        ({"retry_after": "Sunday, 01-Mar-26 12:00:30 GMT"}, 30),
        ({"retry_after": "Sun, 01 Mar 2026 13:00:30 +0100"}, 30),
        ({"retry_after": "Sun, 01 Mar 2026 11:59:00 GMT"}, 0),
        ({"retry_after": ""}, None),
        ({"retry_after": "soon"}, None),
        ({"retry_after": "-5"}, None),
        ({"retry_after": "1e9"}, None),
        ({"retry_after": "nan"}, None),
        ({"retry_after": "inf"}, None),
        ({"retry_after": "99999999999999999999"}, None),
        ({"retry_after": "Sun, 99 Mar 2026 12:00:30 GMT"}, None),
        ({"retry_after": "Sun, 01 Mar 9999999 12:00:30 GMT"}, None),
        ({"retry_after": "²"}, None),
    ],
)
def test_how_long_a_provider_wishes_to_be_left_alone(
    status: int, headers: dict[str, str], seconds: float | None
) -> None:
    assert read(status, **headers).retry_after == seconds


@given(st.binary(max_size=60) | st.text("MonSu,0123456789 :+-GTZ", max_size=40).map(str.encode), st.binary(max_size=9))
def test_no_wish_is_so_odd_that_it_fails(said: bytes, milliseconds: bytes) -> None:
    failure = failures.read(429, [(b"retry-after", said), (b"retry-after-ms", milliseconds)], b"", NOW)
    assert failure.retry_after is None or failure.retry_after >= 0


@given(st.integers(400, 599), st.binary(max_size=200))
def test_every_answer_above_400_means_something(status: int, body: bytes) -> None:
    failure = failures.read(status, [], body, NOW)
    if failure.remedy == "final":
        assert status < 500
        assert not failure.counts
    if failure.occasion != "failure":
        assert status in (400, 413, 422)


@pytest.mark.parametrize(
    ("failure", "counts"),
    [
        (failures.UNREACHABLE, True),
        (failures.BROKEN, True),
        (failures.TIMEOUT, True),
        (failures.REFUSED, False),
        (failures.NOT_TAKEN, False),
        (Failure("rate_limited", "again", 1), False),
        (Failure("rate_limited", "again", 1.01), True),
        (Failure("rate_limited", "again"), True),
        (Failure("server_error", "again", 0.5), True),
        (Failure("context_window", "final"), False),
        (Failure("content_policy", "final"), False),
    ],
)
def test_what_speaks_against_a_target(failure: Failure, counts: bool) -> None:
    assert failure.counts is counts


@pytest.mark.parametrize(
    ("said", "status", "meaning"),
    [
        (openai("The server had an error.", type="server_error"), 502, Failure("server_error", "again")),
        (openai("Slow down.", "rate_limit_exceeded"), 429, Failure("rate_limited", "again")),
        (openai("maximum context length is 8192", "context_length_exceeded"), 400, Failure("context_window", "final")),
        (openai("Refused.", "content_filter"), 400, Failure("content_policy", "final")),
        (anthropic("Overloaded", "overloaded_error"), 529, Failure("server_error", "again")),
        ({"type": "error", "code": "server_error", "message": "Odd."}, 502, Failure("server_error", "again")),
        (
            openai("Too long: maximum context length is 4096", type="BadRequestError", code=400),
            400,
            Failure("context_window", "final"),
        ),
        (openai("No such thing.", code=400), 400, failures.REFUSED),
        (openai("Busy.", code=503), 503, Failure("server_error", "again")),
        (openai("Busy.", code=429), 429, Failure("rate_limited", "again")),
        (openai("Key?", code=401), 401, Failure("unauthorized", "elsewhere")),
        (openai("Refused by policy.", "content_filter", status=400), 400, Failure("content_policy", "final")),
        ({"status": 503, "error": {"message": "Busy."}}, 503, Failure("server_error", "again")),
        (gemini("Quota.", 429, "RESOURCE_EXHAUSTED")[0], 429, Failure("rate_limited", "again")),
        ({"choices": [], "error": {"message": "Gone."}}, 502, Failure("server_error", "again")),
        (
            {"error": {"code": 502, "message": "Gone."}, "choices": [{"delta": {"role": "assistant", "content": ""}}]},
            502,
            Failure("server_error", "again"),
        ),
        ({"error": "Gone."}, 502, Failure("server_error", "again")),
        (openai("Odd.", code=200), 502, Failure("server_error", "again")),
        (openai("Odd.", code=True), 502, Failure("server_error", "again")),
    ],
)
def test_an_error_in_place_of_a_streams_first_event_is_a_failure(said: object, status: int, meaning: Failure) -> None:
    assert failures.in_stream(json.dumps(said).encode()) == (status, meaning)


@pytest.mark.parametrize(
    "data",
    [
        b"[DONE]",
        b'{"choices":[{"index":0,"delta":{"role":"assistant"}}]}',
        b'{"choices":[{"index":0,"delta":{"content":"{\\"error\\": 1}"}}]}',
        b'{"error":null,"choices":[{"index":0,"delta":{}}]}',
        b'{"error":null}',
        b'{"error":{}}',
        b'{"error":{"message":"late"},"choices":[{"index":0,"delta":{"content":"an answer all the same"}}]}',
        b'{"type":"response.created","response":{"error":null,"status":"in_progress"}}',
        b'{"error"',
        b'{"error":{"message":"\xff"}}',
        b'{"error":' + b"[" * 5000,
    ],
)
def test_a_first_event_of_an_answer_is_none(data: bytes) -> None:
    assert failures.in_stream(data) is None


@given(st.binary(max_size=40))
def test_no_first_event_is_so_odd_that_it_fails(data: bytes) -> None:
    for event in (b'{"error":' + data, b'{"error":{"code":' + data + b"}}"):
        found = failures.in_stream(event)
        assert found is None or 400 <= found[0] < 600
