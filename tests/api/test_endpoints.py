"""OpenAI's other endpoints, by relay: what goes up is what was sent, what comes down is what the provider said."""

import asyncio
import http.client
import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from tests.mocks import provider
from tests.mocks.provider import Exchange
from tests.stage import Stage, chat, whole_chat

SOUND = bytes(range(256)) * 40
JSON_CALLS: list[tuple[str, dict[str, Any]]] = [
    ("/completions", {"prompt": "Once", "max_tokens": 5}),
    ("/moderations", {"input": "text"}),
    ("/images/generations", {"prompt": "a cat", "n": 1}),
    ("/rerank", {"query": "q", "documents": ["a", "b"]}),
    ("/embeddings", {"input": "text", "encoding_format": "base64"}),
]


@pytest.fixture
def sdk(stage: Stage) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{stage.gateway.base}/v1", api_key=stage.gateway.key, max_retries=0) as client:
        yield client


@pytest.mark.parametrize(("path", "fields"), JSON_CALLS)
@pytest.mark.parametrize("base", ["/v1", "", "/openai/v1", "/openai"])
def test_json_passes_as_it_is_below_every_base(stage: Stage, path: str, fields: dict[str, Any], base: str) -> None:
    said = b'{"id": "x",   "results": [{"score": 0.5}], "usage": {"prompt_tokens": 3, "total_tokens": 3}}'
    stage.says(said)
    answer = stage.ask(f"{base}{path}", {"model": "chat", **fields, "unknown": [1]})
    assert (answer.status, answer.body) == (200, said)
    assert stage.heard.path == f"/v1{path}"
    assert stage.heard.json == {"model": "scripted", **fields, "unknown": [1]}
    line = stage.gateway.line_of(answer.headers["x-request-id"])
    assert (line["input_tokens"], line["usage_estimated"]) == (3, False)


@pytest.mark.parametrize(("path", "fields"), [*JSON_CALLS, ("/chat/completions", {"messages": [{"role": "user"}]})])
def test_azures_paths_name_the_model(stage: Stage, path: str, fields: dict[str, Any]) -> None:
    stage.says({"ok": True})
    answer = stage.ask(f"/openai/deployments/chat{path}?api-version=2026-01-01", {**fields, "model": "other"})
    assert (answer.status, stage.heard.path) == (200, f"/v1{path}")
    slashed = stage.ask(f"/openai/deployments/a/b{path}?api-version=2026-01-01", fields)
    assert (slashed.status, slashed.error["code"]) == (404, "model_not_found")
    assert stage.heard.json["model"] == "scripted"


def test_azures_own_client_calls(stage: Stage) -> None:
    stage.says(whole_chat())
    azure = openai.AzureOpenAI(
        azure_endpoint=stage.gateway.base, api_key=stage.gateway.key, api_version="2026-01-01", max_retries=0
    )
    with azure:
        answer = azure.chat.completions.create(model="chat", messages=[{"role": "user", "content": "Hi"}])
        assert answer.choices[0].message.content == "Hello there"
        stage.says({"text": "heard", "usage": {"type": "duration", "seconds": 1}})
        assert azure.audio.transcriptions.create(model="chat", file=("a.wav", SOUND)).text == "heard"
    assert b'name="model"\r\n\r\nscripted\r\n' in stage.heard.body


def test_a_form_passes_as_it_is_but_for_the_models_name(stage: Stage, sdk: openai.OpenAI) -> None:
    stage.says(
        {"text": "heard", "usage": {"type": "tokens", "input_tokens": 14, "output_tokens": 3, "total_tokens": 17}}
    )
    fields = {"model": "chat", "language": "en", "timestamp_granularities[]": ["word", "segment"], "unknown": "x"}
    request = httpx.Request("POST", stage.gateway.base, data=fields, files={"file": ("a.wav", SOUND, "audio/wav")})
    kind = request.headers["content-type"]
    answer = stage.ask("/v1/audio/transcriptions", request.read(), content_type=kind)
    assert answer.json["text"] == "heard"
    model = b'name="model"\r\n\r\n%b\r\n'
    assert stage.heard.body == request.read().replace(model % b"chat", model % b"scripted")
    assert stage.heard.headers["content-type"] == kind
    line = stage.gateway.line_of(answer.headers["x-request-id"])
    assert (line["path"], line["input_tokens"], line["output_tokens"]) == ("/v1/audio/transcriptions", 14, 3)
    made = sdk.audio.transcriptions.create(model="chat", file=("a.wav", SOUND), timestamp_granularities=["word"])
    assert made.text == "heard"


