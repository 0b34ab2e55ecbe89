"""Responses by chat in full: conversations of OpenAI's own client with a server that chats (`chat`, `loose`) and with
Anthropic by LiteLLM (`translated`); what the provider hears is asserted as well as what the client gets."""

import base64
import json
from collections.abc import Iterator, Sequence
from typing import Any

import openai
import pydantic
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from tests import assembly, steps, strict
from tests.mocks import anthropic
from tests.program import Answer
from tests.stage import Stage, call_deltas, chat, events, whole_chat

PATH = "/v1/responses"
PLACES = {"type": "object", "properties": {"where": {"type": "string"}}}
FUNCTION: Any = {"type": "function", "name": "look", "description": "Look", "parameters": PLACES, "strict": False}
IMAGE = "data:image/png;base64,iVBORw0KGgo="
THOUGHTS = "reasoning.encrypted_content"
CALLS = call_deltas(("call_1", "look", ['{"where"', ':"here"}']), ("call_2", "look", ['{"where":"there"}']))
THINKING = {"type": "thinking", "thinking": "Let me look", "signature": "c2lnbmVk"}
# Why a response is not complete ← how a chat and a message end.
CUT_OFF = {"max_output_tokens": ("length", "max_tokens"), "content_filter": ("content_filter", "refusal")}
USE_1 = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"where": "here"}}
USE_2 = {"type": "tool_use", "id": "toolu_2", "name": "look", "input": {"where": "there"}}


class Place(pydantic.BaseModel):
    """What a structured answer holds."""

    name: str
    rooms: list[int]


PLACE = '{"name": "here", "rooms": [1, 2]}'


@pytest.fixture
def sdk(stage: Stage) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{stage.gateway.base}/v1", api_key=stage.gateway.key, max_retries=0) as client:
        yield client


def asked(stage: Stage, **fields: Any) -> Answer:
    return stage.ask(PATH, {"model": "chat", "input": "Hi", **fields})


def answered(stage: Stage, **fields: Any) -> dict[str, Any]:
    """The answer, whole or put together from its stream."""
    body = {"model": "chat", "input": "Hi", **fields}
    if not fields.get("stream"):
        return stage.answered(PATH, Response, body)
    answer = asked(stage, **fields)
    assert answer.status == 200, answer.body
    return assembly.of(events(answer.body))


def heard(stage: Stage, **fields: Any) -> dict[str, Any]:
    return stage.chat_of(PATH, Response, {"model": "chat", "input": "Hi", **fields})


def streamed(*blocks: tuple[dict[str, Any], Sequence[dict[str, Any]]], reason: str = "tool_use") -> list[bytes]:
    """A stream of Anthropic's: each block as it begins, and its deltas."""
    found = [anthropic.opening()[0]]
    for index, (block, deltas) in enumerate(blocks):
        found.append(anthropic.event("content_block_start", index=index, content_block=block))
        found += [anthropic.event("content_block_delta", index=index, delta=delta) for delta in deltas]
        found.append(anthropic.event("content_block_stop", index=index))
    return [*found, *anthropic.closing(reason)[1:]]


def use(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    text = json.dumps(block["input"])
    deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in (text[:9], text[9:])]
    return {**block, "input": {}}, deltas


THOUGHT = (
    {"type": "thinking", "thinking": "", "signature": ""},
    [
        {"type": "thinking_delta", "thinking": "Let me "},
        {"type": "thinking_delta", "thinking": "look"},
        {"type": "signature_delta", "signature": THINKING["signature"]},
    ],
)


# Conversations


