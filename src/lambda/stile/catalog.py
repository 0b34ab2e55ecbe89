"""The story of the models served: from the model file, or found by the credentials in the environment.

Found providers serve any model under their name (`openai/…`); their lists are asked for in the background, within two
seconds, and are there for showing what can be called. Nothing waits for them and nothing fails without them.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import urlsplit

import msgspec

from stile.core import providers
from stile.core.providers import ECHO, Provider
from stile.core.routes import Routes, Target
from stile.core.secret import Secret

REFRESH_SECONDS = 300
PROBE_SECONDS = 10
_ANTHROPIC_VERSION = "2023-06-01"

ListModels = Callable[[str, Mapping[str, str]], Awaitable[list[str] | None]]


class Model(msgspec.Struct, frozen=True):
    """One model that can be called, and who provides it."""

    id: str
    owned_by: str


class Source(msgspec.Struct, frozen=True):
    """A provider whose models can be listed. `list_url` is None where there is no list to ask for.

    `target`: serves every model under the provider's name; None for one of the model file, which names its models.
    `must_answer`: it counts as found only once it has answered.
    """

    name: str
    list_url: str | None
    list_headers: Mapping[str, str]
    target: Target | None = None
    must_answer: bool = False


class Catalog:
    """What can be called. `table` is the model file's; `list_models` asks one list."""

    def __init__(self, table: Mapping[str, list[Target]], sources: list[Source], list_models: ListModels) -> None:
        self.created = int(time.time())
        self.lists: dict[str, list[str] | None] = {source.name: None for source in sources}
        self._sources = sources
        self._list_models = list_models
        self._refreshed = 0.0
        self._refreshing: asyncio.Task[None] | None = None
        echo = Target(label=ECHO, provider=ECHO, model=ECHO, via="echo")
        found = {f"{source.name}/*": [source.target] for source in sources if source.target is not None}
        self.routes = Routes({ECHO: [echo], **found, **table})

    def models(self) -> list[Model]:
        """All models that are known by name, each once; asks for the lists anew when they are old."""
        if time.monotonic() - self._refreshed > REFRESH_SECONDS:
            self.refresh()
        named = [Model(name, self.routes.find(name)[0].provider) for name in self.routes.names]
        listed = [
            Model(f"{source.name}/{model}", source.name)
            for source in self._sources
            if source.target is not None
            for model in self.lists[source.name] or ()
        ]
        return [*named, *listed]

    def refresh(self) -> "asyncio.Task[None]":
        """Ask for all lists in the background; must be called inside the event loop."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshed = time.monotonic()
            self._refreshing = asyncio.get_running_loop().create_task(self._refresh())
        return self._refreshing

    def found(self) -> dict[str, int | None]:
        """Each provider found, with the number of its models (None: its list has not come)."""
        return {
            source.name: None if (models := self.lists[source.name]) is None else len(models)
            for source in self._sources
            if source.target is not None and (self.lists[source.name] is not None or not source.must_answer)
        }

    async def check(self) -> dict[str, str]:
        """The state of each provider, asked for at most every PROBE_SECONDS."""
        if time.monotonic() - self._refreshed >= PROBE_SECONDS:
            self.refresh()
        if self._refreshing is not None:
            await asyncio.shield(self._refreshing)
        return {source.name: _state(source, self.lists[source.name]) for source in self._sources}

    async def close(self) -> None:
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.gather(self._refreshing, return_exceptions=True)

    async def _refresh(self) -> None:
        async with asyncio.TaskGroup() as group:
            for source in self._sources:
                group.create_task(self._refresh_one(source))

    async def _refresh_one(self, source: Source) -> None:
        if source.list_url is None:
            return
        models = await self._list_models(source.list_url, source.list_headers)
        if models is not None or source.must_answer:
            self.lists[source.name] = models


def find_sources(environment: Mapping[str, str]) -> list[Source]:
    """The providers whose credentials are in the environment, and a local Ollama that may be running."""
    sources = []
    for provider in providers.KNOWN.values():
        key = next((value for name in provider.key_env if (value := environment.get(name))), None)
        if key is not None:
            base = next((value for name in provider.base_env if (value := environment.get(name))), provider.base_url)
            if base is not None or not provider.relayed:
                sources.append(_source(provider, key, base))
    if environment.get("AWS_ACCESS_KEY_ID") and (
        environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    ):
        sources.append(_source(providers.KNOWN["bedrock"], None, None))
    sources.append(_ollama(environment.get("OLLAMA_HOST", "")))
    return sources


def ollama_address(text: str) -> str:
    """Where Ollama answers, by its own variable OLLAMA_HOST: `host`, `host:port` or a URL; 11434 is its usual port."""
    parts = urlsplit(text if "://" in text else f"http://{text.strip() or '127.0.0.1'}")
    port = parts.port or ({"http": 80, "https": 443}.get(parts.scheme) if "://" in text else 11434)
    host = parts.hostname or ""
    if host in ("", "0.0.0.0"):  # noqa: S104 (it tells Ollama to listen everywhere, and is no address to call)
        host = "127.0.0.1"
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def sources_of(table: Mapping[str, list[Target]]) -> list[Source]:
    """The providers that a model file's relayed targets name, one for each address."""
    by_address = {target.api_base: target for targets in table.values() for target in targets if target.via == "relay"}
    return [
        Source(f"{target.provider} at {address}", f"{address}/models", _list_headers(target))
        for address, target in by_address.items()
    ]


def _source(provider: Provider, key: str | None, base: str | None) -> Source:
    if provider.name == "azure" and base is not None:
        base = providers.azure_v1(base)
    target = Target(
        label=f"{provider.name}/*",
        provider=provider.name,
        model="*",
        via="relay" if provider.relayed else "litellm",
        api_base=base.rstrip("/") if base else None,
        api_key=Secret(key) if key else None,
        key_header=provider.key_header,
        stream_usage=provider.stream_usage if base == provider.base_url else None,
    )
    return Source(provider.name, _list_url(provider, target.api_base), _list_headers(target), target)


def _list_url(provider: Provider, base: str | None) -> str | None:
    if base is None:
        return provider.list_url
    if provider.name == "anthropic":
        return f"{base.removesuffix('/v1')}/v1/models?limit=1000"
    return f"{base}/models"


def _list_headers(target: Target) -> dict[str, str]:
    headers = dict(target.headers)
    if target.api_key is not None:
        key = target.api_key.reveal()
        headers[target.key_header] = f"Bearer {key}" if target.key_header == "authorization" else key
    if target.provider == "anthropic":
        headers["anthropic-version"] = _ANTHROPIC_VERSION
    return headers


def _state(source: Source, models: list[str] | None) -> str:
    if source.list_url is None:
        return "not asked: it has no list of models"
    return "no answer" if models is None else "ok"


def _ollama(host: str) -> Source:
    address = ollama_address(host)
    source = _source(providers.KNOWN["ollama"], None, f"{address}/v1")
    return msgspec.structs.replace(source, list_url=f"{address}/api/tags", must_answer=True)
