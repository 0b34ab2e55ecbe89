"""Anthropic's Messages: relayed as they are, and by chat where the target only chats."""

import json
from pathlib import Path
from typing import Any

import anthropic as sdks
import pytest
from anthropic.types import Message, ModelInfo, RawMessageStreamEvent
from tests import leaks, strict
from tests.api.test_translation import BEDROCK, play
from tests.mocks import anthropic, bedrock
from tests.mocks.provider import Exchange, Provider
from tests.program import Program
from tests.stage import Stage, call_deltas, chat, events, whole_chat

PATH = "/v1/messages"
HELLO = [{"role": "user", "content": "Hi"}]
TOOL = {"name": "look", "description": "Look", "input_schema": {"type": "object"}}
PNG = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
BETAS = "context-management-2025-06-27,interleaved-thinking-2025-05-14,brand-new-2026-11-01"


def checked(body: bytes) -> list[dict[str, Any]]:
    """The events of a stream, each one of the type that it says, one block open at a time."""
    found = events(body)
    opened: int | None = None
    for event in found:
        strict.check(event, RawMessageStreamEvent)
        if event["type"] == "content_block_start":
            assert opened is None
            opened = event["index"]
        elif event["type"].startswith("content_block"):
            assert event["index"] == opened
            opened = None if event["type"] == "content_block_stop" else opened
    assert (found[0]["type"], found[-1]["type"], opened) == ("message_start", "message_stop", None)
    return found


def answered(stage: Stage, **fields: Any) -> dict[str, Any]:
    return stage.answered(PATH, Message, {"model": "chat", "max_tokens": 50, "messages": HELLO, **fields})


def heard(stage: Stage, **fields: Any) -> dict[str, Any]:
    return stage.chat_of(PATH, Message, {"model": "chat", "max_tokens": 50, "messages": HELLO, **fields})


# Relayed


def test_a_relayed_call_goes_up_and_comes_down_as_it_is(stage: Stage) -> None:
    said = b'{"type":"message",  "usage":{"input_tokens":3,"cache_read_input_tokens":5,"output_tokens":4},"new":[1]}'
    stage.says(said)
    cached = [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}]
    body = {"model": "claude", "max_tokens": 5, "messages": [{"role": "user", "content": cached}], "unknown": {"a": 1}}
    answer = stage.ask(f"{PATH}?beta=true", body, anthropic_version="2026-10-21", anthropic_beta=BETAS)
    assert answer.body == said
    assert stage.heard.path == PATH
    assert stage.heard.json == {**body, "model": anthropic.MODEL}
    assert stage.heard.headers["anthropic-version"] == "2026-10-21"
    assert stage.heard.headers["anthropic-beta"] == BETAS
    assert stage.heard.headers["x-api-key"] == leaks.PROVIDER_KEY
    assert "authorization" not in stage.heard.headers
    assert answer.headers["request-id"] == answer.headers["x-request-id"]
    line = stage.gateway.line_of(answer.headers["x-request-id"])
    assert (line["input_tokens"], line["output_tokens"]) == (8, 4)


def test_without_a_version_the_first_one_goes_up(stage: Stage) -> None:
    stage.says(anthropic.message())
    stage.ask(PATH, {"model": "claude", "max_tokens": 5, "messages": HELLO})
    assert stage.heard.headers["anthropic-version"] == "2023-06-01"


def test_a_relayed_stream_passes_event_by_event_and_its_usage_is_found(stage: Stage) -> None:
    stage.says(anthropic.events())
    answer = stage.ask(PATH, {"model": "claude", "max_tokens": 5, "messages": HELLO, "stream": True})
    assert answer.body == b"".join(anthropic.events())
    line = stage.gateway.line_of(answer.headers["x-request-id"])
    assert (line["input_tokens"], line["output_tokens"], line["usage_estimated"]) == (11, 7, False)


