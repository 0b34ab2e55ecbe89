"""OpenAI's Responses: relayed as they are, and by chat where the target only chats."""

import asyncio
import http.client
import json
from typing import Any

import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from tests import strict
from tests.mocks import agent, anthropic, provider
from tests.mocks.provider import Exchange
from tests.stage import Stage, call_deltas, chat, events, whole_chat

PATH = "/v1/responses"
FUNCTION = {"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": False}
IMAGE = "data:image/png;base64,iVBORw0KGgo="


def checked(body: bytes) -> list[dict[str, Any]]:
    """The events of a stream, each one of the type that it says, in the order that they are numbered."""
    found = events(body)
    for event in found:
        strict.check(event, ResponseStreamEvent)
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found


def answered(stage: Stage, **fields: Any) -> dict[str, Any]:
    return stage.answered(PATH, Response, {"model": "chat", "input": "Hi", **fields})


def heard(stage: Stage, **fields: Any) -> dict[str, Any]:
    return stage.chat_of(PATH, Response, {"model": "chat", "input": "Hi", **fields})


# Relayed


def test_a_relayed_call_goes_up_and_comes_down_as_it_is(stage: Stage) -> None:
    said = b'{"id": "resp_1",  "odd": [1, {"x": null}], "usage": {"input_tokens": 3, "output_tokens": 4}}'
    stage.says(said)
    body = '{"input": [{"role": "user", "content": "h\\u00e9"}], "model": "relayed", "unknown": {"deep": [1]}}'
    answer = stage.ask(PATH, body.encode())
    assert answer.body == said
    assert stage.heard.path == PATH
    assert stage.heard.json == {**json.loads(body), "model": "scripted"}
    assert b'"h\\u00e9"' in stage.heard.body
    line = stage.gateway.line_of(answer.headers["x-request-id"])
    assert (line["input_tokens"], line["output_tokens"], line["usage_estimated"]) == (3, 4, False)


def test_a_relayed_stream_passes_event_by_event_and_its_usage_is_found(stage: Stage) -> None:
    sent = list(agent._responses(["Hel", "lo"], None)[0])
    stage.says(sent)
    answer = stage.ask(PATH, {"model": "relayed", "input": "Hi", "stream": True})
    assert answer.body == b"".join(sent)
    line = stage.gateway.line_of(answer.headers["x-request-id"])
    assert (line["input_tokens"], line["output_tokens"], line["stream"]) == (11, 7, True)
    assert "stream_options" not in stage.heard.json


def test_the_sdk_streams_through_the_relay(stage: Stage) -> None:
    stage.says(list(agent._responses(["Hel", "lo"], None)[0]))
    with openai.OpenAI(base_url=f"{stage.gateway.base}/v1", api_key=stage.gateway.key, max_retries=0) as sdk:
        with sdk.responses.stream(model="relayed", input="Hi") as stream:
            texts = [event.delta for event in stream if event.type == "response.output_text.delta"]
        assert texts == ["Hel", "lo"]
        assert stream.get_final_response().output_text == "Hello"


def test_an_error_in_place_of_the_first_event_has_a_status(stage: Stage) -> None:
    stage.says([b'event: error\ndata: {"type":"error","code":"rate_limit_exceeded","message":"slow down"}\n\n'])
    answer = stage.ask(PATH, {"model": "relayed", "input": "Hi", "stream": True})
    assert (answer.status, answer.headers["content-type"]) == (429, "application/json")
    assert (answer.error["message"], answer.error["code"]) == ("slow down", "rate_limit_exceeded")


@pytest.mark.parametrize("model", ["relayed", "chat"])
def test_a_stream_that_breaks_off_ends_with_an_error_event(stage: Stage, model: str) -> None:
    whole = list(agent._responses(["Hel", "lo"], None)[0])[:4] if model == "relayed" else chat({"content": "Hel"})[:1]

    async def script(exchange: Exchange) -> None:
        await exchange.start("text/event-stream")
        for chunk in whole:
            await exchange.chunk(chunk)
        exchange.reset()

    stage.provider.script = script
    answer = stage.ask(PATH, {"model": model, "input": "Hi", "stream": True})
    found = checked(answer.body)
    assert found[-1]["type"] == "error"
    assert found[-1]["code"] == "upstream_broken"
    assert found[-2]["type"] == "response.output_text.delta"


