"""/mcp in a Lambda function that is frozen whenever it has nothing to do, cut off by its deadline, and made of a
snapshot: what was begun before is still there, and nothing of a call is left for after the freeze."""

import asyncio
import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests import function, leaks, program, rpc
from tests import stage as stages
from tests.function import ROOT, Function
from tests.mocks import agent, cognito, provider, runtime_api
from tests.mocks.provider import SETTLED, Exchange, Provider
from tests.mocks.runtime_api import RuntimeApi
from tests.mocks.runtime_invocation import Invocation
from tests.program import Answer, Program
from tests.rpc import MODERN, Client
from tests.test_serverless import SEEN

from stile.hosts.lambda_host import MARGIN_SECONDS

ERAS = ("2025-11-25", MODERN)
# The gateway behind a classic handler, as `sam local` runs it: one event in, one whole answer out.
CLASSIC = """
import json, os, sys
from stile import serverless

class Context:
    aws_request_id = "r"
    def get_remaining_time_in_millis(self):
        return 60_000

for line in sys.stdin:
    print(json.dumps(serverless.handle(json.loads(line), Context())), file=sys.stderr, flush=True)
"""
Json = dict[str, Any]


@dataclass
class State:
    """Users in Cognito, and an admin's key."""

    settings: dict[str, str]
    key: str = field(repr=False)


@pytest.fixture(scope="module")
def state(output: Path) -> Iterator[State]:
    with cognito.running(output / "mcp-lambda") as pool:
        settings = pool.environment(AWS_SESSION_TOKEN="")  # its key is a user's, and has none
        with program.administered(output / "mcp-bootstrap", **settings) as gateway:
            key = gateway.key
        yield State(settings, key)


@pytest.fixture
def upstream() -> Iterator[Provider]:
    with provider.on_a_thread(agent.script("", {}, "")) as running:
        yield running


class Gateway:
    """The gateway as a function that runs, and the messages that it is sent."""

    def __init__(self, api: RuntimeApi, running: Function, state: State) -> None:
        self.api = api
        self.running = running
        self._state = state

    def send(
        self,
        revision: str,
        method: str,
        params: Json | None = None,
        *,
        seconds: float = 60,
        key: str | None = None,
        **event: Any,
    ) -> Invocation:
        return self.api.invoke(
            mcp_event(revision, method, params, key or self._state.key) | event, deadline_seconds=seconds
        )

    def result(self, revision: str, method: str, params: Json | None = None) -> Json:
        answer = whole(self.send(revision, method, params))
        assert answer.status == 200, answer.body
        found: Json = answer.json["result"]
        return found

    def seen(self) -> set[str]:
        """The modules that are imported."""
        answer = self.api.invoke({"httpMethod": "GET", "path": "/seen", "requestContext": {}})
        return set(answer.body().decode().split())

    def call_of(self, invocation: Invocation) -> Json:
        """The log's line of an invocation; the function is idle and may be frozen then, so it must be out."""
        self.api.waiting()
        lines = [json.loads(line) for line in self.running.out.read_text().splitlines()]
        (found,) = [line for line in lines if line.get("aws_request_id") == invocation.id and line["event"] == "call"]
        call: Json = found
        return call

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """The function stands still until the block ends."""
        self.api.waiting()
        self.running.freeze()
        try:
            yield
        finally:
            self.running.thaw()


def mcp_event(revision: str, method: str, params: Json | None, key: str) -> Json:
    client = Client(Program(None, Path(), Path(), Path(), "", ""), revision)  # type: ignore[arg-type]  # builds messages
    return {
        "httpMethod": "POST",
        "path": "/mcp",
        "headers": {**client.headers(method, params), "authorization": f"Bearer {key}", "host": "evil.example"},
        "requestContext": {
            "requestId": "from-the-api",
            "domainName": "llm.example.com",
            "path": "/mcp",
            "identity": {"sourceIp": "192.0.2.7"},
        },
        "body": json.dumps(client.message(method, params)),
    }


def whole(invocation: Invocation) -> Answer:
    head = invocation.head()
    return Answer(head.status, head.headers, invocation.body())


@contextlib.contextmanager
def serving(folder: Path, state: State, upstream: Provider, *, snap_start: bool = False) -> Iterator[Gateway]:
    entry = {
        "model_name": "chat",
        "litellm_params": {
            "model": "openai/scripted",
            "api_base": f"{upstream.url}/v1",
            "api_key": leaks.PROVIDER_KEY,
        },
    }
    config = folder / "config.yaml"
    config.write_text(json.dumps({"model_list": [entry], "router_settings": {"num_retries": 0}}))
    command = [sys.executable, "-c", SEEN]
    settings = {**state.settings, "STILE_CONFIG": str(config), "PYTHONPATH": str(ROOT)}
    with (
        runtime_api.running(snap_start=snap_start) as api,
        function.running(folder, api, command, task_root=ROOT, **settings) as running,
    ):
        yield Gateway(api, running, state)
        assert running.err.read_text() == ""


def chat(*, progress: bool) -> Json:
    params: Json = {"name": "chat", "arguments": {"model": "chat", "prompt": "one two three"}}
    return {**params, "_meta": {"progressToken": 1}} if progress else params


def test_what_serves_messages_lives_through_freezes_and_lost_connections(
    folder: Path, state: State, upstream: Provider
) -> None:
    with serving(folder, state, upstream) as gateway:
        listed = [gateway.result(revision, "tools/list")["tools"] for revision in ERAS]
        for _ in range(3):
            with gateway.frozen():
                gateway.api.drop_connections()
            assert [gateway.result(revision, "tools/list")["tools"] for revision in ERAS] == listed
            echo = {"name": "chat", "arguments": {"model": "echo", "prompt": "Hi"}}
            for revision in ERAS:
                assert gateway.result(revision, "tools/call", echo)["isError"] is False


