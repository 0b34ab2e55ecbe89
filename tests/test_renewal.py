"""Secrets of the configuration that are rotated while the gateway runs."""

import asyncio
import contextlib
import hashlib
import itertools
import json
import logging
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests import function, program
from tests.mocks import aws, provider, runtime_api
from tests.mocks.aws import Aws
from tests.mocks.provider import Exchange
from tests.program import Answer, Program

from stile.errors import ConfigError
from stile.renewal import EVERY_SECONDS, LEAST_SECONDS, Renewal

HELLO = [{"role": "user", "content": "Hello"}]
ANSWER = {"id": "1", "object": "chat.completion", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}
OLD, NEW, NEWER = "planted-old-key", "planted-new-key", "planted-newer-key"
_numbers = itertools.count(1)


class Fetched:
    """Secrets that are fetched when the test says so. `clock` is turned by hand."""

    def __init__(self, *outcomes: bool | ConfigError) -> None:
        self.clock = 0.0
        self.outcomes = list(outcomes)
        self.times = self.adopted = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.renewal = Renewal(self.fetch, self.adopt, clock=lambda: self.clock)

    async def fetch(self) -> bool:
        self.times += 1
        await self.gate.wait()
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, ConfigError):
            raise outcome
        return outcome

    def adopt(self) -> None:
        self.adopted += 1


def test_they_are_fetched_every_ten_minutes_while_calls_come() -> None:
    async def tell() -> None:
        secrets = Fetched(True, ConfigError(["not now"]), False)
        moments = {
            0: 0,
            EVERY_SECONDS - 1: 0,
            EVERY_SECONDS: 1,
            2 * EVERY_SECONDS - 1: 1,
            2 * EVERY_SECONDS: 2,
            2 * EVERY_SECONDS + LEAST_SECONDS - 1: 2,
            2 * EVERY_SECONDS + LEAST_SECONDS: 3,  # after one that failed
            3 * EVERY_SECONDS + LEAST_SECONDS - 1: 3,
        }
        for clock, times in moments.items():
            secrets.clock = clock
            for _ in range(2):
                secrets.renewal.look()
                await settled()
            assert (clock, secrets.times) == (clock, times)
        assert secrets.adopted == 1

    asyncio.run(tell())


def test_looking_waits_for_nothing_and_begins_one_renewal_only() -> None:
    async def tell() -> None:
        secrets = Fetched(True)
        secrets.gate.clear()
        secrets.clock = EVERY_SECONDS
        for _ in range(3):
            secrets.renewal.look()
            await settled()
            secrets.clock += LEAST_SECONDS
        assert (secrets.times, secrets.adopted) == (1, 0)
        refused = asyncio.create_task(secrets.renewal.now())
        await settled()
        secrets.gate.set()
        assert await refused, "it was under way already"
        assert (secrets.times, secrets.adopted) == (1, 1)

    asyncio.run(tell())


def test_whoever_is_refused_has_them_fetched_but_once_a_minute() -> None:
    async def tell() -> None:
        secrets = Fetched(True, False)
        assert await secrets.renewal.now()
        secrets.clock = LEAST_SECONDS - 1
        assert not await secrets.renewal.now()
        assert (secrets.times, secrets.adopted) == (1, 1)
        secrets.clock = LEAST_SECONDS
        assert not await secrets.renewal.now()
        assert (secrets.times, secrets.adopted) == (2, 1)

    asyncio.run(tell())


def test_a_restored_snapshot_does_not_wait_for_the_minute() -> None:
    async def tell() -> None:
        secrets = Fetched(False, True)
        assert not await secrets.renewal.now()
        assert await secrets.renewal.now(at_once=True)
        assert (secrets.times, secrets.adopted) == (2, 1)
        secrets.clock = LEAST_SECONDS - 1
        assert not await secrets.renewal.now(), "its minute begins anew"

    asyncio.run(tell())