def test_a_kept_answer_is_looked_up_deleted_and_cancelled(stage: Stage) -> None:
    stage.says({"id": "resp_1", "object": "response"})
    gateway = stage.gateway
    assert gateway.ask("GET", f"{PATH}/resp_1?include[]=usage").json["id"] == "resp_1"
    assert stage.heard.path == "/v1/responses/resp_1?include%5B%5D=usage"
    assert gateway.ask("DELETE", f"{PATH}/resp_1").status == 200
    assert gateway.ask("POST", f"{PATH}/resp_1/cancel").status == 200
    assert stage.heard.path == "/v1/responses/resp_1/cancel"
    assert gateway.ask("GET", f"{PATH}/resp_1/input_items").status == 200
    assert "authorization" in stage.heard.headers
    assert stage.heard.headers["x-own"] == "1"


def test_an_answer_that_nobody_keeps_is_a_404_and_an_odd_id_is_asked_nowhere(stage: Stage) -> None:
    stage.says({"error": {"message": "no such response", "type": "invalid_request_error"}}, 404)
    answer = stage.gateway.ask("GET", f"{PATH}/resp_none")
    assert (answer.status, answer.error["code"]) == (404, "response_not_found")
    asked = len(stage.provider.calls)
    assert stage.gateway.ask("GET", f"{PATH}/a%2F..%2Fmodels").status in (400, 404)
    assert stage.gateway.ask("GET", f"{PATH}/resp_1?x=%0d%0aHost:evil").status == 400
    assert all("\r" not in call.path for call in stage.provider.calls[asked:])


# By chat


def test_a_whole_answer(stage: Stage) -> None:
    stage.says(whole_chat())
    found = answered(stage, instructions="Be kind")
    assert found["model"] == "chat"
    assert found["instructions"] == "Be kind"
    assert [part["text"] for part in found["output"][0]["content"]] == ["Hello there"]
    assert found["usage"]["input_tokens_details"]["cached_tokens"] == 4
    assert found["usage"]["output_tokens_details"]["reasoning_tokens"] == 3
    assert stage.heard.json == {
        "model": "scripted",
        "messages": [{"role": "system", "content": "Be kind"}, {"role": "user", "content": "Hi"}],
    }


def test_a_stream_is_made_of_a_chats_events(stage: Stage) -> None:
    stage.says(chat({"role": "assistant", "content": ""}, {"content": "Hel"}, {"content": "lo"}))
    answer = stage.ask(PATH, {"model": "chat", "input": "Hi", "stream": True})
    found = checked(answer.body)
    assert [event["type"].removeprefix("response.") for event in found] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    done = found[-1]["response"]
    strict.check(done, Response)
    assert done["output"][0] == found[-2]["item"]
    assert done["output"][0]["content"][0]["text"] == "Hello" == found[6]["text"]
    assert {event["item_id"] for event in found if "item_id" in event} == {done["output"][0]["id"]}
    assert done["usage"]["total_tokens"] == 18
    assert stage.heard.json["stream_options"] == {"include_usage": True}


def test_a_stream_is_there_before_the_target_has_said_all(stage: Stage) -> None:
    opened = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        first, *rest = chat({"content": "Hel"}, {"content": "lo"})
        await exchange.start("text/event-stream")
        await exchange.chunk(first)
        await asyncio.wait_for(opened.wait(), provider.SETTLED)
        for chunk in rest:
            await exchange.chunk(chunk)
        await exchange.end()

    stage.provider.script = script
    connection = http.client.HTTPConnection(*stage.gateway.address, timeout=provider.SETTLED)
    body = json.dumps({"model": "chat", "input": "Hi", "stream": True})
    connection.request("POST", PATH, body, {"authorization": f"Bearer {stage.gateway.key}"})
    response = connection.getresponse()
    early = b""
    while b"output_text.delta" not in early:
        early += response.read1()
    assert b'"delta":"Hel"' in early
    assert stage.provider.loop is not None
    stage.provider.loop.call_soon_threadsafe(opened.set)
    checked(early + response.read())
    connection.close()


