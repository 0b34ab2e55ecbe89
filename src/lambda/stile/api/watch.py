"""Ends calls whose client has gone, and calls whose time is over.

Looking out for a client takes a task, and for a deadline a timer; a call gets both only when it has lasted WATCH_AFTER
seconds. Until then it stands in a queue that one timer sweeps for all, so that short calls hardly pay for it.
"""

import asyncio
from collections import deque
from typing import Any, Literal

from stile.api.request import Receive

WATCH_AFTER = 0.05

EndedBy = Literal["client", "deadline"]


class Watched:
    """One call under watch, from when its body is whole until `stop`. `ended_by` tells why its task was cancelled.

    `due`: when it is looked at for the first time; `ends`: when its time is over; both by the loop's clock.
    """

    __slots__ = ("_deadline", "_receive", "_task", "_watcher", "due", "ended_by", "ends", "over")

    def __init__(self, receive: Receive, due: float, ends: float) -> None:
        self.due = due
        self.ends = ends
        self.over = False
        self.ended_by: EndedBy | None = None
        self._receive: Receive | None = receive
        self._task = asyncio.current_task()
        self._deadline: asyncio.TimerHandle | None = None
        self._watcher: asyncio.Task[None] | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._receive is not None:
            self._deadline = loop.call_at(self.ends, self._end, "deadline")
            self._watcher = loop.create_task(self._until_gone(self._receive))

    def stop(self) -> None:
        self.over = True
        # It may stand in the queue a little longer; what it holds must not.
        self._receive = self._task = None
        if self._deadline is not None:
            self._deadline.cancel()
        if self._watcher is not None:
            self._watcher.cancel()

    async def _until_gone(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._end("client")

    def _end(self, by: EndedBy) -> None:
        if self._task is not None:
            self.ended_by = by
            self._task.cancel()


class Watch:
    """Watches all calls. `limit`: seconds that one may take."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._young: deque[Watched] = deque()
        self._sweep: asyncio.TimerHandle | None = None

    def begin(self, receive: Receive, deadline: float | None) -> Watched:
        """Watch the running task's call; its body must have come, for `receive` is listened to from now on.

        `deadline`: when the host's own time for it ends, by the loop's clock, if it has one.
        """
        loop: Any = asyncio.get_running_loop()
        now = loop.time()
        ends = now + self.limit
        watched = Watched(receive, now + WATCH_AFTER, ends if deadline is None else min(ends, deadline))
        self._young.append(watched)
        if self._sweep is None:
            self._sweep = loop.call_at(watched.due, self._look, loop)
        return watched

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        while self._young and (self._young[0].over or self._young[0].due <= now):
            watched = self._young.popleft()
            if not watched.over:
                watched.start(loop)
        self._sweep = loop.call_at(self._young[0].due, self._look, loop) if self._young else None
