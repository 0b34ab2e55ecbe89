"""Keeps the secrets of the configuration fresh: every ten minutes while calls come, and when a provider refuses one.

Nothing waits for a renewal but the call that was refused; while one fails, the old values stay.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from stile.errors import ConfigError

EVERY_SECONDS = 600
LEAST_SECONDS = 60  # between two renewals, whoever asks for them

_log = logging.getLogger("stile.secrets")


class Renewal:
    """`fetch` fetches all secrets anew, answers whether any has changed, and raises ConfigError; None where there are
    none. `adopt` takes them into use. `clock`: seconds that never go back."""

    def __init__(
        self,
        fetch: Callable[[], Awaitable[bool]] | None,
        adopt: Callable[[], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._adopt = adopt
        self._clock = clock
        self._renewed_at = clock()
        self._began_at = -float("inf")
        self._renewing: asyncio.Task[bool] | None = None

    def look(self) -> None:
        """Begin a renewal in the background when the last one is old; must be called inside the event loop."""
        if self._fetch is None:
            return
        now = self._clock()
        if now - self._renewed_at >= EVERY_SECONDS and now - self._began_at >= LEAST_SECONDS:
            self._begin()

    async def now(self, *, at_once: bool = False) -> bool:
        """Renew, and answer whether any secret has changed; not again within a minute, unless it must be `at_once`."""
        if self._renewing is None or self._renewing.done():
            if self._fetch is None or (not at_once and self._clock() - self._began_at < LEAST_SECONDS):
                return False
            self._begin()
        return self._renewing is not None and await asyncio.shield(self._renewing)

    async def close(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)

    def _begin(self) -> None:
        if self._fetch is not None and (self._renewing is None or self._renewing.done()):
            self._began_at = self._clock()
            self._renewing = asyncio.get_running_loop().create_task(self._renew(self._fetch))

    async def _renew(self, fetch: Callable[[], Awaitable[bool]]) -> bool:
        try:
            changed = await fetch()
        except ConfigError as error:
            _log.warning("the secrets of the configuration stay as they are: %s", error)
            return False
        self._renewed_at = self._clock()
        if changed:
            self._adopt()
        return changed