@pytest.mark.parametrize("model", ["claude", "chat"])
def test_the_sdk_gets_answers_streams_and_counts(stage: Stage, model: str) -> None:
    with sdks.Anthropic(base_url=stage.gateway.base, api_key=stage.gateway.key, max_retries=0) as sdk:
        asked: dict[str, Any] = {"model": model, "max_tokens": 50, "messages": HELLO}
        stage.says(anthropic.message() if model == "claude" else whole_chat({"content": "".join(anthropic.WORDS)}))
        message = sdk.messages.create(**asked)
        assert [block.text for block in message.content if block.type == "text"] == ["".join(anthropic.WORDS)]
        stage.says(anthropic.events() if model == "claude" else chat(*({"content": w} for w in anthropic.WORDS)))
        with sdk.messages.stream(**asked) as stream:
            assert list(stream.text_stream) == anthropic.WORDS
        assert stream.get_final_message().stop_reason == "end_turn"
        stage.says({"input_tokens": 12})
        if model == "claude":
            assert sdk.messages.count_tokens(model=model, messages=HELLO).input_tokens == 12  # type: ignore[arg-type]
            assert stage.heard.path == f"{PATH}/count_tokens"
        else:
            with pytest.raises(sdks.BadRequestError, match="count_tokens"):
                sdk.messages.count_tokens(model=model, messages=HELLO)  # type: ignore[arg-type]


def test_betas_that_a_target_refuses_are_left_out_named_and_remembered(stage: Stage) -> None:
    async def bedrock(exchange: Exchange) -> None:
        if "brand-new" in exchange.call.headers.get("anthropic-beta", ""):
            error = {"type": "invalid_request_error", "message": "invalid beta flag"}
            await exchange.answer(400, json.dumps({"type": "error", "error": error}).encode())
        else:
            await exchange.answer(200, json.dumps(anthropic.message()).encode())

    stage.provider.script = bedrock
    before = len(stage.provider.calls)
    body = {"model": "claude", "max_tokens": 5, "messages": HELLO, "context_management": {"edits": []}}
    answer = stage.ask(PATH, body, anthropic_beta=BETAS)
    assert answer.status == 200
    assert answer.headers["x-stile-dropped"] == "anthropic-beta=brand-new-2026-11-01"
    kept = BETAS.removesuffix(",brand-new-2026-11-01")
    assert [call.headers["anthropic-beta"] for call in stage.provider.calls[before:]] == [BETAS, kept]
    assert "context_management" in stage.heard.json
    assert stage.ask(PATH, body, anthropic_beta=BETAS).status == 200
    assert [call.headers["anthropic-beta"] for call in stage.provider.calls[before + 2 :]] == [kept]


def test_a_refused_beta_takes_its_field_along(stage: Stage) -> None:
    async def strict_one(exchange: Exchange) -> None:
        if "fast-mode" in exchange.call.headers.get("anthropic-beta", ""):
            said = "Unexpected value(s) `fast-mode-2026-02-01` for the `anthropic-beta` header."
            error = {"type": "invalid_request_error", "message": said}
            await exchange.answer(400, json.dumps({"type": "error", "error": error}).encode())
        else:
            await exchange.answer(200, json.dumps(anthropic.message()).encode())

    stage.provider.script = strict_one
    body = {"model": "claude", "max_tokens": 5, "messages": HELLO, "speed": "fast"}
    answer = stage.ask(PATH, body, anthropic_beta="fast-mode-2026-02-01,other-2026-01-01")
    assert answer.headers["x-stile-dropped"] == "anthropic-beta=fast-mode-2026-02-01, speed"
    assert "speed" not in stage.heard.json
    assert stage.heard.headers["anthropic-beta"] == "other-2026-01-01"


# Errors


