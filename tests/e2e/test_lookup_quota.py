"""Many processes, many keys, and one quota for all their lookups: calls wait, or are told to come back, and no good key
is called bad."""

import asyncio
import concurrent.futures
import contextlib
import json
import random
import re
import secrets
import statistics
import time
from collections import defaultdict
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
CLIENTS = 600  # each with one call at a time: more than the quota can answer before a lookup's time is over
SLACK_SECONDS = 10  # the processes, their clients and the emulator share two cores


@dataclass
class Seen:
    """How long clients waited, by the status that they were told, and what they should never be told."""

    waited: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    faults: list[str] = field(default_factory=list)

    def add(self, head: str, body: bytes, seconds: float) -> None:
        status = int(head.split(" ")[1])
        self.waited[status].append(seconds)
        later = status == 503 and re.search(r"\r\nretry-after: [1-9]", head, re.IGNORECASE)
        if status != 200 and not (later and json.loads(body)["error"]["code"] == "directory_unavailable"):
            self.faults.append(f"{head} {body!r}")


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


async def load(gateways: Sequence[Program], texts: Sequence[str], seen: Seen, until: float) -> None:
    """One client: any key at any process, one call after another."""
    chance = random.Random()
    while time.monotonic() < until:
        began = time.monotonic()
        reader, writer = await asyncio.open_connection(*chance.choice(gateways).address)
        try:
            key = chance.choice(texts)
            asked = f"GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {key}\r\n\r\n"
            writer.write(asked.encode())
            head, _, body = (await asyncio.wait_for(reader.read(), program.WAIT)).partition(b"\r\n\r\n")
        finally:
            writer.close()
        seen.add(head.decode("latin-1"), body, time.monotonic() - began)


async def crowd(gateways: Sequence[Program], texts: Sequence[str], seen: Seen) -> None:
    until = time.monotonic() + SECONDS
    await asyncio.gather(*(load(gateways, texts, seen, until) for _ in range(CLIENTS)))


def test_lookups_beyond_the_quota_wait_or_are_told_to_come_back(pool: Cognito, gateways: Sequence[Program]) -> None:
    texts = make_keys(pool)
    assert len(set(texts)) == KEYS
    seen = Seen()
    pool.calls.clear()
    pool.bucket(QUOTA)
    asyncio.run(crowd(gateways, texts, seen))
    throttled = pool.throttled["AdminGetUser"]
    print(f"{pool.calls['AdminGetUser']} lookups asked for, {throttled} throttled")  # noqa: T201 (shown with -s)
    for status, waited in sorted(seen.waited.items()):
        print(f"{status}: {len(waited)}, after {statistics.median(waited):.2f} s, at most {max(waited):.2f} s")  # noqa: T201
    assert seen.faults == []
    assert throttled > 0, "the quota was reached"
    assert seen.waited[503], "and there were more than can wait for it"
    assert statistics.median(seen.waited[503]) > user_pool.SECONDS / 2, "who is sent away has waited first"
    assert len(seen.waited[200]) >= QUOTA * SECONDS / 2, "the quota is made use of"
    assert max(map(max, seen.waited.values())) < user_pool.SECONDS + SLACK_SECONDS
