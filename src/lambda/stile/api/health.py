"""A greeting, liveness and readiness. Readiness needs the directory; providers are shown to admins, and do not
decide."""

import asyncio
import time

from stile import __version__
from stile.api.models import ModelStates
from stile.api.request import Reply, Request, json_reply
from stile.authentication import Authenticator
from stile.catalog import Catalog
from stile.errors import DirectoryUnavailable
from stile.ports import Directory

PROBE_SECONDS = 10


class Health:
    """The handlers of the paths that need no key."""

    def __init__(
        self, authenticator: Authenticator, directory: Directory, catalog: Catalog, models: ModelStates
    ) -> None:
        self._authenticator = authenticator
        self._directory = directory
        self._catalog = catalog
        self._models = models
        self._probe: asyncio.Task[bool] | None = None
        self._probed = 0.0

    async def greet(self, _: Request) -> Reply:
        """At the address itself, which some clients probe before they call."""
        return json_reply({"name": "stile", "version": __version__, "docs": "/docs", "health": "/health"})

    async def live(self, _: Request) -> Reply:
        return json_reply({"status": "ok"})

    async def ready(self, request: Request) -> Reply:
        """The state alone; an admin's key is shown the parts."""
        directory_ready = await self._directory_ready()
        state: dict[str, object] = {"status": "ready" if directory_ready else "not ready"}
        key = request.key()
        if key is not None and (await self._authenticator.authenticate(key)).is_admin:
            state["directory"] = "ok" if directory_ready else "unavailable"
            state["providers"] = await self._catalog.check()
            state["targets"] = self._models.targets()
        return json_reply(state, 200 if directory_ready else 503)

    async def _directory_ready(self) -> bool:
        if self._probe is None or (self._probe.done() and time.monotonic() - self._probed >= PROBE_SECONDS):
            self._probed = time.monotonic()
            self._probe = asyncio.create_task(self._check_directory())
        return await asyncio.shield(self._probe)

    async def _check_directory(self) -> bool:
        try:
            await self._directory.check()
        except DirectoryUnavailable:
            return False
        return True