def test_who_is_turned_away_makes_nobody_import_the_sdk(folder: Path, state: State, upstream: Provider) -> None:
    with serving(folder, state, upstream) as gateway:
        for method in ("GET", "DELETE", "HEAD"):
            answer = whole(gateway.send(MODERN, "tools/list", httpMethod=method, body=None))
            assert (answer.status, answer.headers["allow"]) == (405, "POST")
        challenged = whole(gateway.send(MODERN, "tools/list", key="nobody"))
        where = "https://llm.example.com/.well-known/oauth-protected-resource/mcp"
        assert challenged.headers["www-authenticate"] == f'Bearer resource_metadata="{where}"'
        assert whole(gateway.send(MODERN, "tools/list", body="[]")).status == 400
        assert "mcp" not in gateway.seen()
        gateway.result(MODERN, "tools/list")
        assert "mcp" in gateway.seen()


def test_a_first_message_that_is_cut_off_while_the_sdk_is_imported_leaves_the_next_one_whole(
    folder: Path, state: State, upstream: Provider
) -> None:
    with serving(folder, state, upstream) as gateway:
        late = gateway.send(ERAS[0], "tools/list", seconds=MARGIN_SECONDS + 0.1)
        assert whole(late).status == 504
        assert gateway.call_of(late)["error"] == "upstream_timeout"
        with gateway.frozen():
            gateway.api.drop_connections()
        for revision in ERAS:
            assert gateway.result(revision, "tools/list")["tools"]


@pytest.mark.parametrize("revision", ERAS)
def test_progress_is_out_while_the_model_still_speaks(
    folder: Path, state: State, upstream: Provider, revision: str
) -> None:
    more = threading.Event()

    async def script(exchange: Exchange) -> None:
        first, *rest = stages.chat({"content": "Guten "}, {"content": "Tag"})
        await exchange.start("text/event-stream")
        await exchange.chunk(first)
        assert await asyncio.to_thread(more.wait, SETTLED)
        for chunk in rest:
            await exchange.chunk(chunk)
        await exchange.end()

    upstream.script = script
    with serving(folder, state, upstream) as gateway:
        for _ in range(2):
            more.clear()
            invocation = gateway.send(revision, "tools/call", chat(progress=True))
            first = invocation.next_chunk()
            assert first is not None
            assert b"Guten " in first
            assert b"Tag" not in first
            more.set()
            last = rpc.events(whole(invocation))[-1]
            assert last["result"]["structuredContent"]["text"] == "Guten Tag"
            assert gateway.call_of(invocation)["output_tokens"] == 7


@pytest.mark.parametrize("revision", ERAS)
@pytest.mark.parametrize("how", ["whole", "progress", "begun"])
def test_of_a_call_whose_time_is_over_nothing_is_left_when_the_function_freezes(
    folder: Path, state: State, upstream: Provider, revision: str, how: str
) -> None:
    gone = threading.Event()

    async def script(exchange: Exchange) -> None:
        if how == "begun":
            await exchange.start("text/event-stream")
            await exchange.chunk(stages.chat({"content": "Guten "})[0])
        await exchange.hung_up()
        gone.set()

    upstream.script = script
    with serving(folder, state, upstream) as gateway:
        gateway.result(revision, "tools/list")
        invocation = gateway.send(revision, "tools/call", chat(progress=how != "whole"), seconds=MARGIN_SECONDS + 1)
        answer = whole(invocation)
        with gateway.frozen():
            assert gone.wait(SETTLED)
        message = rpc.events(answer)[-1] if how == "begun" else answer.json
        assert message["id"] == 7
        assert message["error"]["data"]["code"] == "upstream_timeout"
        line = gateway.call_of(invocation)
        assert (line["error"], line["mcp_name"], line["model"]) == ("upstream_timeout", "chat", "chat")
        assert line["usage_estimated"]
        assert line["input_tokens"] > 0
        assert gateway.result(revision, "tools/list")["tools"]


def test_a_function_made_of_a_snapshot_serves_at_once(folder: Path, state: State, upstream: Provider) -> None:
    with serving(folder, state, upstream, snap_start=True) as gateway:
        gateway.api.restoring()
        gateway.running.freeze()
        gateway.running.thaw()
        gateway.api.restore()
        assert "mcp" in gateway.seen()
        for revision in ERAS * 2:
            assert gateway.result(revision, "tools/list")["tools"]


def test_a_function_that_is_taken_down_ends_in_peace(folder: Path, state: State, upstream: Provider) -> None:
    with serving(folder, state, upstream) as gateway:
        for revision in ERAS:
            gateway.result(revision, "tools/list")
        gateway.api.waiting()
        began = time.monotonic()
        assert gateway.running.terminate() == 0
        assert time.monotonic() - began < SETTLED


def test_a_classic_handler_answers_whole_and_again(state: State) -> None:
    said = {"name": "chat", "arguments": {"model": "echo", "prompt": "Hi"}, "_meta": {"progressToken": 1}}
    events = [
        mcp_event(revision, method, params, state.key)
        for revision in ERAS * 2
        for method, params in (("tools/list", None), ("tools/call", said))
    ]
    with runtime_api.running() as api:
        environment = function.environment(api, ROOT, **state.settings, PYTHONPATH=str(ROOT))
    answers = subprocess.run(
        [sys.executable, "-c", CLASSIC],
        input="".join(f"{json.dumps(event)}\n" for event in events),
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=program.WAIT,
        check=True,
    ).stderr.splitlines()
    assert len(answers) == len(events)
    for answer in map(json.loads, answers):
        assert answer["statusCode"] == 200, answer
        assert '"result"' in answer["body"]
