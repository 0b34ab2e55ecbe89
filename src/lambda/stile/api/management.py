"""The management of users and keys: Stile's own REST API under /api.

Whoever calls is looked up anew, and what is answered is never kept by anybody on the way. A key's text stands in the
answers to bootstrap, create and rotate, and nowhere else.
"""

import re
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from msgspec import UnsetType

from stile import shown
from stile.api import asked, shapes
from stile.api.request import JSON, Reply, Request
from stile.bootstrap import Bootstrap
from stile.core import keys
from stile.core.records import KeyRecord, Policy, Status
from stile.core.rights import Author
from stile.errors import Unprocessable
from stile.keyring import Keyring, NewKey
from stile.ports import MAX_PAGE
from stile.shown import ShownKey
from stile.users import PolicyFields, UserFields, Users

PAGE = 50
_IDEMPOTENCY_KEY = re.compile(r"[!-~]{1,255}")
_PRIVATE = (b"cache-control", b"no-store")


class Management:
    """The handlers of /api. `cache_seconds`: how long other instances may go on by what they know."""

    def __init__(self, users: Users, keyring: Keyring, bootstrap: Bootstrap, *, cache_seconds: int) -> None:
        self._users = users
        self._keyring = keyring
        self._bootstrap = bootstrap
        self._cache_seconds = cache_seconds

    async def bootstrap(self, request: Request) -> Reply:
        said = asked.body(request, shapes.BootstrapRequest)
        entry, made = await self._bootstrap.open(said.token, asked.email(said.email), request.record.request_id)
        return _reply(shapes.FirstKey(user=self._users.shown(entry), **_with_secret(made)), 201)

    async def me(self, request: Request) -> Reply:
        by = _author(request)
        assert by.caller is not None  # noqa: S101 (the path needs a key)
        entry = await self._users.get(by.caller.user_id)
        record = self._keyring.held(entry, by.caller.key_id)
        return _reply(
            shapes.Me(
                user=self._users.shown(entry),
                role=by.caller.role,
                scopes=list(record.scopes),
                key=_shown(record),
            )
        )

    async def create_user(self, request: Request) -> Reply:
        said = asked.body(request, shapes.NewUser)
        if said.machine and said.invite:
            raise Unprocessable("A machine has no mailbox to which an invitation could go.", param="invite")
        entry = await self._users.create(
            _author(request),
            asked.email(said.email),
            said.role,
            _policy(said.policy),
            machine=said.machine,
            invite=said.invite,
        )
        return _reply(self._users.shown(entry), 201)

    async def list_users(self, request: Request) -> Reply:
        wanted = asked.query(request, "limit", "cursor", "email")
        limit = asked.whole(wanted.get("limit", str(PAGE)), "limit", 1, MAX_PAGE)
        if "email" in wanted:
            found = await self._users.find(_author(request), asked.email(wanted["email"]))
            return _reply(shapes.UserList([self._users.shown(found)] if found else [], None))
        entries, cursor = await self._users.list(_author(request), limit=limit, cursor=wanted.get("cursor"))
        return _reply(shapes.UserList([self._users.shown(entry) for entry in entries], cursor))

    async def show_user(self, request: Request) -> Reply:
        _author(request).require_admin()
        return _reply(self._users.shown(await self._users.get(_id(request))))

    async def update_user(self, request: Request) -> Reply:
        said = asked.body(request, shapes.UserChange)
        wanted = UserFields(role=said.role, policy=_policy_change(said.policy), enabled=said.enabled)
        return _reply(self._users.shown(await self._users.update(_author(request), _id(request), wanted)))

    async def delete_user(self, request: Request) -> Reply:
        await self._users.delete(_author(request), _id(request))
        return _reply(shapes.Deleted(_id(request), deleted=True))

    async def create_key(self, request: Request) -> Reply:
        """For the user in the path, or for oneself."""
        by = _author(request)
        said = asked.body(request, shapes.NewKey)
        asked.within_bytes(said.name, "name", shapes.MAX_NAME_BYTES)
        made = await self._keyring.create(by, _user_id(request, by), asked.key_fields(said))
        return _reply(shapes.KeyWithSecret(**_with_secret(made)), 201)

    async def list_keys(self, request: Request) -> Reply:
        """Of the user in the path, or one's own."""
        by = _author(request)
        user_id = _user_id(request, by)
        records = await self._keyring.list(by, user_id)
        return _reply(shapes.KeyList([_shown(record) for record in records], None))

    async def show_key(self, request: Request) -> Reply:
        return _reply(_shown(await self._keyring.get(_author(request), _id(request))))

    async def update_key(self, request: Request) -> Reply:
        said = asked.body(request, shapes.KeyChange)
        asked.within_bytes(said.name, "name", shapes.MAX_NAME_BYTES)
        return self._changed(await self._keyring.update(_author(request), _id(request), asked.key_fields(said)))

    async def delete_key(self, request: Request) -> Reply:
        await self._keyring.delete(_author(request), _id(request))
        return _reply(shapes.Deleted(_id(request), deleted=True))

    async def rotate_key(self, request: Request) -> Reply:
        grace = asked.seconds(asked.body(request, shapes.Rotation, optional=True).grace_period)
        if grace > shapes.MAX_GRACE_SECONDS:
            raise Unprocessable("'grace_period' must be 30 days at most.", param="grace_period")
        attempt = request.header(b"idempotency-key")
        if attempt is not None and _IDEMPOTENCY_KEY.fullmatch(attempt) is None:
            raise Unprocessable("An Idempotency-Key has 1 to 255 letters, digits and signs of ASCII, and no space.")
        made = await self._keyring.rotate(_author(request), _id(request), grace_seconds=grace, idempotency_key=attempt)
        return _reply(shapes.KeyWithSecret(**_with_secret(made)))

    def set_status(self, status: Status) -> Callable[[Request], Awaitable[Reply]]:
        """The handler that gives a key this status."""

        async def handler(request: Request) -> Reply:
            return self._changed(await self._keyring.set_status(_author(request), _id(request), status))

        return handler

    def _changed(self, record: KeyRecord) -> Reply:
        effective_by = int(time.time()) + self._cache_seconds
        return _reply(shapes.ChangedKey(**_fields(record), effective_by=effective_by))


def _shown(record: KeyRecord) -> ShownKey:
    return shown.key(keys.user_of(record.id), record, time.time())


def _fields(record: KeyRecord) -> dict[str, Any]:
    return msgspec.structs.asdict(_shown(record))


def _with_secret(made: NewKey) -> dict[str, Any]:
    return {**_fields(made.record), "key": made.plaintext}


def _author(request: Request) -> Author:
    return Author(request.caller, request.record.request_id)


def _id(request: Request) -> str:
    wanted: str = request.scope["path_params"]["id"]
    return wanted


def _user_id(request: Request, by: Author) -> str:
    """Of the user in the path; of the caller where the path names none."""
    if "path_params" in request.scope:
        return _id(request)
    assert by.caller is not None  # noqa: S101 (the path needs a key)
    return by.caller.user_id


def _policy(said: shapes.PolicyFields | None) -> Policy | None:
    return None if said is None else Policy(models=_tuple(said.models), tools=_tuple(said.tools))


def _policy_change(said: shapes.PolicyChange | UnsetType | None) -> PolicyFields | UnsetType | None:
    if said is None or isinstance(said, UnsetType):
        return said
    return PolicyFields(models=said.models, tools=said.tools)


def _tuple(names: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(names)


def _reply(value: msgspec.Struct, status: int = 200) -> Reply:
    return Reply(status, [*JSON, _PRIVATE], msgspec.json.encode(value))
