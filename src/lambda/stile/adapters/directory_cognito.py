"""The Directory in a Cognito user pool.

A user is named by `sub`. AdminGetUser takes it for users of the pool's own; one who came by another provider has a
Username beside it, which one ListUsers finds and which is remembered.

Cognito has no conditional write. So a change reads, compares, and writes within WINDOW seconds of its reading; a write
that was not answered by then counts for nothing. It then waits longer than that: whoever had read before it wrote has
written by now, or never will. Only when what it wrote is still there has the change held.
"""

import asyncio
import time
import uuid
from collections.abc import Mapping, Sequence

from stile.adapters import user_pool
from stile.adapters.aws_client import AwsClient
from stile.adapters.aws_error import AwsError
from stile.adapters.user_pool import Created, Declared, Described, Nothing, User, UserPool, Users
from stile.core.keys import SLOTS, is_user_id
from stile.core.records import MAX_ATTRIBUTE_BYTES, Entry, Page, slot_attribute
from stile.entries import POLICY, ROLE
from stile.errors import (
    ConfigError,
    Conflict,
    DirectoryUnavailable,
    EmailTaken,
    Unconfirmed,
    UnknownUser,
    Unprocessable,
    ValueTooLarge,
)
from stile.ports import MAX_PAGE, Change

WINDOW = 1.0
_MARGIN = 0.25  # of the wait over the window: what clocks and the network may take
_CHANGE_SECONDS = 15  # for reading and writing again while it is throttled or slow
_REMEMBERED = 1000  # Usernames that are not the sub
_NOBODY = "stile-readiness"
_CUSTOM = "custom:"
_DECLARED = (ROLE, POLICY, *(slot_attribute(slot) for slot in range(1, SLOTS + 1)))