def test_a_conversation_of_the_sdk_with_a_server_that_chats(stage: Stage, sdk: openai.OpenAI) -> None:
    stage.says(chat({"reasoning_content": "Hm, "}, {"reasoning_content": "yes"}, {"content": "Let me see"}, *CALLS))
    asks: dict[str, Any] = {"instructions": "Be kind", "tools": [FUNCTION], "include": [THOUGHTS], "store": False}
    given: list[Any] = [{"role": "user", "content": [{"type": "input_image", "image_url": IMAGE, "detail": "low"}]}]
    with sdk.responses.stream(model="chat", input=given, reasoning={"effort": "low"}, **asks) as stream:
        told = list(stream)
    pieces = [event.delta for event in told if event.type == "response.function_call_arguments.delta"]
    assert pieces == ['{"where"', ':"here"}', '{"where":"there"}']
    output = stream.get_final_response().output
    assert [item.type for item in output] == ["reasoning", "message", "function_call", "function_call"]
    tools = [{"type": "function", "function": {name: FUNCTION[name] for name in FUNCTION if name != "type"}}]
    image = {"type": "image_url", "image_url": {"url": IMAGE, "detail": "low"}}
    begun = [{"role": "system", "content": "Be kind"}, {"role": "user", "content": [image]}]
    assert stage.heard.json == {
        "model": "scripted",
        "stream": True,
        "stream_options": {"include_usage": True},
        "tools": tools,
        "reasoning_effort": "low",
        "messages": begun,
    }
    stage.says(whole_chat({"content": "There it is"}))
    items: list[Any] = [item.to_dict() for item in output]
    results: list[Any] = [
        {"type": "function_call_output", "call_id": item["call_id"], "output": f"seen {item['arguments']}"}
        for item in items[2:]
    ]
    answer = sdk.responses.create(model="chat", input=[*given, *items, *results], **asks)
    assert answer.output_text == "There it is"
    calls = [("call_1", '{"where":"here"}'), ("call_2", '{"where":"there"}')]
    assert stage.heard.json == {
        "model": "scripted",
        "tools": tools,
        "messages": [
            *begun,
            {
                "role": "assistant",
                "content": "Let me see",
                "tool_calls": [
                    {"id": id_, "type": "function", "function": {"name": "look", "arguments": arguments}}
                    for id_, arguments in calls
                ],
            },
            *({"role": "tool", "tool_call_id": id_, "content": f"seen {arguments}"} for id_, arguments in calls),
        ],
    }


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_conversation_of_the_sdk_with_anthropic(stage: Stage, sdk: openai.OpenAI, is_streamed: bool) -> None:
    whole = anthropic.message(THINKING, {"type": "text", "text": "Let me see"}, USE_1, USE_2)
    text = ({"type": "text", "text": ""}, [{"type": "text_delta", "text": word} for word in ("Let me", " see")])
    stage.says(streamed(THOUGHT, text, use(USE_1), use(USE_2)) if is_streamed else whole)
    asks: dict[str, Any] = {"instructions": "Be kind", "tools": [FUNCTION], "include": [THOUGHTS], "store": False}
    asks |= {"reasoning": {"effort": "low"}, "parallel_tool_calls": True, "max_output_tokens": 5000}
    given: list[Any] = [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "What is it?"},
                {"type": "input_image", "image_url": IMAGE},
                {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="},
            ],
        }
    ]
    fields = {"model": "translated", "input": given, **asks}
    if is_streamed:
        with sdk.responses.stream(**fields) as stream:
            list(stream)
        output = stream.get_final_response().output
    else:
        output = sdk.responses.create(**fields).output
    items: list[Any] = [item.to_dict() for item in output]
    assert [item["type"] for item in items] == ["reasoning", "message", "function_call", "function_call"]
    assert items[0]["summary"] == [{"type": "summary_text", "text": "Let me look"}]
    shown: list[Any] = [{"type": "input_text", "text": "seen"}, {"type": "input_image", "image_url": IMAGE}]
    results: list[Any] = [
        {"type": "function_call_output", "call_id": "toolu_1", "output": shown},
        {"type": "function_call_output", "call_id": "toolu_2", "output": "nothing"},
    ]
    stage.says(anthropic.message())
    again = sdk.responses.create(model="translated", input=[*given, *items, *results], **asks)
    assert again.output_text == "".join(anthropic.WORDS)
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
    pdf = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}}
    sent = stage.heard.json
    assert sent["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "What is it?"}, image, pdf]},
        {"role": "assistant", "content": [THINKING, {"type": "text", "text": "Let me see"}, USE_1, USE_2]},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "seen"}]},
                {"type": "tool_result", "tool_use_id": "toolu_2", "content": "nothing"},
                image,
            ],
        },
    ]
    assert sent["system"] == [{"type": "text", "text": "Be kind"}]
    assert sent["tools"] == [{"name": "look", "description": "Look", "input_schema": PLACES, "type": "custom"}]
    assert (sent["thinking"]["type"], sent["max_tokens"]) == ("enabled", 5000)
    assert sent.keys() == {"model", "messages", "system", "tools", "thinking", "max_tokens"} | (
        {"tool_choice"} if "tool_choice" in sent else set()
    )


