"""Ten thousand calls over two targets that fail a fifth of the time: hardly one may fail, for hardly more attempts than
that takes."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests import program
from tests.mocks import outage
from tests.mocks.outage import Answering, Mode, Outage, error
from tests.program import Program

from stile.adapters.http_client import HttpClient

CALLS, AT_ONCE = 10_000, 50
FAILURES = 0.2
LEAST_SERVED, MOST_ATTEMPTS = 0.999, 1.3  # a call; without any waste 1.25 attempts are to be expected

KINDS = (
    error(500),
    error(503),
    outage.rate_limited(retry_after_ms="1"),
    outage.RESET_BEFORE_HEAD,
    outage.CUT_AFTER_HEAD,
)


@dataclass
class Seen:
    """What the clients were told."""

    statuses: Counter[int] = field(default_factory=Counter)
    attempts: int = 0
    tokens: list[str] = field(default_factory=list)  # each answer's


def failing(seed: int) -> Mode:
    """A provider that fails at random."""
    chance = random.Random(seed)

    async def script(answering: Answering) -> None:
        mode = chance.choice(KINDS) if chance.random() < FAILURES else outage.OK
        await mode.script(answering)

    return Mode("fails at random", script)


@pytest.fixture
def providers() -> Iterator[Sequence[Outage]]:
    with outage.running("alpha", "beta") as both:
        for seed, provider in enumerate(both):
            provider.become(failing(seed))
        yield both


@pytest.fixture
def gateway(providers: Sequence[Outage], folder: Path) -> Iterator[Program]:
    config = folder / "config.yaml"
    config.write_text(outage.model_file({"main": [provider.target() for provider in providers]}, num_retries=6))
    with program.running(folder, STILE_CONFIG=str(config)) as running:
        yield running


async def client(http: HttpClient, gateway: Program, calls: Iterator[str], seen: Seen) -> None:
    """One of those who call at once: a call after another, every other one streamed."""
    headers = [(b"authorization", f"Bearer {gateway.key}".encode()), (b"content-type", b"application/json")]
    for number, call in enumerate(calls):
        body = {"model": "main", "messages": outage.marked(call), "stream": number % 2 == 1}
        answer = await http.post(f"{gateway.base}/v1/chat/completions", headers, json.dumps(body).encode())
        text = await answer.read()
        seen.statuses[answer.status] += 1
        seen.attempts += int(dict(answer.headers)[b"x-stile-attempts"])
        seen.tokens += set(outage.tokens(text))
        assert answer.status != 200 or text.endswith((b"}\n", b"data: [DONE]\n\n")), text


async def crowd(gateway: Program, seen: Seen) -> None:
    calls = (outage.marker() for _ in range(CALLS))
    http = HttpClient()
    try:
        await asyncio.gather(*(client(http, gateway, calls, seen) for _ in range(AT_ONCE)))
    finally:
        await http.close()


def test_faults_are_hardly_seen_and_cost_hardly_more_than_they_must(
    gateway: Program, providers: Sequence[Outage]
) -> None:
    seen = Seen()
    asyncio.run(crowd(gateway, seen))
    sent = [one for provider in providers for one in provider.seen]
    served = [one for one in sent if one.end == "whole" and one.status == 200]
    failed = len(sent) - len(served)
    print(f"{dict(seen.statuses)}, {seen.attempts} attempts, {len(sent)} calls at the providers, {failed} failed there")  # noqa: T201 (shown with -s)
    assert sum(seen.statuses.values()) == CALLS
    assert seen.statuses[200] >= LEAST_SERVED * CALLS
    assert seen.attempts <= MOST_ATTEMPTS * CALLS
    assert len(sent) <= MOST_ATTEMPTS * CALLS
    assert seen.attempts == len(sent) - sum(one.unread for one in sent)
    assert failed >= FAILURES * len(sent) * 0.9, "the providers did fail"
    assert Counter(seen.tokens) == Counter(one.token for one in served), "each answer reached its caller, once"
    assert max(Counter(one.marker for one in served).values()) == 1