def test_functions_go_round_also_two_at_once(stage: Stage) -> None:
    deltas = call_deltas(("call_1", "look", ['{"a"', ":1}"]), ("call_2", "look", ['{"a":2}']))
    stage.says(chat({"content": "Let me see"}, *deltas, finish="tool_calls"))
    body = {"model": "chat", "input": "Hi", "stream": True, "tools": [FUNCTION], "tool_choice": "required"}
    found = checked(stage.ask(PATH, body).body)
    assert stage.heard.json["tools"] == [
        {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}, "strict": False}}
    ]
    assert stage.heard.json["tool_choice"] == "required"
    output = found[-1]["response"]["output"]
    assert [(item["type"], item.get("arguments")) for item in output] == [
        ("message", None),
        ("function_call", '{"a":1}'),
        ("function_call", '{"a":2}'),
    ]
    deltas_of = [event for event in found if event["type"] == "response.function_call_arguments.delta"]
    assert "".join(event["delta"] for event in deltas_of if event["item_id"] == output[1]["id"]) == '{"a":1}'
    results = [
        {"type": "function_call_output", "call_id": item["call_id"], "output": f"seen {item['arguments']}"}
        for item in output[1:]
    ]
    sent = heard(stage, input=[{"role": "user", "content": "Hi"}, *output, *results], tools=[FUNCTION])
    assert [(message["role"], message.get("content")) for message in sent["messages"]] == [
        ("user", "Hi"),
        ("assistant", "Let me see"),
        ("tool", 'seen {"a":1}'),
        ("tool", 'seen {"a":2}'),
    ]
    assert [call["id"] for call in sent["messages"][1]["tool_calls"]] == ["call_1", "call_2"]


