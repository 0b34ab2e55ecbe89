"""Puts the parts together: the only file that picks adapters."""

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from stile import modelfile, sources, state
from stile.adapters import aws_configuration, model_lists
from stile.adapters.upstream_echo import EchoUpstream
from stile.adapters.upstream_litellm import LiteLLMUpstream
from stile.adapters.upstream_relay import RelayUpstream
from stile.api.endpoint import Frame
from stile.api.health import Health
from stile.api.management import Management
from stile.api.openai import OpenAI
from stile.api.routes import Table
from stile.authentication import Authenticator
from stile.bootstrap import Bootstrap
from stile.calls import Calls
from stile.catalog import Catalog
from stile.core.routes import Via
from stile.keyring import Keyring
from stile.modelfile import ModelFile
from stile.ports import Directory, Upstream
from stile.settings import Settings
from stile.telemetry import Telemetry
from stile.users import Users

if TYPE_CHECKING:
    from stile.adapters.media import MediaFetcher


class Gateway(msgspec.Struct, frozen=True):
    """A gateway that runs: its ASGI app, and what a host's story needs beside it.

    `warm_up` does now what otherwise the first calls would do. `release` lets go of idle connections.
    """

    app: Table
    catalog: Catalog
    directory: Directory
    users: Users
    keyring: Keyring
    warm_up: Callable[[], Awaitable[None]]
    release: Callable[[], Awaitable[None]]


@contextlib.asynccontextmanager
async def gateway(
    settings: Settings, models: ModelFile | None, environment: Mapping[str, str], telemetry: Telemetry
) -> AsyncGenerator[Gateway, None]:
    """Everything, connected; taken apart at the end.

    Raises StateError when the state on disk cannot be used, ConfigError when that in AWS cannot.
    """
    async with contextlib.AsyncExitStack() as stack:
        directory, pepper = await state.open_state(settings, environment, stack)
        upstreams: dict[Via, Upstream] = {
            "relay": RelayUpstream(),
            "litellm": LiteLLMUpstream(settings.timeout_seconds, _media_fetcher() if settings.fetch_urls else None),
            "echo": EchoUpstream(),
        }
        for upstream in upstreams.values():
            stack.push_async_callback(upstream.close)
        found = sources.of_table(models.table) if models else sources.find(environment)
        catalog = Catalog(models.table if models else {}, found, model_lists.fetch)
        stack.push_async_callback(catalog.close)
        authenticator = Authenticator(directory, pepper, cache_seconds=settings.key_cache_seconds)
        users = Users(directory, pepper, audit=telemetry.audit, forget=authenticator.forget_user)
        keyring = Keyring(directory, pepper, audit=telemetry.audit, forget=authenticator.forget)
        bootstrap = Bootstrap(directory, users, keyring, sha256=settings.bootstrap_sha256, audit=telemetry.audit)
        openai = OpenAI(Calls(catalog.routes, upstreams), catalog)
        frame = Frame(
            authenticator, telemetry, timeout=settings.timeout_seconds, max_body_bytes=settings.max_body_bytes
        )
        health = Health(authenticator, directory, catalog)
        management = Management(users, keyring, bootstrap, cache_seconds=settings.key_cache_seconds)

        async def warm_up() -> None:
            for upstream in upstreams.values():
                await upstream.warm_up()

        async def release() -> None:
            await directory.release()
            for upstream in upstreams.values():
                await upstream.release()

        yield Gateway(
            app=Table(frame, openai, management, health),
            catalog=catalog,
            directory=directory,
            users=users,
            keyring=keyring,
            warm_up=warm_up,
            release=release,
        )


def _media_fetcher() -> "MediaFetcher":
    from stile.adapters.media import MediaFetcher  # noqa: PLC0415 (aiohttp is a third of a start's time)

    return MediaFetcher()


async def read_configuration(
    settings: Settings, environment: Mapping[str, str]
) -> tuple[ModelFile | None, Mapping[str, str]]:
    """The model file, if one is set, and the environment that it and the providers are read from.

    That is the process's own with the fields of the providers' secret over it: the secret was named for this alone,
    while an environment holds whatever a machine has. Raises ConfigError.
    """
    content, fields = await aws_configuration.fetch(settings, environment)
    complete = {**environment, **fields}
    if content is not None:
        return modelfile.read(str(settings.config), content, complete), complete
    return modelfile.load(settings.config, complete) if isinstance(settings.config, Path) else None, complete
