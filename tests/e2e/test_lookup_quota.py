"""Many processes, many keys, and one quota for all their lookups: calls wait, or are told to come back, and no good key
is called bad."""

import asyncio
import concurrent.futures
import contextlib
import http.client
import random
import secrets
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests import program
from tests.mocks import cognito
from tests.mocks.cognito import Cognito
from tests.program import Program

from stile.adapters import user_pool
from stile.adapters.aws_client import AwsClient
from stile.adapters.directory_cognito import CognitoDirectory
from stile.core import keys
from stile.core.keys import Pepper
from stile.core.records import KeyRecord, SecretHash, Standing, slot_attribute
from stile.entries import ROLE, Entries
from stile.ports import Change

PROCESSES, USERS = 20, 50
KEYS = USERS * keys.SLOTS
QUOTA = 120  # AdminGetUser a second: what AWS allows an account in a region
SECONDS = 15
CLIENTS = 64
SLACK_SECONDS = 10  # the processes, their clients and the emulator share two cores


@dataclass
class Seen:
    """What clients were told, by status, and how long they waited."""

    told: "Counter[int]" = field(default_factory=Counter)
    waited: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, answer: http.client.HTTPResponse, seconds: float) -> None:
        with self.lock:
            self.told[answer.status] += 1
            self.waited.append(seconds)
            if answer.status != 200 and (answer.status != 503 or int(answer.headers.get("retry-after", 0)) < 1):
                self.faults.append(f"{answer.status} {answer.headers}")


@pytest.fixture
def pool(output: Path) -> Iterator[Cognito]:
    with cognito.running(output / "quota") as running:
        yield running


def make_keys(pool: Cognito) -> list[str]:
    """All keys, written into the pool as the gateway would have written them."""
    with pool.aws.client("secretsmanager") as client:
        pepper = keys.read_pepper(client.get_secret_value(SecretId=pool.pepper)["SecretString"])

    async def make() -> list[str]:
        client = AwsClient(pool.environment())
        try:
            directory = CognitoDirectory(client, pool.pool_id, window=5)
            made = await asyncio.gather(*(_make_user(directory, pepper, number) for number in range(USERS)))
        finally:
            await client.close()
        return [text for texts in made for text in texts]

    return asyncio.run(make())


async def _make_user(directory: CognitoDirectory, pepper: Pepper, number: int) -> list[str]:
    user_id = (await directory.create(f"user{number}@example.com")).user_id
    values: dict[str, object] = {ROLE: Standing("member")}
    texts = []
    for slot in range(1, keys.SLOTS + 1):
        key_id = keys.make_id(pepper.newest, user_id, slot, secrets.token_bytes(keys.NONCE_BYTES))
        texts.append(pepper.mint(key_id, secrets.token_bytes(keys.SECRET_BYTES)))
        presented = keys.parse(texts[-1])
        assert presented is not None
        values[slot_attribute(slot)] = KeyRecord(key_id.text, (SecretHash(pepper.digest(presented)),), "k", 0)
    entries = Entries(pepper)
    await directory.write(
        user_id, {name: Change(None, entries.write(user_id, name, value)) for name, value in values.items()}
    )
    return texts


@pytest.fixture
def gateways(pool: Cognito, output: Path) -> Iterator[Sequence[Program]]:
    settings = pool.environment(STILE_KEY_CACHE_SECONDS="5")
    with contextlib.ExitStack() as stack, concurrent.futures.ThreadPoolExecutor(4) as threads:
        starts = [
            threads.submit(program.start, output / f"quota-{number}", output / f"quota-{number}" / "home", **settings)
            for number in range(PROCESSES)
        ]
        for start in starts:
            running = start.result()
            stack.callback(running.process.wait)
            stack.callback(running.process.kill)
        yield [start.result() for start in starts]


def load(gateways: Sequence[Program], texts: Sequence[str], seen: Seen, until: float) -> None:
    """One client: any key at any process, one call after another."""
    chance = random.Random()
    while time.monotonic() < until:
        connection = http.client.HTTPConnection(*chance.choice(gateways).address, timeout=60)
        with contextlib.closing(connection):
            began = time.monotonic()
            connection.request("GET", "/v1/models", headers={"authorization": f"Bearer {chance.choice(texts)}"})
            answer = connection.getresponse()
            answer.read()
            seen.add(answer, time.monotonic() - began)


def test_lookups_beyond_the_quota_wait_or_are_told_to_come_back(pool: Cognito, gateways: Sequence[Program]) -> None:
    texts = make_keys(pool)
    assert len(set(texts)) == KEYS
    seen = Seen()
    pool.calls.clear()
    pool.bucket(QUOTA)
    until = time.monotonic() + SECONDS
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as threads:
        for client in [threads.submit(load, gateways, texts, seen, until) for _ in range(CLIENTS)]:
            client.result()
    asked = pool.calls["AdminGetUser"]
    print(  # noqa: T201 (shown with -s: what the quota was good for)
        f"{dict(seen.told)}, {asked} lookups asked for, waited {statistics.median(seen.waited):.2f} s (median), "
        f"{max(seen.waited):.2f} s at most"
    )
    assert seen.faults == []
    assert seen.told[200] >= QUOTA * SECONDS / 2, "the quota is made use of"
    assert max(seen.waited) < user_pool.SECONDS + SLACK_SECONDS
