"""The built artifact as a Lambda function, under AWS's own emulator.

The emulator hands answers over whole; that they stream is asserted in tests/hosts.
"""

import base64
import hashlib
import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from tests import program, rpc
from tests.e2e import rie
from tests.e2e.rie import ARTIFACT, Emulator
from tests.leaks import PROVIDER_KEY
from tests.mocks import agent, anthropic, cognito, provider
from tests.mocks import openai as mock
from tests.mocks.openai import Upstream
from tests.mocks.provider import Exchange

HI = [{"role": "user", "content": "hi"}]


TOKEN = secrets.token_hex(32)


@dataclass
class State:
    """Users in Cognito, as a deployment has them: what the function's environment says of them, and an admin's key."""

    settings: dict[str, str]
    key: str = field(repr=False)


@pytest.fixture(scope="session")
def state(output: Path) -> Iterator[State]:
    with cognito.running(output / "cognito") as pool:
        settings = pool.environment()
        with program.administered(output / "bootstrap", **settings) as gateway:
            key = gateway.key
        yield State(settings, key)


@pytest.fixture(scope="session")
def config(output: Path, upstream: Upstream) -> Path:
    path = output / "lambda.yaml"
    targets = [("ok", "openai/ok", upstream.base), ("reset-mid", "openai/reset-mid", upstream.base)]
    entries = [
        {"model_name": name, "litellm_params": {"model": model, "api_base": base, "api_key": "os.environ/PLANTED"}}
        for name, model, base in [*targets, ("claude", f"anthropic/{anthropic.MODEL}", "os.environ/CLAUDE")]
    ]
    path.write_text(yaml.safe_dump({"model_list": entries}))
    return path


@pytest.fixture
def claude() -> Iterator[provider.Provider]:
    with provider.on_a_thread(anthropic.chat) as server:
        yield server


@pytest.fixture
def function(folder: Path, state: State, config: Path, claude: provider.Provider) -> Iterator[Emulator]:
    settings = {
        **state.settings,
        "STILE_BOOTSTRAP_SHA256": hashlib.sha256(TOKEN.encode()).hexdigest(),
        "STILE_CONFIG": str(config),
        "CLAUDE": claude.url,
        "PLANTED": PROVIDER_KEY,
    }
    with rie.running(folder, [str(ARTIFACT / "bootstrap")], state.key, **settings) as emulator:
        yield emulator


def events(body: bytes) -> list[Any]:
    """The data of server-sent events, without the end mark, which must be there."""
    found = [line.removeprefix(b"data: ") for line in body.split(b"\n\n") if line]
    assert found[-1] == b"[DONE]"
    return [json.loads(data) for data in found[:-1]]


def text(chunks: list[Any]) -> str:
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


def test_a_streamed_call_a_translated_one_and_errors_come_back_right(
    function: Emulator, claude: provider.Provider, upstream: Upstream
) -> None:
    chat = "/v1/chat/completions"
    relayed = {"model": "ok", "messages": HI, "stream": True}
    answer = function.ask("POST", chat, relayed)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert text(events(answer.body)) == "".join(mock.TEXT)

    translated = {"model": "claude", "messages": HI}
    answer = function.ask("POST", chat, translated)
    assert answer.json["choices"][0]["message"]["content"] == "".join(anthropic.WORDS)
    assert claude.last.headers["x-api-key"] == PROVIDER_KEY
    streamed = function.ask("POST", chat, {**translated, "stream": True})
    assert text(events(streamed.body)) == "".join(anthropic.WORDS)

    refused = function.ask("POST", chat, translated, key="sk-wrong")
    assert (refused.status, refused.json["error"]["code"]) == (401, "invalid_api_key")
    unknown = function.ask("POST", chat, {"model": "no", "messages": HI})
    assert (unknown.status, unknown.json["error"]["code"]) == (404, "model_not_found")
    upstream.gate.set()
    broken = function.ask("POST", chat, {**relayed, "model": "reset-mid"})
    assert b'"code":"upstream_broken"' in broken.body
    assert function.ask("GET", "/health").json == {"status": "ok"}


@pytest.mark.parametrize("revision", rpc.REVISIONS)
def test_tools_are_listed_and_called_by_each_revision_again_and_again(function: Emulator, revision: str) -> None:
    client = rpc.Client(cast("Any", None), revision)  # which only writes the messages here

    def ask(method: str, params: dict[str, Any]) -> Any:
        return function.ask("POST", "/mcp", client.message(method, params), **client.headers(method, params))

    for _ in range(2):
        assert "chat" in [tool["name"] for tool in ask("tools/list", {}).json["result"]["tools"]]
        called = {"name": "chat", "arguments": {"model": "ok", "prompt": "Hi"}}
        assert ask("tools/call", called).json["result"]["structuredContent"]["text"] == "".join(mock.TEXT)
        *notes, last = rpc.events(ask("tools/call", {**called, "_meta": {"progressToken": 1}}))
        assert "".join(note["params"]["message"] for note in notes) == "".join(mock.TEXT)
        assert last["result"]["isError"] is False
    assert function.ask("GET", "/mcp").status == 405


