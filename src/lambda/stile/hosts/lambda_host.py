"""Serves any ASGI app as a Lambda function's own runtime, with streamed responses.

The app lives once: its lifespan begins before the first invocation and ends with the process. An invocation goes on
until the app has returned, also when the client has its answer already; only then is the next one asked for, because
between two invocations the process is frozen, with all that the app left running.
"""

import asyncio
import logging
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from stile.hosts import lambda_event, memory
from stile.hosts.lambda_event import EXTENSION, HttpRequest, UnknownEvent
from stile.hosts.lifespan import App, Lifespan, StartupFailed
from stile.hosts.runtime_api import Failure, Invocation, ResponseStream, RuntimeApi, RuntimeGone

# The app is given this much less time than Lambda gives, to say that it is late …
MARGIN_SECONDS = 3
# … and one that has not ended this long before Lambda's end is cancelled.
LAST_SECONDS = 1

_TRACE_ID = "_X_AMZN_TRACE_ID"
_CONTENT_TYPE = lambda_event.CONTENT_TYPE.decode()

_log = logging.getLogger("stile.lambda")


class Hooks(NamedTuple):
    """What the app's side does at moments that ASGI does not know.

    `settle`: an invocation is over and the process may freeze. `before_snapshot`, `after_restore`: SnapStart takes its
    picture of the process between the two; what must not be shared by all that are made from it is let go of first.
    """

    settle: Callable[[], None]
    before_snapshot: Callable[[], Awaitable[None]]
    after_restore: Callable[[], Awaitable[None]]


def run(app: App, hooks: Hooks, environment: Mapping[str, str]) -> int:
    """Serve until the platform ends the process or is gone itself; answers the exit code."""
    return asyncio.run(_Host(app, hooks, RuntimeApi(environment["AWS_LAMBDA_RUNTIME_API"])).run(environment))


class _Host:
    def __init__(self, app: App, hooks: Hooks, api: RuntimeApi) -> None:
        self._app = app
        self._hooks = hooks
        self._api = api
        self._lifespan = Lifespan(app)
        self._idle: asyncio.Task[Invocation] | None = None
        self._stopping = False

    async def run(self, environment: Mapping[str, str]) -> int:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stop)
        try:
            try:
                await self._lifespan.start()
            except Exception as fault:
                return await self._fail_start(fault)
            memory.settle()
            way = environment.get("AWS_LAMBDA_INITIALIZATION_TYPE")
            if way == "snap-start" and not await self._restore():
                return 1
            await self._serve(cold=way != "provisioned-concurrency")  # nobody has waited for such a start
            await self._lifespan.stop()
        except RuntimeGone as gone:
            _log.warning("the Runtime API is gone: %s", gone)
        finally:
            self._hooks.settle()
            self._api.close()
        return 0

    async def _fail_start(self, fault: Exception) -> int:
        told = isinstance(fault, StartupFailed)
        _log.error("the start failed: %s", fault, exc_info=None if told else fault)
        self._hooks.settle()
        await self._api.fail_init(_failure(fault))
        return 1

    async def _restore(self) -> bool:
        try:
            await self._hooks.before_snapshot()
        except Exception as fault:
            await self._fail_start(fault)
            return False
        await self._api.restored()
        try:
            random.seed()  # or all that are made from the snapshot would draw the same numbers
            await self._hooks.after_restore()
        except Exception as fault:
            _log.exception("the restore failed")
            await self._api.fail_restore(_failure(fault))
            return False
        return True

    async def _serve(self, *, cold: bool) -> None:
        while (invocation := await self._next()) is not None:
            if invocation.trace_id:
                os.environ[_TRACE_ID] = invocation.trace_id
            await _Exchange(self._app, self._api, invocation, cold_start=cold).run()
            cold = False

    async def _next(self) -> Invocation | None:
        """The next invocation; None when the process is told to stop."""
        self._hooks.settle()
        if self._stopping:
            return None
        self._idle = asyncio.create_task(self._api.next())
        await asyncio.wait({self._idle})
        return None if self._idle.cancelled() else self._idle.result()

    def _stop(self) -> None:
        """SIGTERM: what is under way may end, and nothing more is asked for."""
        self._stopping = True
        if self._idle is not None:
            self._idle.cancel()


