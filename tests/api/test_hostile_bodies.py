"""Bodies that are meant to hurt: an error in the caller's dialect, or an ordinary answer; and memory stays bounded."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.program import Program
from tests.stage import Stage, whole_chat

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
SAY: dict[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": "Hi"}]},
    RESPONSES: {"input": "Hi"},
    MESSAGES: {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5},
}
EVERY = pytest.mark.parametrize("path", [CHAT, RESPONSES, MESSAGES])
BY_CHAT = pytest.mark.parametrize("path", [RESPONSES, MESSAGES])
MEMORY = re.compile(r"VmRSS:\s+(\d+) kB")


def refused(stage: Stage, path: str, body: bytes | dict[str, Any]) -> str:
    """The message of a 400 in the path's dialect."""
    answer = stage.ask(path, body)
    assert answer.status == 400, answer.body[:500]
    said = answer.json
    assert said.get("type") == ("error" if path == MESSAGES else None)
    assert said["error"]["type"] == "invalid_request_error"
    message: str = said["error"]["message"]
    return message


def body(path: str, **fields: Any) -> bytes:
    return json.dumps({"model": "chat", **SAY[path], **fields}).encode()


def resident(gateway: Program) -> int:
    """Megabytes that the gateway holds."""
    found = MEMORY.search(Path(f"/proc/{gateway.process.pid}/status").read_text())
    assert found is not None
    return int(found[1]) // 1024


@EVERY
def test_ten_thousand_tools_pass_in_bounded_memory(stage: Stage, path: str) -> None:
    stage.says(whole_chat())
    tool: dict[str, Any] = {"type": "function", "name": "f", "parameters": {"type": "object"}}
    tool = {"type": "function", "function": tool} if path == CHAT else tool
    tool = {"name": "f", "input_schema": {}} if path == MESSAGES else tool
    sent = body(path, tools=[tool] * 10_000)
    assert stage.ask(path, sent).status == 200
    before = resident(stage.gateway)
    for _ in range(5):
        assert stage.ask(path, sent).status == 200
    assert resident(stage.gateway) - before < 100
    assert len(stage.heard.json["tools"]) == 10_000


@EVERY
@pytest.mark.parametrize("deep", ["[" * 1000 + "]" * 1000, '{"a":' * 1000 + "1" + "}" * 1000, "[" * 1000])
def test_deep_nesting_is_refused(stage: Stage, path: str, deep: str) -> None:
    sent = body(path, tools="@").replace(b'"@"', deep.encode())
    assert re.search("levels|not a JSON object", refused(stage, path, sent))


@EVERY
@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999", "01", "'x'", "\x00", "\ufeff1"])
def test_what_is_no_json_is_refused_or_never_a_fault(stage: Stage, path: str, text: str) -> None:
    stage.says(whole_chat())
    answer = stage.ask(path, body(path, temperature="@").replace(b'"@"', text.encode()))
    assert answer.status in ((200, 400) if text == "1e999" else (400,))


@EVERY
def test_half_a_surrogate_pair_is_never_a_fault(stage: Stage, path: str) -> None:
    stage.says(whole_chat())
    sent = body(path).replace(b'"Hi"', b'"\\ud800"')
    answer = stage.ask(path, sent)
    assert answer.status in (200, 400)
    if path != CHAT:
        assert answer.status == 400


@EVERY
def test_of_a_field_that_stands_there_twice_the_last_one_counts(stage: Stage, path: str) -> None:
    stage.says(whole_chat())
    sent = body(path)[:-1] + b', "model": "nope"}'
    assert stage.ask(path, sent).status == 404
    sent = b'{"model": "nope", ' + body(path)[1:]
    assert stage.ask(path, sent).status == 200


@BY_CHAT
@pytest.mark.parametrize("value", [0, 1.5, True, "x", [], {}, [0], [[]], [{}], {"type": []}, [{"type": {}}], [None]])
def test_no_value_of_any_field_is_a_fault(stage: Stage, path: str, value: Any) -> None:
    stage.says(whole_chat())
    names = (
        (
            "input",
            "instructions",
            "tools",
            "tool_choice",
            "text",
            "reasoning",
            "include",
            "max_output_tokens",
            "top_logprobs",
        )
        if path == RESPONSES
        else ("messages", "system", "tools", "tool_choice", "thinking", "output_config", "stop_sequences", "container")
    )
    offered = [{"type": "function", "name": "f", "input_schema": {}}]
    for name in names:
        more = {"tools": offered} if name == "tool_choice" and path == RESPONSES else {}
        more = {"tools": [{"name": "f"}]} if name == "tool_choice" and path == MESSAGES else more
        answer = stage.ask(path, body(path, **more, **{name: value}))
        assert answer.status in (200, 400), (name, answer.body)