@pytest.mark.parametrize("model", ["chat", "translated"])
def test_a_stream_is_there_before_the_target_has_said_all(stage: Stage, model: str) -> None:
    first, *rest = chat({"content": "Hel"}, {"content": "lo"})
    if model == "translated":
        first, rest = b"".join([*anthropic.opening(), anthropic.text("Hel")]), [anthropic.text("lo")]
        rest += anthropic.closing()
    with steps.through(stage, PATH, {"model": model, "input": "Hi"}, first) as stream:
        assert b'"delta":"Hel"' in stream.until(b"output_text.delta")
        stream.say(*rest)
        done = assembly.of(events(stream.end()))
    assert done["output"][0]["content"][0]["text"] == "Hello"


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("chat", whole_chat({"content": PLACE})),
        ("chat", chat({"content": PLACE[:9]}, {"content": PLACE[9:]})),
        (
            "translated",
            anthropic.message({"type": "tool_use", "id": "t", "name": "json_tool_call", "input": json.loads(PLACE)}),
        ),
        ("translated", streamed(use({**USE_1, "name": "json_tool_call", "input": json.loads(PLACE)}))),
    ],
    ids=["chat", "chat, streamed", "anthropic", "anthropic, streamed"],
)
def test_an_answer_keeps_to_a_schema(stage: Stage, sdk: openai.OpenAI, model: str, said: Any) -> None:
    stage.says(said)
    if isinstance(said, list):
        with sdk.responses.stream(model=model, input="Hi", text_format=Place) as stream:
            list(stream)
        parsed = stream.get_final_response().output_parsed
    else:
        parsed = sdk.responses.parse(model=model, input="Hi", text_format=Place).output_parsed
    assert parsed == Place(name="here", rooms=[1, 2])
    asked_for = stage.heard.json
    if model == "chat":
        form = asked_for["response_format"]
        assert (form["type"], form["json_schema"]["name"], form["json_schema"]["strict"]) == (
            "json_schema",
            "Place",
            True,
        )
        schema = form["json_schema"]["schema"]
    else:
        assert asked_for["tool_choice"] == {"type": "tool", "name": "json_tool_call"}
        schema = asked_for["tools"][0]["input_schema"]
    assert (schema["required"], schema["additionalProperties"]) == (["name", "rooms"], False)


# Tools


def test_a_call_without_arguments_adds_up_too(stage: Stage) -> None:
    stage.says(chat(*call_deltas(("call_1", "look", [])), finish="tool_calls"))
    assert answered(stage, stream=True, tools=[FUNCTION])["output"][0]["arguments"] == "{}"


def test_the_pieces_of_calls_may_come_by_turns(stage: Stage) -> None:
    one, one_a, one_b, two, two_a = CALLS
    stage.says(chat(one, two, one_a, two_a, one_b, finish="tool_calls"))
    output = answered(stage, stream=True, tools=[FUNCTION])["output"]
    assert [item["arguments"] for item in output] == ['{"where":"here"}', '{"where":"there"}']


