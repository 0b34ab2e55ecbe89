"""A mixed run of two thousand calls, sixteen at a time: every line is one, is as the schema says, and together they are
what the provider served and what the clients saw."""

import contextlib
import http.client
import json
import random
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from tests import leaks, program
from tests.emf import Metrics, check
from tests.mocks.openai import USAGE, Upstream
from tests.program import Program
from tests.rpc import MODERN, Client
from tools.log_schema import PAGE

CALLS, CROWD = 2000, 16
CHAT = "/v1/chat/completions"
HI = [{"role": "user", "content": "hi"}]
ODD = "sk-ant-0123456789abcdef\x1b[31m\r\n\x00\u2028\U0001f389é"
Headers = dict[str, str]


@dataclass
class Seen:
    """What clients saw: of each call that got an answer its id and status; and of each that was let down, nothing."""

    statuses: dict[str, int] = field(default_factory=dict)
    served: Counter[str] = field(default_factory=Counter)
    left: int = 0
    malformed: int = 0  # what the web server itself refuses, which is no call
    lock: threading.Lock = field(default_factory=threading.Lock)


class Caller:
    """One client with one connection."""

    def __init__(self, gateway: Program, seen: Seen, number: int) -> None:
        self.gateway = gateway
        self.seen = seen
        self.random = random.Random(number)
        self._connection = http.client.HTTPConnection(*gateway.address, timeout=program.WAIT)

    def ask(self, method: str, path: str, body: Any = None, key: str | None = None, **headers: str) -> int:
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        sent = {"authorization": f"Bearer {key or self.gateway.key}", **headers}
        self._connection.request(method, path, data, {name.replace("_", "-"): text for name, text in sent.items()})
        response = self._connection.getresponse()
        response.read()
        with self.seen.lock:
            self.seen.statuses[response.headers["x-request-id"]] = response.status
        return response.status

    def served(self, model: str, **more: Any) -> None:
        """A call that the provider answers with usage."""
        path = more.pop("path", CHAT)
        headers: Headers = more.pop("headers", {})
        assert self.ask("POST", path, {"model": model, "messages": HI, **more}, **headers) == 200
        with self.seen.lock:
            self.seen.served["usage"] += 1

    def raw(self, head: bytes, body: bytes = b"") -> None:
        """Bytes as they are, on a connection of their own."""
        with socket.create_connection(self.gateway.address, program.WAIT) as connection:
            key = self.gateway.key.encode()
            length = b"content-length: %d\r\n" % len(body)
            connection.sendall(head.replace(b"KEY", key) + length + b"connection: close\r\n\r\n" + body)
            answer = b""
            while read := connection.recv(65536):
                answer += read
        named = [line for line in answer.split(b"\r\n") if line.lower().startswith(b"x-request-id: ")]
        with self.seen.lock:
            if named:
                self.seen.statuses[named[0][14:].decode()] = int(answer.split(b" ")[1])
            else:
                assert answer.startswith(b"HTTP/1.1 400"), answer
                self.seen.malformed += 1

    def leave(self) -> None:
        """Go away in the middle of an answer that has no end."""
        with socket.create_connection(self.gateway.address, program.WAIT) as connection:
            body = json.dumps({"model": "never-ending", "messages": HI, "stream": True}).encode()
            head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {self.gateway.key}\r\n"
            connection.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
            connection.recv(1)
        with self.seen.lock:
            self.seen.left += 1

    def close(self) -> None:
        self._connection.close()


def _odd_agent(caller: Caller) -> None:
    agent = bytes(caller.random.randrange(0x20, 0xFF) for _ in range(10_000)).replace(b"\x7f", b"x")
    body = json.dumps({"model": "ok", "messages": HI}).encode()
    head = (
        b"POST "
        + CHAT.encode()
        + b" HTTP/1.1\r\nhost: x\r\nauthorization: Bearer KEY\r\nuser-agent: "
        + agent
        + b"\r\n"
    )
    caller.raw(head, body)
    with caller.seen.lock:
        caller.seen.served["usage"] += 1


