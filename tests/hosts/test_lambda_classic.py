"""The classic handler: one event in, one whole answer out. AWS's own client calls it in tests/e2e."""

import contextlib
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stile.hosts.lambda_classic import ClassicHost
from stile.hosts.lambda_event import EXTENSION
from stile.hosts.lifespan import StartupFailed

EVENTS = Path(__file__).parent.parent / "events"
CHAT = json.loads((EVENTS / "rest_chat.json").read_text())

Message = dict[str, Any]


class Context:
    aws_request_id = "one"

    def get_remaining_time_in_millis(self) -> int:
        return 60_000


class App:
    """Answers in pieces with what it saw; refuses to start when told to."""

    def __init__(self, *, starts: bool = True) -> None:
        self.starts = starts
        self.begun = 0
        self.settled = 0
        self.scope: Message = {}

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        if scope["type"] == "lifespan":
            await receive()
            self.begun += 1
            how = "complete" if self.starts else "failed"
            await send({"type": f"lifespan.startup.{how}", "message": "a fault"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        self.scope = scope
        body = (await receive())["body"]
        if scope["path"] == "/fails":
            raise ValueError("as it happens")
        headers = [(b"content-type", b"application/json"), (b"set-cookie", b"a"), (b"set-cookie", b"b")]
        await send({"type": "http.response.start", "status": 201, "headers": headers})
        await send({"type": "http.response.body", "body": body[:10], "more_body": True})
        await send({"type": "http.response.body", "body": body[10:]})

    def settle(self) -> None:
        self.settled += 1


@contextlib.contextmanager
def serving(app: App) -> Iterator[ClassicHost]:
    with contextlib.closing(ClassicHost(app, app.settle)) as host:
        yield host


def test_an_answer_in_pieces_comes_whole() -> None:
    app = App()
    with serving(app) as host:
        answer = host.handle(CHAT, Context())
    assert answer == {
        "statusCode": 201,
        "headers": {"content-type": "application/json"},
        "multiValueHeaders": {"set-cookie": ["a", "b"]},
        "body": CHAT["body"],
        "isBase64Encoded": False,
    }
    assert app.scope["extensions"][EXTENSION]["request_id"] == "one"


def test_the_app_lives_once_and_settles_after_each_event() -> None:
    app = App()
    with serving(app) as host:
        for _ in range(3):
            host.handle(CHAT, Context())
    assert (app.begun, app.settled) == (1, 3)


def test_what_is_no_http_request_gets_a_400() -> None:
    with serving(App()) as host:
        answer = host.handle({"Records": []}, Context())
    assert (answer["statusCode"], json.loads(answer["body"])["error"]["code"]) == (400, "unknown_event")


def test_a_start_that_fails_is_told_and_tried_again_with_the_next_event() -> None:
    app = App(starts=False)
    with serving(app) as host:
        with pytest.raises(StartupFailed, match="a fault"):
            host.handle(CHAT, Context())
        app.starts = True
        assert host.handle(CHAT, Context())["statusCode"] == 201


def test_what_the_app_raises_is_the_handlers_to_raise() -> None:
    with serving(App()) as host:
        with pytest.raises(ValueError, match="as it happens"):
            host.handle({**CHAT, "pathParameters": {"proxy": "fails"}}, Context())
        assert host.handle(CHAT, Context())["statusCode"] == 201