def test_calls_that_all_have_one_index_are_told_apart_by_their_ids(stage: Stage) -> None:
    deltas = [
        {
            "tool_calls": [
                {"index": 0, "id": f"call_{n}", "function": {"name": "look", "arguments": f'{{"where":"{n}"}}'}}
            ]
        }
        for n in (1, 2)
    ]
    stage.says(chat(*deltas, finish="tool_calls"))
    output = answered(stage, stream=True, tools=[FUNCTION])["output"]
    assert [(item["call_id"], item["arguments"]) for item in output] == [
        ("call_1", '{"where":"1"}'),
        ("call_2", '{"where":"2"}'),
    ]


def test_what_is_said_behind_a_call_stands_before_its_result(stage: Stage) -> None:
    stage.says(chat(*CALLS[:3], {"content": "I look"}, finish="tool_calls"))
    output = answered(stage, stream=True, tools=[FUNCTION])["output"]
    assert [item["type"] for item in output] == ["function_call", "message"]
    result = {"type": "function_call_output", "call_id": "call_1", "output": "seen"}
    messages = heard(stage, input=[{"role": "user", "content": "Hi"}, *output, result])["messages"]
    assert [(message["role"], message["content"]) for message in messages] == [
        ("user", "Hi"),
        ("assistant", "I look"),
        ("tool", "seen"),
    ]
    assert messages[1]["tool_calls"][0]["id"] == "call_1"


def test_custom_tools_and_namespaces_go_to_anthropic_too(stage: Stage) -> None:
    tools = [
        {"type": "custom", "name": "patch"},
        {"type": "namespace", "name": "mcp__files", "description": "", "tools": [{**FUNCTION, "name": "read"}]},
    ]
    patch = {"type": "tool_use", "id": "t1", "name": "patch", "input": {"input": "*** Begin"}}
    read = {"type": "tool_use", "id": "t2", "name": "mcp__files__read", "input": {}}
    stage.says(streamed(use(patch), use(read)))
    custom, function = answered(stage, model="translated", stream=True, tools=tools)["output"]
    assert (custom["type"], custom["input"]) == ("custom_tool_call", "*** Begin")
    assert (function["name"], function["namespace"], function["arguments"]) == ("read", "mcp__files", "{}")
    assert [tool["name"] for tool in stage.heard.json["tools"]] == ["patch", "mcp__files__read"]


def test_only_the_tools_that_are_allowed_are_offered(stage: Stage) -> None:
    choice = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "look"}]}
    sent = heard(stage, tools=[FUNCTION, {**FUNCTION, "name": "touch"}], tool_choice=choice)
    assert [tool["function"]["name"] for tool in sent["tools"]] == ["look"]
    assert sent["tool_choice"] == "required"


# How it ends


def test_thoughts_words_and_calls_may_come_by_turns(stage: Stage) -> None:
    deltas: list[dict[str, Any]] = [{"reasoning": "a"}, {"content": "b"}, {"reasoning": "c"}, *CALLS, {"content": "d"}]
    stage.says(chat(*deltas))
    output = answered(stage, stream=True)["output"]
    kinds = ["reasoning", "message", "reasoning", "function_call", "function_call", "message"]
    assert [item["type"] for item in output] == kinds


@pytest.mark.parametrize("is_streamed", [False, True])
def test_signed_thoughts_of_anthropic_are_kept_as_they_were(stage: Stage, is_streamed: bool) -> None:
    hidden = {"type": "redacted_thinking", "data": "b3BhcXVl"}
    stage.says(
        streamed(THOUGHT, (hidden, []), use(USE_1)) if is_streamed else anthropic.message(THINKING, hidden, USE_1)
    )
    fields = {"model": "translated", "tools": [FUNCTION], "include": [THOUGHTS]}
    output = answered(stage, stream=is_streamed, **fields)["output"]
    result = {"type": "function_call_output", "call_id": "toolu_1", "output": "seen"}
    stage.says(anthropic.message())
    answered(stage, input=[{"role": "user", "content": "Hi"}, *output, result], **fields)
    assert stage.heard.json["messages"][1]["content"] == [THINKING, hidden, USE_1]