def test_an_outputs_media_are_shown_behind_it(stage: Stage) -> None:
    call = {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"}
    parts = [{"type": "input_text", "text": "here"}, {"type": "input_image", "image_url": IMAGE}]
    output = {"type": "function_call_output", "call_id": "c", "output": parts}
    after = {"role": "user", "content": "And?"}
    messages = heard(stage, input=[call, output, after])["messages"]
    image = {"type": "image_url", "image_url": {"url": IMAGE}}
    assert messages[1:] == [
        {"role": "tool", "tool_call_id": "c", "content": "here"},
        {"role": "user", "content": [image]},
        {"role": "user", "content": "And?"},
    ]


def test_custom_tools_and_namespaces_come_back_as_they_were(stage: Stage) -> None:
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: /.*/"}
    tools = [
        {"type": "custom", "name": "patch", "description": "Change a file", "format": grammar},
        {"type": "namespace", "name": "mcp__files", "description": "", "tools": [{**FUNCTION, "name": "read"}]},
        {"type": "web_search", "external_web_access": False},
    ]
    calls = (("c1", "patch", ['{"input": "*** Be', 'gin"}']), ("c2", "mcp__files__read", ["{}"]))
    stage.says(chat(*call_deltas(*calls), finish="tool_calls"))
    answer = stage.ask(PATH, {"model": "chat", "input": "Hi", "stream": True, "tools": tools})
    assert answer.headers["x-stile-dropped"] == "tools.web_search"
    custom, function = checked(answer.body)[-1]["response"]["output"]
    assert (custom["type"], custom["name"], custom["input"]) == ("custom_tool_call", "patch", "*** Begin")
    assert (function["name"], function["namespace"]) == ("read", "mcp__files")
    asked = stage.heard.json["tools"]
    assert [tool["function"]["name"] for tool in asked] == ["patch", "mcp__files__read"]
    assert "start: /.*/" in asked[0]["function"]["description"]
    outputs = [
        {"type": "custom_tool_call_output", "call_id": "c1", "output": "done"},
        {"type": "function_call_output", "call_id": "c2", "output": "text"},
    ]
    message = heard(stage, input=[custom, function, *outputs], tools=tools)["messages"][0]
    assert [call["function"]["name"] for call in message["tool_calls"]] == ["patch", "mcp__files__read"]
    assert json.loads(message["tool_calls"][0]["function"]["arguments"]) == {"input": "*** Begin"}


def test_long_names_of_namespaces_fit_a_chat(stage: Stage) -> None:
    space = {"type": "namespace", "name": "n" * 50, "description": "", "tools": [{**FUNCTION, "name": "t" * 50}]}
    name = heard(stage, tools=[space])["tools"][0]["function"]["name"]
    assert len(name) == 64
    stage.says(whole_chat({"tool_calls": [{"id": "c", "type": "function", "function": {"name": name}}]}))
    item = answered(stage, tools=[space])["output"][0]
    assert (item["namespace"], item["name"]) == ("n" * 50, "t" * 50)


def test_thoughts_are_a_reasoning_item_and_come_back_with_it(stage: Stage) -> None:
    stage.says(chat({"reasoning_content": "Hm, "}, {"reasoning_content": "yes"}, {"content": "Yes"}))
    include = ["reasoning.encrypted_content"]
    body = {"model": "thinks", "input": "Hi", "stream": True, "include": include}
    reasoning, message = checked(stage.ask(PATH, body).body)[-1]["response"]["output"]
    assert reasoning["summary"] == [{"type": "summary_text", "text": "Hm, yes"}]
    conversation = [reasoning, message, {"role": "user", "content": "So?"}]
    sent = heard(stage, model="thinks", input=conversation)["messages"][0]
    assert sent == {"role": "assistant", "content": "Yes", "reasoning_content": "Hm, yes"}
    assert heard(stage, input=conversation)["messages"][0] == {"role": "assistant", "content": "Yes"}
    foreign = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA"}
    assert heard(stage, model="thinks", input=[foreign, *conversation[1:]])["messages"][0].keys() == {"role", "content"}


def test_signed_thoughts_of_anthropic_go_round(stage: Stage) -> None:
    thinking = {"type": "thinking", "thinking": "Let me look", "signature": "c2lnbmVk"}
    stage.says(anthropic.message(thinking, anthropic.TOOL_USE))
    body = {"model": "translated", "input": "Hi", "tools": [FUNCTION], "include": ["reasoning.encrypted_content"]}
    first = stage.ask(PATH, body)
    assert first.status == 200, first.body
    strict.check(first.json, Response)
    output = first.json["output"]
    assert [item["type"] for item in output] == ["reasoning", "function_call"]
    result = {"type": "function_call_output", "call_id": output[1]["call_id"], "output": "seen"}
    stage.says(anthropic.message())
    again = stage.ask(PATH, {**body, "input": [{"role": "user", "content": "Hi"}, *output, result]})
    assert again.status == 200, again.body
    blocks = stage.heard.json["messages"][1]["content"]
    assert blocks[0] == thinking
    assert blocks[1]["type"] == "tool_use"


def test_a_refusal_and_an_answer_that_is_cut_off(stage: Stage) -> None:
    stage.says(chat({"refusal": "I can"}, {"refusal": "not"}))
    found = checked(stage.ask(PATH, {"model": "chat", "input": "Hi", "stream": True}).body)
    assert found[-1]["response"]["output"][0]["content"] == [{"type": "refusal", "refusal": "I cannot"}]
    stage.says(chat({"content": "On and"}, finish="length"))
    last = checked(stage.ask(PATH, {"model": "chat", "input": "Hi", "stream": True}).body)[-1]
    assert last["type"] == "response.incomplete"
    assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}


def test_what_is_asked_in_other_words_is_asked_in_a_chats(stage: Stage) -> None:
    schema = {"type": "json_schema", "name": "a", "schema": {"type": "object"}, "strict": True}
    sent = heard(
        stage,
        input=[
            {"role": "developer", "content": "Be brief"},
            {"role": "user", "content": [{"type": "input_image", "image_url": IMAGE, "detail": "low"}]},
            {"role": "user", "content": [{"type": "input_file", "filename": "a.pdf", "file_data": "data:x"}]},
        ],
        max_output_tokens=99,
        temperature=0.5,
        text={"format": schema, "verbosity": "low"},
        reasoning={"effort": "low", "summary": "auto"},
    )
    assert sent == {
        "model": "scripted",
        "messages": [
            {"role": "system", "content": "Be brief"},
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": IMAGE, "detail": "low"}}]},
            {"role": "user", "content": [{"type": "file", "file": {"file_data": "data:x", "filename": "a.pdf"}}]},
        ],
        "max_tokens": 99,
        "temperature": 0.5,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "a", "schema": {"type": "object"}, "strict": True},
        },
        "verbosity": "low",
        "reasoning_effort": "low",
    }