@pytest.mark.parametrize(
    ("body", "headers", "status", "kind"),
    [
        ({"model": "nope", "messages": HELLO}, {}, 404, "not_found_error"),
        ({"model": "claude"}, {}, 400, "invalid_request_error"),
        ({"model": "claude", "messages": []}, {}, 400, "invalid_request_error"),
        (b"{", {}, 400, "invalid_request_error"),
        ({"model": "claude", "messages": HELLO}, {"x_api_key": "sk-wrong", "authorization": ""}, 401, None),
    ],
)
def test_errors_are_anthropics(
    stage: Stage, body: object, headers: dict[str, str], status: int, kind: str | None
) -> None:
    answer = stage.ask(PATH, body, **headers)
    assert answer.status == status
    said = answer.json
    assert said["type"] == "error"
    assert said["error"]["type"] == (kind or "authentication_error")
    assert said["error"]["message"]
    assert said["request_id"] == answer.headers["request-id"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("model", "said", "status", "kind"),
    [
        (
            "claude",
            {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}},
            529,
            "overloaded_error",
        ),
        ("claude", {"type": "error", "error": {"type": "new_error", "message": "busy"}}, 400, "new_error"),
        ("chat", {"error": {"message": "busy", "type": "x", "code": None, "param": None}}, 429, "rate_limit_error"),
    ],
)
def test_a_providers_refusal_is_told_in_anthropics_way(  # noqa: PLR0917 (a row of the table, and how it is asked)
    stage: Stage, model: str, said: object, status: int, kind: str, stream: bool
) -> None:
    stage.says(said, status, retry_after="3")
    answer = stage.ask(PATH, {"model": model, "max_tokens": 5, "messages": HELLO, "stream": stream})
    assert (answer.status, answer.headers["retry-after"]) == (status, "3")
    assert answer.json["error"] == {"type": kind, "message": "busy"}
    assert answer.json["type"] == "error"


def test_the_sdk_raises_what_the_status_says(stage: Stage) -> None:
    with sdks.Anthropic(base_url=stage.gateway.base, api_key=stage.gateway.key, max_retries=0) as sdk:
        stage.says({"error": {"message": "busy"}}, 429)
        with pytest.raises(sdks.RateLimitError):
            sdk.messages.create(model="chat", max_tokens=5, messages=HELLO)  # type: ignore[arg-type]
        with pytest.raises(sdks.NotFoundError):
            sdk.messages.create(model="nope", max_tokens=5, messages=HELLO)  # type: ignore[arg-type]


@pytest.mark.parametrize("model", ["claude", "chat"])
def test_a_stream_that_breaks_off_ends_with_anthropics_error_event(stage: Stage, model: str) -> None:
    begun = anthropic.events()[:3] if model == "claude" else chat({"content": "Hel"})[:1]

    async def script(exchange: Exchange) -> None:
        await exchange.start("text/event-stream")
        for chunk in begun:
            await exchange.chunk(chunk)
        exchange.reset()

    stage.provider.script = script
    answer = stage.ask(PATH, {"model": model, "max_tokens": 5, "messages": HELLO, "stream": True})
    found = events(answer.body)
    assert found[-1]["type"] == "error"
    assert found[-1]["error"]["type"] == "api_error"
    assert found[-2]["type"] == "content_block_delta"


def test_an_error_in_mid_stream_of_a_chat_is_told_in_its_words(stage: Stage) -> None:
    first = chat({"content": "Hel"})[0]
    stage.says([first, b'data: {"error": {"message": "out of memory", "type": "server_error"}}\n\n'])
    answer = stage.ask(PATH, {"model": "chat", "max_tokens": 5, "messages": HELLO, "stream": True})
    assert events(answer.body)[-1]["error"]["message"] == "out of memory"


# By chat


