"""Ends calls whose client has gone, and calls whose time is over; has those that go on give signs of life.

Looking out for a client takes a task, a deadline and a pulse a timer each; a call gets them only when it has lasted
WATCH_AFTER seconds. Until then it stands in a queue that one timer sweeps for all, and short calls hardly pay for it.
"""

import asyncio
from collections import deque
from typing import Any, Literal

from stile.api.line import Line
from stile.api.pulse import Pulse, Rhythm
from stile.api.request import Receive

WATCH_AFTER = 0.05

EndedBy = Literal["client", "deadline"]


class Watched:
    """One call under watch, from when its body is whole until `stop`. `ended_by` tells why its task was cancelled.

    `due`: when it is looked at for the first time; `ends`: when its time is over; both by the loop's clock.
    """

    __slots__ = ("_deadline", "_line", "_pulse", "_rhythm", "_task", "_watcher", "due", "ended_by", "ends", "over")

    def __init__(self, line: Line, rhythm: Rhythm, due: float, ends: float) -> None:
        self.due = due
        self.ends = ends
        self.over = False
        self.ended_by: EndedBy | None = None
        self._line: Line | None = line
        self._rhythm = rhythm
        self._task = asyncio.current_task()
        self._deadline: asyncio.TimerHandle | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._pulse: Pulse | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._line is not None:
            self._deadline = loop.call_at(self.ends, self._end, "deadline")
            self._watcher = loop.create_task(self._until_gone(self._line.request.receive))
            self._pulse = Pulse(self._line, self._rhythm, loop)

    def stop(self) -> None:
        self.over = True
        # It may stand in the queue a little longer; what it holds must not.
        self._line = self._task = None
        if self._deadline is not None:
            self._deadline.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        if self._pulse is not None:
            self._pulse.stop()

    async def _until_gone(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._end("client")

    def _end(self, by: EndedBy) -> None:
        if self._task is not None and self.ended_by is None:  # one that is ending already is left to say so
            self.ended_by = by
            self._task.cancel()
            if self._pulse is not None:
                self._pulse.stop()


class Watch:
    """Watches all calls. `limit`: seconds that one may take."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._young: deque[Watched] = deque()
        self._sweep: asyncio.TimerHandle | None = None

    def begin(self, line: Line, rhythm: Rhythm) -> Watched:
        """Watch the running task's call; its body must have come, for what the client sends is listened to from now on.

        It ends with its request's own deadline, if that comes first. Its silence counts from now on.
        """
        loop: Any = asyncio.get_running_loop()
        now = line.silent_since = loop.time()
        ends = now + self.limit
        deadline = line.request.deadline
        watched = Watched(line, rhythm, now + WATCH_AFTER, ends if deadline is None else min(ends, deadline))
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
