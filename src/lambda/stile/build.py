"""Puts the parts together: the only file that picks adapters."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from stile import sources, state
from stile.adapters import model_lists
from stile.adapters.bedrock_bearer import BedrockBearer
from stile.adapters.cognito_tokens import CognitoTokens
from stile.adapters.content_log_file import ContentLogFile
from stile.adapters.content_log_group import ContentLogGroup
from stile.adapters.price_map import PriceMap
from stile.adapters.upstream_echo import EchoUpstream
from stile.adapters.upstream_litellm import LiteLLMUpstream
from stile.adapters.upstream_relay import RelayUpstream
from stile.api.anthropic import Models
from stile.api.base_url import BaseUrl
from stile.api.content import Content
from stile.api.cors import Cors
from stile.api.endpoint import Frame
from stile.api.health import Health
from stile.api.management import Management
from stile.api.mcp import texts
from stile.api.mcp.door import McpDoor
from stile.api.mcp.handler import Mcp
from stile.api.mcp.key_tools import KeyTools
from stile.api.mcp.model_tools import ModelTools
from stile.api.mcp.offer import Offer
from stile.api.models import ModelStates
from stile.api.numbers import Numbers
from stile.api.oauth import OAuth
from stile.api.openai import OpenAI
from stile.api.pulse import Rhythm
from stile.api.routes import Table
from stile.authentication import Authenticator
from stile.bootstrap import Bootstrap
from stile.calls import Calls
from stile.catalog import Catalog
from stile.configuration import Configuration
from stile.core.health import Health as TargetsHealth
from stile.core.keys import Pepper
from stile.core.routes import DEFAULT_POLICY, Target, Via
from stile.keyring import Keyring
from stile.ports import ContentLog, Directory, Upstream
from stile.renewal import Renewal
from stile.settings import LogGroup, Settings
from stile.sign_in import SignIn
from stile.sources import Source
from stile.stored import Stored
from stile.telemetry.journal import Telemetry
from stile.users import Users

if TYPE_CHECKING:
    from stile.adapters.media import MediaFetcher


class Gateway(msgspec.Struct, frozen=True):
    """A gateway that runs: its ASGI app, and what a host's story needs beside it.

    `warm_up` does now what otherwise the first calls would do, `warm_up_tools` what the first message of MCP would.
    `release` lets go of idle connections; `restored`, after a snapshot, of what is another's, and fetches secrets anew.
    """

    app: Table
    catalog: Catalog
    directory: Directory
    users: Users
    keyring: Keyring
    warm_up: Callable[[], Awaitable[None]]
    warm_up_tools: Callable[[], Awaitable[None]]
    release: Callable[[], Awaitable[None]]
    restored: Callable[[], Awaitable[None]]


@contextlib.asynccontextmanager
async def gateway(
    settings: Settings, configuration: Configuration, telemetry: Telemetry
) -> AsyncGenerator[Gateway, None]:
    """Everything, connected; taken apart at the end.

    Raises StateError when the state on disk cannot be used, ConfigError when that in AWS cannot.
    """
    async with contextlib.AsyncExitStack() as stack:
        environment = configuration.environment
        directory, pepper = await state.open_state(settings, environment, stack)
        relay = RelayUpstream(BedrockBearer(environment))
        upstreams = _upstreams(settings, relay)
        for upstream in upstreams.values():
            stack.push_async_callback(upstream.close)
        policy = configuration.models.policy if configuration.models else DEFAULT_POLICY
        catalog = Catalog(*_served(configuration), model_lists.fetch, policy)
        stack.push_async_callback(catalog.close)

        def adopt() -> None:
            telemetry.concealed.add(_secrets(configuration))
            catalog.replace(*_served(configuration))

        telemetry.concealed.add(_secrets(configuration))
        renewal = Renewal(configuration.renew if configuration.has_secrets else None, adopt=adopt)
        stack.push_async_callback(renewal.close)
        targets_health = TargetsHealth(policy)
        people = _sign_in(settings, environment, directory, pepper, stack)
        authenticator = Authenticator(directory, pepper, cache_seconds=settings.key_cache_seconds, people=people)
        users = Users(directory, pepper, audit=telemetry.audit, forget=authenticator.forget_user)
        keyring = Keyring(directory, pepper, audit=telemetry.audit, forget=authenticator.forget)
        bootstrap = Bootstrap(directory, users, keyring, sha256=settings.bootstrap_sha256, audit=telemetry.audit)
        calls = Calls(catalog.routes, upstreams, targets_health, renewal, _prices(stack))
        openai = OpenAI(calls, catalog, Stored(catalog, relay))
        content_log = _content_log(settings, environment, stack)
        frame = Frame(
            authenticator,
            telemetry,
            timeout=settings.timeout_seconds,
            max_body_bytes=settings.max_body_bytes,
            rhythm=Rhythm(settings.keep_alive_seconds, settings.whole_keep_alive_seconds),
            cors=Cors(settings.cors_origins),
            content=Content(content_log, settings.content_bytes, telemetry.concealed.redact) if content_log else None,
        )
        base_url = BaseUrl(settings.public_url)
        key_tools = KeyTools(keyring, cache_seconds=settings.key_cache_seconds)
        mcp = Mcp(_offer(ModelTools(calls, openai, catalog.routes), key_tools, openai), authenticator)
        stack.push_async_callback(mcp.close)
        protocol = (mcp, McpDoor(base_url, settings.cors_origins), OAuth(base_url, settings.cognito_domain))
        states = ModelStates(catalog, targets_health)
        health = Health(authenticator, directory, catalog, states)
        numbers = Numbers(telemetry.tally) if telemetry.tally else None
        management = Management(users, keyring, bootstrap, cache_seconds=settings.key_cache_seconds)

        async def warm_up() -> None:
            for upstream in upstreams.values():
                await upstream.warm_up()
            await mcp.warm_up()

        async def release() -> None:
            await directory.release()
            if content_log is not None:
                await content_log.release()
            for upstream in upstreams.values():
                await upstream.release()

        async def restored() -> None:
            await release()
            calls.restored()
            await renewal.now(at_once=True)

        yield Gateway(
            app=Table(frame, openai, Models(openai, catalog), protocol, (management, states, health, numbers)),
            catalog=catalog,
            directory=directory,
            users=users,
            keyring=keyring,
            warm_up=warm_up,
            warm_up_tools=mcp.warm_up,
            release=release,
            restored=restored,
        )


def _upstreams(settings: Settings, relay: RelayUpstream) -> dict[Via, Upstream]:
    return {
        "relay": relay,
        "litellm": LiteLLMUpstream(settings.timeout_seconds, _media_fetcher() if settings.fetch_urls else None),
        "echo": EchoUpstream(),
    }


def _offer(models: ModelTools, keys: KeyTools, openai: OpenAI) -> Offer:
    tools = [*models.tools(), *keys.tools()]
    listing = next(tool for tool in tools if tool.name == "list_models")
    return Offer(tools, texts.ModelLibrary(openai, listing), texts.prompts(), texts.INSTRUCTIONS)


def _sign_in(
    settings: Settings,
    environment: Mapping[str, str],
    directory: Directory,
    pepper: Pepper,
    stack: contextlib.AsyncExitStack,
) -> SignIn | None:
    if settings.user_pool_id is None or not settings.cognito_client_ids:
        return None
    tokens = CognitoTokens(settings.user_pool_id, settings.cognito_client_ids, environment)
    stack.push_async_callback(tokens.close)
    return SignIn(directory, pepper, tokens, cache_seconds=settings.key_cache_seconds)


def _prices(stack: contextlib.AsyncExitStack) -> PriceMap:
    prices = PriceMap.packed()
    loading = asyncio.create_task(prices.load())
    stack.callback(loading.cancel)
    return prices


def _content_log(
    settings: Settings, environment: Mapping[str, str], stack: contextlib.AsyncExitStack
) -> ContentLog | None:
    if not settings.content_bytes:
        return None
    place = settings.content_log or settings.home / "content.log"
    log = ContentLogGroup(place.name, environment) if isinstance(place, LogGroup) else ContentLogFile(place)
    stack.push_async_callback(log.close)
    return log


def _media_fetcher() -> "MediaFetcher":
    from stile.adapters.media import MediaFetcher  # noqa: PLC0415 (aiohttp is a third of a start's time)

    return MediaFetcher()


async def read_configuration(settings: Settings, environment: Mapping[str, str]) -> Configuration:
    """The configuration, read. Raises ConfigError with every fault."""
    configuration = Configuration(settings, environment)
    await configuration.read()
    return configuration


def _secrets(configuration: Configuration) -> Iterator[str]:
    """What of it no line may show."""
    table, found = _served(configuration)
    for target in (*itertools.chain.from_iterable(table.values()), *(source.target for source in found)):
        if target is not None:
            yield from target.secrets
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        if value := configuration.environment.get(name):
            yield value


def _served(configuration: Configuration) -> tuple[Mapping[str, list[Target]], Sequence[Source]]:
    """The model file's targets and the providers that have lists of models."""
    models = configuration.models
    if models is None:
        return {}, sources.find(configuration.environment)
    return models.table, sources.of_table(models.table)