def test_a_whole_answer(stage: Stage) -> None:
    stage.says(whole_chat())
    found = answered(stage, system="Be kind", temperature=0.5, stop_sequences=["X"])
    assert found["content"] == [{"type": "text", "text": "Hello there"}]
    assert (found["model"], found["stop_reason"]) == ("chat", "end_turn")
    assert found["usage"] == {
        "input_tokens": 7,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 4,
        "output_tokens": 7,
    }
    assert stage.heard.json == {
        "model": "scripted",
        "messages": [{"role": "system", "content": "Be kind"}, {"role": "user", "content": "Hi"}],
        "max_tokens": 50,
        "temperature": 0.5,
        "stop": ["X"],
    }


def test_openais_own_models_are_told_the_length_by_its_new_name(stage: Stage) -> None:
    sent = heard(stage, model="relayed")
    assert (sent["max_completion_tokens"], "max_tokens" in sent) == (50, False)


def test_a_stream_is_made_of_a_chats_events(stage: Stage) -> None:
    deltas = call_deltas(("call_1", "look", ['{"a"', ":1}"]), ("call_2", "look", ['{"a":2}']))
    stage.says(chat({"reasoning_content": "Hm"}, {"content": "Hel"}, {"content": "lo"}, *deltas, finish="tool_calls"))
    body = {"model": "chat", "max_tokens": 50, "messages": HELLO, "stream": True, "tools": [TOOL]}
    found = checked(stage.ask(PATH, body).body)
    blocks = [event["content_block"] for event in found if event["type"] == "content_block_start"]
    assert [block["type"] for block in blocks] == ["thinking", "text", "tool_use", "tool_use"]
    assert [block.get("id") for block in blocks[2:]] == ["call_1", "call_2"]
    pieces: dict[int, str] = {}
    for event in found:
        if event["type"] == "content_block_delta":
            delta = event["delta"]
            pieces[event["index"]] = pieces.get(event["index"], "") + next(
                delta[name] for name in ("text", "thinking", "partial_json") if name in delta
            )
    assert pieces == {0: "Hm", 1: "Hello", 2: '{"a":1}', 3: '{"a":2}'}
    assert found[-2]["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}
    assert found[-2]["usage"]["input_tokens"] == 7


def test_calls_whose_pieces_come_in_turns_are_told_one_after_the_other(stage: Stage) -> None:
    first, second = call_deltas(("c1", "look", ['{"a"', ":1}"])), call_deltas(("c1", "look", []), ("c2", "look", []))
    more = [{"tool_calls": [{"index": 1, "function": {"arguments": piece}}]} for piece in ('{"b"', ":2}")]
    stage.says(chat(first[0], second[1], first[1], more[0], first[2], more[1], finish="tool_calls"))
    body = {"model": "chat", "max_tokens": 50, "messages": HELLO, "stream": True, "tools": [TOOL]}
    found = checked(stage.ask(PATH, body).body)
    told = [
        (event["index"], event["delta"]["partial_json"]) for event in found if "partial_json" in event.get("delta", {})
    ]
    assert "".join(text for index, text in told if index == 0) == '{"a":1}'
    assert "".join(text for index, text in told if index == 1) == '{"b":2}'


def test_tools_go_round_with_results_of_all_kinds(stage: Stage) -> None:
    use = [{"type": "tool_use", "id": f"t{n}", "name": "look", "input": {"n": n}} for n in (1, 2)]
    parts = [{"type": "text", "text": "seen"}, {"type": "image", "source": PNG}]
    results = [
        {"type": "tool_result", "tool_use_id": "t1", "content": parts, "cache_control": {"type": "ephemeral"}},
        {"type": "tool_result", "tool_use_id": "t2", "content": "broken", "is_error": True},
        {"type": "text", "text": "Go on"},
    ]
    thinking = {"type": "thinking", "thinking": "Hm", "signature": "abc"}
    said = [{"type": "text", "text": "Let me see"}, *use]
    sent = heard(
        stage,
        messages=[*HELLO, {"role": "assistant", "content": [thinking, *said]}, {"role": "user", "content": results}],
        tools=[{**TOOL, "defer_loading": True, "eager_input_streaming": True, "cache_control": {"type": "ephemeral"}}],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
    )
    calls = [
        {"id": f"t{n}", "type": "function", "function": {"name": "look", "arguments": f'{{"n":{n}}}'}} for n in (1, 2)
    ]
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    assert sent["messages"] == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Let me see", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "t1", "content": "seen"},
        {"role": "tool", "tool_call_id": "t2", "content": "Error:\n\nbroken"},
        {"role": "user", "content": [image, {"type": "text", "text": "Go on"}]},
    ]
    function = {"name": "look", "description": "Look", "parameters": {"type": "object"}}
    assert sent["tools"] == [{"type": "function", "function": function}]
    assert (sent["tool_choice"], sent["parallel_tool_calls"]) == ("required", False)


