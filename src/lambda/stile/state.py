"""Opens what keys are checked by: the directory and the pepper, each embedded or in AWS.

A pepper is made once, beside a directory in which nobody is yet, and never replaced: without it every key is dead.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from stile.adapters import pepper_file, pepper_secret
from stile.adapters.aws_client import AwsClient
from stile.adapters.directory_cognito import CognitoDirectory
from stile.adapters.directory_sqlite import SQLiteDirectory
from stile.core.keys import Pepper
from stile.errors import ConfigError, StateError
from stile.ports import Directory
from stile.settings import SecretId, Settings

DATABASE, PEPPER = "stile.db", "pepper.json"


async def open_state(
    settings: Settings, environment: Mapping[str, str], stack: contextlib.AsyncExitStack
) -> tuple[Directory, Pepper]:
    """Directory and pepper, closed by `stack`. Raises StateError and ConfigError; nothing is ever overwritten."""
    client = AwsClient(environment)
    stack.push_async_callback(client.close)
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    if settings.directory == "cognito" and settings.user_pool_id is not None:
        return await _in_cognito(client, settings.user_pool_id, settings.pepper_secret, region, settings.home)
    directory = _embedded(settings.home, with_pepper=settings.pepper_secret is None)
    stack.push_async_callback(directory.close)
    if settings.pepper_secret is None:
        return directory, pepper_file.load(settings.home / PEPPER)
    return directory, await pepper_secret.fetch(client, settings.pepper_secret, region)


async def _in_cognito(
    client: AwsClient, pool_id: str, secret: SecretId | None, region: str | None, home: Path
) -> tuple[Directory, Pepper]:
    """Both are asked for at once: they are on the way of a cold start."""
    directory = CognitoDirectory(client, pool_id)
    place = region or pool_id.partition("_")[0]
    pepper, looked = await asyncio.gather(
        pepper_secret.fetch(client, secret, place) if secret else _beside(directory, home),
        directory.prepare(),
        return_exceptions=True,
    )
    faults = [fault for wrong in (pepper, looked) if isinstance(wrong, ConfigError) for fault in wrong.faults]
    if faults:
        raise ConfigError(faults)
    if looked is not None:
        raise looked
    if not isinstance(pepper, Pepper):
        raise pepper
    return directory, pepper


async def _beside(directory: CognitoDirectory, home: Path) -> Pepper:
    """The pepper in a file of this machine; made when there is none and the pool has nobody."""
    path = home / PEPPER
    with _usable(home):
        if not path.exists():
            if (await directory.list(limit=1)).entries:
                raise StateError(
                    f"{path}: the pepper is missing, and the user pool has users; restore it from a copy, or set"
                    " STILE_PEPPER_SECRET"
                )
            pepper_file.make(path)
        return pepper_file.load(path)


def _embedded(home: Path, *, with_pepper: bool) -> SQLiteDirectory:
    with _usable(home):
        database = home / DATABASE
        if with_pepper and not database.exists():
            pepper_file.make(home / PEPPER)
        if with_pepper:
            pepper_file.load(home / PEPPER)  # before a database is made that no key could ever be found in
        return SQLiteDirectory(database)


@contextlib.contextmanager
def _usable(home: Path) -> Iterator[None]:
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        yield
    except OSError as fault:
        raise StateError(f"{home}: cannot be used for the state ({fault.strerror}); set STILE_HOME") from None