def test_hints_are_left_out_and_named(stage: Stage) -> None:
    stage.says(whole_chat())
    hints = {"store": True, "prompt_cache_key": "k", "user": "u", "client_metadata": {"a": "b"}, "service_tier": "flex"}
    answer = stage.ask(PATH, {"model": "chat", "input": "Hi", **hints})
    assert answer.headers["x-stile-dropped"] == "client_metadata, prompt_cache_key, service_tier, store, user"
    assert stage.heard.json.keys() == {"model", "messages"}
    assert "x-stile-dropped" not in stage.ask(PATH, {"model": "chat", "input": "Hi", "store": False}).headers


def test_unknown_parameters_are_refused_by_name_or_dropped_where_the_configuration_says_so(stage: Stage) -> None:
    stage.says(whole_chat())
    asked = len(stage.provider.calls)
    answer = stage.ask(PATH, {"model": "chat", "input": "Hi", "magic": 1, "alchemy": 2})
    assert (answer.status, answer.error["code"], answer.error["param"]) == (400, "unsupported_parameter", "alchemy")
    assert "alchemy, magic" in answer.error["message"]
    assert len(stage.provider.calls) == asked
    answer = stage.ask(PATH, {"model": "loose", "input": "Hi", "magic": 1})
    assert (answer.status, answer.headers["x-stile-dropped"]) == (200, "magic")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("previous_response_id", "resp_1"),
        ("conversation", "conv_1"),
        ("prompt", {"id": "p"}),
        ("background", True),
        ("tools", [{"type": "file_search", "vector_store_ids": []}]),
        ("input", [{"type": "item_reference", "id": "msg_1"}]),
        ("input", [{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}]),
    ],
)
def test_what_no_chat_can_do_is_refused_before_anything_is_sent(stage: Stage, field: str, value: Any) -> None:
    asked = len(stage.provider.calls)
    answer = stage.ask(PATH, {"model": "chat", "input": "Hi", field: value})
    assert (answer.status, answer.error["code"]) == (400, "unsupported_parameter")
    assert answer.error["param"].startswith(field)
    assert len(stage.provider.calls) == asked


def test_what_one_target_cannot_do_another_one_does(stage: Stage) -> None:
    stage.says({"id": "resp_2", "object": "response", "output": []})
    answer = stage.ask(PATH, {"model": "two", "input": "Hi", "previous_response_id": "resp_1"})
    assert (answer.status, answer.headers["x-stile-attempts"]) == (200, "2")
    assert stage.heard.json["previous_response_id"] == "resp_1"


def test_a_providers_refusal_keeps_its_status(stage: Stage) -> None:
    stage.says({"error": {"message": "too fast", "type": "rate_limit_error", "code": "x"}}, 429, retry_after="7")
    answer = stage.ask(PATH, {"model": "chat", "input": "Hi", "stream": True})
    assert (answer.status, answer.error["message"], answer.headers["retry-after"]) == (429, "too fast", "7")


# Cursor


def test_the_body_of_a_response_sent_as_a_chat_is_answered_as_a_chat(stage: Stage) -> None:
    sent = chat({"role": "assistant", "content": "Hel"}, *call_deltas(("c", "look", ["{}"])), finish="tool_calls")
    stage.says(sent)
    body = {
        "model": "chat",
        "input": [
            {"role": "system", "content": "Be brief"},
            {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
            {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "seen"},
        ],
        "tools": [FUNCTION, {"type": "function", "function": {"name": "old"}}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "reasoning": {"effort": "high", "summary": "auto"},
        "text": {"verbosity": "medium"},
        "metadata": {"a": "b"},
        "seed": 3,
    }
    answer = stage.ask("/v1/chat/completions", body)
    assert answer.body == b"".join(sent)
    asked = stage.heard.json
    assert [message["role"] for message in asked["messages"]] == ["system", "user", "assistant", "tool"]
    assert [tool["function"]["name"] for tool in asked["tools"]] == ["look", "old"]
    assert (asked["seed"], asked["reasoning_effort"], asked["stream_options"]) == (3, "high", {"include_usage": True})
    assert asked.keys() & {"input", "store", "include", "text", "reasoning", "metadata"} == set()
