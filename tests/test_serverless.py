"""The gateway as a Lambda function, against an emulator of the Runtime API: what streams, what ends, what is kept."""

import asyncio
import contextlib
import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests import function, program
from tests.function import ROOT, Function
from tests.leaks import PROVIDER_KEY
from tests.mocks import anthropic, bedrock, cognito, provider, runtime_api
from tests.mocks.cognito import Cognito
from tests.mocks.openai import TEXT, Upstream
from tests.mocks.provider import Provider
from tests.mocks.runtime_api import RuntimeApi
from tests.mocks.runtime_invocation import Invocation

CHAT = "/v1/chat/completions"
HI = [{"role": "user", "content": "hi"}]
# The gateway's entry with one path more, by which a test sees what has been imported.
SEEN = """
import os, sys
from stile import serverless

class Seen(serverless.Function):
    async def __call__(self, scope, receive, send):
        if scope.get("path") != "/seen":
            await super().__call__(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": "\\n".join(sys.modules).encode()})

serverless.Function = Seen
sys.exit(serverless.main(os.environ))
"""


@dataclass
class State:
    """Users in Cognito, as a deployment has them: what the function's environment says of them, and an admin's key."""

    pool: Cognito
    settings: dict[str, str]
    key: str = field(repr=False)


@pytest.fixture(scope="module")
def state(output: Path) -> Iterator[State]:
    with cognito.running(output / "serverless") as pool:
        settings = pool.environment(AWS_SESSION_TOKEN="")  # its key is a user's, and has none
        with program.administered(output / "bootstrap", **settings) as gateway:
            key = gateway.key
        yield State(pool, settings, key)


class Gateway:
    """The gateway as a function that runs, and how it is called."""

    def __init__(self, api: RuntimeApi, running: Function, key: str) -> None:
        self.api = api
        self.running = running
        self._key = key

    def ask(self, model: str, *, stream: bool = True, deadline_seconds: float = 60, **body: Any) -> Invocation:
        return self.post({"model": model, "messages": HI, "stream": stream, **body}, deadline_seconds)

    def post(self, body: Any, deadline_seconds: float = 60) -> Invocation:
        event = {
            "httpMethod": "POST",
            "path": CHAT,
            "headers": {"authorization": f"Bearer {self._key}"},
            "requestContext": {"requestId": "from-the-api", "identity": {"sourceIp": "192.0.2.7"}},
            "body": json.dumps(body),
        }
        return self.api.invoke(event, deadline_seconds=deadline_seconds)

    def manage(self, method: str, path: str, body: Any = None, *, key: str | None = None) -> Any:
        """One request to /api; answers what it says."""
        path, _, query = path.partition("?")
        event = {
            "httpMethod": method,
            "path": path,
            "queryStringParameters": dict(pair.split("=") for pair in query.split("&")) if query else None,
            "headers": {"authorization": f"Bearer {key or self._key}"},
            "requestContext": {},
            "body": None if body is None else json.dumps(body),
        }
        said = json.loads(self.api.invoke(event).body())
        self.api.waiting()
        return said

    def calls(self) -> list[dict[str, Any]]:
        """The log lines of calls, when the function is idle: it may be frozen then, so all must be out."""
        self.api.waiting()
        lines = [json.loads(line) for line in self.running.out.read_text().splitlines()]
        return [line for line in lines if line["event"] == "call"]


@contextlib.contextmanager
def serving(
    folder: Path, state: State, *targets: tuple[str, str, str], snap_start: bool = False, **settings: str
) -> Iterator[Gateway]:
    """The gateway with `targets`: model name, provider/model, address."""
    config = folder / "config.yaml"
    entries = [
        {"model_name": name, "litellm_params": {"model": model, "api_base": base, **_credentials(model)}}
        for name, model, base in targets
    ]
    config.write_text(yaml.safe_dump({"model_list": entries}))
    known = {**state.settings, **settings}
    if targets:
        known["STILE_CONFIG"] = str(config)
    command = [sys.executable, "-c", SEEN]
    with (
        runtime_api.running(snap_start=snap_start) as api,
        function.running(folder, api, command, task_root=ROOT, PYTHONPATH=str(ROOT), **known) as running,
    ):
        yield Gateway(api, running, state.key)


def _credentials(model: str) -> dict[str, str]:
    if not model.startswith("bedrock/"):
        return {"api_key": PROVIDER_KEY}
    return {"aws_access_key_id": "AKIA", "aws_secret_access_key": PROVIDER_KEY, "aws_region_name": "eu-west-1"}


@pytest.fixture
def claude() -> Iterator[Provider]:
    with provider.on_a_thread(anthropic.chat) as server:
        yield server


def relayed(upstream: Upstream, *names: str) -> list[tuple[str, str, str]]:
    return [(name, f"openai/{name}", upstream.base) for name in names]


