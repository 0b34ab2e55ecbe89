"""The other endpoints where things go wrong or odd: forms for two readers, sound that nobody waits for, refusals in
answers that are no JSON, and pages confined to origins."""

import http.client
import json
import threading
from pathlib import Path

import openai
import pytest
from tests import program
from tests.mocks import provider
from tests.mocks.provider import Exchange
from tests.stage import Stage

SPEECH = {"model": "chat", "input": "Hello", "voice": "alloy"}
FORM = "multipart/form-data; boundary=L"
TWO = (
    b'--L\r\nContent-Disposition: form-data; x-name="junk"; name="model"\r\n\r\nevil\r\n'
    b'--L\r\nContent-Disposition: form-data; name="model"\r\n\r\nchat\r\n--L--\r\n'
)
FILE = b'--L\r\nContent-Disposition: form-data; name="%b"; filename="a"\r\n\r\nevil\r\n--L--\r\n'


@pytest.mark.parametrize(
    ("body", "code"),
    [(TWO, "invalid_form"), (FILE % b"model", "invalid_type"), (FILE % b"api_base", "unsupported_parameter")],
)
@pytest.mark.parametrize("base", ["/v1", "/openai/deployments/chat"])
def test_a_form_that_hides_a_field_never_goes_up(stage: Stage, body: bytes, code: str, base: str) -> None:
    asked = len(stage.provider.calls)
    answer = stage.ask(f"{base}/audio/transcriptions", body, content_type=FORM)
    assert (answer.status, answer.error["code"]) == (400, code)
    assert len(stage.provider.calls) == asked


def test_a_keys_models_hold_where_the_path_names_the_model(stage: Stage) -> None:
    key = stage.gateway.ask("POST", "/api/keys", {"name": "echo only", "models": ["echo"]}).json["key"]
    asked = len(stage.provider.calls)
    form = b'--L\r\nContent-Disposition: form-data; name="model"\r\n\r\necho\r\n--L--\r\n'
    calls = [
        ("chat/completions", {"model": "echo", "messages": [{"role": "user", "content": "Hi"}]}, {}),
        ("audio/speech", {**SPEECH, "model": "echo"}, {}),
        ("audio/transcriptions", form, {"content-type": FORM}),
    ]
    for path, body, headers in calls:
        answer = stage.gateway.ask("POST", f"/openai/deployments/chat/{path}", body, key=key, headers=headers)
        assert (answer.status, answer.error["code"]) == (403, "model_not_allowed")
    assert len(stage.provider.calls) == asked


def test_azures_own_client_reaches_every_endpoint(stage: Stage) -> None:
    azure = openai.AzureOpenAI(
        azure_endpoint=stage.gateway.base, api_key=stage.gateway.key, api_version="2026-01-01", max_retries=0
    )
    with azure:
        stage.says({"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}]})
        assert azure.embeddings.create(model="chat", input="x", encoding_format="float").data[0].embedding == [0.5]
        stage.says({"created": 1, "data": [{"b64_json": "aGk="}]})
        assert azure.images.generate(model="chat", prompt="a cat").data is not None
        stage.says(b"sound", content_type="audio/mpeg")
        assert azure.audio.speech.create(model="chat", input="x", voice="alloy").content == b"sound"
    assert stage.heard.path == "/v1/audio/speech"
    assert stage.heard.json["model"] == "scripted"
    assert "api-version" not in stage.heard.path


def test_a_provider_stops_to_make_sound_for_a_client_that_has_gone(stage: Stage) -> None:
    gone = threading.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.start("audio/mpeg")
        await exchange.chunk(b"sound")
        await exchange.hung_up()
        gone.set()

    stage.provider.script = script
    connection = http.client.HTTPConnection(*stage.gateway.address, timeout=provider.SETTLED)
    connection.request("POST", "/v1/audio/speech", json.dumps(SPEECH), {"authorization": f"Bearer {stage.gateway.key}"})
    response = connection.getresponse()
    assert response.read1() == b"sound"
    request_id = response.getheader("x-request-id")
    response.close()
    connection.close()
    line = stage.gateway.line_of(str(request_id))
    assert (line["status"], line["error"]) == (499, "client_gone")
    assert gone.wait(provider.SETTLED)


def test_sound_that_was_refused_is_told_in_the_envelope(stage: Stage) -> None:
    stage.says(b"<html>down</html>", 503, content_type="text/html")
    answer = stage.ask("/v1/audio/speech", SPEECH)
    assert (answer.status, answer.headers["content-type"]) == (503, "application/json")
    assert "down" in answer.error["message"]


def test_what_a_fallback_cannot_do_hides_no_failure_of_sound(stage: Stage) -> None:
    stage.says({"error": {"message": "no voice today", "type": "server_error", "param": None, "code": None}}, 500)
    answer = stage.ask("/v1/audio/speech", {**SPEECH, "model": "two"})
    assert (answer.status, answer.error["message"]) == (500, "no voice today")


def test_sound_as_events_passes_as_it_came(stage: Stage) -> None:
    sent = [
        b'data: {"type": "speech.audio.delta", "audio": "AAAA"}\n\n',
        b'data: {"type": "speech.audio.done", "usage": {"input_tokens": 14, "output_tokens": 3}}\n\n',
    ]
    stage.says(sent)
    answer = stage.ask("/v1/audio/speech", {**SPEECH, "stream_format": "sse"})
    assert (answer.body, answer.headers["content-type"]) == (b"".join(sent), "text/event-stream")
    line = stage.gateway.line_of(answer.headers["x-request-id"])
    assert (line["input_tokens"], line["output_tokens"], line["usage_estimated"]) == (14, 3, False)


def test_a_confined_page_may_read_streams_and_refusals_of_every_dialect(folder: Path) -> None:
    page = {"origin": "https://one.example"}
    with program.running(folder, STILE_CORS_ORIGINS="https://one.example") as gateway:
        said = [{"role": "user", "content": "Hi"}]
        chat = {"model": "echo", "messages": said, "stream": True}
        calls = [
            (200, "/v1/chat/completions", chat),
            (200, "/v1/messages", {**chat, "max_tokens": 9}),
            (200, "/v1/responses", {"model": "echo", "input": "Hi", "stream": True}),
            (400, "/v1/messages", {}),
            (404, "/v1/messages/nothing", {}),
            (405, "/v1/models", {}),
            (400, "/v1/audio/speech", {"model": "echo", "input": "x", "voice": "y"}),
        ]
        for status, path, body in calls:
            answer = gateway.ask("POST", path, body, headers=page)
            assert (answer.status, answer.headers["access-control-allow-origin"]) == (status, page["origin"]), path
            assert answer.headers["access-control-expose-headers"] == "*"
            assert "access-control-allow-origin" not in gateway.ask("POST", path, body).headers
        assert gateway.ask("GET", "/v1/models", key="sk-wrong", headers=page).headers["access-control-allow-origin"]
        for other in ("https://one.example.evil", "https://ONE.example", "http://one.example", "null", "*", ""):
            refused = gateway.ask("GET", "/v1/models", headers={"origin": other})
            assert "access-control-allow-origin" not in refused.headers, other
