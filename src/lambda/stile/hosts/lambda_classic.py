"""Serves any ASGI app as a classic Lambda handler: one event in, one whole answer out, nothing streamed.

For tools that know no other way, such as `sam local`. The app's lifespan begins with the first event.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from stile.hosts import lambda_event
from stile.hosts.lambda_event import EXTENSION, HttpRequest, UnknownEvent
from stile.hosts.lambda_host import MARGIN_SECONDS
from stile.hosts.lifespan import App, Lifespan

_log = logging.getLogger("stile.lambda")


class Context(Protocol):
    """What is used of the context object that handlers are given."""

    aws_request_id: str

    def get_remaining_time_in_millis(self) -> int: ...


class ClassicHost:
    """`settle` is called when an event has been answered and the process may freeze."""

    def __init__(self, app: App, settle: Callable[[], None]) -> None:
        self._app = app
        self._settle = settle
        self._runner = asyncio.Runner()
        self._lifespan: Lifespan | None = None

    def handle(self, event: object, context: Context) -> dict[str, Any]:
        """The answer to one event. Raises StartupFailed when the app cannot start."""
        try:
            return self._runner.run(self._answer(event, context))
        finally:
            self._settle()

    def close(self) -> None:
        """End the app's life, where the process does not end it."""
        with self._runner:
            if self._lifespan is not None:
                self._runner.run(self._lifespan.stop())

    async def _answer(self, event: object, context: Context) -> dict[str, Any]:
        cold_start = self._lifespan is None
        if cold_start:
            lifespan = Lifespan(self._app)
            await lifespan.start()
            self._lifespan = lifespan
        try:
            request = lambda_event.read(event)
        except UnknownEvent as unknown:
            _log.warning("request %s: not an HTTP request: %s", context.aws_request_id, unknown)
            return lambda_event.whole("rest", *lambda_event.refusal(unknown))
        seconds = context.get_remaining_time_in_millis() / 1000 - MARGIN_SECONDS
        request.scope["extensions"][EXTENSION] |= {
            "request_id": context.aws_request_id,
            "trace_id": None,
            "cold_start": cold_start,
            "deadline": asyncio.get_running_loop().time() + seconds,
        }
        return await _Collected(request).of(self._app)


class _Collected:
    """The app's answer to one request, collected."""

    def __init__(self, request: HttpRequest) -> None:
        self._request = request
        self._body_read = False
        self._start: Mapping[str, Any] = {}
        self._body = bytearray()

    async def of(self, app: App) -> dict[str, Any]:
        # A task of its own, as servers run it: an app may cancel itself.
        await asyncio.ensure_future(app(self._request.scope, self._receive, self._send))
        return lambda_event.whole(
            self._request.door, self._start["status"], list(self._start.get("headers", ())), bytes(self._body)
        )

    async def _receive(self) -> dict[str, Any]:
        if self._body_read:
            await asyncio.Event().wait()  # nobody tells when the client goes away
        self._body_read = True
        return {"type": "http.request", "body": self._request.body, "more_body": False}

    async def _send(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self._start = message
        elif message["type"] == "http.response.body":
            self._body += message.get("body", b"")
