"""Signs of life in every order that things can happen in: with a clock turned by hand, and with a client that takes
what is sent when it likes and sees to it that the call and its pulse never speak at once."""

import asyncio
import gc
import json
import random
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, ClassVar, cast

import pytest

from stile.api import watch
from stile.api.cors import Cors
from stile.api.endpoint import HOSTED, Endpoint, Frame, Handler
from stile.api.envelopes import OPENAI
from stile.api.line import Line
from stile.api.pulse import Pulse, Rhythm
from stile.api.request import JSON, Message, Reply, Request
from stile.authentication import Authenticator
from stile.core import sse
from stile.core.records import Caller
from stile.core.trace import Trace
from stile.errors import UpstreamFailed
from stile.telemetry.journal import Telemetry
from stile.telemetry.records import CallRecord

COMMENT = b": keep-alive\n\n"
EVENTS = [sse.event(b'{"n":%d}' % number) for number in range(3)]
QUICK = Rhythm(0.002, 0.002)
GAMES, CROWD = 400, 40
Test = Callable[[], Coroutine[Any, Any, None]]
TRACE = Trace("0" * 31 + "1", "0" * 15 + "1")


class Client:
    """A client and its host, by hand. `reads`: cleared, all that is sent waits. `faults`: what broke ASGI's rules."""

    def __init__(self, jitter: Callable[[], float] | None = None) -> None:
        self.taken: list[Message] = []
        self.faults: list[str] = []
        self.reads = asyncio.Event()
        self.reads.set()
        self.left = asyncio.Event()
        self.sending: Message | None = None
        self.sent = 0
        self.broken: OSError | None = None
        self._jitter = jitter
        self._asked = False
        self._begun = False
        self._moved = asyncio.Event()

    async def receive(self) -> Message:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"{}"}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent += 1
        if self.sending is not None:
            self.faults.append(f"{message} while {self.sending} is being sent")
        if self.ended:
            self.faults.append(f"{message} after the end")
        if (message["type"] == "http.response.start") is self._begun:
            self.faults.append(f"{message} {'behind a' if self._begun else 'before the'} head")
        if self.broken is not None:
            raise self.broken
        self.sending = message
        self._moved.set()
        try:
            if self._jitter is not None:
                await asyncio.sleep(self._jitter())
            await self.reads.wait()
        finally:
            self.sending = None
        self._begun = True
        if not self.left.is_set():
            self.taken.append(message)
        self._moved.set()

    async def until(self, look: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not look():
                self._moved.clear()
                await self._moved.wait()

    @property
    def ended(self) -> bool:
        return bool(self.taken) and "body" in self.taken[-1] and not self.taken[-1].get("more_body", False)

    @property
    def status(self) -> int:
        return int(self.taken[0]["status"])

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.taken[0]["headers"])

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.taken)

    @property
    def failure(self) -> str | None:
        return self.taken[-1].get("failure")

    @property
    def error(self) -> dict[str, Any]:
        """The error that the body ends with."""
        last = self.body.replace(COMMENT, b"").removesuffix(b"\n\n").split(b"\n\n")[-1]
        error: dict[str, Any] = json.loads(last.removeprefix(b"data: "))["error"]
        return error


class Anybody:
    """An authenticator that lets everybody in."""

    async def authenticate(self, *_: object, **__: object) -> Caller:
        return Caller("user", "key", "member", frozenset({"inference", "keys"}))


class Lines:
    """Keeps the records of calls."""

    def __init__(self) -> None:
        self.records: list[CallRecord] = []

    def call(self, record: CallRecord) -> None:
        self.records.append(record)