@pytest.mark.parametrize("kept", ["stile1:", "stile1:!!", "stile1:" + base64.b64encode(b'{"a":').decode(), "", None])
def test_thoughts_that_cannot_be_read_are_left_out(stage: Stage, kept: str | None) -> None:
    reasoning: dict[str, Any] = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": kept}
    yes = {"role": "assistant", "content": "Yes"}
    given = [reasoning, yes, {"role": "user", "content": "So?"}]
    assert heard(stage, model="thinks", input=given)["messages"][0] == yes


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_refusal_is_one(stage: Stage, is_streamed: bool) -> None:
    stage.says(chat({"refusal": "I can"}, {"refusal": "not"}) if is_streamed else whole_chat({"refusal": "I cannot"}))
    found = answered(stage, stream=is_streamed)
    assert found["status"] == "completed"
    assert found["output"][0]["content"] == [{"type": "refusal", "refusal": "I cannot"}]
    messages = heard(stage, input=[*found["output"], {"role": "user", "content": "So?"}])["messages"]
    assert messages[0] == {"role": "assistant", "content": None, "refusal": "I cannot"}


@pytest.mark.parametrize("model", ["chat", "translated"])
@pytest.mark.parametrize("why", CUT_OFF)
@pytest.mark.parametrize("is_streamed", [False, True])
def test_an_answer_that_is_cut_off_says_so_and_why(stage: Stage, model: str, why: str, is_streamed: bool) -> None:
    finish, stop = CUT_OFF[why]
    said: Any = chat({"content": "On and"}, finish=finish) if is_streamed else whole_chat(finish=finish)
    if model == "translated":
        said = [*anthropic.opening(), anthropic.text("On and"), *anthropic.closing(stop)]
        said = said if is_streamed else {**anthropic.message({"type": "text", "text": "On and"}), "stop_reason": stop}
    stage.says(said)
    found = answered(stage, model=model, stream=is_streamed)
    assert (found["status"], found["incomplete_details"]) == ("incomplete", {"reason": why})
    assert [item["status"] for item in found["output"]] == ["incomplete"]


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_call_that_is_cut_off_is_none_to_act_upon(stage: Stage, is_streamed: bool) -> None:
    deltas = call_deltas(("c1", "look", ['{"where":"here"}']), ("c2", "look", ['{"where":"th']))
    calls = [
        {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"where":"here"}'}},
        {"id": "c2", "type": "function", "function": {"name": "look", "arguments": '{"where":"th'}},
    ]
    stage.says(chat(*deltas, finish="length") if is_streamed else whole_chat({"tool_calls": calls}, finish="length"))
    output = answered(stage, stream=is_streamed, tools=[FUNCTION])["output"]
    assert [item["status"] for item in output] == ["completed", "incomplete"]


def test_free_text_that_is_cut_off_is_what_was_there_of_it(stage: Stage) -> None:
    stage.says(chat(*call_deltas(("c1", "patch", ['{"input":"*** Be'])), finish="length"))
    item = answered(stage, stream=True, tools=[{"type": "custom", "name": "patch"}])["output"][0]
    assert (item["type"], item["input"], item["status"]) == ("custom_tool_call", "*** Be", "incomplete")


def test_a_target_that_answers_all_at_once_is_streamed_all_the_same(stage: Stage) -> None:
    function = {"name": "look", "arguments": '{"where":"here"}'}
    stage.says(whole_chat({"content": "Hello", "tool_calls": [{"id": "c", "function": function}]}))
    message, call = answered(stage, stream=True, tools=[FUNCTION])["output"]
    assert (message["content"][0]["text"], call["name"], call["arguments"]) == ("Hello", "look", '{"where":"here"}')


def test_an_answer_that_says_nothing_is_whole_too(stage: Stage) -> None:
    stage.says(chat({"role": "assistant", "content": None}))
    assert answered(stage, stream=True)["output"] == []
    stage.says(whole_chat({"content": None}))
    assert answered(stage)["output"] == []


