"""The story of a gateway on one machine: the first start makes an admin and a key, and says how to use it.

The banner is plain text on standard output, out before the first request is answered. The key stands in it on the
first start only; `key` makes another one for whoever can write the state's folder.
"""

import asyncio
import itertools
import socket
import sys
from collections.abc import Mapping, Sequence

from stile import __version__, build, checking, settings
from stile.build import Gateway
from stile.catalog import Catalog
from stile.configuration import Configuration
from stile.core.providers import ECHO
from stile.core.records import ADMIN_SCOPES
from stile.core.rights import Author
from stile.errors import ConfigError, DirectoryUnavailable, EmailTaken, Rejected, StateError
from stile.hosts import local_host
from stile.keyring import KeyFields
from stile.modelfile import ModelFile
from stile.settings import Settings
from stile.telemetry.journal import Telemetry
from stile.telemetry.redaction import redact
from stile.telemetry.tally import Tally

# Long enough for a list from this machine; the others are shown when they come.
LISTS_GRACE_SECONDS = 0.5
# An editor that comes first would not wait for the import of MCP's SDK, and work without the tools: Codex gives a
# server about a second. So it is imported when the start is long over.
WARM_UP_AFTER_SECONDS = 5
SHOWN_MODELS = 8
_STANDARD_ERROR = 2
_ASK = '{"model":"echo","messages":[{"role":"user","content":"Hello"}]}'
_USAGE = """usage: app.py [key | check-config [FILE] [--json]]

  (nothing)     serve; the first start prints an admin key
  key           print a new admin key
  check-config  tell what of a model file (FILE, or STILE_CONFIG) is honoured, has no effect, or is wrong"""


def main(arguments: list[str], environment: Mapping[str, str]) -> int:
    """Serve, or make a key; answers the exit code. Every failure is told in one line a fault."""
    try:
        if arguments[:1] == ["check-config"]:
            return checking.main(arguments[1:], environment)
        if arguments not in ([], ["key"]):
            _tell(_USAGE)
            return 2
        known = settings.read(environment)
        if arguments == ["key"]:
            local_host.run(_print_key(known, environment))
        else:
            _serve(known, environment)
    except ConfigError as error:
        for fault in error.faults:
            _tell(f"stile: {redact(fault)}")
        return 1
    except (StateError, DirectoryUnavailable) as error:
        _tell(f"stile: {redact(str(error))}")
        return 1
    except KeyboardInterrupt:
        pass
    return 0


def _serve(known: Settings, environment: Mapping[str, str]) -> None:
    configuration = asyncio.run(build.read_configuration(known, environment))
    telemetry = Telemetry(known, tally=Tally())
    try:
        bound = local_host.bind(known.host, known.port)
    except OSError as fault:
        raise ConfigError([f"cannot listen on {known.host}:{known.port} ({fault.strerror}); set STILE_PORT"]) from None
    with bound:
        telemetry.capture_logging()
        local_host.run(_run(known, configuration, telemetry, bound))
    telemetry.close()


async def _run(known: Settings, configuration: Configuration, telemetry: Telemetry, bound: socket.socket) -> None:
    models = configuration.models
    async with build.gateway(known, configuration, telemetry) as gateway:
        lists = None if models else gateway.catalog.refresh()
        with telemetry.held():  # the banner comes first
            key = await _first_key(gateway) if known.directory == "sqlite" else None
            if lists is not None:
                await asyncio.wait({lists}, timeout=LISTS_GRACE_SECONDS)
            shown = gateway.catalog.found()
            _say(_banner(_address(bound), _key_lines(known, key), key, gateway.catalog, models))
        if lists is not None:
            lists.add_done_callback(lambda _: _show_late(shown, gateway.catalog))
        warming = asyncio.create_task(_warm_up(gateway))
        try:
            await local_host.serve(gateway.app, bound, drain_seconds=known.drain_seconds)
        finally:
            warming.cancel()
            await asyncio.wait({warming})


