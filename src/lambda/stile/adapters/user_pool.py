"""Cognito's user pool as it is spoken to: its operations, what they answer, and what is sent again.

A throttled request has done nothing, so it is sent again, after pauses of random length, until its time is over. What
only reads is also sent once more after a server's fault or a lost connection; what changes something never is.
"""

import asyncio
import itertools
import logging
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from stile.adapters.aws_client import AwsClient, Service
from stile.adapters.aws_error import TIMED_OUT, AwsError
from stile.errors import DirectoryUnavailable

SECONDS = 5  # for one operation, with all waiting for its turn
AT_ONCE = 8  # a crowd would only be throttled
_PAUSE_SECONDS = 0.1  # the longest before the first repetition; it doubles with each, up to …
_MAX_PAUSE_SECONDS = 1
_WARN_SECONDS = 10
_FAULTS = 1  # after which what only reads is sent once more
_SERVICE = Service("cognito-idp", "COGNITO_IDENTITY_PROVIDER", "AWSCognitoIdentityProviderService")
_ADVICE = {
    "AccessDeniedException": "allow the operation on this user pool",
    "ResourceNotFoundException": "STILE_USER_POOL_ID names no user pool of this account and region",
}
_random = secrets.SystemRandom()
_log = logging.getLogger("stile.cognito")

T = TypeVar("T")


class Attribute(msgspec.Struct, rename="pascal"):
    """A name and a value."""

    name: str
    value: str = ""


class User(msgspec.Struct, rename="pascal"):
    """A user, as operations differ in how they call the attributes."""

    username: str
    enabled: bool = True
    attributes: Sequence[Attribute] = ()
    user_attributes: Sequence[Attribute] = ()

    def values(self) -> dict[str, str]:
        """The attributes that are not blank."""
        return {one.name: one.value for one in (*self.attributes, *self.user_attributes) if one.value}


class Users(msgspec.Struct, rename="pascal"):
    """A page of them."""

    users: Sequence[User] = ()
    pagination_token: str | None = None


class Created(msgspec.Struct, rename="pascal"):
    """What AdminCreateUser answers."""

    user: User


class Lengths(msgspec.Struct, rename="pascal"):
    """How long a text may be. Cognito says it in texts, too."""

    max_length: str = "2048"


class Declared(msgspec.Struct, rename="pascal"):
    """An attribute as the pool's schema has it."""

    name: str
    attribute_data_type: str = "String"
    mutable: bool = True
    string_attribute_constraints: Lengths | None = None

    def holds(self, size: int) -> bool:
        """Whether it is a text of up to `size` characters that can be written again."""
        lengths = self.string_attribute_constraints or Lengths()
        return self.attribute_data_type == "String" and self.mutable and int(lengths.max_length) >= size


class Pool(msgspec.Struct, rename="pascal"):
    """What the pool says of itself."""

    schema_attributes: Sequence[Declared] = ()
    alias_attributes: Sequence[str] = ()


class Described(msgspec.Struct, rename="pascal"):
    """What DescribeUserPool answers."""

    user_pool: Pool


class Nothing(msgspec.Struct):
    """An answer that says no more than that it is done."""


class UserPool:
    """One user pool. Any operation raises AwsError for what Cognito refuses, and DirectoryUnavailable."""

    def __init__(self, client: AwsClient, pool_id: str) -> None:
        self._client = client
        self._id = pool_id
        self._region = pool_id.partition("_")[0]
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._warned = 0.0

    async def read(self, operation: str, kind: type[T], **asked: Any) -> T:
        """An operation that changes nothing."""
        return await self._patiently(operation, asked, kind, faults=_FAULTS)

    async def change(self, operation: str, kind: type[T], **asked: Any) -> T:
        """An operation that is sent again only while it is throttled. AwsError does not say that it was not done."""
        return await self._patiently(operation, asked, kind, faults=0)

    async def change_within(self, seconds: float, operation: str, **asked: Any) -> None:
        """An operation that is sent once, and whose answer counts for so many seconds. Raises AwsError alone."""
        await self._call(operation, asked, Nothing, seconds, once=True)

    def unavailable(self, error: AwsError) -> DirectoryUnavailable:
        """What callers are told; the log says more, not more often than it helps."""
        now = time.monotonic()
        if now >= self._warned + _WARN_SECONDS:
            self._warned = now
            _log.warning("Cognito's user pool %s: %s", self._id, error.told(_ADVICE))
        return DirectoryUnavailable(
            f"The key directory cannot be used now ({error.code}). Try again.",
            headers=[("retry-after", str(_random.randint(1, 3)))],
        )

    async def _patiently(self, operation: str, asked: Mapping[str, Any], kind: type[T], *, faults: int) -> T:
        ends = time.monotonic() + SECONDS
        last = AwsError(TIMED_OUT, "too many wait for it")
        left = faults
        try:
            async with asyncio.timeout(SECONDS), self._turns:
                for attempt in itertools.count():
                    try:
                        return await self._call(operation, asked, kind, ends - time.monotonic(), once=not faults)
                    except AwsError as error:
                        last = error
                        if not error.throttled:
                            if error.heard or left == 0 or error.retries == 0:
                                raise
                            left -= 1
                    await pause(attempt)
        except TimeoutError:
            raise last from None
        raise AssertionError("itertools.count never ends")

    async def _call(self, operation: str, asked: Mapping[str, Any], kind: type[T], seconds: float, *, once: bool) -> T:
        whole = {"UserPoolId": self._id, **asked}
        return await self._client.call(_SERVICE, self._region, operation, whole, kind, within=seconds, once=once)


async def pause(attempt: int = 0) -> None:
    """Wait as long as befits the repetition, by chance."""
    await asyncio.sleep(_random.uniform(0, min(_MAX_PAUSE_SECONDS, _PAUSE_SECONDS * 2**attempt)))


def attributes(values: Mapping[str, str]) -> list[dict[str, str]]:
    """Attributes as operations take them."""
    return [{"Name": name, "Value": value} for name, value in values.items()]
