"""The content log: what was asked and answered is kept only where the deployment says so, as much as it says, apart
from everything else, and without keys. What cannot be kept costs no call."""

import contextlib
import http.client
import json
import resource
import secrets
import stat
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests import function, leaks, program, rpc
from tests.function import ROOT, Function
from tests.mocks import aws, provider, runtime_api
from tests.mocks.aws import REGION, Aws
from tests.mocks.provider import Exchange, Provider
from tests.mocks.runtime_api import RuntimeApi
from tests.mocks.runtime_invocation import Invocation
from tests.program import Answer, wait_for
from tests.stage import Stage, chat, whole_chat

CHAT = "/v1/chat/completions"
LIMIT = 4000
SECRET = "planted/of-no~known.shape:0123456789"  # goes up with each call
FIELDS = {"time", "request_id", "user_id", "key_id", "model", "status", "request", "answer", "event"}
GROUP = "/aws/lambda/stile-content"


@dataclass
class Kept(Stage):
    """A gateway that keeps content, and its provider."""

    log: Path

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_bytes().split(b"\n")[:-1]]

    def line_of(self, answer: Answer) -> dict[str, Any]:
        """The line of one call; it is written behind the answer, so it may be a moment away."""
        request_id = answer.headers["x-request-id"]
        found = wait_for(lambda: [one for one in self.lines() if one["request_id"] == request_id], "a line")
        assert len(found) == 1
        return found[0]

    def nothing_of(self, answer: Answer) -> bool:
        """Whether a call that is over has left no line: the next one's is there, and none of it."""
        self.gateway.line_of(answer.headers["x-request-id"])
        self.says(whole_chat())
        self.line_of(self.ask(CHAT, asking("the next one")))
        return all(one["request_id"] != answer.headers["x-request-id"] for one in self.lines())


def asking(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "chat", "messages": [{"role": "user", "content": text}], **more}


def canary() -> str:
    return f"canary-{secrets.token_hex(8)}"


def model_file(folder: Path, upstream: Provider) -> str:
    """A file with `chat`, which relays to the provider."""
    told = {
        "model": "openai/scripted",
        "api_base": f"{upstream.url}/v1",
        "api_key": leaks.PROVIDER_KEY,
        "extra_headers": {"x-tenant": SECRET},
    }
    folder.mkdir(exist_ok=True)
    file = folder / "config.yaml"
    entry = {"model_name": "chat", "litellm_params": told}
    file.write_text(json.dumps({"model_list": [entry], "router_settings": {"num_retries": 0}}))
    return str(file)


@contextlib.contextmanager
def keeping(folder: Path, **settings: str) -> Iterator[Kept]:
    """A gateway until the block ends; without settings it keeps no content."""
    with provider.on_a_thread(provider.status(200, whole_chat())) as upstream:
        config = model_file(folder, upstream)
        with program.running(folder / "gateway", STILE_CONFIG=config, **settings) as gateway:
            yield Kept(gateway, upstream, gateway.home / "content.log")


@pytest.fixture(scope="module")
def kept(output: Path) -> Iterator[Kept]:
    with keeping(Path(tempfile.mkdtemp(dir=output)), STILE_CONTENT_BYTES=str(LIMIT)) as running:
        yield running


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


# --- whether ---


@pytest.mark.parametrize("settings", [{}, {"STILE_CONTENT_BYTES": "0", "STILE_CONTENT_LOG": "content.log"}])
def test_nothing_is_kept_anywhere_unless_it_is_asked_for(folder: Path, settings: dict[str, str]) -> None:
    asked, said = canary(), canary()
    with keeping(
        folder, **{name: text.replace("content", f"{folder}/content") for name, text in settings.items()}
    ) as it:
        it.says(whole_chat({"content": said}))
        assert said in it.ask(CHAT, asking(asked)).body.decode()
        it.says(chat({"content": said}))
        assert said in it.ask(CHAT, asking(asked, stream=True)).body.decode()
        it.says({"error": {"message": said}}, 400)
        refused = it.ask(CHAT, asking(asked))
        it.gateway.line_of(refused.headers["x-request-id"])
        assert not list(folder.rglob("content.log"))
        assert it.gateway.stop() == 0
    found = everything_in(folder)
    assert b"chat/completions" in found
    assert (asked.encode() in found, said.encode() in found) == (False, False)


