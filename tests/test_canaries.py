"""Secrets and sentences are planted wherever one can be; then all that the gateway has written is searched for them."""

import contextlib
import hashlib
import json
import re
import secrets
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests import program
from tests.mocks import provider
from tests.mocks.provider import Exchange
from tests.program import Program
from tests.rpc import MODERN, Client

CHAT = "/v1/chat/completions"
LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"


def made(prefix: str, length: int = 40) -> str:
    return prefix + "".join(secrets.choice(LETTERS) for _ in range(length))


class Canaries:
    """What was planted where. Each is unlike anything else that the gateway could say."""

    def __init__(self) -> None:
        self.planted: dict[str, str] = {}

    def plant(self, where: str, prefix: str = "", length: int = 40) -> str:
        self.planted[where] = made(prefix, length)
        return self.planted[where]

    def found(self, text: str) -> list[str]:
        """Where those were planted of which `text` has more than their beginning; also as base64, in JSON or a URL."""
        return [where for where, secret in self.planted.items() if secret[len(secret) // 2 :] in text]


# Keys of providers in the forms that they have, and one in none.
KEYS = {
    "openai": "sk-proj-",
    "anthropic": "sk-ant-api03-",
    "groq": "gsk_",
    "xai": "xai-",
    "gemini": "AIzaSy",
    "mistral": "",
}


class Scene:
    """A gateway before a provider that repeats whatever it was sent, in every way that a provider can fail."""

    def __init__(self, folder: Path, server: provider.Provider, canaries: Canaries, **settings: str) -> None:
        self.canaries = canaries
        self.server = server
        entries = []
        for name, prefix in KEYS.items():
            params = {
                "model": f"{name}/model",
                "api_base": f"{server.url}/v1",
                "api_key": canaries.plant(f"the key for {name}", prefix),
                "extra_headers": {"x-extra": canaries.plant(f"a header for {name}")},
            }
            entries.append({"model_name": name, "litellm_params": params})
        aws = {
            "model": "bedrock/anthropic.claude-3-haiku-20240307-v1:0",
            "aws_bedrock_runtime_endpoint": server.url,
            "aws_region_name": "eu-west-1",
            "aws_access_key_id": canaries.plant("an AWS key id", "AKIA", 16).upper(),
            "aws_secret_access_key": canaries.plant("an AWS secret"),
            "aws_session_token": canaries.plant("an AWS session token"),
        }
        canaries.planted["an AWS key id"] = canaries.planted["an AWS key id"].upper()
        entries.append({"model_name": "bedrock", "litellm_params": aws})
        config = folder / "config.yaml"
        config.write_text(yaml.safe_dump({"model_list": entries, "router_settings": {"num_retries": 0}}))
        self.settings = {
            "STILE_CONFIG": str(config),
            "OPENAI_API_KEY": canaries.plant("a variable", "sk-proj-"),
            "AWS_SECRET_ACCESS_KEY": canaries.plant("AWS's variable"),
            **settings,
        }


async def repeat(exchange: Exchange) -> None:
    """Say everything that came, as an error; the prompt says how to fail."""
    call = exchange.call
    said = f"You sent {call.headers} and {call.body.decode()}"
    fault = json.dumps({"error": {"message": said, "type": said, "code": said, "param": said}}).encode()
    headers = {"x-said": json.dumps(call.headers)[:2000]}
    body = call.body.decode()
    if "FAIL-WITH-HTML" in body:
        await exchange.answer(500, f"<html>{said}</html>".encode(), {"content-type": "text/html", **headers})
    elif "FAIL-IN-MID-STREAM" in body:
        await exchange.start("text/event-stream")
        await exchange.chunk(b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n')
        await exchange.chunk(b"data: " + fault + b"\n\n")
        await exchange.end()
    elif "FAIL-WITH-GARBAGE" in body:
        await exchange.answer(200, said.encode(), {"content-type": "application/json", **headers})
    elif (status := re.search(r"FAIL-(\d{3})", body)) is not None:
        await exchange.answer(int(status[1]), fault, headers)
    else:
        answer = {"id": "x", "object": "chat.completion", "created": 1, "model": said}
        message = {"role": "assistant", "content": said}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        await exchange.answer(200, json.dumps({**answer, "choices": choices}).encode(), headers)


FAILURES = [
    "FAIL-400",
    "FAIL-401",
    "FAIL-429",
    "FAIL-500",
    "FAIL-WITH-HTML",
    "FAIL-IN-MID-STREAM",
    "FAIL-WITH-GARBAGE",
    "OK",
]


def call_everything(gateway: Program, canaries: Canaries) -> None:
    """Calls with something planted wherever a caller can write."""
    for failure in FAILURES:
        for model in (*KEYS, "bedrock"):
            body = {
                "model": model,
                "stream": failure == "FAIL-IN-MID-STREAM",
                "messages": [
                    {"role": "system", "content": canaries.plant(f"a system prompt ({failure}, {model})")},
                    {"role": "user", "content": f"{failure} {canaries.plant(f'a prompt ({failure}, {model})')}"},
                ],
                "user": canaries.plant(f"the field user ({failure}, {model})"),
            }
            gateway.ask("POST", CHAT, body)
    misplaced: list[tuple[str, dict[str, Any]]] = [
        (f"{CHAT}?key={canaries.plant('a query', 'sk-')}", {"model": "openai", "messages": []}),
        (f"/v1/models/{canaries.plant('a path', 'sk-stile-')}", {}),
        (CHAT, {"model": canaries.plant("a model's name", "sk-proj-"), "messages": [{}]}),
        (CHAT, {"model": "openai", "messages": canaries.plant("messages that are a text")}),
        (CHAT, {"model": "openai", canaries.plant("a field's name", "x_"): 1, "messages": [{}], "stream": "no"}),
        ("/api/keys", {"name": canaries.plant("a key's name", "sk-proj-"), "password": canaries.plant("a password")}),
        ("/api/keys", {"name": f"Bearer {canaries.plant('a name with a bearer')}"}),
        ("/api/keys", {"name": "x", "metadata": {"key": canaries.plant("a key's metadata", "sk-ant-")}}),
        ("/api/bootstrap", {"token": canaries.plant("a wrong bootstrap token"), "email": "a@example.com"}),
    ]
    for path, body in misplaced:
        gateway.ask("POST", path, body)
        gateway.ask("GET", path)
    for number, name in enumerate(["authorization", "x-api-key", "api-key", "cookie", "user-agent", "x-anything"]):
        for prefix in ("sk-stile-", "sk-ant-", "Bearer sk-", "Basic ", "AIzaSy", "eyJhbGciOiJub25lIn0."):
            secret = canaries.plant(f"the header {name}, {number}, {prefix}", prefix)
            value = secret if name != "authorization" else f"Bearer {secret}"
            gateway.ask("GET", "/v1/models", key=None, headers={name: value})
    client = Client(gateway, MODERN)
    prompt = {"model": "openai", "prompt": canaries.plant("a prompt of a tool")}
    client.ask("tools/call", {"name": "chat", "arguments": prompt})
    client.ask("tools/call", {"name": canaries.plant("a tool's name", "sk-ant-"), "arguments": {}})
    client.with_key(f"{made('eyJ')}.{canaries.plant('a signed token')}.{made('')}").ask("tools/list")
    key = gateway.ask("POST", "/api/keys", {"name": "made here"}).json["key"]
    canaries.planted["a key that was made"] = key
    made_by_tool = client.ask(
        "tools/call", {"name": "create_key", "arguments": {"name": "made by a tool"}}
    ).body.decode()
    canaries.planted["a key that a tool has made"] = program.KEY.findall(made_by_tool)[0]


@contextlib.contextmanager
def scene(folder: Path, **settings: str) -> Iterator[tuple[Program, Canaries]]:
    canaries = Canaries()
    token = canaries.plant("the bootstrap token")
    with provider.on_a_thread(repeat) as server:
        made_up = Scene(folder, server, canaries, **settings)
        with program.running(
            folder, STILE_BOOTSTRAP_SHA256=hashlib.sha256(token.encode()).hexdigest(), **made_up.settings
        ) as gateway:
            yield gateway, canaries


def written(folder: Path) -> str:
    return "\n".join(
        path.read_text(errors="replace")
        for path in sorted(folder.glob("*.out")) + sorted(folder.glob("*.err")) + sorted(folder.glob("*.log"))
    )


@pytest.mark.parametrize(
    "settings",
    [{}, {"STILE_LOG": "debug"}, {"STILE_LOG": "debug", "STILE_LOG_FORMAT": "pretty"}],
    ids=["info", "debug", "pretty"],
)
def test_nothing_that_was_planted_comes_out(folder: Path, settings: dict[str, str]) -> None:
    with scene(folder, **settings) as (gateway, canaries):
        token = canaries.planted["the bootstrap token"]
        gateway.ask("POST", "/api/bootstrap", {"token": token, "email": "boss@example.com"}, key=None)
        call_everything(gateway, canaries)
        shown = gateway.ask("GET", "/v1/models").headers["x-request-id"]
        program.wait_for(lambda: shown in gateway.out.read_text(), "the last line")
        gateway.stop()
        text = written(folder)
        assert canaries.found(text) == []
        # What may be there is found by the same search, so that it is one.
        control = Canaries()
        control.planted = {
            "a request id": shown,
            "a path": CHAT,
            "a model": "anthropic/model",
            "the user": "admin@localhost",
        }
        expected = (
            list(control.planted) if "STILE_LOG_FORMAT" not in settings else ["a request id", "a path", "a model"]
        )
        assert control.found(text) == expected
        assert len(canaries.planted) > 200


def test_callers_never_see_what_belongs_to_the_gateway(folder: Path) -> None:
    """A provider's errors are the callers', with what they hold of the callers; the gateway's keys are not."""
    with scene(folder) as (gateway, canaries):
        own = Canaries()
        own.planted = dict(canaries.planted)
        answers = []
        for failure in FAILURES[:-3]:  # a 200 is the provider's, as it is, and so is what follows its head
            for model in (*KEYS, "bedrock"):
                body = {
                    "model": model,
                    "messages": [{"role": "user", "content": failure}],
                }
                answer = gateway.ask("POST", CHAT, body)
                assert own.found(f"{answer.headers}{answer.body.decode()}") == [], (failure, model)
                answers.append(answer.body.decode())
        assert any("You sent" in answer for answer in answers)


@pytest.mark.parametrize("form", ["json", "pretty"])
def test_a_fault_of_the_gateway_itself_shows_no_secret_in_its_trace(folder: Path, form: str) -> None:
    """A database whose tables are gone makes a management call fail inside."""
    with scene(folder, STILE_LOG_FORMAT=form) as (gateway, canaries):
        database = next((folder / "home").glob("*.db*"))
        with contextlib.closing(sqlite3.connect(database)) as state:
            named = state.execute("select name from sqlite_master where type = 'table' and name not like 'sqlite_%'")
            for (table,) in named.fetchall():
                state.execute(f"drop table {table}")
            state.commit()
        secret = canaries.plant("a key that meets a fault", "sk-proj-")
        answer = gateway.ask("POST", "/api/keys", {"name": secret})
        assert answer.status >= 500
        program.wait_for(lambda: answer.headers["x-request-id"] in gateway.out.read_text(), "the line")
        gateway.stop()
        canaries.planted["the admin's key"] = gateway.key
        log = gateway.out.read_text().split("curl ")[1].split("\n", 1)[1]  # behind the banner, which shows the key once
        assert canaries.found(log) == []


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("STILE_COGNITO_DOMAIN", "sk-ant-"),
        ("STILE_LOG", "sk-proj-"),
        ("STILE_PORT", "AIzaSy"),
        ("STILE_PUBLIC_URL", "gsk_"),
        ("STILE_CONTENT_LOG", "cloudwatch:!sk-proj-"),
    ],
)
def test_a_secret_in_the_wrong_setting_is_not_repeated(folder: Path, name: str, prefix: str) -> None:
    canaries = Canaries()
    shown = program.run(env=program.environment(folder / "home", **{name: canaries.plant("a setting", prefix)}))
    assert shown.returncode == 1
    assert name in shown.stderr
    assert canaries.found(shown.stdout + shown.stderr) == []


def test_a_secret_in_the_wrong_place_of_the_model_file_is_not_repeated(folder: Path) -> None:
    canaries = Canaries()
    config = folder / "config.yaml"
    config.write_text(
        "model_list:\n"
        "  - {model_name: a, litellm_params: "
        f"{{model: openai/a, api_base: {canaries.plant('an address', 'sk-proj-')}}}}}\n"
        f"  - {{model_name: b, litellm_params: {{model: {canaries.plant('a model', 'sk-proj-')}, api_key: x}}}}\n"
        f"  - {{model_name: c, litellm_params: {{model: openai/c, timeout: {canaries.plant('a time', 'sk-proj-')}}}}}\n"
        "  - {model_name: d, litellm_params: "
        f'{{model: openai/d, api_key: "{canaries.plant("a key", "sk-proj-")}\\n"}}}}\n'
    )
    shown = program.run(env=program.environment(folder / "home", STILE_CONFIG=str(config)))
    assert shown.returncode == 1
    assert canaries.found(shown.stdout + shown.stderr) == []