def test_all_that_are_refused_at_once_wait_for_one_renewal() -> None:
    async def tell() -> None:
        secrets = Fetched(True)
        secrets.gate.clear()
        waiting = [asyncio.create_task(secrets.renewal.now(at_once=number == 4)) for number in range(5)]
        await settled()
        secrets.gate.set()
        assert await asyncio.gather(*waiting) == [True] * 5
        assert (secrets.times, secrets.adopted) == (1, 1)

    asyncio.run(tell())


def test_a_caller_who_goes_away_does_not_end_it_for_the_others() -> None:
    async def tell() -> None:
        secrets = Fetched(True)
        secrets.gate.clear()
        first, second = (asyncio.create_task(secrets.renewal.now()) for _ in range(2))
        await settled()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        secrets.gate.set()
        assert await second
        assert (secrets.times, secrets.adopted) == (1, 1)

    asyncio.run(tell())


def test_one_that_fails_leaves_all_as_it_was_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def tell() -> None:
        secrets = Fetched(ConfigError(["the secret is gone"]), True)
        assert not await secrets.renewal.now()
        assert not await secrets.renewal.now(), "not again within the minute"
        assert (secrets.times, secrets.adopted) == (1, 0)
        secrets.clock = LEAST_SECONDS
        assert await secrets.renewal.now()
        assert secrets.adopted == 1

    asyncio.run(tell())
    (record,) = [record for record in caplog.records if record.name == "stile.secrets"]
    assert record.levelno == logging.WARNING
    assert record.getMessage() == "the secrets of the configuration stay as they are: the secret is gone"


def test_what_is_under_way_at_the_end_is_ended() -> None:
    async def tell() -> None:
        secrets = Fetched(True)
        secrets.gate.clear()
        secrets.clock = EVERY_SECONDS
        secrets.renewal.look()
        await settled()
        await secrets.renewal.close()
        secrets.gate.set()
        await settled()
        assert (secrets.times, secrets.adopted) == (1, 0)

    asyncio.run(tell())


def test_where_there_are_none_nothing_is_done() -> None:
    async def tell() -> None:
        renewal = Renewal(None, lambda: None)
        renewal.look()
        assert not await renewal.now(at_once=True)
        await renewal.close()

    asyncio.run(tell())


async def settled() -> None:
    """All that can be done without waiting is done."""
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture(scope="module")
def cloud() -> Iterator[Aws]:
    with tempfile.TemporaryDirectory() as folder, aws.running(Path(folder)) as running:
        yield running


