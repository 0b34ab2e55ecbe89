"""An app's lifespan: told once that the world begins, and once that it ends.

Protocol: ASGI's lifespan, version 2.0. The app runs it as one task from start to stop, as servers do.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

Message = dict[str, Any]
App = Callable[[Any, Any, Any], Awaitable[None]]


class StartupFailed(Exception):
    """The app says that it cannot start. The text is for people and may have many lines."""


class Lifespan:
    """One app's lifespan, made inside the event loop."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._from_app: asyncio.Queue[Message] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns when the app is ready. Raises StartupFailed, or what the app raised."""
        self._task = asyncio.create_task(self._run())
        answer = await self._say("lifespan.startup", self._task)
        if answer["type"] != "lifespan.startup.complete":
            self._task.cancel()
            await asyncio.wait({self._task})
            raise StartupFailed(answer.get("message", ""))

    async def stop(self) -> None:
        """Let the app take itself apart."""
        if self._task is not None and not self._task.done():
            await self._say("lifespan.shutdown", self._task)
            await self._task

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
        await self._app(scope, self._to_app.get, self._from_app.put)

    async def _say(self, kind: str, task: "asyncio.Task[None]") -> Message:
        """Tell the app, and wait for its answer, or for its end without one."""
        self._to_app.put_nowait({"type": kind})
        answer = asyncio.create_task(self._from_app.get())
        await asyncio.wait({answer, task}, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        answer.cancel()
        task.result()
        return self._from_app.get_nowait() if not self._from_app.empty() else {"type": f"{kind}.failed"}
