"""The story of the models served: from the model file, or from the providers that were found.

Found providers serve any model under their name (`openai/…`); their lists are asked for in the background, within two
seconds, and are there for showing what can be called. Nothing waits for them and nothing fails without them.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from stile.core.providers import ECHO
from stile.core.routes import DEFAULT_POLICY, Policy, Routes, Target
from stile.ports import Listing
from stile.sources import Source

REFRESH_SECONDS = 300
PROBE_SECONDS = 10

ListModels = Callable[[Listing], Awaitable[list[str] | None]]


class Model(msgspec.Struct, frozen=True):
    """One model that can be called, and who provides it."""

    id: str
    owned_by: str


class Catalog:
    """What can be called. `table` is the model file's; `list_models` asks one list."""

    def __init__(
        self,
        table: Mapping[str, list[Target]],
        sources: Sequence[Source],
        list_models: ListModels,
        policy: Policy = DEFAULT_POLICY,
    ) -> None:
        self.created = int(time.time())
        self._sources = sources
        self._serving = {source.name: source.target for source in sources if source.target is not None}
        self._lists: dict[str, list[str]] = {}
        self._states: dict[str, str] = {}
        self._list_models = list_models
        self._asked_at: float | None = None
        self._asking: asyncio.Task[None] | None = None
        self.routes = Routes(self._complete(table), policy)

    def replace(self, table: Mapping[str, list[Target]], sources: Sequence[Source]) -> None:
        """Serve the same models with other secrets."""
        self._sources = sources
        self._serving = {source.name: source.target for source in sources if source.target is not None}
        self.routes.replace(self._complete(table))

    def models(self) -> list[Model]:
        """All models that are known by name, each once; asks for the lists anew when they are old."""
        if self._serving and self._age() > REFRESH_SECONDS:
            self.refresh()
        groups = [(name, self.routes.find(name)) for name in self.routes.names]
        named = [Model(name, group.targets[0].provider) for name, group in groups if group is not None]
        listed = [Model(f"{name}/{model}", name) for name in self._serving for model in self._lists.get(name, ())]
        return [*named, *listed]

    def refresh(self) -> "asyncio.Task[None]":
        """Ask all sources for their lists, in the background; must be called inside the event loop."""
        if self._asking is None or self._asking.done():
            self._asked_at = time.monotonic()
            self._asking = asyncio.get_running_loop().create_task(self._ask_all())
        return self._asking

    def found(self) -> dict[str, int | None]:
        """Each provider found, with the number of its models (None: its list has not come)."""
        return {
            source.name: len(self._lists[source.name]) if source.name in self._lists else None
            for source in self._sources
            if source.target is not None and (source.name in self._lists or not source.must_answer)
        }

    async def check(self) -> dict[str, str]:
        """The state of each provider, asked for at most every PROBE_SECONDS."""
        if self._asking is None or self._age() >= PROBE_SECONDS:
            self.refresh()
        if self._asking is not None:
            await asyncio.shield(self._asking)
        return self._states

    async def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    def _complete(self, table: Mapping[str, list[Target]]) -> dict[str, list[Target]]:
        echo = Target(label=ECHO, provider=ECHO, model=ECHO, via="echo", id=ECHO)
        found = {f"{name}/*": [target] for name, target in self._serving.items()}
        return {ECHO: [echo], **found, **table}

    def _age(self) -> float:
        return float("inf") if self._asked_at is None else time.monotonic() - self._asked_at

    async def _ask_all(self) -> None:
        async with asyncio.TaskGroup() as group:
            for source in self._sources:
                group.create_task(self._ask(source))

    async def _ask(self, source: Source) -> None:
        if source.listing is None:
            self._states[source.name] = "not asked: it has no list of models"
            return
        models = await self._list_models(source.listing)
        self._states[source.name] = "no answer" if models is None else "ok"
        if models is not None:
            self._lists[source.name] = models
        elif source.must_answer:
            self._lists.pop(source.name, None)