def test_texts_of_speech_in_other_forms(stage: Stage, sdk: openai.OpenAI) -> None:
    stage.says(b"1\n00:00 --> 00:01\nheard\n", content_type="text/plain")
    text = sdk.audio.transcriptions.create(model="chat", file=("a.wav", SOUND), response_format="srt")
    assert "heard" in str(text)
    assert stage.heard.headers["accept"] == "*/*"
    stage.says({"text": "translated"})
    assert sdk.audio.translations.create(model="chat", file=("a.wav", SOUND)).text == "translated"
    assert stage.heard.path == "/v1/audio/translations"


def test_a_streamed_transcription(stage: Stage, sdk: openai.OpenAI) -> None:
    usage = {"type": "tokens", "input_tokens": 14, "output_tokens": 3, "total_tokens": 17}
    sent = [
        {"type": "transcript.text.delta", "delta": "heard"},
        {"type": "transcript.text.done", "text": "heard", "usage": usage},
    ]
    stage.says([b"data: " + json.dumps(event).encode() + b"\n\n" for event in sent])
    stream = sdk.audio.transcriptions.create(model="chat", file=("a.wav", SOUND), stream=True)
    assert [event.type for event in stream] == ["transcript.text.delta", "transcript.text.done"]


def test_pictures_of_pictures(stage: Stage, sdk: openai.OpenAI) -> None:
    stage.says({"created": 1, "data": [{"b64_json": "aGk="}]})
    answer = sdk.images.edit(model="chat", image=[("a.png", SOUND), ("b.png", SOUND)], prompt="brighter")
    assert answer.data is not None
    assert stage.heard.path == "/v1/images/edits"
    assert stage.heard.body.count(SOUND) == 2


def test_speech_streams_through_before_all_of_it_is_made(stage: Stage) -> None:
    opened = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.start("audio/mpeg")
        await exchange.chunk(SOUND[:1000])
        await asyncio.wait_for(opened.wait(), provider.SETTLED)
        await exchange.chunk(SOUND[1000:])
        await exchange.end()

    stage.provider.script = script
    connection = http.client.HTTPConnection(*stage.gateway.address, timeout=provider.SETTLED)
    body = json.dumps({"model": "chat", "input": "Hello", "voice": "alloy"})
    connection.request("POST", "/v1/audio/speech", body, {"authorization": f"Bearer {stage.gateway.key}"})
    response = connection.getresponse()
    assert response.getheader("content-type") == "audio/mpeg"
    early = response.read1()
    assert early == SOUND[: len(early)]
    assert stage.provider.loop is not None
    stage.provider.loop.call_soon_threadsafe(opened.set)
    assert early + response.read() == SOUND
    connection.close()


def test_speech_that_breaks_off_is_no_whole_answer(stage: Stage) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.start("audio/mpeg")
        await exchange.chunk(SOUND[:1000])
        await asyncio.sleep(0)
        exchange.reset()

    stage.provider.script = script
    connection = http.client.HTTPConnection(*stage.gateway.address, timeout=provider.SETTLED)
    body = json.dumps({"model": "chat", "input": "Hello", "voice": "alloy"})
    connection.request("POST", "/v1/audio/speech", body, {"authorization": f"Bearer {stage.gateway.key}"})
    response = connection.getresponse()
    if response.status == 200:  # the break may be seen before anything is out
        with pytest.raises(http.client.IncompleteRead):
            response.read()
    else:
        assert response.status == 502
    connection.close()


def test_a_streamed_completion_asks_for_usage_and_hides_it(stage: Stage) -> None:
    sent = chat({"content": "x"})
    stage.says(sent)
    answer = stage.ask("/v1/completions", {"model": "chat", "prompt": "Once", "stream": True})
    assert answer.body == b"".join([*sent[:-2], sent[-1]])
    assert stage.heard.json["stream_options"] == {"include_usage": True}
    assert stage.gateway.line_of(answer.headers["x-request-id"])["output_tokens"] == 7