@pytest.mark.parametrize("is_streamed", [False, True])
def test_probabilities_that_were_asked_for_are_there(stage: Stage, is_streamed: bool) -> None:
    token = {"token": "Hi", "logprob": -0.5, "bytes": [72, 105]}
    told = {"content": [{**token, "top_logprobs": [token]}], "refusal": None}
    whole = whole_chat({"content": "Hi"})
    whole["choices"][0]["logprobs"] = told
    chunk = {"choices": [{"index": 0, "delta": {"content": "Hi"}, "logprobs": told, "finish_reason": None}]}
    stage.says([b"data: " + json.dumps(chunk).encode() + b"\n\n", *chat()] if is_streamed else whole)
    found = answered(stage, stream=is_streamed, include=["message.output_text.logprobs"], top_logprobs=1)
    assert (stage.heard.json["logprobs"], stage.heard.json["top_logprobs"]) == (True, 1)
    assert found["output"][0]["content"][0]["logprobs"] == [{**token, "top_logprobs": [token]}]


@pytest.mark.parametrize("is_streamed", [False, True])
def test_usage_of_anthropic_counts_what_was_cached(stage: Stage, is_streamed: bool) -> None:
    usage = {"input_tokens": 11, "output_tokens": 7, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 20}
    whole = {**anthropic.message(), "usage": usage}
    start = anthropic.event("message_start", message={**whole, "content": [], "stop_reason": None})
    end = anthropic.event("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage=usage)
    stage.says([start, *anthropic.events()[1:-2], end, anthropic.event("message_stop")] if is_streamed else whole)
    answer = asked(stage, model="translated", stream=is_streamed)
    found = assembly.of(events(answer.body)) if is_streamed else answer.json
    assert found["usage"]["input_tokens_details"] == {"cached_tokens": 100, "cache_write_tokens": 20}
    assert (found["usage"]["input_tokens"], found["usage"]["output_tokens"]) == (131, 7)
    line = stage.gateway.line_of(answer.headers["x-request-id"])
    assert (line["input_tokens"], line["output_tokens"], line["usage_estimated"]) == (131, 7, False)


# What is asked


def test_hints_are_named_in_streams_and_of_anthropic_too(stage: Stage) -> None:
    stage.says(anthropic.events())
    answer = asked(stage, model="translated", stream=True, store=True, metadata={"a": "b"}, safety_identifier="s")
    assert answer.headers["x-stile-dropped"] == "metadata, safety_identifier, store"
    assert stage.heard.json.keys() == {"model", "messages", "max_tokens", "stream"}


def test_a_name_that_is_left_out_cannot_become_a_header_of_its_own(stage: Stage) -> None:
    stage.says(whole_chat())
    answer = asked(stage, model="loose", **{"magic\r\nx-evil: 1": 1, "größe": 2})
    assert answer.headers["x-stile-dropped"] == "gr%C3%B6%C3%9Fe, magic%0D%0Ax-evil%3A%201"
    answer = asked(stage, tools=[{"type": "web_search\r\nx-evil: 1"}])
    assert answer.headers["x-stile-dropped"] == "tools.web_search%0D%0Ax-evil%3A%201"
    answer = asked(stage, model="loose", **{f"magic-{number}": 1 for number in range(900)})
    assert len(answer.headers["x-stile-dropped"]) <= 1024


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("previous_response_id", "resp_1"),
        ("conversation", "conv_1"),
        ("prompt", {"id": "p"}),
        ("background", True),
        ("tools", [{"type": "file_search", "vector_store_ids": []}]),
        ("tools", [{"type": "mcp", "server_label": "x"}]),
        ("tools", [{"type": "code_interpreter", "container": "auto"}]),
        ("tools", [{"type": "computer_use_preview"}]),
        ("input", [{"type": "item_reference", "id": "msg_1"}]),
        ("input", [{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}]),
        ("input", [{"role": "user", "content": [{"type": "input_image", "file_id": "file-1"}]}]),
    ],
)
@pytest.mark.parametrize("model", ["loose", "translated"])
def test_what_nobody_but_the_provider_has_is_never_just_left_out(
    stage: Stage, model: str, field: str, value: Any
) -> None:
    before = len(stage.provider.calls)
    answer = asked(stage, model=model, **{field: value})
    assert (answer.status, answer.error["code"]) == (400, "unsupported_parameter")
    assert answer.error["param"].startswith(field)
    assert len(stage.provider.calls) == before


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": []}, "input"),
        ({"input": ["Hi"]}, "input[0]"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": 5}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0].text"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id"),
        ({"input": [{"type": "function_call", "call_id": "c", "name": "l", "arguments": 5}]}, "input[0].arguments"),
        ({"tools": [{"type": "function", "name": 5}]}, "tools[0].name"),
        ({"reasoning": "high"}, "reasoning"),
        ({"include": "x"}, "include"),
        ({"max_output_tokens": "5"}, "max_output_tokens"),
    ],
)
@pytest.mark.parametrize("model", ["chat", "translated"])
def test_a_field_that_is_not_what_it_should_be_is_named_by_its_place(
    stage: Stage, model: str, fields: dict[str, Any], param: str
) -> None:
    stage.says(whole_chat() if model == "chat" else anthropic.message())
    before = len(stage.provider.calls)
    answer = asked(stage, model=model, **fields)
    assert (answer.status, answer.error["param"]) == (400, param)
    assert answer.error["code"] in ("invalid_value", "invalid_type")
    assert len(stage.provider.calls) == before


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_image", "image_url": "http://127.0.0.1:1/x.png"},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    ],
)
def test_media_that_anthropic_cannot_get_are_refused_and_never_lost(stage: Stage, part: dict[str, Any]) -> None:
    stage.says(anthropic.message())
    before = len(stage.provider.calls)
    text = {"type": "input_text", "text": "What is it?"}
    answer = asked(stage, model="translated", input=[{"role": "user", "content": [text, part]}])
    assert (answer.status, answer.error["type"]) == (400, "invalid_request_error")
    assert len(stage.provider.calls) == before