class _Exchange:
    """One invocation: its event as a request, the app's answer as a response."""

    def __init__(self, app: App, api: RuntimeApi, invocation: Invocation, *, cold_start: bool) -> None:
        self._app = app
        self._api = api
        self._invocation = invocation
        self._cold_start = cold_start
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        self._body_read = False
        self._head: bytes | None = None
        self._stream: ResponseStream | None = None
        self._request: HttpRequest | None = None

    async def run(self) -> None:
        try:
            self._request = lambda_event.read(self._invocation.event)
        except UnknownEvent as unknown:
            _log.warning("request %s: not an HTTP request: %s", self._invocation.id, unknown)
            await self._refuse(unknown)
        else:
            await self._serve(self._request)
        if self._stream is not None:
            await self._stream.taken()

    async def _serve(self, request: HttpRequest) -> None:
        ends = self._loop.time() + self._invocation.deadline - time.time()
        request.scope["extensions"][EXTENSION] |= {
            "request_id": self._invocation.id,
            "trace_id": self._invocation.trace_id,
            "cold_start": self._cold_start,
            "deadline": ends - MARGIN_SECONDS,
        }
        task = asyncio.ensure_future(self._app(request.scope, self._receive, self._send))
        done, _ = await asyncio.wait({task}, timeout=max(0, ends - LAST_SECONDS - self._loop.time()))
        if not done:
            task.cancel()
            await asyncio.wait({task}, timeout=LAST_SECONDS / 2)
        await self._conclude(_failure_of(task))

    async def _conclude(self, failure: Failure | None) -> None:
        """See to it that the invocation has an answer, whatever the app did."""
        if self._over.is_set():
            return
        failure = failure or Failure("Runtime.NoAnswer", "The app returned without a whole answer.")
        _log.error("request %s failed: %s: %s", self._invocation.id, failure.kind, failure.message)
        self._over.set()  # an app that goes on all the same is not heard any more
        if self._stream is None:
            await self._api.fail(self._invocation, failure)
        else:
            self._stream.end(failure)

    async def _refuse(self, unknown: UnknownEvent) -> None:
        status, headers, body = lambda_event.refusal(unknown)
        head = lambda_event.prelude("rest", status, headers)
        self._stream = await self._api.respond(self._invocation, _CONTENT_TYPE, head + body)
        self._stream.end()

    async def _receive(self) -> dict[str, Any]:
        if not self._body_read and self._request is not None:
            self._body_read = True
            return {"type": "http.request", "body": self._request.body, "more_body": False}
        await self._over.wait()  # Lambda does not tell when the client goes away
        return {"type": "http.disconnect"}

    async def _send(self, message: Mapping[str, Any]) -> None:
        if self._over.is_set() or self._request is None:
            return
        if message["type"] == "http.response.start":
            self._head = lambda_event.prelude(self._request.door, message["status"], message.get("headers", ()))
        elif message["type"] == "http.response.body":
            await self._send_body(message.get("body", b""))
            if not message.get("more_body", False):
                self._end(message.get("failure"))

    async def _send_body(self, data: bytes) -> None:
        if self._head is None:
            raise RuntimeError("the app sent a body before its head")
        if self._stream is None:
            self._stream = await self._api.respond(self._invocation, _CONTENT_TYPE, self._head + data)
            return
        try:
            await self._stream.write(data)
        except OSError:
            self._over.set()  # Lambda takes no more of it: for the app, its client has gone

    def _end(self, told: str | None) -> None:
        """The app's last word is said; `told` is the code of the error with which it broke off."""
        if self._stream is not None and not self._over.is_set():
            self._over.set()
            self._stream.end(Failure("Runtime.BrokenAnswer", told) if told else None)


def _failure_of(task: "asyncio.Future[None]") -> Failure | None:
    if not task.done() or task.cancelled():
        return Failure("Runtime.Late", "The app did not end in time.")
    fault = task.exception()
    if fault is None:
        return None
    if isinstance(fault, RuntimeGone):
        raise fault
    _log.error("the app failed", exc_info=fault)
    return _failure(fault)


def _failure(fault: BaseException) -> Failure:
    return Failure(f"Runtime.{type(fault).__name__}", str(fault))
