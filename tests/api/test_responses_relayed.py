"""Relayed Responses in full: every kind of stream, what a provider keeps, every base, and both of OpenAI's clients."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types.responses import Response, ResponseItem
from tests import assembly, leaks, steps, strict
from tests.mocks import responses
from tests.mocks.responses import Shelf
from tests.stage import Stage, events

PATH = "/v1/responses"
FUNCTION: Any = {"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": False}
IMAGE = "data:image/png;base64,iVBORw0KGgo="
HELLO = responses.message("Grü", "ße, ", "世界", " 🎉")
STREAMS = {
    "text": responses.events(HELLO),
    "a refusal": responses.events(responses.refusal("I can", "not")),
    "tools": responses.events(
        responses.reasoning("Hm, ", "yes"),
        responses.message("Let me", " see"),
        responses.function_call("look", '{"a"', ":1}"),
        responses.function_call("look", '{"a":2}', id="fc_2", call_id="call_2"),
        responses.custom_tool_call("patch", "*** Be", "gin", call_id="call_3"),
    ),
    "a search": responses.events(responses.web_search("news"), HELLO),
    "an answer that is cut off": responses.events(
        responses.message("On and", status="incomplete"),
        status="incomplete",
        incomplete_details={"reason": "max_output_tokens"},
    ),
    "an answer that failed": responses.events(
        HELLO, status="failed", error={"code": "server_error", "message": "It broke."}
    ),
}


@pytest.fixture
def sdk(stage: Stage) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{stage.gateway.base}/v1", api_key=stage.gateway.key, max_retries=0) as client:
        yield client


def test_a_body_goes_up_byte_by_byte_but_for_the_models_name_and_headers_come_down_by_a_list(stage: Stage) -> None:
    said = b'{"id": "resp_1",  "odd": [1, {"x": null}], "usage": {"input_tokens": 3, "output_tokens": 4}}'
    stage.says(said, x_request_id="upstream-1", set_cookie="tracker=1", openai_processing_ms="7")
    body = (
        '{"input":[{"role": "user",  "content": "h\\u00e9 世界"}],"unknown":{"b": 1, "a": [1.0, 2e3]},'
        '"model":"relayed","store":true,"previous_response_id":"resp_0","temperature":1.0}'
    ).encode()
    answer = stage.ask(PATH, body)
    assert (answer.status, answer.body) == (200, said)
    assert stage.heard.path == PATH
    assert stage.heard.body == body.replace(b'"relayed"', b'"scripted"')
    assert stage.heard.headers["authorization"] == f"Bearer {leaks.PROVIDER_KEY}"
    assert answer.headers["openai-processing-ms"] == "7"
    assert "set-cookie" not in answer.headers
    assert answer.headers["x-request-id"] != "upstream-1"
    line = stage.gateway.line_of(answer.headers["x-request-id"])
    assert (line["input_tokens"], line["output_tokens"], line["usage_estimated"]) == (3, 4, False)


def test_the_sdk_gets_all_that_the_provider_says_and_the_provider_all_that_the_sdk_does(
    stage: Stage, sdk: openai.OpenAI
) -> None:
    call = responses.function_call("look", "{}")
    said = responses.whole(responses.reasoning("Hm"), HELLO, call, tools=[FUNCTION])
    stage.says(said)
    given: Any = [
        {"role": "developer", "content": "Be brief"},
        {"role": "user", "content": [{"type": "input_image", "image_url": IMAGE, "detail": "auto"}]},
        call.done,
        {"type": "function_call_output", "call_id": "call_1", "output": [{"type": "input_text", "text": "seen"}]},
    ]
    sent: dict[str, Any] = {
        "input": given,
        "instructions": "Be kind",
        "tools": [FUNCTION, {"type": "web_search"}, {"type": "custom", "name": "patch"}],
        "tool_choice": {"type": "function", "name": "look"},
        "reasoning": {"effort": "high", "summary": "auto"},
        "include": ["reasoning.encrypted_content"],
        "text": {"verbosity": "low"},
        "max_output_tokens": 99,
        "store": False,
        "metadata": {"a": "b"},
        "service_tier": "flex",
        "prompt_cache_key": "k",
    }
    answer = sdk.responses.create(model="relayed", **sent, extra_body={"unknown": {"deep": [1]}})
    assert stage.heard.json == {"model": "scripted", **sent, "unknown": {"deep": [1]}}
    assert answer.to_dict() == said
    strict.check(answer.to_dict(), Response)


@pytest.mark.parametrize("kind", STREAMS)
def test_a_stream_passes_event_by_event_and_its_usage_is_found(stage: Stage, kind: str) -> None:
    stage.says(STREAMS[kind])
    answer = stage.ask(PATH, {"model": "relayed", "input": "Hi", "stream": True})
    assert answer.body == b"".join(STREAMS[kind])
    assembly.of(events(answer.body))
    line = stage.gateway.line_of(answer.headers["x-request-id"])
    assert (line["input_tokens"], line["output_tokens"], line["usage_estimated"]) == (11, 7, False)
    assert stage.heard.json == {"model": "scripted", "input": "Hi", "stream": True}


def test_a_stream_passes_however_it_is_cut_and_whatever_its_events_are_called(stage: Stage) -> None:
    new = responses.event("response.dream.delta", {"sequence_number": 7, "delta": "世界", "logprobs": None})
    whole = b": hello\n\n" + b"".join([*STREAMS["text"], new]).replace(b"\n\nevent", b"\r\n\r\nevent")
    stage.says([whole[start : start + 5] for start in range(0, len(whole), 5)])
    assert stage.ask(PATH, {"model": "relayed", "input": "Hi", "stream": True}).body == whole


def test_a_providers_own_error_in_mid_stream_passes_as_it_is(stage: Stage) -> None:
    sent = [*STREAMS["text"][:5], responses.error("server_error", "It broke.", 5)]
    stage.says(sent)
    answer = stage.ask(PATH, {"model": "relayed", "input": "Hi", "stream": True})
    assert answer.body == b"".join(sent)
    assert assembly.broken_off(events(answer.body))["code"] == "server_error"


@pytest.mark.parametrize("last", [b": still there\n\n", b'event: x\ndata: {"half":'])
def test_a_stream_that_breaks_off_ends_with_an_error_that_follows_its_last_event(stage: Stage, last: bytes) -> None:
    with steps.through(stage, PATH, {"model": "relayed", "input": "Hi"}, *STREAMS["text"][:5]) as stream:
        stream.until(b'"Gr')
        stream.say(last)
        if last.endswith(b"\n\n"):
            stream.until(last)
        found = stream.break_off()
    assert assembly.broken_off(events(found))["code"] == "upstream_broken"


@pytest.mark.parametrize("streamed", [False, True])
def test_a_providers_refusal_passes_as_it_is(stage: Stage, sdk: openai.OpenAI, streamed: bool) -> None:
    said = {"message": "Unsupported value: 'x'.", "type": "invalid_request_error", "param": "reasoning.effort"}
    stage.says({"error": {**said, "code": "unsupported_value"}}, 400)
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.responses.create(model="relayed", input="Hi", stream=streamed)
    assert refused.value.body == {**said, "code": "unsupported_value"}
    stage.says({"error": {**said, "code": "rate_limit_exceeded"}}, 429, retry_after="7", x_should_retry="false")
    with pytest.raises(openai.RateLimitError) as slow:
        sdk.responses.create(model="relayed", input="Hi", stream=streamed)
    assert slow.value.code == "rate_limit_exceeded"
    assert slow.value.response.headers["retry-after"] == "7"
    assert slow.value.response.headers["x-should-retry"] == "false"


def test_an_answer_that_the_provider_keeps_is_shown_stopped_and_deleted(stage: Stage, sdk: openai.OpenAI) -> None:
    shelf = Shelf([[HELLO], [HELLO]])
    stage.provider.script = shelf.script
    first = sdk.responses.create(model="relayed", input="Hi")
    assert sdk.responses.retrieve(first.id, include=["reasoning.encrypted_content"]).to_dict() == first.to_dict()
    items = sdk.responses.input_items.list(first.id, order="asc", limit=5).data
    strict.check(items[0].to_dict(), ResponseItem)
    assert items[0].to_dict()["content"] == [{"type": "input_text", "text": "Hi"}]
    later = sdk.responses.create(model="relayed", input="Hi", background=True)
    assert later.status == "queued"
    assert sdk.responses.cancel(later.id).status == "cancelled"
    assert sdk.responses.retrieve(later.id).status == "cancelled"
    sdk.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError) as gone:
        sdk.responses.retrieve(first.id)
    assert gone.value.code == "response_not_found"
    one, two = f"{PATH}/{first.id}", f"{PATH}/{later.id}"
    assert shelf.asked == [
        ("POST", PATH),
        ("GET", f"{one}?include%5B%5D=reasoning.encrypted_content"),
        ("GET", f"{one}/input_items?limit=5&order=asc"),
        ("POST", PATH),
        ("POST", f"{two}/cancel"),
        ("GET", two),
        ("DELETE", one),
        ("GET", one),
    ]
    assert {call.headers["authorization"] for call in stage.provider.calls[-8:]} == {f"Bearer {leaks.PROVIDER_KEY}"}


def test_an_answer_that_is_kept_is_streamed_from_where_its_reader_was(stage: Stage, sdk: openai.OpenAI) -> None:
    stage.provider.script = Shelf([[HELLO]]).script
    first = sdk.responses.create(model="relayed", input="Hi")
    found = list(sdk.responses.retrieve(first.id, stream=True, starting_after=0))
    assert [event.sequence_number for event in found] == [1, 2]
    assert found[-1].type == "response.completed"


def test_why_an_answer_cannot_be_stopped_is_the_providers_to_say(stage: Stage, sdk: openai.OpenAI) -> None:
    stage.provider.script = Shelf([[HELLO]]).script
    first = sdk.responses.create(model="relayed", input="Hi")
    with pytest.raises(openai.BadRequestError, match="Cannot cancel a synchronous response"):
        sdk.responses.cancel(first.id)


@pytest.mark.parametrize("base", ["", "/v1", "/openai", "/openai/v1", "/openai/deployments/relayed"])
def test_it_is_there_below_every_base(stage: Stage, base: str) -> None:
    stage.says(STREAMS["text"])
    model = "relayed" if "deployments" not in base else "another"
    answer = stage.ask(f"{base}/responses?api-version=preview", {"model": model, "input": "Hi", "stream": True})
    assert answer.body == b"".join(STREAMS["text"])
    assert (stage.heard.path, stage.heard.json["model"]) == (PATH, "scripted")


def test_azures_own_client_calls(stage: Stage) -> None:
    stage.provider.script = Shelf([[HELLO]]).script
    azure = openai.AzureOpenAI(
        azure_endpoint=stage.gateway.base, api_key=stage.gateway.key, api_version="preview", max_retries=0
    )
    with azure:
        answer = azure.responses.create(model="relayed", input="Hi")
        assert answer.output_text == "Grüße, 世界 🎉"
        assert azure.responses.retrieve(answer.id).to_dict() == answer.to_dict()


@pytest.mark.parametrize("path", ["/responses", "/openai/responses", "/openai/v1/responses"])
def test_a_websocket_is_refused_below_every_base(stage: Stage, path: str) -> None:
    asks = {
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    answer = stage.gateway.ask("GET", path, headers=asks)
    assert (answer.status, answer.error["code"]) == (426, "websocket_not_supported")
    assert stage.gateway.ask("GET", path).status == 404