def test_a_call_is_kept_in_a_file_that_only_its_owner_can_read(kept: Kept) -> None:
    body = asking(f"Grüße, {canary()}")
    kept.says(whole_chat({"content": "世界"}))
    answer = kept.ask(CHAT, body)
    line, call = kept.line_of(answer), kept.gateway.line_of(answer.headers["x-request-id"])
    assert line.keys() == FIELDS
    assert {name: line[name] for name in FIELDS & call.keys() - {"event"}} == {
        name: call[name] for name in FIELDS & call.keys() - {"event"}
    }
    assert (line["event"], json.loads(line["request"]), line["answer"]) == ("content", body, answer.body.decode())
    assert stat.S_IMODE(kept.log.stat().st_mode) == 0o600


def test_content_is_in_no_other_place(kept: Kept) -> None:
    asked, said = canary(), canary()
    kept.says(whole_chat({"content": said}))
    assert said in kept.line_of(kept.ask(CHAT, asking(asked)))["answer"]
    elsewhere = b"".join(path.read_bytes() for path in (kept.gateway.out, kept.gateway.err))
    assert (asked.encode() in elsewhere, said.encode() in elsewhere) == (False, False)


@pytest.mark.parametrize("mode", [0o644, 0o660])
def test_a_start_with_a_file_that_others_can_read_is_refused(folder: Path, mode: int) -> None:
    log = folder / "of-all.log"
    log.touch()
    log.chmod(mode)
    settings = {"STILE_CONTENT_BYTES": "10", "STILE_CONTENT_LOG": str(log)}
    ended = program.run(env=program.environment(folder / "home", **settings))
    assert ended.returncode == 1
    assert f"stile: STILE_CONTENT_LOG: {log} can be read by others" in ended.stderr


# --- how much ---


@pytest.mark.parametrize("shift", range(4))
def test_what_is_too_long_is_cut_between_two_characters(kept: Kept, shift: int) -> None:
    text = "x" * shift + "🎉" * LIMIT
    body = json.dumps(asking(text), ensure_ascii=False).encode()
    kept.says(json.dumps(whole_chat({"content": text}), ensure_ascii=False).encode())
    answer = kept.ask(CHAT, body)
    line = kept.line_of(answer)
    for whole, part in ((body, line["request"]), (answer.body, line["answer"])):
        assert whole.startswith(part.encode())
        assert LIMIT - 4 < len(part.encode()) <= LIMIT