# What was said before


def spoken(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": [*parts]}


@pytest.mark.parametrize("message", [spoken(), spoken({"type": "output_text", "text": ""})])
def test_a_message_without_words_is_no_null(stage: Stage, message: dict[str, Any]) -> None:
    messages = heard(stage, input=[{"role": "user", "content": "Hi"}, message, {"role": "user", "content": "So?"}])[
        "messages"
    ]
    assert all(isinstance(message["content"], str) for message in messages)


def test_a_call_that_a_model_got_wrong_can_be_told_to_anthropic(stage: Stage) -> None:
    stage.says(anthropic.message())
    call = {"type": "function_call", "call_id": "c", "name": "look", "arguments": '{"where":"th'}
    result = {"type": "function_call_output", "call_id": "c", "output": "These arguments are no JSON."}
    answered(stage, model="translated", input=[{"role": "user", "content": "Hi"}, call, result], tools=[FUNCTION])
    use, told = (message["content"][0] for message in stage.heard.json["messages"][1:])
    assert (use["type"], use["id"], use["name"], type(use["input"])) == ("tool_use", "c", "look", dict)
    assert told["content"] == "These arguments are no JSON."


def test_a_refusal_is_told_to_anthropic_in_words(stage: Stage) -> None:
    stage.says(anthropic.message())
    refused = spoken({"type": "refusal", "refusal": "I cannot"})
    given = [{"role": "user", "content": "Hi"}, refused, {"role": "user", "content": "So?"}]
    answered(stage, model="translated", input=given)
    assert [message["role"] for message in stage.heard.json["messages"]] == ["user", "assistant", "user"]
    assert stage.heard.json["messages"][1]["content"] == [{"type": "text", "text": "I cannot"}]


def test_thoughts_of_a_turn_that_was_broken_off_are_not_another_turns(stage: Stage) -> None:
    stage.says(anthropic.message(THINKING, USE_1))
    fields = {"model": "translated", "tools": [FUNCTION], "include": [THOUGHTS]}
    reasoning = answered(stage, **fields)["output"][0]
    hi, so = {"role": "user", "content": "Hi"}, {"role": "user", "content": "So?"}
    stage.says(anthropic.message())
    answered(stage, input=[hi, reasoning, so, spoken({"type": "output_text", "text": "Yes"}), so], **fields)
    assert stage.heard.json["messages"][1]["content"] == [{"type": "text", "text": "Yes"}]


# Failures


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_providers_refusal_keeps_its_status(stage: Stage, sdk: openai.OpenAI, is_streamed: bool) -> None:
    stage.says({"error": {"message": "too fast", "type": "rate_limit_error", "code": "x"}}, 429, retry_after="7")
    with pytest.raises(openai.RateLimitError, match="too fast") as refused:
        sdk.responses.create(model="chat", input="Hi", stream=is_streamed)
    assert refused.value.response.headers["retry-after"] == "7"
    said = {"type": "error", "error": {"type": "overloaded_error", "message": "too busy"}}
    stage.says(said, 529)
    answer = asked(stage, model="translated", stream=is_streamed)
    assert answer.status in (503, 529)
    assert "too busy" in answer.error["message"]
    assert answer.error.keys() >= {"message", "type", "param", "code"}


def test_an_error_in_place_of_the_first_event_has_a_status(stage: Stage) -> None:
    stage.says([b'data: {"error": {"message": "slow down", "type": "rate_limit_error", "code": "rate_limit"}}\n\n'])
    answer = asked(stage, stream=True)
    assert (answer.status, answer.error["message"]) == (429, "slow down")
    stage.says([anthropic.event("error", error={"type": "overloaded_error", "message": "too busy"})])
    answer = asked(stage, model="translated", stream=True)
    assert answer.status >= 500
    assert "too busy" in answer.error["message"]


@pytest.mark.parametrize(
    ("model", "sent", "said"),
    [
        (
            "chat",
            [*chat({"content": "Hel"})[:1], b'data: {"error": {"message": "It broke.", "code": 500}}\n\n'],
            "It broke.",
        ),
        ("chat", [*chat({"content": "Hel"})[:1], b"data: <html>\n\n"], "not a chat"),
        ("chat", chat({"content": "Hel"})[:1], "broke off"),
        ("chat", [b"".join(chat({"content": "Hel"})[:1]) + b'data: {"choices"'], "broke off"),
        (
            "translated",
            [
                *anthropic.opening(),
                anthropic.text("Hel"),
                anthropic.event("error", error={"type": "api_error", "message": "It broke."}),
            ],
            "It broke.",
        ),
        ("translated", [*anthropic.opening(), anthropic.text("Hel")], "broke off"),
    ],
)
def test_a_failure_in_mid_stream_is_an_error_event_behind_all_that_was_said(
    stage: Stage, sdk: openai.OpenAI, model: str, sent: list[bytes], said: str
) -> None:
    stage.says(sent)
    answer = asked(stage, model=model, stream=True)
    found = events(answer.body)
    assert said in assembly.broken_off(found)["message"]
    assert found[-2]["delta"] == "Hel"
    assert found[-1].keys() == {"type", "code", "message", "param", "sequence_number"}
    line = stage.gateway.line_of(answer.headers["x-request-id"])
    assert line["error"] in ("upstream_broken", "upstream_error")
    stage.says(sent)
    seen = [event.to_dict() for event in sdk.responses.create(model=model, input="Hi", stream=True)]
    assert seen[-1]["type"] == "error"
    strict.check(seen[-1], ResponseStreamEvent)


def test_a_connection_that_breaks_is_an_error_event_too(stage: Stage) -> None:
    with steps.through(stage, PATH, {"model": "chat", "input": "Hi"}, chat({"content": "Hel"})[0]) as stream:
        stream.until(b'"Hel"')
        found = stream.break_off()
    assert assembly.broken_off(events(found))["code"] == "upstream_broken"