def test_system_texts_wherever_they_stand(stage: Stage) -> None:
    system = [{"type": "text", "text": "One", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "Two"}]
    sent = heard(stage, system=system, messages=[*HELLO, {"role": "system", "content": "Three"}])
    assert sent["messages"] == [
        {"role": "system", "content": "One\n\nTwo"},
        {"role": "user", "content": "Hi"},
        {"role": "system", "content": "Three"},
    ]


def test_what_the_system_says_between_calls_and_results_waits_for_them(stage: Stage) -> None:
    use = {"type": "tool_use", "id": "t1", "name": "look", "input": {}}
    found = {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "tool_reference", "tool_name": "fetch"}]}
    said = [*HELLO, {"role": "assistant", "content": [use]}, {"role": "system", "content": "Mind"}]
    sent = heard(stage, messages=[*said, {"role": "user", "content": [found]}])["messages"]
    assert [(message["role"], message["content"]) for message in sent] == [
        ("user", "Hi"),
        ("assistant", None),
        ("tool", "The tool fetch is available."),
        ("system", "Mind"),
    ]


@pytest.mark.parametrize(
    ("finish", "arguments", "given"),
    [
        ("length", '{"a": "unf', {}),
        ("tool_calls", "null", {}),
        ("tool_calls", "", {}),
        ("tool_calls", "not json", {"arguments": "not json"}),
        ("tool_calls", {"a": 1}, {"a": 1}),
    ],
)
def test_arguments_that_are_no_object_cost_no_answer(stage: Stage, finish: str, arguments: Any, given: object) -> None:
    calls = [{"id": "c", "type": "function", "function": {"name": "look", "arguments": arguments}}]
    usage = {"prompt_tokens": 11.0, "completion_tokens": 7.0}
    stage.says(whole_chat({"tool_calls": calls}, finish=finish, usage=usage))
    found = answered(stage, tools=[TOOL])
    assert found["content"][0]["input"] == given
    assert found["stop_reason"] == ("max_tokens" if finish == "length" else "tool_use")


def test_text_behind_a_call_that_goes_on_waits_for_its_end(stage: Stage) -> None:
    first, piece = call_deltas(("c", "look", ['{"a":1}']))
    stage.says(chat(first, {"content": "\n"}, piece, {"content": "there"}, finish="tool_calls"))
    body = {"model": "chat", "max_tokens": 50, "messages": HELLO, "stream": True, "tools": [TOOL]}
    found = checked(stage.ask(PATH, body).body)
    deltas = [event["delta"] for event in found if event["type"] == "content_block_delta"]
    assert [delta.get("partial_json", delta.get("text")) for delta in deltas] == ['{"a":1}', "\nthere"]


@pytest.mark.parametrize(
    "said",
    [
        {"error": {"message": "busy", "type": None, "code": None, "param": None}},
        {"object": "error", "message": "busy", "type": "x", "code": 40001},
        {"detail": "busy"},
        {"error": "busy"},
    ],
)
def test_errors_of_all_forms_are_told_in_their_words(stage: Stage, said: object) -> None:
    stage.says(said, 429)
    answer = stage.ask(PATH, {"model": "chat", "max_tokens": 5, "messages": HELLO})
    assert (answer.status, answer.json["error"]) == (429, {"type": "rate_limit_error", "message": "busy"})