def text(body: bytes) -> str:
    events = [line.removeprefix(b"data: ") for line in body.split(b"\n\n") if line]
    assert events[-1] == b"[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


def test_the_first_chunk_arrives_while_the_provider_is_still_producing(
    folder: Path, state: State, upstream: Upstream
) -> None:
    upstream.gate.clear()
    with serving(folder, state, *relayed(upstream, "gated")) as gateway:
        invocation = gateway.ask("gated")
        first = invocation.next_chunk()
        assert first is not None
        assert not upstream.gate.is_set()
        upstream.gate.set()
        assert text(invocation.body()) == "".join(TEXT)


def test_a_translated_stream_arrives_as_it_is_produced_too(folder: Path, state: State) -> None:
    released = threading.Event()

    async def gated(exchange: provider.Exchange) -> None:
        await exchange.start("text/event-stream")
        first, *rest = anthropic.events()
        for event in (first, *rest[:2]):
            await exchange.chunk(event)
        await asyncio.to_thread(released.wait, provider.SETTLED)
        for event in rest[2:]:
            await exchange.chunk(event)
        await exchange.end()

    with (
        provider.on_a_thread(gated) as claude,
        serving(folder, state, ("claude", f"anthropic/{anthropic.MODEL}", claude.url)) as gateway,
    ):
        invocation = gateway.ask("claude")
        assert invocation.next_chunk() is not None
        assert not released.is_set()
        released.set()
        assert text(invocation.body()) == "".join(anthropic.WORDS)


def test_a_calls_log_line_is_out_before_the_function_can_freeze(folder: Path, state: State, upstream: Upstream) -> None:
    with serving(folder, state, *relayed(upstream, "ok")) as gateway:
        invocation = gateway.ask("ok")
        invocation.body()
        (line,) = gateway.calls()
        assert (line["status"], line["input_tokens"], line["output_tokens"]) == (200, 11, 7)
        assert (line["aws_request_id"], line["api_request_id"]) == (invocation.id, "from-the-api")
        assert line["xray_trace_id"] in invocation.trace_id
        assert line["trace_id"] == line["xray_trace_id"].removeprefix("1-").replace("-", "")


def test_a_stream_that_breaks_off_is_told_to_the_client_and_to_lambda(
    folder: Path, state: State, upstream: Upstream
) -> None:
    upstream.gate.set()
    with serving(folder, state, *relayed(upstream, "ok", "reset-mid")) as gateway:
        invocation = gateway.ask("reset-mid")
        assert b'"code":"upstream_broken"' in invocation.body()
        failure = invocation.broken_off()
        assert failure is not None
        assert (failure.kind, failure.message) == ("Runtime.BrokenAnswer", "upstream_broken")
        assert text(gateway.ask("ok").body()) == "".join(TEXT)


def test_a_stream_ends_with_an_error_event_two_seconds_before_lambda_ends_the_process(
    folder: Path, state: State, upstream: Upstream
) -> None:
    with serving(folder, state, *relayed(upstream, "ok", "never-ending")) as gateway:
        invocation = gateway.ask("never-ending", deadline_seconds=4)
        assert b'"code":"upstream_timeout"' in invocation.body()
        assert invocation.seconds_left() >= 2
        assert text(gateway.ask("ok").body()) == "".join(TEXT)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_a_silent_call_begins_with_signs_of_life_and_a_failure_behind_them_is_told_to_lambda(
    folder: Path, state: State, upstream: Upstream, stream: bool
) -> None:
    sign = b": keep-alive\n\n" if stream else b" "
    targets = relayed(upstream, "held", "held-400")
    with serving(folder, state, *targets, STILE_KEEP_ALIVE_SECONDS="1", STILE_WHOLE_KEEP_ALIVE_SECONDS="1") as gateway:
        bodies = []
        for model, told in (("held", None), ("held-400", "upstream_error")):
            upstream.gate.clear()
            invocation = gateway.ask(model, stream=stream)
            assert [invocation.next_chunk(), invocation.next_chunk()] == [sign, sign]
            assert invocation.head().status == 200
            upstream.gate.set()
            failure = invocation.broken_off()
            assert (failure and failure.message) == told
            bodies.append(invocation.body())
    whole, failed = bodies
    if stream:
        assert text(whole.replace(sign, b"")) == "".join(TEXT)
    else:
        assert json.loads(whole)["choices"][0]["message"]["content"] == "".join(TEXT)
    assert json.loads(failed.replace(sign, b"").removeprefix(b"data: "))["error"]["code"] == "too_long"


def test_a_body_over_the_platforms_limit_is_refused_by_its_name(folder: Path, state: State) -> None:
    with serving(folder, state) as gateway:
        invocation = gateway.post({"model": "echo", "messages": [{"role": "user", "content": "x" * 6 * 1024 * 1024}]})
        error = json.loads(invocation.body())["error"]
        assert (invocation.head().status, error["code"]) == (413, "request_too_large")
        assert str(6 * 1024 * 1024) in error["message"]


