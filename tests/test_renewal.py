"""Secrets of the configuration that are rotated while the gateway runs."""

import asyncio
import json
import logging
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import program
from tests.mocks import aws, provider
from tests.mocks.aws import Aws
from tests.mocks.provider import Exchange, Provider

from stile.errors import ConfigError
from stile.renewal import EVERY_SECONDS, LEAST_SECONDS, Renewal

HELLO = {"messages": [{"role": "user", "content": "Hello"}]}
ANSWER = {"id": "1", "object": "chat.completion", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}
OLD, NEW = "planted-old-key", "planted-new-key"


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


def story(tell: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await tell()

    asyncio.run(run())


def test_they_are_fetched_every_ten_minutes_while_calls_come() -> None:
    async def tell() -> None:
        secrets = Fetched(True, ConfigError(["not now"]), False)
        moments = {
            EVERY_SECONDS - 1: 0,
            EVERY_SECONDS: 1,
            2 * EVERY_SECONDS - 1: 1,
            2 * EVERY_SECONDS: 2,
            2 * EVERY_SECONDS + LEAST_SECONDS - 1: 2,
            2 * EVERY_SECONDS + LEAST_SECONDS: 3,  # after one that failed
        }
        for clock, times in moments.items():
            secrets.clock = clock
            for _ in range(2):
                secrets.renewal.look()
                await settled()
            assert secrets.times == times
        assert secrets.adopted == 1

    story(tell)


async def settled() -> None:
    """All that can be done without waiting is done."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_whoever_is_refused_has_them_fetched_but_once_a_minute() -> None:
    async def tell() -> None:
        secrets = Fetched(True, False, True)
        assert await secrets.renewal.now()
        secrets.clock = LEAST_SECONDS - 1
        assert not await secrets.renewal.now()
        assert (secrets.times, secrets.adopted) == (1, 1)
        secrets.clock = LEAST_SECONDS
        assert not await secrets.renewal.now()
        assert (secrets.times, secrets.adopted) == (2, 1)
        assert await secrets.renewal.now(at_once=True), "a restored snapshot does not wait"
        assert (secrets.times, secrets.adopted) == (3, 2)

    story(tell)


def test_all_that_are_refused_at_once_wait_for_one_renewal() -> None:
    async def tell() -> None:
        secrets = Fetched(True)
        secrets.gate.clear()
        waiting = [asyncio.create_task(secrets.renewal.now()) for _ in range(5)]
        await asyncio.sleep(0)
        secrets.gate.set()
        assert await asyncio.gather(*waiting) == [True] * 5
        assert (secrets.times, secrets.adopted) == (1, 1)

    story(tell)


def test_one_that_fails_leaves_all_as_it_was_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def tell() -> None:
        secrets = Fetched(ConfigError(["the secret is gone"]), True)
        assert not await secrets.renewal.now()
        assert secrets.adopted == 0
        secrets.clock = LEAST_SECONDS
        assert await secrets.renewal.now()
        await secrets.renewal.close()

    with caplog.at_level(logging.WARNING):
        story(tell)
    assert "stay as they are: the secret is gone" in caplog.text


def test_where_there_are_none_nothing_is_done() -> None:
    async def tell() -> None:
        renewal = Renewal(None, lambda: None)
        renewal.look()
        assert not await renewal.now(at_once=True)
        await renewal.close()

    story(tell)


@pytest.fixture(scope="module")
def cloud() -> Iterator[Aws]:
    with tempfile.TemporaryDirectory() as folder, aws.running(Path(folder)) as running:
        yield running


@pytest.fixture
def picky() -> Iterator[Provider]:
    """A provider that takes one key; `taken` says which."""
    taken = {"key": OLD}

    async def script(exchange: Exchange) -> None:
        good = exchange.call.headers.get("authorization") == f"Bearer {taken['key']}"
        refusal = {"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}}
        await exchange.answer(200 if good else 401, json.dumps(ANSWER if good else refusal).encode())

    with provider.on_a_thread(script) as running:
        running.taken = taken  # type: ignore[attr-defined]
        yield running


def rotate(cloud: Aws, name: str, text: str) -> None:
    with cloud.client("secretsmanager") as secrets:
        secrets.put_secret_value(SecretId=name, SecretString=text)


def settings(cloud: Aws, file: Path, picky: Provider, key: str, **more: str) -> dict[str, str]:
    """A gateway's environment, and its model file with one target."""
    params = {"model": "openai/m", "api_base": f"{picky.url}/v1", "api_key": key}
    file.write_text(json.dumps({"model_list": [{"model_name": "m", "litellm_params": params}]}))
    return {**cloud.allowing(secretsmanager_GetSecretValue="*"), "STILE_CONFIG": str(file), **more}


def chat(gateway: program.Program) -> Any:
    return gateway.ask("POST", "/v1/chat/completions", {"model": "m", **HELLO})


@pytest.mark.parametrize("by", ["reference", "provider secret"])
def test_a_rotated_key_is_fetched_when_the_old_one_is_refused_and_the_call_succeeds(
    cloud: Aws, picky: Provider, folder: Path, by: str
) -> None:
    name = f"rotated-{by.partition(' ')[0]}"
    texts = {key: key if by == "reference" else json.dumps({"MY_KEY": key}) for key in (OLD, NEW)}
    arn = cloud.keep(name, texts[OLD])
    key = f"aws.secretsmanager/{name}" if by == "reference" else "os.environ/MY_KEY"
    more = {} if by == "reference" else {"STILE_PROVIDER_SECRET_ARN": arn}
    environment = settings(cloud, folder / "config.yaml", picky, key, **more)
    with program.running(folder / "gateway", **environment) as gateway:
        assert chat(gateway).headers["x-stile-attempts"] == "1"
        picky.taken["key"] = NEW  # type: ignore[attr-defined]
        rotate(cloud, name, texts[NEW])
        answer = chat(gateway)
        assert (answer.status, answer.headers["x-stile-attempts"]) == (200, "2")
        line = gateway.line_of(answer.headers["x-request-id"])
        assert line["failed_attempts"] == ["openai/m unauthorized"]
        picky.taken["key"] = "another"  # type: ignore[attr-defined]
        refused = chat(gateway)
        assert (refused.status, refused.headers["x-stile-attempts"]) == (401, "1"), "not twice within a minute"
        assert refused.error["code"] == "invalid_api_key"
        assert "planted" not in gateway.out.read_text()


def test_a_start_that_cannot_read_a_reference_says_which_and_why(cloud: Aws, picky: Provider, folder: Path) -> None:
    file = folder / "config.yaml"
    environment = settings(cloud, file, picky, "aws.secretsmanager/nowhere")
    ended = program.run(env=program.environment(folder / "home", **environment))
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"stile: {file}:1: aws.secretsmanager/nowhere: it cannot be read (")
    assert "there is no such secret" in ended.stderr