def _broken_agent(caller: Caller) -> None:
    """A line break inside a header is none: whatever the web server makes of it, the line is whole."""
    caller.raw(b"GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer KEY\r\nuser-agent: a\r\n b\r\n")


def _mcp(caller: Caller) -> None:
    client = Client(caller.gateway, MODERN)
    headers = client.headers("tools/list")
    caller.ask("POST", "/mcp", client.message("tools/list"), **headers)


KINDS: list[tuple[int, Callable[[Caller], Any]]] = [
    (30, lambda c: c.served("ok")),
    (20, lambda c: c.served("ok", stream=True)),
    (8, lambda c: c.served("ok", stream=True, stream_options={"include_usage": True})),
    (5, lambda c: c.served("any-" + str(c.random.random()))),
    (3, lambda c: c.served("ok", headers={"traceparent": "garbage" * 500})),
    (3, lambda c: c.served("ok", path="/v1/messages", max_tokens=5)),
    (2, _odd_agent),
    (1, _broken_agent),
    (2, _mcp),
    (3, lambda c: c.ask("POST", "/v1/responses", {"model": "echo", "input": "hi"})),
    (3, lambda c: c.ask("GET", "/v1/models")),
    (2, lambda c: c.ask("GET", "/api/keys")),
    (1, lambda c: c.ask("POST", "/api/keys", {"name": ODD, "scopes": ["nothing"]})),
    (3, lambda c: c.ask("POST", CHAT, {"model": "500", "messages": HI})),
    (2, lambda c: c.ask("POST", CHAT, {"model": "429", "messages": HI})),
    (2, lambda c: c.ask("POST", CHAT, {"model": "401", "messages": HI})),
    (1, lambda c: c.ask("POST", CHAT, {"model": "reset-before", "messages": HI})),
    (1, lambda c: c.ask("POST", CHAT, {"model": "nowhere", "messages": HI})),
    (3, lambda c: c.ask("POST", CHAT, {"model": ODD, "messages": HI})),
    (2, lambda c: c.ask("POST", CHAT, {"model": "m" * 5000, "messages": HI})),
    (2, lambda c: c.ask("POST", CHAT, b"\xff\xfe{garbage")),
    (2, lambda c: c.ask("POST", CHAT, b'{"model":"\\ud800","messages":[{}]}')),
    (2, lambda c: c.ask("GET", "/nothing/%0d%0a%1b%5b2J%ff/" + "x" * 3000)),
    (2, lambda c: c.ask("GET", "/v1/models", key="sk-wrong")),
    (2, lambda c: c.ask("GET", "/v1/models", key="bearer \t sk-stile-" + "0" * 48)),
    (1, lambda c: c.ask("DELETE", CHAT)),
    (1, Caller.leave),
]


@dataclass
class Run:
    lines: list[str]
    calls: list[dict[str, Any]]
    seen: Seen