PARTS: list[dict[str, Any]] = [
    {"type": "text"},
    {"type": "text", "text": 1},
    {"type": "image"},
    {"type": "image", "source": "x"},
    {"type": "image", "source": {"type": "base64", "data": 1}},
    {"type": "document", "source": {"type": []}},
    {"type": "tool_result"},
    {"type": "tool_result", "tool_use_id": 1},
    {"type": "tool_result", "tool_use_id": "t", "content": {"a": 1}},
    {"type": "tool_use", "id": 1, "name": "x", "input": {}},
    {"type": "search_result", "content": 1},
    {"type": "thinking"},
    {"type": "input_image", "image_url": 1},
    {"type": "input_file", "file_data": []},
    {"type": ["text"]},
]


@BY_CHAT
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("role", ["user", "assistant", "system", "tool", [], None])
def test_no_part_of_any_message_is_a_fault(stage: Stage, path: str, part: dict[str, Any], role: Any) -> None:
    stage.says(whole_chat())
    field = "input" if path == RESPONSES else "messages"
    for content in ([part], part, [[part]]):
        answer = stage.ask(path, body(path, **{field: [{"role": role, "content": content}]}))
        assert answer.status in (200, 400), answer.body
    answer = stage.ask(path, body(path, **{field: [part]}))
    assert answer.status in (200, 400), answer.body


ANSWERS: list[Any] = [
    {},
    {"choices": []},
    {"choices": [{}]},
    {"choices": [{"message": {}}]},
    {"choices": [{"message": {"content": 5}}]},
    {"choices": [{"message": {"tool_calls": [{}]}}]},
    {"choices": [{"message": {"tool_calls": [{"function": {"name": "f", "arguments": "[]"}}]}}]},
    {"choices": [{"message": {"content": "x"}}], "usage": "none"},
    [],
    "text",
]


@BY_CHAT
@pytest.mark.parametrize("said", ANSWERS, ids=range(len(ANSWERS)))
@pytest.mark.parametrize("stream", [False, True])
def test_no_answer_of_a_provider_is_a_fault(stage: Stage, path: str, said: Any, stream: bool) -> None:
    stage.says([b"data: " + json.dumps(said).encode() + b"\n\n"] if stream else said)
    answer = stage.ask(path, body(path, stream=stream))
    assert answer.status in (200, 502), answer.body
    assert b"its log knows why" not in answer.body


@EVERY
def test_a_body_over_the_limit_is_named_with_it(stage: Stage, path: str) -> None:
    connection = stage.gateway.ask("POST", path, b" " * (33 * 1024 * 1024))
    assert connection.status == 413
    assert "33554432" in connection.json["error"]["message"]
    assert connection.json["error"]["type"] == ("request_too_large" if path == MESSAGES else "invalid_request_error")


@EVERY
def test_a_million_objects_are_refused_before_they_are_read(stage: Stage, path: str) -> None:
    field = "input" if path == RESPONSES else "messages"
    many = b"[" + b",".join([b"{}"] * 1_000_000) + b"]"
    sent = body(path, **{field: ["@"]}).replace(b'["@"]', many)
    assert "250000 arrays and objects" in refused(stage, path, sent)


@EVERY
def test_millions_of_values_are_refused_before_they_are_read(stage: Stage, path: str) -> None:
    sent = body(path, metadata=["@"]).replace(b'["@"]', b"[" + b"1," * 1_100_000 + b"1]")
    assert "1000000 values" in refused(stage, path, sent)


@EVERY
def test_brackets_in_a_text_are_text(stage: Stage, path: str) -> None:
    stage.says(whole_chat())
    sent = body(path).replace(b'"Hi"', json.dumps('[{"a": ["\\""]}] ' * 100_000).encode())
    assert stage.ask(path, sent).status == 200


@EVERY
def test_endless_names_are_refused(stage: Stage, path: str) -> None:
    assert "more than 1000 fields" in refused(stage, path, body(path, **{f"x{n}": 1 for n in range(1001)}))
    assert "over 256 letters" in refused(stage, path, body(path, **{"x" * 300_000: 1}))
    assert "256 letters at most" in refused(stage, path, body(path, model="m" * 257))