@pytest.mark.parametrize("path", [CHAT, "/v1/responses", "/v1/messages"])
def test_of_a_stream_the_events_are_kept_that_went_out(kept: Kept, path: str) -> None:
    kept.says(chat(*({"content": f"word {number} "} for number in range(200))))
    body = asking("count", stream=True, max_tokens=10)
    if path == "/v1/responses":
        body = {"model": "chat", "input": "count", "stream": True}
    answer = kept.ask(path, body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    line = kept.line_of(answer)
    assert len(answer.body) > LIMIT
    assert line["answer"].encode() == answer.body[:LIMIT]
    assert "word 1" in line["answer"]


def test_of_a_stream_that_its_client_leaves_the_beginning_is_kept(kept: Kept) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.start("text/event-stream")
        await exchange.chunk(chat({"content": "begun"})[0])
        await exchange.hung_up()

    kept.provider.script = script
    connection = http.client.HTTPConnection(*kept.gateway.address, timeout=provider.SETTLED)
    with contextlib.closing(connection):
        headers = {"authorization": f"Bearer {kept.gateway.key}", "content-type": "application/json"}
        connection.request("POST", CHAT, json.dumps(asking("go on", stream=True)), headers)
        response = connection.getresponse()
        read = response.read1()
        assert connection.sock is not None
        response.close()
    request_id = str(response.headers["x-request-id"])
    line = kept.line_of(Answer(200, {"x-request-id": request_id}, b""))
    assert (line["status"], line["answer"].encode()) == (499, read)


def test_a_failure_is_kept_as_it_was_told(kept: Kept) -> None:
    kept.says({"error": {"message": "The prompt is too rude.", "type": "x", "code": "rude"}}, 400)
    answer = kept.ask(CHAT, asking("rude"))
    line = kept.line_of(answer)
    assert (line["status"], line["answer"]) == (400, answer.body.decode())
    unreadable = kept.ask(CHAT, b'{"model": "chat", "messages": ')
    line = kept.line_of(unreadable)
    assert (line["status"], line["request"]) == (400, '{"model": "chat", "messages": ')


@pytest.mark.parametrize("body", [b"\xff\xfe\x00", b'{"model":"\xed\xa0\x80"}', b"\0" * 10, b"a\nb\r\n\xe2\x80\xa8c"])
def test_what_is_no_text_is_still_one_line(kept: Kept, body: bytes) -> None:
    line = kept.line_of(kept.ask(CHAT, body))
    assert line["request"] == body.decode("utf-8", "ignore")


# --- without what must not be there ---


def test_keys_are_blotted_out_of_both(kept: Kept) -> None:
    keys = (kept.gateway.key, leaks.PROVIDER_KEY, SECRET)
    kept.says(whole_chat({"content": " ".join(keys)}))
    line = kept.line_of(kept.ask(CHAT, asking(" ".join(keys))))
    for text in (line["request"], line["answer"]):
        assert text.count("***") == len(keys)
        assert not any(key[9:] in text for key in keys)


def test_of_a_key_that_does_not_fit_nothing_is_kept(kept: Kept) -> None:
    for key in (kept.gateway.key, SECRET):
        for part in range(10, len(key), 7):
            body = json.dumps(asking("a" * LIMIT)).encode()[: LIMIT - part] + key.encode() + b'"}]}'
            kept.says(b"a" * (LIMIT - part) + key.encode())
            line = kept.line_of(kept.ask(CHAT, body))
            for text in (line["request"], line["answer"]):
                assert len(text) > LIMIT - 2 * len(key)
                assert key[:10] not in text, part


def test_who_has_no_key_leaves_no_content(kept: Kept) -> None:
    for key in (None, "sk-stile-made-up", f"sk-stile-{'0' * 48}-{'a' * 59}"):
        answer = kept.gateway.ask("POST", CHAT, asking(canary()), key=key)
        assert answer.status == 401
        assert kept.nothing_of(answer)


def test_management_is_never_kept(kept: Kept) -> None:
    gateway, name = kept.gateway, canary()
    user = gateway.ask("POST", "/api/users", {"email": f"{name}@example.com"})
    made = gateway.ask("POST", f"/api/users/{user.json['id']}/keys", {"name": name})
    changed = gateway.ask("PATCH", f"/api/keys/{made.json['id']}", {"name": name})
    assert [answer.status for answer in (user, made, changed)] == [201, 201, 200]
    assert kept.nothing_of(changed)
    assert name not in kept.log.read_text()
    assert made.json["key"][-59:] not in kept.log.read_text()


@pytest.mark.parametrize("revision", rpc.REVISIONS)
def test_a_key_that_an_agent_makes_is_never_kept(kept: Kept, revision: str) -> None:
    name = canary()
    answer = rpc.Client(kept.gateway, revision).ask(
        "tools/call", {"name": "create_key", "arguments": {"name": name, "scopes": ["inference"]}}
    )
    assert answer.status == 200
    (key,) = set(program.KEY.findall(answer.body.decode()))
    assert kept.nothing_of(answer)
    assert (name in kept.log.read_text(), key[-59:] in kept.log.read_text()) == (False, False)


# --- what cannot be kept ---


def test_a_full_disk_costs_no_call_and_is_told_once(folder: Path) -> None:
    with keeping(folder, STILE_CONTENT_BYTES="65536") as it:
        for _ in range(12):  # so that no other file of the process is as large
            it.line_of(it.ask(CHAT, asking("a" * 65536)))
        full, before = it.log.stat().st_size, len(it.lines())
        _, hard = resource.prlimit(it.gateway.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(it.gateway.process.pid, resource.RLIMIT_FSIZE, (full, hard))
        for number in range(10):
            it.says(chat({"content": "x"}) if number % 2 else whole_chat())
            assert it.ask(CHAT, asking(canary(), stream=bool(number % 2))).status == 200
        assert len(it.lines()) == before
        resource.prlimit(it.gateway.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
        it.says(whole_chat())
        assert "room again" in it.line_of(it.ask(CHAT, asking("room again")))["request"]
        told = [line for line in it.gateway.lines() if line["event"] == "log"]
        assert [(line["level"], line["logger"]) for line in told] == [("warning", "stile.content")]
        assert "a line was lost: File too large; is the disk full?" in told[0]["message"]


# --- in a function ---


@pytest.fixture(scope="module")
def cloud(output: Path) -> Iterator[Aws]:
    with aws.running(Path(tempfile.mkdtemp(dir=output))) as running:
        with running.client("logs") as logs:
            logs.create_log_group(logGroupName=GROUP)
        yield running


class InFunction:
    """A gateway in a function that runs, with an admin's key."""

    def __init__(self, api: RuntimeApi, running: Function, key: str) -> None:
        self.api = api
        self.running = running
        self._key = key

    def ask(self, text: str, **more: Any) -> Invocation:
        event = {
            "httpMethod": "POST",
            "path": CHAT,
            "headers": {"authorization": f"Bearer {self._key}"},
            "requestContext": {"requestId": "from-the-api"},
            "body": json.dumps(asking(text, **more)),
        }
        return self.api.invoke(event)

    def told(self) -> list[str]:
        lines = [json.loads(line) for line in self.running.out.read_text().splitlines()]
        return [line["message"] for line in lines if line["event"] == "log" and line["logger"] == "stile.content"]


@contextlib.contextmanager
def in_function(folder: Path, settings: dict[str, str], *, snap_start: bool = False) -> Iterator[InFunction]:
    """The function until the block ends."""
    with provider.on_a_thread(provider.status(200, whole_chat())) as upstream:
        home, config = folder / "home", model_file(folder, upstream)
        with program.running(folder) as before:  # makes the first admin
            key = before.key
        given = {
            "STILE_HOME": str(home),
            "STILE_CONFIG": config,
            "STILE_CONTENT_BYTES": str(LIMIT),
            "STILE_CONTENT_LOG": f"cloudwatch:{GROUP}",
            "AWS_SESSION_TOKEN": "",
            **settings,
        }
        command = [sys.executable, str(ROOT / "app.py")]
        with (
            runtime_api.running(snap_start=snap_start) as api,
            function.running(folder, api, command, task_root=ROOT, **given) as running,
        ):
            yield InFunction(api, running, key)


def allowed(cloud: Aws) -> dict[str, str]:
    return cloud.allowing(logs_CreateLogStream="*", logs_PutLogEvents="*")


def at(logs: Provider) -> dict[str, str]:
    """The environment of somebody for whom CloudWatch is a script."""
    return {
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "planted",
        "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": logs.url,
    }


def in_group(cloud: Aws) -> list[tuple[str, dict[str, Any]]]:
    """Stream and line of everything in the log group."""
    with cloud.client("logs", REGION) as logs:
        found = logs.filter_log_events(logGroupName=GROUP)["events"]
    return [(event["logStreamName"], json.loads(event["message"])) for event in found]


def test_a_functions_content_is_in_the_log_group_when_it_can_freeze(folder: Path, cloud: Aws) -> None:
    with in_function(folder, allowed(cloud)) as it:
        text = canary()
        invocation = it.ask(text)
        answer = invocation.body()
        it.api.waiting()
        it.running.freeze()
        ((_, line),) = [one for one in in_group(cloud) if text in one[1]["request"]]
        assert line["answer"] == answer.decode()
        assert line["request_id"] == invocation.head().headers["x-request-id"]
        assert text not in it.running.out.read_text()
        assert it.told() == []


def test_nothing_of_a_stream_is_in_a_snapshot(folder: Path) -> None:
    with (
        provider.on_a_thread(provider.status(200, {})) as logs,
        in_function(folder, at(logs), snap_start=True) as it,
    ):
        it.api.restoring()
        assert logs.calls == []
        it.api.restore()
        it.ask(canary()).body()
        it.api.waiting()
        targets = [call.headers["x-amz-target"].partition(".")[2] for call in logs.calls]
        assert targets == ["CreateLogStream", "PutLogEvents"]


def test_a_log_group_that_does_not_answer_holds_up_one_call_a_little_and_no_answer(folder: Path) -> None:
    read = threading.Event()
    in_time: list[bool] = []

    async def script(exchange: Exchange) -> None:
        await exchange.hung_up()
        in_time.append(read.is_set())

    with provider.on_a_thread(script) as logs, in_function(folder, at(logs)) as it:
        for _ in range(3):
            invocation = it.ask(canary())
            assert invocation.head().status == 200
            assert json.loads(invocation.body()) == whole_chat()
            read.set()
            it.api.waiting()
        assert in_time == [True], "later calls leave it in peace"
        (told,) = it.told()
        assert "TimedOut: there was no answer within 2 seconds" in told


def test_a_log_group_that_refuses_costs_no_call(folder: Path, cloud: Aws) -> None:
    with in_function(folder, cloud.allowing(logs_CreateLogStream="*")) as it:
        for _ in range(3):
            invocation = it.ask(canary())
            assert json.loads(invocation.body()) == whole_chat()
        it.api.waiting()
        (told,) = it.told()
        assert told.startswith(f"STILE_CONTENT_LOG: cloudwatch:{GROUP}: a line was lost: AccessDenied")
