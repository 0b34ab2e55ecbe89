"""How long a call waits for a provider: for a whole answer, for a stream's first event, and between events.

One timer serves a whole stream: it is set anew only when it has fired too early, so that a chunk costs two assignments
and no timer.
"""

import asyncio


class Patience:
    """The running task's. It is tried between `wait` and `rest`; when that takes longer than `limit` seconds (None: as
    long as it takes) the task is cancelled, once, and whoever catches that asks `lost`."""

    __slots__ = ("_loop", "_lost", "_task", "_timer", "_until", "limit")

    def __init__(self, limit: float | None) -> None:
        self.limit = limit
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._timer: asyncio.TimerHandle | None = None
        self._until: float | None = None
        self._lost = False

    def wait(self) -> None:
        """From now on."""
        if self.limit is None:
            return
        self._until = until = self._loop.time() + self.limit
        if self._timer is None:
            self._timer = self._loop.call_at(until, self._look)

    def rest(self) -> None:
        """What was waited for is here."""
        self._until = None

    def stop(self) -> None:
        """It is needed no more."""
        self._until = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def lost(self) -> bool:
        """Whether the task was cancelled by this and by nobody else; then it counts as not cancelled any more."""
        if not self._lost or self._task is None:
            return False
        self._lost = False
        return self._task.uncancel() == 0

    def _look(self) -> None:
        self._timer = None
        if self._until is None or self._task is None or self.limit is None:
            return  # nobody waits now; the next `wait` sets it again
        if self._loop.time() < self._until:
            self._timer = self._loop.call_at(self._until, self._look)
        else:
            self._until = None
            self._lost = True
            self._task.cancel()