async def _warm_up(gateway: Gateway) -> None:
    await asyncio.sleep(WARM_UP_AFTER_SECONDS)
    await gateway.warm_up_tools()


async def _print_key(known: Settings, environment: Mapping[str, str]) -> None:
    if known.directory != "sqlite":
        raise ConfigError(
            ["make key makes keys of the embedded directory; in Cognito an admin makes them: POST /api/users/{id}/keys"]
        )
    telemetry = Telemetry(known, otherwise=_STANDARD_ERROR)  # standard output is the key alone
    async with build.gateway(known, Configuration(known, environment), telemetry) as gateway:
        _say(await _admin_key(gateway))


async def _first_key(gateway: Gateway) -> str | None:
    """A key for the first admin, when there is nobody yet."""
    if (await gateway.directory.list(limit=1)).entries:
        return None
    try:
        return await _admin_key(gateway)
    except EmailTaken:  # another start beside this one was first, and has printed the key
        return None


async def _admin_key(gateway: Gateway) -> str:
    """A new key for the machine's own admin; when all slots of one are taken, the next one is used."""
    by = Author()
    for number in itertools.count(1):
        email = f"admin{number if number > 1 else ''}@localhost"
        admin = await gateway.directory.find(email)
        if admin is None or not admin.attributes:  # nobody, or a first start that was cut off half way
            admin = await gateway.users.create(by, email, "admin")
        try:
            wanted = KeyFields(name="made on this machine", scopes=ADMIN_SCOPES)
            return (await gateway.keyring.create(by, admin.user_id, wanted)).plaintext
        except Rejected as full:
            if full.code != "too_many_keys":
                raise
    raise AssertionError("itertools.count never ends")


def _key_lines(known: Settings, key: str | None) -> list[str]:
    if known.directory != "sqlite":
        return ["  API key   one that an admin has made; the first admin's comes by POST /api/bootstrap"]
    if key is None:
        return ["  API key   one that you have, or a new one: make key"]
    return [f"  API key   {key}", "            It is shown only now. For another one: make key"]


def _banner(address: str, key_lines: Sequence[str], key: str | None, catalog: Catalog, models: ModelFile | None) -> str:
    lines = [f"Stile {__version__}", "", f"  Base URL  {address}/v1", *key_lines]
    named = _by_provider(catalog) if models else [ECHO]
    found = [_counted(name, number) for name, number in catalog.found().items()]
    lines.extend(f"  {'' if number else 'Models':<10}{text}" for number, text in enumerate([*named, *found]))
    if models is not None:
        lines.append(f"  Config    {models.summary}")
        lines.extend(f"  Note      {redact(warning)}" for warning in models.warnings)
    curl = (
        f"curl {address}/v1/chat/completions -H 'Authorization: Bearer {key or 'YOUR_KEY'}'"
        f" -H 'Content-Type: application/json' -d '{_ASK}'"
    )
    return "\n".join([*lines, "", "  A first call:", "", curl, ""])


def _by_provider(catalog: Catalog) -> list[str]:
    """A line for each provider that the model file names: how many models, and the first of them."""
    names: dict[str, list[str]] = {}
    for model in catalog.models():
        names.setdefault(model.owned_by, []).append(model.id)
    return [
        f"{provider}: {_models(len(ids))}: {', '.join(ids[:SHOWN_MODELS])}{', …' if ids[SHOWN_MODELS:] else ''}"
        if provider != ECHO
        else ECHO
        for provider, ids in names.items()
    ]


def _show_late(shown: Mapping[str, int | None], catalog: Catalog) -> None:
    for name, number in catalog.found().items():
        if number is not None and shown.get(name) is None:
            _say(f"Found: {_counted(name, number)}")


def _counted(name: str, number: int | None) -> str:
    if number is None:
        return f"{name}: any of its models, as {name}/… (its list has not come)"
    return f"{name}: {_models(number)}, as {name}/…"


def _models(number: int) -> str:
    return f"{number} model{'' if number == 1 else 's'}"


def _address(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{shown}:{port}"


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 (the banner is what this file is for)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201