@dataclass
class Picky:
    """A provider that takes one key, `key`, and says of every other one that it is wrong."""

    key: str = OLD
    url: str = ""

    async def __call__(self, exchange: Exchange) -> None:
        good = exchange.call.headers.get("authorization") == f"Bearer {self.key}"
        refusal = {"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}}
        await exchange.answer(200 if good else 401, json.dumps(ANSWER if good else refusal).encode())


@pytest.fixture
def picky() -> Iterator[Picky]:
    found = Picky()
    with provider.on_a_thread(found) as running:
        found.url = running.url
        yield found


@dataclass
class Kept:
    """A key that is kept in AWS, and how a model file comes by it: `said` in the file, `settings` beside it."""

    cloud: Aws
    name: str
    said: str
    wrap: Callable[[str], str]
    settings: dict[str, str]

    def rotate(self, key: str) -> None:
        if self.said.startswith("aws.ssm/"):
            with self.cloud.client("ssm") as ssm:
                ssm.put_parameter(Name=self.name, Value=key, Type="SecureString", Overwrite=True)
            return
        with self.cloud.client("secretsmanager") as secrets:
            secrets.put_secret_value(SecretId=self.name, SecretString=self.wrap(key))

    def delete(self) -> None:
        with self.cloud.client("secretsmanager") as secrets:
            secrets.delete_secret(SecretId=self.name, ForceDeleteWithoutRecovery=True)


WAYS = ["a secret", "a field", "a parameter", "the provider secret"]


def keep(cloud: Aws, way: str) -> Kept:
    """Keep OLD in this way, under a name of its own."""
    name = f"key-{next(_numbers)}"
    if way == "a parameter":
        with cloud.client("ssm") as ssm:
            ssm.put_parameter(Name=name, Value=OLD, Type="SecureString")
        return Kept(cloud, name, f"aws.ssm/{name}", str, {})

    def wrap(key: str) -> str:
        return key if way == "a secret" else json.dumps({"MY_KEY": key})

    arn = cloud.keep(name, wrap(OLD))
    said = {
        "a secret": f"aws.secretsmanager/{name}",
        "a field": f"aws.secretsmanager/{arn}#MY_KEY",
        "the provider secret": "os.environ/MY_KEY",
    }[way]
    return Kept(cloud, name, said, wrap, {"STILE_PROVIDER_SECRET_ARN": arn} if way == "the provider secret" else {})


def settings(cloud: Aws, file: Path, picky: Picky, said: str) -> dict[str, str]:
    """A gateway's environment, and its model file with one target whose key is `said`."""
    params = {"model": "openai/m", "api_base": f"{picky.url}/v1", "api_key": said}
    file.write_text(json.dumps({"model_list": [{"model_name": "m", "litellm_params": params}]}, indent=1))
    allowed = cloud.allowing(secretsmanager_GetSecretValue="*", ssm_GetParameter="*")
    return {**allowed, "STILE_CONFIG": str(file)}


@contextlib.contextmanager
def serving(picky: Picky, folder: Path, kept: Kept) -> Iterator[Program]:
    """A gateway whose key for the provider is kept in AWS; nothing that it wrote holds one."""
    environment = {**settings(kept.cloud, folder / "config.yaml", picky, kept.said), **kept.settings}
    with program.running(folder / "gateway", **environment) as gateway:
        yield gateway
        assert gateway.stop() == 0
        assert "planted" not in gateway.out.read_text() + gateway.err.read_text()


def chat(gateway: Program) -> Answer:
    return gateway.ask("POST", "/v1/chat/completions", {"model": "m", "messages": HELLO})


def outcome(answer: Answer) -> tuple[int, str]:
    """Its status, and how many attempts it took."""
    return answer.status, answer.headers["x-stile-attempts"]


@pytest.mark.parametrize("way", WAYS)
def test_a_rotated_key_is_fetched_when_the_old_one_is_refused_and_the_call_succeeds(
    cloud: Aws, picky: Picky, folder: Path, way: str
) -> None:
    kept = keep(cloud, way)
    with serving(picky, folder, kept) as gateway:
        assert outcome(chat(gateway)) == (200, "1")
        kept.rotate(NEW)
        picky.key = NEW
        answer = chat(gateway)
        assert outcome(answer) == (200, "2")
        line = gateway.line_of(answer.headers["x-request-id"])
        assert (line["status"], line["attempts"]) == (200, 2)
        assert line["failed_attempts"] == ["openai/m unauthorized"]
        assert outcome(chat(gateway)) == (200, "1"), "the new one is kept"
        kept.rotate(NEWER)
        picky.key = NEWER
        refused = chat(gateway)
        assert outcome(refused) == (401, "1"), "within the minute it is not fetched again, though that would help"
        assert refused.error["code"] == "invalid_api_key"


def test_a_key_that_is_refused_though_it_is_the_newest_is_told(cloud: Aws, picky: Picky, folder: Path) -> None:
    with serving(picky, folder, keep(cloud, "a secret")) as gateway:
        picky.key = "another"
        refused = chat(gateway)
        assert outcome(refused) == (401, "1")
        assert refused.error["message"] == "Incorrect API key provided"


def test_while_it_cannot_be_fetched_the_old_key_stays(cloud: Aws, picky: Picky, folder: Path) -> None:
    kept = keep(cloud, "a secret")
    with serving(picky, folder, kept) as gateway:
        kept.delete()
        picky.key = NEW
        assert outcome(chat(gateway)) == (401, "1")
        (warning,) = [line for line in gateway.lines() if line.get("logger") == "stile.secrets"]
        assert "stay as they are" in warning["message"]
        assert f"{kept.said}: it cannot be read (" in warning["message"]
        picky.key = OLD
        assert outcome(chat(gateway)) == (200, "1")


@pytest.mark.parametrize("way", ["a field", "the provider secret"])
def test_after_a_restore_the_first_call_has_the_newest_key(cloud: Aws, picky: Picky, folder: Path, way: str) -> None:
    kept, token = keep(cloud, way), "0" * 64
    environment = {
        **settings(cloud, folder / "config.yaml", picky, kept.said),
        **kept.settings,
        "STILE_HOME": str(folder / "home"),
        "STILE_BOOTSTRAP_SHA256": hashlib.sha256(token.encode()).hexdigest(),
    }
    command = [sys.executable, str(program.APP)]
    with (
        runtime_api.running(snap_start=True) as api,
        function.running(folder, api, command, task_root=function.ROOT, **environment) as running,
    ):
        api.restoring()
        kept.rotate(NEW)
        picky.key = NEW
        api.restore()
        asked = {"token": token, "email": "admin@example.com"}
        made = api.invoke(event("/api/bootstrap", asked))
        key = json.loads(made.body())["key"]
        answer = api.invoke(event("/v1/chat/completions", {"model": "m", "messages": HELLO}, key))
        assert json.loads(answer.body()) == ANSWER
        api.waiting()
        assert running.terminate() == 0
        last = json.loads(running.out.read_text().splitlines()[-1])
        assert (last["model"], last["status"], last["attempts"]) == ("m", 200, 1), "the old key was not tried"
        assert "planted" not in running.out.read_text() + running.err.read_text()


def event(path: str, body: object, key: str = "") -> dict[str, object]:
    """One request as API Gateway hands it to a function."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return {"httpMethod": "POST", "path": path, "headers": headers, "requestContext": {}, "body": json.dumps(body)}


def test_a_start_that_cannot_read_references_names_each_with_its_line_and_why(
    cloud: Aws, picky: Picky, folder: Path
) -> None:
    file = folder / "config.yaml"
    cloud.keep("no-object", "planted text")
    environment = settings(cloud, file, picky, "aws.secretsmanager/nowhere")
    entry = json.loads(file.read_text())["model_list"][0]
    keys = ["aws.secretsmanager/nowhere", "aws.secretsmanager/no-object#A", "aws.ssm/nowhere", "aws.ssm/"]
    lines = [json.dumps({**entry, "litellm_params": {**entry["litellm_params"], "api_key": key}}) for key in keys]
    file.write_text("model_list:\n" + "".join(f"- {line}\n" for line in lines))
    ended = program.run(env=program.environment(folder / "home", **environment))
    assert ended.returncode == 1
    said = ended.stderr.splitlines()
    assert len(said) == 4, ended.stderr
    for number, (line, key) in enumerate(zip(said, keys, strict=True), start=2):
        assert f"{file}:{number}: {key}: " in line
    assert "there is no such secret" in said[0]
    assert "it is no JSON object, so it has no fields" in said[1]
    assert "there is no such parameter" in said[2]
    assert "a name or an ARN must follow aws.ssm/" in said[3]
    assert "planted" not in ended.stdout + ended.stderr


@pytest.mark.parametrize("field", ["api_base", "model", "custom_llm_provider"])
def test_a_reference_in_a_wrong_field_is_told_without_what_it_stands_for(
    cloud: Aws, picky: Picky, folder: Path, field: str
) -> None:
    name = f"misplaced-{field}"
    cloud.keep(name, json.dumps({"OPENAI_API_KEY": "planted/key", "OTHER": "planted"}, indent=1))
    environment = settings(cloud, folder / "config.yaml", picky, "x")
    params = {"model": "openai/m", "api_key": "x", field: f"aws.secretsmanager/{name}"}
    (folder / "config.yaml").write_text(json.dumps({"model_list": [{"model_name": "m", "litellm_params": params}]}))
    ended = program.run(env=program.environment(folder / "home", **environment))
    assert ended.returncode == 1
    assert f"{folder / 'config.yaml'}:1: " in ended.stderr
    assert "planted" not in ended.stdout + ended.stderr
    assert "OPENAI_API_KEY" not in ended.stdout + ended.stderr