class House:
    """An endpoint with one handler, and the calls made to it."""

    def __init__(self, handler: Handler, *, stream: bool = True, timeout: float = 60, needs: Any = "inference") -> None:
        async def handle(request: Request) -> Reply:
            request.record.stream = stream
            return await handler(request)

        lines = Lines()
        self.records = lines.records
        frame = Frame(
            cast("Authenticator", Anybody()),
            cast("Telemetry", lines),
            timeout=timeout,
            max_body_bytes=1000,
            rhythm=QUICK,
            cors=Cors({"*"}),
        )
        self._endpoint = Endpoint(frame, needs=needs, POST=handle)

    def call(self, client: Client, ends: float | None = None) -> "asyncio.Task[None]":
        scope: Message = {"type": "http", "method": "POST", "path": "/call", "headers": []}
        if ends is not None:
            hosted = {"deadline": ends, "request_id": "", "api_request_id": "", "trace_id": "", "cold_start": False}
            scope["extensions"] = {HOSTED: hosted}
        return asyncio.ensure_future(self._endpoint(scope, client.receive, client.send))


async def held_back(handler: Handler, **more: Any) -> tuple[House, Client, "asyncio.Task[None]"]:
    """A call whose first sign of life is held back by a slow client, until its `reads` is set."""
    house, client = House(handler, **more), Client()
    client.reads.clear()
    call = house.call(client)
    await client.until(lambda: client.sending is not None)
    return house, client, call


async def events() -> AsyncGenerator[bytes, None]:
    for event in EVENTS:
        yield event


def streamed(body: AsyncGenerator[bytes, None]) -> Reply:
    return Reply(200, [(b"content-type", b"text/event-stream")], body)


def within_a_loop(test: Test) -> Callable[[], None]:
    def run() -> None:
        asyncio.run(test())

    run.__name__ = test.__name__
    return run


