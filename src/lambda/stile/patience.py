"""How long a call waits for a provider: for a whole answer, for a stream's first event, and between events.

One timer serves a whole stream: it is set anew only when it has fired too early. Whoever reads many chunks sets `until`
itself, so that a chunk costs two assignments, no timer and no call. An attempt that is soon over has no timer at all.
"""

import asyncio
from collections import deque

YOUNG_SECONDS = 0.05


class Patience:
    """The running task's: when something takes longer than `limit` seconds (None: as long as it takes) the task is
    cancelled, once, and whoever catches that asks `lost`.

    `until`: by the loop's clock, when that will be; None while nothing is waited for.
    """

    __slots__ = ("_loop", "_lost", "_task", "_timer", "limit", "until")

    def __init__(self, limit: float | None) -> None:
        self.limit = limit
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._timer: asyncio.TimerHandle | None = None
        self.until: float | None = None
        self._lost = False

    def wait(self) -> None:
        """From now on."""
        if self.limit is None:
            return
        self.until = self._loop.time() + self.limit
        self.arm()

    def arm(self) -> None:
        """Set the timer for `until`, unless there is one or nothing is waited for."""
        if self._timer is None and self.until is not None:
            self._timer = self._loop.call_at(self.until, self._look)

    def stop(self) -> None:
        """It is needed no more."""
        self.until = None
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
        now = self._loop.time()
        due = self.until if self.until is not None else now + (self.limit or 0)
        if now < due:
            self._timer = self._loop.call_at(due, self._look)
        elif self._task is not None:
            self.until = None
            self._lost = True
            self._task.cancel()


class Patiences:
    """Those of all attempts. Made inside the event loop; one timer sweeps for all that have just begun."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._young: deque[tuple[float, Patience]] = deque()  # when each is no longer young, the eldest first
        self._sweep: asyncio.TimerHandle | None = None

    def begin(self, limit: float | None) -> Patience:
        """One that waits from now on, for at most `limit` seconds."""
        patience = Patience(limit)
        if limit is None or limit <= YOUNG_SECONDS:
            patience.wait()
            return patience
        now = self._loop.time()
        patience.until = now + limit
        self._young.append((now + YOUNG_SECONDS, patience))
        if self._sweep is None:
            self._sweep = self._loop.call_at(now + YOUNG_SECONDS, self._look)
        return patience

    def _look(self) -> None:
        now = self._loop.time()
        while self._young and (self._young[0][0] <= now or self._young[0][1].until is None):
            self._young.popleft()[1].arm()
        self._sweep = self._loop.call_at(self._young[0][0], self._look) if self._young else None