def test_who_says_what_belongs_to_another_is_refused(stage: Stage) -> None:
    result = {"type": "tool_result", "tool_use_id": "t", "content": "x"}
    for role, block in (("assistant", result), ("user", {"type": "tool_use", "id": "t", "name": "n", "input": {}})):
        answer = stage.ask(PATH, {"model": "chat", "max_tokens": 5, "messages": [{"role": role, "content": [block]}]})
        assert answer.status == 400
        assert "to say" in answer.json["error"]["message"]


def test_documents_and_pictures(stage: Stage) -> None:
    blocks = [
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        {
            "type": "document",
            "title": "a",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"},
        },
        {"type": "document", "title": "b", "source": {"type": "text", "media_type": "text/plain", "data": "text"}},
    ]
    assert heard(stage, messages=[{"role": "user", "content": blocks}])["messages"][0]["content"] == [
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "file", "file": {"filename": "a", "file_data": "data:application/pdf;base64,JVBE"}},
        {"type": "text", "text": "b\n\ntext"},
    ]


@pytest.mark.parametrize(
    ("finish", "message", "reason"),
    [
        ("length", {"content": "On"}, "max_tokens"),
        ("content_filter", {"content": ""}, "refusal"),
        ("stop", {"refusal": "No"}, "refusal"),
        ("stop", {"tool_calls": [{"id": "c", "function": {"name": "look", "arguments": "{}"}}]}, "tool_use"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_why_an_answer_stops(stage: Stage, finish: str, message: dict[str, Any], reason: str, stream: bool) -> None:
    stage.says(chat(message, finish=finish) if stream else whole_chat(message, finish=finish))
    answer = stage.ask(PATH, {"model": "chat", "max_tokens": 5, "messages": HELLO, "stream": stream})
    said = checked(answer.body)[-2]["delta"] if stream else answer.json
    assert said["stop_reason"] == reason


def test_hints_are_left_out_and_named(stage: Stage) -> None:
    stage.says(whole_chat())
    hints = {
        "metadata": {"user_id": "u"},
        "context_management": {"edits": []},
        "thinking": {"type": "adaptive"},
        "output_config": {"effort": "high"},
        "service_tier": "auto",
    }
    body = {"model": "chat", "max_tokens": 5, "messages": HELLO, **hints}
    answer = stage.ask(PATH, body, anthropic_beta=BETAS, anthropic_version="2026-10-21")
    assert answer.status == 200, answer.body
    assert answer.headers["x-stile-dropped"] == (
        "context_management, metadata, service_tier, thinking, output_config.effort"
    )
    assert stage.heard.json.keys() == {"model", "messages", "max_tokens"}
    assert not [name for name in stage.heard.headers if name.startswith("anthropic")]


def test_a_form_of_the_answer_is_asked_in_a_chats_words(stage: Stage) -> None:
    config = {"format": {"type": "json_schema", "schema": {"type": "object"}}}
    assert heard(stage, output_config=config)["response_format"]["json_schema"]["schema"] == {"type": "object"}


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("top_k", 5, "top_k"),
        ("mcp_servers", [{"type": "url", "url": "https://x", "name": "x"}], "mcp_servers"),
        ("tools", [{"type": "web_search_20250305", "name": "web_search"}], "web_search_20250305"),
        ("tools", [{"type": "bash_20250124", "name": "bash"}], "bash_20250124"),
        ("container", "c_1", "container"),
        ("messages", [{"role": "user", "content": [{"type": "container_upload", "file_id": "f"}]}], "container_upload"),
    ],
)
def test_what_no_chat_can_do_is_refused_by_name_before_anything_is_sent(
    stage: Stage, field: str, value: Any, named: str
) -> None:
    asked = len(stage.provider.calls)
    answer = stage.ask(PATH, {"model": "chat", "max_tokens": 5, "messages": HELLO, field: value})
    assert (answer.status, answer.json["error"]["type"]) == (400, "invalid_request_error")
    assert named in answer.json["error"]["message"]
    assert len(stage.provider.calls) == asked


def test_drop_params_leaves_out_what_no_chat_has(stage: Stage) -> None:
    stage.says(whole_chat())
    answer = stage.ask(PATH, {"model": "loose", "max_tokens": 5, "messages": HELLO, "top_k": 5})
    assert (answer.status, answer.headers["x-stile-dropped"]) == (200, "top_k")


def test_by_chat_and_litellm_to_bedrock_and_back(folder: Path) -> None:
    """What Claude's own parameters say goes on to it there: thinking, what may be cached, signed thoughts."""
    system = [{"type": "text", "text": "Be kind", "cache_control": {"type": "ephemeral"}}]
    thinking = {"type": "thinking", "thinking": "Hm", "signature": "abc"}
    use = {"type": "tool_use", "id": "t1", "name": "look", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "seen"}]}
    said: list[Any] = [
        *HELLO,
        {"role": "assistant", "content": [thinking, use]},
        {"role": "user", "content": [result]},
    ]

    async def story(_: object, gateway: Program, server: Provider) -> None:
        async with sdks.AsyncAnthropic(base_url=gateway.base, api_key=gateway.key, max_retries=0) as sdk:
            asked: dict[str, Any] = {
                "model": "m",
                "max_tokens": 2000,
                "system": system,
                "messages": said,
                "tools": [TOOL],
            }
            asked["thinking"] = {"type": "enabled", "budget_tokens": 1024}
            message = await sdk.messages.create(**asked)
            assert message.content[0].type == "text"
            assert message.content[0].text == "".join(anthropic.WORDS)
            async with sdk.messages.stream(**asked) as stream:
                assert [text async for text in stream.text_stream] == anthropic.WORDS
        body = server.last.json
        assert body["system"] == [{"text": "Be kind"}, {"cachePoint": {"type": "default"}}]
        assert body["additionalModelRequestFields"]["thinking"] == {"type": "enabled", "budget_tokens": 1024}
        assert body["messages"][1]["content"][0]["reasoningContent"]["reasoningText"]["signature"] == "abc"

    play(folder, bedrock.converse, BEDROCK.replace("claude-3-haiku-20240307", "claude-sonnet-4-20250514"), story)