class Clock:
    """An event loop's clock, turned by hand; its tasks are the running loop's."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[tuple[float, Callable[[], None], asyncio.TimerHandle]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, call, (), asyncio.get_running_loop())
        self.timers.append((when, call, handle))
        return handle

    def create_task(self, coroutine: Any) -> "asyncio.Task[None]":
        return asyncio.ensure_future(coroutine)

    @property
    def due(self) -> list[float]:
        """The timers that are still set, in seconds from now."""
        return [round(when - self.now, 6) for when, _, handle in self.timers if not handle.cancelled()]

    async def advance(self, seconds: float) -> None:
        until = self.now + seconds
        while ready := [timer for timer in self.timers if timer[0] <= until and not timer[2].cancelled()]:
            timer = min(ready, key=lambda one: one[0])
            self.timers.remove(timer)
            self.now = timer[0]
            timer[1]()
            for _ in range(10):  # what began may go as far as it can
                await asyncio.sleep(0)
        self.now = until


def pulsing(rhythm: Rhythm, *, stream: bool) -> tuple[Clock, Client, Line, Pulse]:
    clock, client = Clock(), Client()
    record = CallRecord("req_1", "POST", "/call", stream=stream)
    line = Line(Request({"headers": []}, client.receive, record, TRACE), client.send, OPENAI, Cors({"*"}))
    line.silent_since = clock.now
    return clock, client, line, Pulse(line, rhythm, cast("asyncio.AbstractEventLoop", clock))


@within_a_loop
async def test_a_sign_comes_when_nothing_was_sent_for_as_long_as_is_allowed() -> None:
    clock, client, line, _ = pulsing(Rhythm(20, 240), stream=True)
    await clock.advance(19)
    line.silent_since = clock.now
    for _ in range(5):
        await clock.advance(15)
        line.silent_since = clock.now
        assert len(clock.due) == 1, "one timer, however much is sent"
    assert not client.taken
    await clock.advance(19.9)
    assert not client.taken
    await clock.advance(0.2)
    assert client.body == COMMENT
    assert clock.due == [19.9], "the next is due a whole silence after this one"
    await clock.advance(40)
    assert client.body == 3 * COMMENT
    assert len(client.taken) == 4, "there is one head"


@within_a_loop
async def test_no_sign_comes_while_the_call_sends_nor_in_the_silence_that_is_allowed_after() -> None:
    clock, client, line, _ = pulsing(Rhythm(20, 240), stream=True)
    line.silent_since = None
    await clock.advance(1000)
    line.silent_since = clock.now
    await clock.advance(19)
    assert not client.taken
    await clock.advance(1)
    assert client.body == COMMENT


@within_a_loop
async def test_signs_do_not_pile_up_before_a_client_that_does_not_read() -> None:
    clock, client, line, _ = pulsing(Rhythm(20, 240), stream=True)
    await clock.advance(20)
    client.reads.clear()
    await clock.advance(1000)
    assert client.sending is not None
    client.reads.set()
    await client.until(lambda: line.sign is None)
    assert client.body == 2 * COMMENT
    assert not client.faults


@within_a_loop
async def test_a_whole_answer_has_a_long_silence_and_then_short_ones() -> None:
    clock, client, _, _ = pulsing(Rhythm(20, 240), stream=False)
    await clock.advance(239)
    assert not client.taken
    await clock.advance(1)
    assert client.body == b" "
    await clock.advance(60)
    assert client.body == b"    "


@within_a_loop
async def test_each_kind_of_sign_can_be_had_without_the_other() -> None:
    clock, client, _, _ = pulsing(Rhythm(0, 240), stream=False)
    await clock.advance(480)
    assert client.body == b"  "
    for rhythm, stream in ((Rhythm(0, 240), True), (Rhythm(20, 0), False)):
        clock, client, _, _ = pulsing(rhythm, stream=stream)
        assert not clock.due


@within_a_loop
async def test_after_a_stop_no_sign_begins() -> None:
    clock, client, _, pulse = pulsing(Rhythm(20, 240), stream=True)
    await clock.advance(20)
    pulse.stop()
    assert clock.due == []
    assert client.body == COMMENT


@within_a_loop
async def test_a_reply_waits_for_a_sign_that_a_slow_client_holds_back() -> None:
    ready = asyncio.Event()

    async def handler(_: Request) -> Reply:
        await ready.wait()
        return streamed(events())

    house, client, call = await held_back(handler)
    ready.set()
    for _ in range(20):
        await asyncio.sleep(0)
    assert client.taken == []
    client.reads.set()
    await call
    assert client.body == COMMENT + b"".join(EVENTS)
    assert client.ended
    assert client.faults == []
    assert house.records[0].bytes_out == len(client.body)


@pytest.mark.parametrize("leaves", [False, True], ids=["reads", "leaves"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_a_deadline_waits_for_a_sign_that_a_slow_client_holds_back(stream: bool, leaves: bool) -> None:
    async def test() -> None:
        ended = asyncio.Event()

        async def handler(_: Request) -> Reply:
            try:
                await asyncio.sleep(60)
            finally:
                ended.set()
            raise AssertionError

        house, client = House(handler, stream=stream, timeout=0.1), Client()
        client.reads.clear()
        call = house.call(client)
        await client.until(lambda: client.sending is not None)
        await ended.wait()
        if leaves:
            client.left.set()
            await asyncio.sleep(0)
        client.reads.set()  # as hosts do for a client that has left
        await call
        assert client.faults == []
        assert house.records[0].error == "upstream_timeout"
        if not leaves:
            assert client.status == 200
            assert client.error["code"] == client.failure == "upstream_timeout"

    asyncio.run(test())


@within_a_loop
async def test_a_deadline_that_passes_while_the_reply_waits_for_a_sign_waits_too() -> None:
    ready, ended = asyncio.Event(), asyncio.Event()

    async def answer() -> AsyncGenerator[bytes, None]:
        try:
            yield EVENTS[0]
        finally:
            ended.set()

    async def handler(_: Request) -> Reply:
        await ready.wait()
        return streamed(answer())

    _, client, call = await held_back(handler, timeout=0.2)
    ready.set()
    await ended.wait()
    client.reads.set()
    await call
    assert client.body.startswith(COMMENT)
    assert client.error["code"] == client.failure == "upstream_timeout"
    assert client.faults == []


@within_a_loop
async def test_a_client_that_leaves_takes_its_sign_along() -> None:
    async def handler(_: Request) -> Reply:
        await asyncio.Event().wait()
        raise AssertionError

    house, client, call = await held_back(handler)
    client.left.set()
    await call
    await asyncio.sleep(0)
    assert client.sending is None, "the sign was given up"
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert (house.records[0].status, house.records[0].error) == (499, "client_gone")


@within_a_loop
async def test_a_client_that_has_left_gets_no_more_signs_however_long_the_call_takes_to_end() -> None:
    sent = []

    async def handler(_: Request) -> Reply:
        try:
            await asyncio.sleep(60)
        finally:
            sent.append(client.sent)
            await asyncio.sleep(20 * QUICK.stream)
            sent.append(client.sent)
        raise AssertionError

    house, client = House(handler), Client()
    call = house.call(client)
    await client.until(lambda: client.body.count(COMMENT) > 1)
    client.left.set()
    await call
    assert sent[0] == sent[1]


@within_a_loop
async def test_signs_come_between_any_two_events_and_a_call_that_is_over_leaves_nothing_behind() -> None:
    async def answer(client: Client) -> AsyncGenerator[bytes, None]:
        for event in EVENTS:
            yield event
            await client.until(lambda: client.body.endswith(COMMENT))

    async def play() -> "weakref.ref[Client]":
        client = Client()

        async def handler(_: Request) -> Reply:
            return streamed(answer(client))

        await House(handler).call(client)
        parts = client.body.split(COMMENT)
        assert [part for part in parts if part] == EVENTS
        assert client.ended
        return weakref.ref(client)

    over = await play()
    gc.collect()
    assert over() is None


@within_a_loop
async def test_a_gateway_that_stops_says_so_behind_the_sign() -> None:
    async def handler(_: Request) -> Reply:
        await asyncio.Event().wait()
        raise AssertionError

    _, client, call = await held_back(handler)
    call.cancel()
    await asyncio.sleep(0)
    client.reads.set()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert client.error["code"] == client.failure == "gateway_stopping"
    assert client.faults == []


@within_a_loop
async def test_a_call_whose_sign_cannot_be_sent_fails_as_the_sign_did() -> None:
    ready = asyncio.Event()

    async def handler(_: Request) -> Reply:
        await ready.wait()
        return streamed(events())

    house, client = House(handler), Client()
    client.broken = OSError("gone")
    call = house.call(client)
    async with asyncio.timeout(10):
        while len(asyncio.all_tasks()) < 3:  # this one, the call's, and the one that looks out for the client …
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.1)  # … and the sign's, which is over at once
    client.broken = None
    ready.set()
    with pytest.raises(OSError, match="gone"):
        await call
    assert client.taken == []


@pytest.mark.parametrize(
    "reply",
    [Reply(200, [*JSON, (b"content-encoding", b"gzip")], b"\x1f\x8b"), Reply(200, JSON, b"{}")],
    ids=["encoded", "whole"],
)
def test_a_body_that_does_not_fit_its_head_is_a_failure(reply: Reply) -> None:
    async def test() -> None:
        ready = asyncio.Event()

        async def handler(_: Request) -> Reply:
            await ready.wait()
            return reply

        house, client = House(handler, stream=reply.body == b"{}"), Client()
        call = house.call(client)
        await client.until(lambda: len(client.taken) > 1)
        ready.set()
        await call
        assert client.error["code"] == client.failure == house.records[0].error == "upstream_broken"

    asyncio.run(test())


@within_a_loop
async def test_only_model_calls_have_a_pulse() -> None:
    async def handler(_: Request) -> Reply:
        await lively.until(lambda: lively.body.startswith(b" "))
        return Reply(200, JSON, b"{}")

    silent, lively = Client(), Client()
    managed, model = House(handler, needs="any", stream=False), House(handler, stream=False)
    await asyncio.gather(managed.call(silent), model.call(lively))
    assert silent.body == b"{}"
    assert lively.body.startswith(b" ")
    assert lively.body.strip() == b"{}"


class Game:
    """One call in which everything takes its time at random, and may end in any way."""

    codes: ClassVar = {
        "refused": "refused",
        "failed": UpstreamFailed.code,
        "broken": "upstream_broken",
        "late": "upstream_timeout",
    }

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.stream = self.random.random() < 0.6
        self.ending = self.random.choice(["well", "well", "refused", "failed", "broken", "left", "late"])
        self.client = Client(lambda: self.pause(0.004))
        self.house = House(self.handler, stream=self.stream)

    def pause(self, most: float) -> float:
        return self.random.choice([0, 0, self.random.uniform(0, most)])

    async def handler(self, request: Request) -> Reply:
        await asyncio.sleep(self.pause(0.03))
        if self.ending == "failed":
            raise UpstreamFailed("It failed.")
        if self.ending in ("late", "left") and not self.stream:
            await asyncio.sleep(60)
        if self.ending == "refused":
            request.record.error = "upstream_error"
            return Reply(400, JSON, b'{"error":\n{"code":"refused"}\n}')
        return streamed(self.events()) if self.stream else Reply(200, JSON, b'{"fine":true}')

    async def events(self) -> AsyncGenerator[bytes, None]:
        for event in EVENTS:
            await asyncio.sleep(self.pause(0.01))
            yield event
        if self.ending == "broken":
            raise UpstreamFailed("It broke off.", code="upstream_broken")
        if self.ending in ("late", "left"):
            await asyncio.sleep(60)

    async def play(self) -> None:
        soon = self.random.uniform(0, 0.05)
        loop = asyncio.get_running_loop()
        call = self.house.call(self.client, loop.time() + soon if self.ending == "late" else None)
        if self.ending == "left":
            loop.call_later(soon, self.client.left.set)
        async with asyncio.timeout(30):
            await call

    def check(self) -> None:
        client, record = self.client, self.house.records[0]
        assert client.faults == []
        if self.ending == "left":
            assert record.status == 499
            return
        assert client.ended
        assert record.status == client.status
        assert record.bytes_out == len(client.body)
        if (length := client.headers.get(b"content-length")) is not None:
            assert int(length) == len(client.body)
        if self.ending == "well" or (self.ending == "broken" and not self.stream):
            assert client.failure is None
            assert self.content == (b"".join(EVENTS) if self.stream else b'{"fine":true}')
            return
        assert client.error["code"] == self.codes[self.ending]
        assert client.failure == (record.error if client.status == 200 else None)
        begun = self.content[: self.content.index(b'{"error"')].removesuffix(b"data: ")
        assert b"".join(EVENTS).startswith(begun)
        assert not begun or self.ending in ("broken", "late")

    @property
    def content(self) -> bytes:
        """What came beside signs of life."""
        return self.client.body.replace(COMMENT, b"") if self.stream else self.client.body.lstrip(b" ")


def test_whatever_happens_at_whatever_moment_the_client_gets_one_whole_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "WATCH_AFTER", 0)
    signed = set()

    async def crowd(games: list[Game]) -> None:
        await asyncio.gather(*(game.play() for game in games))
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        for game in games:
            game.check()
            if COMMENT in game.client.body or game.client.body.startswith(b" "):
                signed.add((game.ending, game.stream))

    for begin in range(0, GAMES, CROWD):
        asyncio.run(crowd([Game(seed) for seed in range(begin, begin + CROWD)]))
    assert signed >= {(ending, stream) for ending in ("well", *Game.codes) for stream in (True, False)}
