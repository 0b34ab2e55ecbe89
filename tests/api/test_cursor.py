"""Cursor's bodies: those of a response, sent as a chat and answered as one. What Cursor sends in full is in
test_responses.py; here it goes to other targets, fails, and comes in odd forms."""

import json
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from tests import steps, strict
from tests.mocks import anthropic
from tests.program import Answer
from tests.stage import Stage, call_deltas, chat, whole_chat

PATH = "/v1/chat/completions"
PLACES = {"type": "object", "properties": {"where": {"type": "string"}}}
LOOK: dict[str, Any] = {"type": "function", "name": "look", "description": "Look", "parameters": PLACES}
IMAGE = "data:image/png;base64,iVBORw0KGgo="
AGENT: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief"},
    {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
    {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": '{"where":"here"}'},
    {"type": "function_call_output", "call_id": "call_1", "output": [{"type": "input_image", "image_url": IMAGE}]},
]


def asked(stage: Stage, **fields: Any) -> Answer:
    return stage.ask(PATH, {"model": "chat", "input": "Hi", **fields})


def chunks(body: bytes) -> list[dict[str, Any]]:
    """The chunks of a chat's stream, each one held to its type."""
    *events, last, rest = body.decode().split("\n\n")
    assert (last, rest) == ("data: [DONE]", "")
    found = [json.loads(event.removeprefix("data: ")) for event in events if not event.startswith(":")]
    for chunk in found:
        strict.check(chunk, ChatCompletionChunk)
    return found


@pytest.mark.parametrize("is_streamed", [False, True])
def test_anthropic_answers_it_in_chunks_of_a_chat(stage: Stage, is_streamed: bool) -> None:
    stage.says(anthropic.tool_events() if is_streamed else anthropic.message(anthropic.TOOL_USE))
    fields = {"model": "translated", "input": AGENT, "tools": [LOOK, {"type": "web_search"}], "max_output_tokens": 99}
    answer = asked(stage, stream=is_streamed, **fields, store=False, include=["reasoning.encrypted_content"])
    assert answer.headers["x-stile-dropped"] == "tools.web_search"
    if is_streamed:
        deltas = [
            call for chunk in chunks(answer.body) for call in chunk["choices"][0]["delta"].get("tool_calls") or []
        ]
        assert "".join(delta["function"]["arguments"] or "" for delta in deltas) == '{"where": "here"}'
        assert (deltas[0]["id"], deltas[0]["function"]["name"]) == ("toolu_1", "look")
    else:
        strict.check(answer.json, ChatCompletion)
        assert answer.json["choices"][0]["message"]["tool_calls"][0]["id"] == "toolu_1"
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
    sent = stage.heard.json
    assert sent["system"] == [{"type": "text", "text": "Be brief"}]
    assert sent["tools"] == [{"name": "look", "description": "Look", "input_schema": PLACES, "type": "custom"}]
    assert sent["max_tokens"] == 99
    use = {"type": "tool_use", "id": "call_1", "name": "look", "input": {"where": "here"}}
    assert sent["messages"][:2] == [
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {"role": "assistant", "content": [use]},
    ]
    result, shown = sent["messages"][2]["content"]
    assert (result["type"], result["tool_use_id"], shown) == ("tool_result", "call_1", image)


def test_the_sdk_reads_the_answer_as_a_chats(stage: Stage) -> None:
    stage.says(chat({"role": "assistant", "content": "Hel"}, {"content": "lo"}))
    with openai.OpenAI(base_url=f"{stage.gateway.base}/v1", api_key=stage.gateway.key, max_retries=0) as sdk:
        body = {"model": "chat", "input": "Hi", "stream": True, "text": {"verbosity": "low"}}
        stream = sdk.post(
            "/chat/completions",
            body=body,
            cast_to=ChatCompletionChunk,
            stream=True,
            stream_cls=openai.Stream[ChatCompletionChunk],
        )
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices) == "Hello"
    assert stage.heard.json == {
        "model": "scripted",
        "stream": True,
        "stream_options": {"include_usage": True},
        "verbosity": "low",
        "messages": [{"role": "user", "content": "Hi"}],
    }


def test_a_model_that_takes_responses_is_asked_for_a_chat(stage: Stage) -> None:
    stage.says(whole_chat())
    assert asked(stage, model="relayed").json["choices"][0]["message"]["content"] == "Hello there"
    assert stage.heard.path == PATH


def test_a_chat_that_has_an_input_too_is_a_chat(stage: Stage) -> None:
    stage.says(whole_chat())
    messages = [{"role": "user", "content": "Hi"}]
    assert asked(stage, messages=messages, input=[]).status == 200
    assert stage.heard.json == {"model": "scripted", "input": [], "messages": messages}


def test_what_no_chat_can_do_is_refused_in_openais_envelope(stage: Stage) -> None:
    before = len(stage.provider.calls)
    answer = asked(stage, previous_response_id="resp_1", stream=True)
    assert (answer.status, answer.error["code"]) == (400, "unsupported_parameter")
    assert answer.error["param"] == "previous_response_id"
    assert asked(stage, input=[{"type": "item_reference", "id": "x"}]).error["param"] == "input[0]"
    assert asked(stage, input=5).error["param"] == "input"
    assert len(stage.provider.calls) == before


def test_hints_are_left_out_and_named(stage: Stage) -> None:
    stage.says(chat({"content": "Hi"}))
    answer = asked(stage, stream=True, store=True, prompt_cache_key="k", metadata={"a": "b"}, user="u")
    assert answer.headers["x-stile-dropped"] == "metadata, prompt_cache_key, store, user"
    assert stage.heard.json.keys() == {"model", "messages", "stream", "stream_options"}


def test_a_failure_in_mid_stream_is_told_as_a_chat_tells_it(stage: Stage) -> None:
    with steps.through(stage, PATH, {"model": "chat", "input": "Hi"}, chat({"content": "Hel"})[0]) as stream:
        stream.until(b'"Hel"')
        *_, last = stream.break_off().decode().strip().split("\n\n")
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "upstream_broken"


def test_calls_of_the_model_pass_untouched(stage: Stage) -> None:
    sent = chat(*call_deltas(("c1", "look", ['{"a"', ":1}"]), ("c2", "look", ["{}"])), finish="tool_calls")
    stage.says(sent)
    assert asked(stage, stream=True, tools=[LOOK], stream_options={"include_usage": True}).body == b"".join(sent)
    function = {name: LOOK[name] for name in LOOK if name != "type"}
    assert stage.heard.json["tools"] == [{"type": "function", "function": function}]