@pytest.fixture(scope="module")
def run(output: Path, upstream: Upstream) -> Iterator[Run]:
    folder = output / "lines"
    folder.mkdir()
    params = {"api_base": upstream.base, "api_key": leaks.PROVIDER_KEY}
    names = ("ok", "500", "429", "401", "reset-before", "never-ending")
    entries = [{"model_name": name, "litellm_params": {"model": f"openai/{name}", **params}} for name in names]
    entries.append({"model_name": "any-*", "litellm_params": {"model": "openai/*", **params}})
    away = {"model": "openai/x", "api_base": "http://127.0.0.1:9/v1", "api_key": "x"}
    entries.append({"model_name": "nowhere", "litellm_params": away})
    config = folder / "config.yaml"
    # Calls that fail are not tried again, and no target rests: each call is what it is, whatever the others were.
    router = {"num_retries": 0, "allowed_fails": 1_000_000}
    config.write_text(yaml.safe_dump({"model_list": entries, "router_settings": router}))
    seen = Seen()
    with program.running(folder, STILE_CONFIG=str(config)) as gateway:
        kinds = random.Random(8).choices(
            [kind for _, kind in KINDS], [weight for weight, _ in KINDS], k=CALLS - len(KINDS)
        )
        waiting = iter([*(kind for _, kind in KINDS), *kinds])
        faults: list[BaseException] = []
        threads = [
            threading.Thread(target=work, args=(Caller(gateway, seen, n), waiting, seen.lock, faults))
            for n in range(CROWD)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert faults == []
        assert len(seen.statuses) + seen.left + seen.malformed == CALLS
        program.wait_for(lambda: len(gateway.calls()) >= CALLS - seen.malformed, "the lines of all calls")
        gateway.stop()
        lines = gateway.out.read_text().split("\n")
        yield Run([line for line in lines if line.startswith("{")], gateway.calls(), seen)


def work(
    caller: Caller, waiting: Iterator[Callable[[Caller], Any]], lock: threading.Lock, faults: list[BaseException]
) -> None:
    with contextlib.closing(caller):
        while True:
            with lock:
                call = next(waiting, None)
            if call is None:
                return
            try:
                call(caller)
            except BaseException as fault:
                faults.append(fault)
                return


def test_every_call_has_one_line_that_is_as_the_schema_says(run: Run) -> None:
    validator = jsonschema.Draft202012Validator(json.loads(PAGE.read_text()))
    faults = [error.message for line in run.lines for error in validator.iter_errors(json.loads(line))]
    assert faults == []
    ids = [call["request_id"] for call in run.calls]
    assert len(ids) == len(set(ids)) == CALLS - run.seen.malformed
    assert all(line.isprintable() or "\u2028" in line for line in run.lines)


def test_every_line_is_metrics_by_the_specification(run: Run) -> None:
    assert [fault for line in run.lines for fault in check(json.loads(line), size=len(line)) if '"call"' in line] == []
    assert len(Metrics(run.calls).series) == 8  # no cold starts, and no model with a price


def test_the_lines_are_what_clients_saw(run: Run) -> None:
    logged = {call["request_id"]: call["status"] for call in run.calls}
    assert {request_id: logged.get(request_id) for request_id in run.seen.statuses} == run.seen.statuses
    gone = [call for call in run.calls if call["error"] == "client_gone"]
    assert len(gone) == run.seen.left > 0
    kinds = Counter(call["error_kind"] for call in run.calls)
    assert kinds.keys() == {None, "request", "authentication", "throttled", "provider", "client_gone"}


def test_the_lines_are_what_the_provider_served(run: Run) -> None:
    """Clients that left in the middle, and the echo, have tokens of another kind: guessed, or words."""
    own = [call for call in run.calls if call["model"] != "echo" and not call["usage_estimated"]]
    assert sum(call["input_tokens"] or 0 for call in own) == run.seen.served["usage"] * USAGE["prompt_tokens"]
    assert sum(call["output_tokens"] or 0 for call in own) == run.seen.served["usage"] * USAGE["completion_tokens"]
    metrics = Metrics(run.calls)
    stage = {"stage": "local"}
    assert metrics.statistic("Stile", "errors", stage, "SampleCount") == len(run.calls)
    failed = [call for call in run.calls if call["error_kind"] == "provider"]
    assert metrics.statistic("Stile", "errors", stage, "Sum") == len(failed)
    assert {call["model"] for call in failed} == {"500", "401", "reset-before", "nowhere"}
    tokens = sum((call["input_tokens"] or 0) + (call["output_tokens"] or 0) for call in run.calls)
    assert metrics.statistic("Stile", "tokens", stage, "Sum") == tokens


def test_what_callers_chose_is_bounded_and_holds_no_key(run: Run) -> None:
    assert max(len(line) for line in run.lines) < 4096
    text = "\n".join(run.lines)
    assert "sk-ant-0123456789abcdef" not in text
    assert "sk-ant-***" in text
    assert "0" * 48 not in text