def test_every_dialect_a_form_and_sound_come_back_right(folder: Path, state: State) -> None:
    """Through the artifact: relayed, by chat, by chat and LiteLLM; a form as base64; bytes that are no text."""
    sound = bytes(range(256)) * 8

    async def script(exchange: Exchange) -> None:
        path = exchange.call.path
        if path.endswith("/speech"):
            await exchange.answer(200, sound, {"content-type": "audio/mpeg"})
        elif path.endswith("/transcriptions"):
            await exchange.answer(200, json.dumps({"text": str(sound in exchange.call.body)}).encode())
        else:
            await talk(exchange)

    talk = agent.script("secret", {}, "")
    with provider.on_a_thread(script) as upstream:
        params = {"api_key": PROVIDER_KEY}
        entries = [
            {"model_name": "chat", "litellm_params": {"model": "openai/x", "api_base": f"{upstream.url}/v1", **params}},
            {"model_name": "claude", "litellm_params": {"model": "anthropic/x", "api_base": upstream.url, **params}},
        ]
        config = folder / "models.yaml"
        config.write_text(yaml.safe_dump({"model_list": entries}))
        settings = {**state.settings, "STILE_CONFIG": str(config)}
        with rie.running(folder, [str(ARTIFACT / "bootstrap")], state.key, **settings) as function:
            for model, stream in (("chat", True), ("chat", False), ("claude", True), ("claude", False)):
                said = function.ask("POST", "/v1/responses", {"model": model, "input": "hi", "stream": stream})
                assert b"".join(word.encode() for word in agent.GREETING[-2:]) in said.body or stream
                assert said.status == 200
                assert (b"event: response.completed" in said.body) is stream
                asked = {"model": model, "messages": HI, "max_tokens": 9, "stream": stream}
                said = function.ask("POST", "/v1/messages", asked)
                assert (said.status, b"event: message_stop" in said.body) == (200, stream)
            speech = function.ask("POST", "/v1/audio/speech", {"model": "chat", "input": "hi", "voice": "a"})
            assert (speech.headers["content-type"], speech.body) == ("audio/mpeg", sound)
            part = b'--x\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
            form = part % (b"model", b"chat") + part % (b'file"; filename="a.wav', sound) + b"--x--\r\n"
            kind = "multipart/form-data; boundary=x"
            heard = function.ask("POST", "/v1/audio/transcriptions", form, content_type=kind)
            assert heard.json == {"text": "True"}


def test_what_is_no_http_request_gets_a_400_and_the_loop_lives_on(function: Emulator) -> None:
    prelude, _, body = function.invoke({"Records": [{"eventSource": "aws:sqs"}]}).partition(rie.SEPARATOR)
    assert json.loads(prelude)["statusCode"] == 400
    assert json.loads(body)["error"]["code"] == "unknown_event"
    assert function.ask("GET", "/health").status == 200


def test_a_start_that_fails_tells_every_fault(folder: Path) -> None:
    settings = {"STILE_HOME": "/tmp/x", "STILE_PROT": "1", "STILE_TIMEOUT_SECONDS": "soon"}
    with rie.running(folder, [str(ARTIFACT / "bootstrap")], **settings) as emulator:
        emulator.invoke({})
        log = emulator.log.read_text()
    assert "STILE_PROT: no such setting" in log
    assert "STILE_TIMEOUT_SECONDS: must be a whole number" in log


def test_it_never_prints_a_key_and_the_first_admin_comes_by_the_token(function: Emulator) -> None:
    assert function.ask("GET", "/health/ready").json["status"] == "ready"
    asked = {"token": TOKEN, "email": "first@example.com"}
    made = function.ask("POST", "/api/bootstrap", asked)
    assert (made.status, made.json["user"]["role"]) == (201, "admin")
    key = made.json["key"]
    user = function.ask("POST", "/api/users", {"email": "ann@example.com"}, key=key).json
    own = function.ask("POST", f"/api/users/{user['id']}/keys", {"name": "laptop"}, key=key).json["key"]
    chat = {"model": "echo", "messages": HI}
    assert function.ask("POST", "/v1/chat/completions", chat, key=own).status == 200
    assert function.ask("POST", "/api/bootstrap", asked).status == 409
    assert "sk-stile" not in function.log.read_text()


def test_the_classic_handler_answers_whole_under_awss_own_client(folder: Path, state: State) -> None:
    command = [sys.executable, "-m", "awslambdaric", "app.handler"]
    with rie.running(folder, command, **state.settings) as emulator:
        headers = {"authorization": f"Bearer {state.key}", "content-type": "application/json"}
        chat = rie.event("POST", "/v1/chat/completions", {"model": "echo", "messages": HI}, headers)
        answer = json.loads(emulator.invoke(chat))
        assert (answer["statusCode"], answer["isBase64Encoded"]) == (200, False)
        assert json.loads(answer["body"])["choices"][0]["message"]["content"].endswith("You said: hi")
        assert json.loads(emulator.invoke({}))["statusCode"] == 400
        encoded = {**chat, "isBase64Encoded": True, "body": base64.b64encode(chat["body"].encode()).decode()}
        assert json.loads(emulator.invoke(encoded))["statusCode"] == 200


def test_the_wrapper_leaves_the_managed_runtime_to_the_sam_cli() -> None:
    command = [str(ARTIFACT / "bootstrap"), "echo", "managed"]
    shown = subprocess.check_output(command, env={"PATH": "/usr/bin:/bin", "AWS_SAM_LOCAL": "true"})
    assert shown == b"managed\n"