class CognitoDirectory:
    """The Directory port on the user pool `pool_id`. Who made the client closes it."""

    def __init__(self, client: AwsClient, pool_id: str, *, window: float = WINDOW) -> None:
        self._client = client
        self._pool_id = pool_id
        self._pool = UserPool(client, pool_id)
        self._window = window
        self._usernames: dict[str, str] = {}
        self._addresses_are_aliases = False

    async def prepare(self) -> None:
        """Look whether the pool can hold what it must. Raises ConfigError, with all that it lacks.

        A pool that cannot be asked now does not stop the start: who calls will be told.
        """
        try:
            pool = (await self._pool.read("DescribeUserPool", Described)).user_pool
        except AwsError as error:
            if error.heard and not error.throttled:
                raise ConfigError([f"STILE_USER_POOL_ID: {self._pool_id} cannot be used ({error})"]) from error
            self._pool.unavailable(error)
            return
        self._addresses_are_aliases = "email" in pool.alias_attributes
        there = {attribute.name: attribute for attribute in pool.schema_attributes}
        faults = [fault for name in _DECLARED if (fault := _fault(f"{_CUSTOM}{name}", there)) is not None]
        if faults:
            raise ConfigError([f"STILE_USER_POOL_ID: {self._pool_id} {fault}" for fault in faults])

    async def get(self, user_id: str) -> Entry | None:
        if not is_user_id(user_id):
            return None
        found = await self._by_name(self._usernames.get(user_id, user_id), "sub", user_id)
        if found is not None:
            return found
        for user in await self._search("sub", user_id):
            self._remember(user_id, user.username)
            return await self._by_name(user.username, "sub", user_id)
        return None

    async def find(self, email: str) -> Entry | None:
        address = email.lower()
        found = await self._by_name(address, "email", address)
        if found is not None:
            return found
        for user in await self._search("email", address):
            return await self.get(user.values().get("sub", ""))
        return None

    async def list(self, *, limit: int = 50, cursor: str | None = None) -> Page:
        token = {"PaginationToken": cursor} if cursor else {}
        try:
            found = await self._pool.read("ListUsers", Users, Limit=min(limit, MAX_PAGE), **token)
        except AwsError as error:
            if error.code in {"InvalidParameterException", "InvalidToken"} and cursor:
                raise Unprocessable("This cursor is none that a list of users gave.", param="cursor") from error
            raise self._pool.unavailable(error) from error
        return Page(entries=[_entry(user) for user in found.users], next_cursor=found.pagination_token or None)

    async def create(self, email: str, *, mailbox: bool = True, invite: bool = False) -> Entry:
        address = email.lower()
        if self._addresses_are_aliases and await self.find(address) is not None:
            raise _taken(email)
        verified = {"email": address, "email_verified": "true" if mailbox else "false"}
        mail = {"DesiredDeliveryMediums": ["EMAIL"]} if invite else {"MessageAction": "SUPPRESS"}
        try:
            made = await self._pool.change(
                "AdminCreateUser",
                Created,
                Username=str(uuid.uuid4()) if self._addresses_are_aliases else address,
                UserAttributes=user_pool.attributes(verified),
                **mail,
            )
        except AwsError as error:
            if error.code in {"UsernameExistsException", "AliasExistsException"}:
                raise _taken(email) from error
            if error.code == "InvalidParameterException":
                raise Unprocessable(f"Cognito does not take this user: {error.message}", param="email") from error
            raise self._failed(error) from error
        entry = _entry(made.user)
        if made.user.username != entry.user_id:
            self._remember(entry.user_id, made.user.username)
        return entry

    async def write(self, user_id: str, changes: Mapping[str, Change]) -> None:
        for name, change in changes.items():
            if change.after is not None and len(change.after.encode()) > MAX_ATTRIBUTE_BYTES:
                raise ValueTooLarge(f"{name} would hold more than {MAX_ATTRIBUTE_BYTES} bytes; nothing was written.")
        unheard = await self._compare_and_write(user_id, changes)
        await asyncio.sleep(self._window * (1 + _MARGIN))
        try:
            held = await self._holds(user_id, {name: change.after for name, change in changes.items()})
        except DirectoryUnavailable as error:
            raise _unconfirmed(error) from error
        if held:
            return
        if unheard is not None:
            raise self._failed(unheard)
        raise Conflict("It was overwritten by somebody else's change.")

    async def enable(self, user_id: str, *, enabled: bool) -> None:
        await self._on_user("AdminEnableUser" if enabled else "AdminDisableUser", user_id)

    async def delete(self, user_id: str) -> None:
        await self._on_user("AdminDeleteUser", user_id)
        self._usernames.pop(user_id, None)

    async def claim(self, name: str) -> None:
        """By the name of a group: the one conditional write that Cognito has."""
        try:
            await self._pool.change("CreateGroup", Nothing, GroupName=name)
        except AwsError as error:
            if error.code == "GroupExistsException":
                raise Conflict(f"{name} is taken.") from error
            raise self._failed(error) from error

    async def claimed(self, name: str) -> bool:
        try:
            await self._pool.read("GetGroup", Nothing, GroupName=name)
        except AwsError as error:
            if error.code == "ResourceNotFoundException":
                return False
            raise self._pool.unavailable(error) from error
        return True

    async def check(self) -> None:
        await self._by_name(_NOBODY, "sub", _NOBODY)

    async def release(self) -> None:
        await self._client.release()

    async def close(self) -> None:
        """The client's owner closes it."""

    async def _by_name(self, username: str, attribute: str, value: str) -> Entry | None:
        """The user of this Username, or alias, if that is also who is meant."""
        try:
            user = await self._pool.read("AdminGetUser", User, Username=username)
        except AwsError as error:
            if error.code == "UserNotFoundException":
                return None
            raise self._pool.unavailable(error) from error
        return _entry(user) if user.values().get(attribute, "").lower() == value else None

    async def _search(self, attribute: str, value: str) -> Sequence[User]:
        if '"' in value or "\\" in value:
            return ()
        try:
            return (await self._pool.read("ListUsers", Users, Filter=f'{attribute} = "{value}"', Limit=1)).users
        except AwsError as error:
            raise self._pool.unavailable(error) from error

    def _remember(self, user_id: str, username: str) -> None:
        if len(self._usernames) >= _REMEMBERED:
            self._usernames.clear()
        self._usernames[user_id] = username

    async def _compare_and_write(self, user_id: str, changes: Mapping[str, Change]) -> AwsError | None:
        """Answers what happened to the write when nobody knows whether it was applied."""
        ends = time.monotonic() + _CHANGE_SECONDS
        while True:
            began = time.monotonic()
            entry = await self._known(user_id)
            for name, change in changes.items():
                if entry.attributes.get(name) != change.before:
                    raise Conflict(f"{name} was changed by somebody else.")
            values = {f"{_CUSTOM}{name}": change.after or "" for name, change in changes.items()}
            left = began + self._window - time.monotonic()
            try:
                if left > 0:
                    await self._pool.change_within(
                        left,
                        "AdminUpdateUserAttributes",
                        Username=self._usernames.get(user_id, user_id),
                        UserAttributes=user_pool.attributes(values),
                    )
                    return None
            except AwsError as error:
                if not error.heard:
                    return error
                if not error.throttled or time.monotonic() >= ends:
                    raise self._failed(error) from error
                await user_pool.pause()
            if time.monotonic() >= ends:
                raise DirectoryUnavailable("The key directory is too slow now; nothing was changed. Try again.")

    async def _holds(self, user_id: str, values: Mapping[str, str | None]) -> bool:
        entry = await self._known(user_id)
        return all(entry.attributes.get(name) == value for name, value in values.items())

    async def _known(self, user_id: str) -> Entry:
        entry = await self.get(user_id)
        if entry is None:
            raise UnknownUser
        return entry

    async def _on_user(self, operation: str, user_id: str) -> None:
        await self._known(user_id)
        try:
            await self._pool.change(operation, Nothing, Username=self._usernames.get(user_id, user_id))
        except AwsError as error:
            if error.code == "UserNotFoundException":
                raise UnknownUser from error
            raise self._failed(error) from error

    def _failed(self, error: AwsError) -> DirectoryUnavailable:
        """What is told of a change that failed: whether it may have been made after all."""
        told = self._pool.unavailable(error)
        return told if error.heard else _unconfirmed(told)


def _entry(user: User) -> Entry:
    values = user.values()
    return Entry(
        user_id=values.get("sub", ""),
        email=values.get("email", ""),
        enabled=user.enabled,
        attributes={
            name.removeprefix(_CUSTOM): value
            for name, value in values.items()
            if name.removeprefix(_CUSTOM) in _DECLARED and name.startswith(_CUSTOM)
        },
    )


def _fault(name: str, there: Mapping[str, Declared]) -> str | None:
    """What is wrong with an attribute of the pool's schema."""
    must = f"a mutable string of up to {MAX_ATTRIBUTE_BYTES} characters"
    if name not in there:
        return f"lacks the attribute {name}; add it to the pool as {must}"
    if not there[name].holds(MAX_ATTRIBUTE_BYTES):
        return f"has an attribute {name} that is not {must}; Cognito never changes one, so take another pool"
    return None


def _unconfirmed(told: DirectoryUnavailable) -> Unconfirmed:
    return Unconfirmed(headers=told.headers)


def _taken(email: str) -> EmailTaken:
    return EmailTaken(f"{email} belongs to another user.", param="email")