def test_connections_that_died_while_the_function_was_frozen_cost_no_call(
    folder: Path, state: State, upstream: Upstream, claude: Provider
) -> None:
    targets = [*relayed(upstream, "ok"), ("claude", f"anthropic/{anthropic.MODEL}", claude.url)]
    with serving(folder, state, *targets) as gateway:
        for _ in range(3):
            assert text(gateway.ask("ok").body()) == "".join(TEXT)
            assert text(gateway.ask("claude").body()) == "".join(anthropic.WORDS)
            gateway.api.waiting()
            gateway.running.freeze()
            upstream.hang_up()
            claude.hang_up()
            again = [gateway.ask("ok"), gateway.ask("claude")]
            gateway.running.thaw()
            assert text(again[0].body()) == "".join(TEXT)
            assert text(again[1].body()) == "".join(anthropic.WORDS)
        assert {line["status"] for line in gateway.calls()} == {200}


def test_every_fault_of_the_configuration_is_told_to_lambda(folder: Path, state: State) -> None:
    with serving(folder, state, STILE_PROT="1", STILE_DRAIN_SECONDS="soon") as gateway:
        message = gateway.api.init_error().message
        assert gateway.running.ended() == 1
    assert "STILE_PROT: no such setting; did you mean STILE_PORT?" in message
    assert "STILE_DRAIN_SECONDS: must be a whole number" in message


def test_users_and_keys_are_managed_through_the_function(folder: Path, state: State) -> None:
    with serving(folder, state) as gateway:
        user = gateway.manage("POST", "/api/users", {"email": "ann@example.com"})
        made = gateway.manage("POST", f"/api/users/{user['id']}/keys", {"name": "laptop"})
        assert gateway.manage("GET", "/api/users?limit=60")["next_cursor"] is None
        assert gateway.manage("GET", "/api/me", key=made["key"])["user"] == user
        assert gateway.manage("POST", f"/api/keys/{made['id']}/revoke")["status"] == "revoked"
        assert gateway.manage("GET", "/api/me", key=made["key"])["error"]["code"] == "invalid_api_key"


def test_after_a_freeze_the_directory_is_asked_over_a_new_connection(folder: Path, state: State) -> None:
    with serving(folder, state, STILE_KEY_CACHE_SECONDS="0") as gateway:
        for _ in range(3):
            assert gateway.manage("GET", "/api/me")["role"] == "admin"
            gateway.running.freeze()
            state.pool.hang_up()
            again = gateway.ask("echo")
            gateway.running.thaw()
            assert again.head().status == 200
            gateway.api.waiting()


def test_a_function_needs_a_pepper_that_stays(folder: Path, state: State) -> None:
    with serving(folder, state, STILE_PEPPER_SECRET="") as gateway:
        assert "STILE_PEPPER_SECRET: must be set" in gateway.api.init_error().message
        assert gateway.running.ended() == 1


def modules(gateway: Gateway) -> set[str]:
    event = {"httpMethod": "GET", "path": "/seen", "requestContext": {}}
    seen = gateway.api.invoke(event).body().decode()
    gateway.api.waiting()
    return set(seen.split("\n"))


@pytest.mark.parametrize("model", ["ok", "claude", "on-bedrock"])
def test_after_a_restore_the_first_calls_import_nothing(
    folder: Path, state: State, upstream: Upstream, claude: Provider, model: str
) -> None:
    with provider.on_a_thread(bedrock.converse) as aws:
        targets = [
            *relayed(upstream, "ok"),
            ("claude", f"anthropic/{anthropic.MODEL}", claude.url),
            ("on-bedrock", "bedrock/anthropic.claude-3-haiku-20240307-v1:0", aws.url),
        ]
        with serving(folder, state, *targets, snap_start=True) as gateway:
            gateway.api.restore()
            before = modules(gateway)
            assert "litellm" in before
            for stream in (True, False):
                invocation = gateway.ask(model, stream=stream)
                assert (invocation.head().status, invocation.broken_off()) == (200, None)
            assert modules(gateway) - before == set()


def test_a_start_that_is_paid_for_beforehand_imports_litellm(folder: Path, state: State) -> None:
    with serving(folder, state, AWS_LAMBDA_INITIALIZATION_TYPE="provisioned-concurrency") as gateway:
        assert "litellm" in modules(gateway)


def test_without_snapstart_litellm_is_imported_by_the_call_that_needs_it(
    folder: Path, state: State, claude: Provider, upstream: Upstream
) -> None:
    targets = [*relayed(upstream, "ok"), ("claude", f"anthropic/{anthropic.MODEL}", claude.url)]
    with serving(folder, state, *targets) as gateway:
        gateway.ask("ok").body()
        assert "litellm" not in modules(gateway)
        gateway.ask("claude").body()
        assert "litellm" in modules(gateway)
