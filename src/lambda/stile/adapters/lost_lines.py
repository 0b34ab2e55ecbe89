"""Lines of the content log that could not be kept: told in the program's own log, at most once a minute.

A log that cannot be written must not fill another one, and nothing of a lost line is ever shown.
"""

import logging
import time
from collections.abc import Callable

PAUSE_SECONDS = 60

_log = logging.getLogger("stile.content")


class LostLines:
    """Counts what is lost for one place. `clock`: seconds that never go back."""

    def __init__(self, place: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._place = place
        self._clock = clock
        self._untold = 0
        self._told_at: float | None = None

    def add(self, why: str) -> None:
        """One more. `why` is for people, and says what to do."""
        self._untold += 1
        now = self._clock()
        if self._told_at is not None and now - self._told_at < PAUSE_SECONDS:
            return
        lines = "a line was" if self._untold == 1 else f"{self._untold} lines were"
        _log.warning("%s: %s lost: %s", self._place, lines, why)
        self._untold, self._told_at = 0, now