# The list of models


def test_models_in_anthropics_shape_page_by_page(stage: Stage) -> None:
    names = [model["id"] for model in stage.gateway.ask("GET", "/v1/models").json["data"]]
    first = stage.gateway.ask("GET", "/v1/models?limit=2", headers={"anthropic-version": "2023-06-01"}).json
    assert [model["id"] for model in first["data"]] == names[:2]
    assert (first["has_more"], first["first_id"], first["last_id"]) == (True, names[0], names[1])
    assert first["data"][0].keys() == {"type", "id", "display_name", "created_at", "lifecycle"}
    for model in first["data"]:
        strict.check(model, ModelInfo)
    with sdks.Anthropic(base_url=stage.gateway.base, api_key=stage.gateway.key) as sdk:
        assert [model.id for model in sdk.models.list(limit=3)] == names
        assert [model.id for model in sdk.models.list(limit=2, before_id=names[3]).data] == names[1:3]
        assert sdk.models.retrieve(names[0]).id == names[0]
        with pytest.raises(sdks.NotFoundError):
            sdk.models.retrieve("nope")
        with pytest.raises(sdks.BadRequestError, match="limit"):
            sdk.models.list(limit=0)
    endless = stage.gateway.ask("GET", f"/v1/models?limit={'9' * 5000}", headers={"anthropic-version": "2023-06-01"})
    assert endless.status == 400
