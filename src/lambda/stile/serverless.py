"""The story of a gateway in a Lambda function: as the function's own runtime, or behind a classic handler.

It never makes a user and never prints a key: those who hold an admin's key manage the others over REST.
"""

import contextlib
import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from stile import build, settings
from stile.api.request import Message, Receive, Send
from stile.build import Gateway
from stile.errors import ConfigError, DirectoryUnavailable, StateError
from stile.hosts import lambda_host
from stile.hosts.lambda_classic import ClassicHost, Context
from stile.hosts.lambda_host import Hooks
from stile.settings import MIB, Settings
from stile.telemetry.journal import Telemetry
from stile.telemetry.redaction import redact

# Lambda takes no larger event for an answer that is waited for, and the body is a part of it.
EVENT_BYTES = 6 * MIB
PACKED_CONFIG = "config.yaml"  # where `make build CONFIG=…` puts a model file


class Function:
    """The gateway as an ASGI app that lives as long as its function's environment."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._telemetry: Telemetry | None = None
        self._gateway: Gateway | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            await self._ready().app(scope, receive, send)

    def settle(self) -> None:
        """Nothing may wait in memory when the process freezes."""
        if self._telemetry is not None:
            self._telemetry.flush()

    async def before_snapshot(self) -> None:
        """Whatever is made from the snapshot shall import nothing any more, and share no connection."""
        await self._ready().warm_up()
        await self._ready().release()

    async def after_restore(self) -> None:
        """Connections and credentials of the process that was pictured are another's, and its secrets may be old."""
        await self._ready().restored()

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        async with contextlib.AsyncExitStack() as stack:
            try:
                self._gateway = await self._start(stack)
            except (ConfigError, StateError, DirectoryUnavailable) as error:
                await send({"type": "lifespan.startup.failed", "message": redact(str(error))})
                return
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def _start(self, stack: contextlib.AsyncExitStack) -> Gateway:
        environment = _with_packed_config(self._environment)
        known = _bounded(settings.read(environment))
        if known.directory == "cognito" and known.pepper_secret is None:
            raise ConfigError(
                ["STILE_PEPPER_SECRET: must be set in a function: it has no disk on which a pepper stays"]
            )
        self._telemetry = Telemetry(known)
        self._telemetry.capture_logging()
        configuration = await build.read_configuration(known, environment)
        if configuration.models is not None:
            self._telemetry.text("info", "stile.config", configuration.models.summary)
            for warning in configuration.models.warnings:
                self._telemetry.text("warning", "stile.config", warning)
        gateway = await stack.enter_async_context(build.gateway(known, configuration, self._telemetry))
        if environment.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "provisioned-concurrency":
            await gateway.warm_up()  # this start is paid for beforehand and nobody waits for it
        return gateway

    def _ready(self) -> Gateway:
        assert self._gateway is not None, "the lifespan has not begun"  # noqa: S101
        return self._gateway


def main(environment: Mapping[str, str]) -> int:
    """Be the function's runtime; answers the exit code."""
    function = Function(environment)
    hooks = Hooks(function.settle, function.before_snapshot, function.after_restore)
    return lambda_host.run(function, hooks, environment)


def handle(event: object, context: Context) -> dict[str, Any]:
    """Answer one event whole, as a classic handler does."""
    return _classic().handle(event, context)


@functools.cache
def _classic() -> ClassicHost:
    function = Function(os.environ)
    return ClassicHost(function, function.settle)


def _with_packed_config(environment: Mapping[str, str]) -> Mapping[str, str]:
    packed = Path(environment.get("LAMBDA_TASK_ROOT", ".")) / PACKED_CONFIG
    if environment.get("STILE_CONFIG") or not packed.is_file():
        return environment
    return {**environment, "STILE_CONFIG": str(packed)}


def _bounded(known: Settings) -> Settings:
    return msgspec.structs.replace(known, max_body_bytes=min(known.max_body_bytes, EVENT_BYTES))
