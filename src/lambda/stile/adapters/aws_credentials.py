"""AWS's credentials of this machine or role.

In a Lambda function they stand in the environment and are read from there. Anywhere else (a profile, single sign-on,
the endpoint that serves a SnapStart function, …) botocore's chain finds them and renews them before they expire. It is
imported on first need: most starts are without AWS, or in Lambda, and must not pay 120 ms for it.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec

from stile.core.secret import Secret


class CredentialsError(Exception):
    """There are no credentials, or none that can be used. The text says why, to people."""


class Credentials(msgspec.Struct, frozen=True):
    """What signs a request."""

    access_key: str
    secret_key: Secret
    token: Secret | None = None


class CredentialSource:
    """Credentials that are good now, whenever they are asked for."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._chain: Any = None
        self._one_search = asyncio.Lock()

    async def get(self) -> Credentials:
        """Raises CredentialsError."""
        found = _from_environment(self._environment)
        if found is not None:
            return found
        async with self._one_search:
            return await asyncio.to_thread(self._ask_chain)

    def release(self) -> None:
        """Forget what was found: those of another machine's, or of a snapshot, are of no use."""
        self._chain = None

    def _ask_chain(self) -> Credentials:
        self._chain = self._chain or _search()
        return _frozen(self._chain)


def find(environment: Mapping[str, str]) -> Credentials:
    """Credentials for now. Blocks while botocore looks for them. Raises CredentialsError."""
    return _from_environment(environment) or _frozen(_search())


def _from_environment(environment: Mapping[str, str]) -> Credentials | None:
    access_key, secret_key = environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")
    if not access_key or not secret_key:
        return None
    token = environment.get("AWS_SESSION_TOKEN")
    return Credentials(access_key, Secret(secret_key), Secret(token) if token else None)


def _search() -> Any:
    """botocore's credentials: an object that renews itself."""
    import botocore.exceptions  # noqa: PLC0415
    import botocore.session  # noqa: PLC0415

    try:
        found = botocore.session.get_session().get_credentials()
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        raise CredentialsError(str(error)) from error
    if found is None:
        raise CredentialsError("there are none; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    return found


def _frozen(chain: Any) -> Credentials:
    import botocore.exceptions  # noqa: PLC0415

    try:
        now = chain.get_frozen_credentials()
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        raise CredentialsError(str(error)) from error
    return Credentials(now.access_key, Secret(now.secret_key), Secret(now.token) if now.token else None)
