"""Models' and agents' slips in Messages by chat: none costs the caller an answer, or the conversation."""

from typing import Any

import pytest
from anthropic.types import Message
from tests import strict
from tests.api.test_messages import HELLO, PATH, TOOL, checked, heard
from tests.stage import Stage, call_deltas, chat, whole_chat


def called(stage: Stage, arguments: str, finish: str) -> dict[str, Any]:
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": arguments}}
    stage.says(whole_chat({"tool_calls": [call]}, finish=finish))
    answer = stage.ask(PATH, {"model": "chat", "max_tokens": 50, "messages": HELLO, "tools": [TOOL]})
    assert answer.status == 200, answer.body
    found: dict[str, Any] = answer.json
    strict.check(found, Message)
    return found


def test_a_call_that_was_cut_off_is_an_answer_that_ended_early(stage: Stage) -> None:
    assert called(stage, '{"a": "unf', "length")["stop_reason"] == "max_tokens"


@pytest.mark.parametrize("arguments", ["null", ""])
def test_a_call_without_arguments_has_an_empty_input(stage: Stage, arguments: str) -> None:
    assert called(stage, arguments, "tool_calls")["content"][0]["input"] == {}


def test_text_between_the_pieces_of_a_call_ends_no_stream(stage: Stage) -> None:
    deltas = call_deltas(("c", "look", ['{"a":1}']))
    empty = {"tool_calls": [{"index": 0, "function": {"arguments": ""}}]}
    stage.says(chat(*deltas, {"content": "\n"}, empty, finish="tool_calls"))
    found = checked(stage.ask(PATH, {"model": "chat", "max_tokens": 5, "messages": HELLO, "stream": True}).body)
    assert found[-2]["delta"]["stop_reason"] == "tool_use"


def test_tools_that_claude_code_loads_are_named_in_the_result(stage: Stage) -> None:
    use = {"type": "tool_use", "id": "t", "name": "ToolSearch", "input": {"query": "select:WebFetch"}}
    found = {
        "type": "tool_result",
        "tool_use_id": "t",
        "content": [{"type": "tool_reference", "tool_name": "WebFetch"}],
    }
    said = [*HELLO, {"role": "assistant", "content": [use]}, {"role": "user", "content": [found]}]
    assert "WebFetch" in heard(stage, messages=said, tools=[TOOL])["messages"][-1]["content"]


def test_an_error_without_a_type_keeps_its_words(stage: Stage) -> None:
    stage.says({"error": {"message": "busy", "type": None, "code": None, "param": None}}, 429)
    answer = stage.ask(PATH, {"model": "chat", "max_tokens": 5, "messages": HELLO})
    assert answer.json["error"] == {"type": "rate_limit_error", "message": "busy"}


def test_a_limit_of_many_digits_is_refused(stage: Stage) -> None:
    headers = {"anthropic-version": "2023-06-01"}
    assert stage.gateway.ask("GET", f"/v1/models?limit={'9' * 5000}", headers=headers).status == 400


def test_a_thought_between_the_pieces_of_a_call_tears_no_call(stage: Stage) -> None:
    begun, first, second = call_deltas(("c", "look", ['{"a"', ":1}"]))
    stage.says(chat(begun, first, {"reasoning_content": "Hm"}, second, finish="tool_calls"))
    found = checked(stage.ask(PATH, {"model": "chat", "max_tokens": 5, "messages": HELLO, "stream": True}).body)
    call = next(event for event in found if event.get("content_block", {}).get("type") == "tool_use")
    deltas = [event for event in found if event.get("delta", {}).get("type") == "input_json_delta"]
    assert {event["index"] for event in deltas} == {call["index"]}
    assert "".join(event["delta"]["partial_json"] for event in deltas) == '{"a":1}'