def test_what_a_target_has_not_is_refused_before_anything_is_sent(stage: Stage) -> None:
    asked = len(stage.provider.calls)
    for path, fields in [*JSON_CALLS[:4], ("/audio/speech", {"input": "x", "voice": "y"})]:
        answer = stage.ask(f"/v1{path}", {"model": "claude", **fields})
        assert (answer.status, answer.error["code"]) == (400, "unsupported_operation")
    assert len(stage.provider.calls) == asked


@pytest.mark.parametrize(
    ("path", "missing"),
    [
        ("/completions", "prompt"),
        ("/moderations", "input"),
        ("/images/generations", "prompt"),
        ("/rerank", "query"),
        ("/audio/speech", "input"),
        ("/responses", "model"),
    ],
)
def test_what_an_endpoint_needs_is_named(stage: Stage, path: str, missing: str) -> None:
    answer = stage.ask(f"/v1{path}", {} if missing == "model" else {"model": "chat"})
    assert (answer.status, answer.error["code"], answer.error["param"]) == (400, "missing_required_parameter", missing)


def test_a_form_without_a_model_or_with_two_is_refused(stage: Stage) -> None:
    part = '--x\r\nContent-Disposition: form-data; name="{}"\r\n\r\n{}\r\n'
    kind = {"content_type": "multipart/form-data; boundary=x"}
    for parts, code in (
        (part.format("language", "en"), "missing_required_parameter"),
        (part.format("model", "chat") + part.format("model", "claude"), "invalid_form"),
        (part.format("model", "chat") + part.format("api_base", "http://evil"), "unsupported_parameter"),
    ):
        answer = stage.ask("/v1/audio/transcriptions", f"{parts}--x--\r\n".encode(), **kind)
        assert (answer.status, answer.error["code"]) == (400, code)


def test_a_form_falls_back_like_any_call(stage: Stage) -> None:
    stage.says_in_turn((500, {"error": {"message": "down"}}), (200, {"text": "heard"}))
    body = b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\ntwo\r\n--x--\r\n'
    answer = stage.ask("/v1/audio/transcriptions", body, content_type="multipart/form-data; boundary=x")
    assert (answer.status, answer.headers["x-stile-attempts"]) == (200, "2")


def test_a_keys_models_hold_for_every_endpoint(stage: Stage) -> None:
    answer = stage.gateway.ask("POST", "/api/keys", {"name": "echo", "models": ["echo"]})
    assert answer.status == 201, answer.body
    made = answer.json["key"]
    for path, fields in [*JSON_CALLS, ("/responses", {"input": "Hi"}), ("/messages", {"messages": [{"role": "user"}]})]:
        answer = stage.gateway.ask("POST", f"/v1{path}", {"model": "chat", **fields}, key=made)
        assert answer.status == 403
    form = b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nchat\r\n--x--\r\n'
    kind = {"content-type": "multipart/form-data; boundary=x"}
    assert stage.gateway.ask("POST", "/v1/audio/transcriptions", form, key=made, headers=kind).status == 403
    asked = len(stage.provider.calls)
    assert stage.gateway.ask("GET", "/v1/responses/resp_1", key=made).status == 404
    assert len(stage.provider.calls) == asked


def test_the_address_itself_greets(stage: Stage) -> None:
    assert stage.gateway.ask("GET", "/", key=None).json["name"] == "stile"
    head = stage.gateway.ask("HEAD", "/", key=None)
    assert (head.status, head.body) == (200, b"")


@pytest.mark.parametrize("path", ["/v1/nothing", "/nothing", "/openai/v1/nothing", "/openai/deployments/x/nothing"])
def test_an_unknown_path_is_a_404_in_the_envelope(stage: Stage, path: str) -> None:
    answer = stage.gateway.ask("POST", path, {})
    assert (answer.status, answer.error["code"]) == (404, "unknown_url")
    for below in ("/v1/messages/nothing", "/messages/nothing", "/openai/v1/messages/nothing"):
        assert stage.gateway.ask("POST", below, {}).json["error"]["type"] == "not_found_error"
