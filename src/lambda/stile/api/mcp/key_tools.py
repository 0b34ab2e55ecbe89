"""The tools `list_keys`, `create_key` and `revoke_key`: the management of keys, as /api has it, within the same rights.

Whoever calls is looked up anew. The secret of a new key stands in the answer, so the model reads it, and whatever keeps
the conversation keeps it: the tool says so, and a key can be confined to the others.
"""

import time
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from stile import shown
from stile.api import asked, shapes
from stile.api.mcp.exchange import Exchange
from stile.api.mcp.offer import Outcome, Tool, data, schema
from stile.core import keys
from stile.core.records import KeyRecord
from stile.core.rights import Author
from stile.keyring import Keyring
from stile.shown import ShownKey

_UserId = Annotated[str, Meta(min_length=1, max_length=64, description="Whose: a user's id. Without it, one's own")]
_KeyId = Annotated[str, Meta(min_length=1, max_length=64, description="The key's id, as `list_keys` shows it")]


class ListKeys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `list_keys` takes."""

    user_id: _UserId | UnsetType = UNSET


class Keys(msgspec.Struct, frozen=True):
    """What `list_keys` answers."""

    keys: list[ShownKey]


class CreateKey(shapes.NewKey, frozen=True, kw_only=True):
    """What `create_key` takes: what can be said of a key, and whose it shall be."""

    user_id: _UserId | UnsetType = UNSET


class RevokeKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `revoke_key` takes."""

    id: _KeyId


class KeyTools:
    """The tools, over the same keyring as /api. `cache_seconds`: how long others may go on by what they know."""

    def __init__(self, keyring: Keyring, *, cache_seconds: int) -> None:
        self._keyring = keyring
        self._cache_seconds = cache_seconds

    def tools(self) -> list[Tool]:
        return [
            Tool(
                name="list_keys",
                title="List API keys",
                description="The API keys of a user of this gateway, without their secrets: names, scopes, models,"
                " when they end. Others' keys are for admins.",
                takes=ListKeys,
                input_schema=schema(ListKeys),
                output_schema=schema(Keys),
                hints={"readOnlyHint": True, "destructiveHint": False, "idempotentHint": True, "openWorldHint": False},
                needs="keys",
                fresh=True,
                run=self._list,
            ),
            Tool(
                name="create_key",
                title="Create an API key",
                description="Make an API key of this gateway. Its secret is in the answer, once, and nowhere else:"
                " whoever reads this conversation can use it. Only an admin can give a key more than the"
                " own one has.",
                takes=CreateKey,
                input_schema=schema(CreateKey),
                output_schema=schema(shapes.KeyWithSecret),
                hints={
                    "readOnlyHint": False,
                    "destructiveHint": False,
                    "idempotentHint": False,
                    "openWorldHint": False,
                },
                needs="keys",
                fresh=True,
                run=self._create,
            ),
            Tool(
                name="revoke_key",
                title="Revoke an API key",
                description="End an API key of this gateway for good. What uses it fails from then on; it cannot be"
                " undone.",
                takes=RevokeKey,
                input_schema=schema(RevokeKey),
                output_schema=schema(shapes.ChangedKey),
                hints={"readOnlyHint": False, "destructiveHint": True, "idempotentHint": True, "openWorldHint": False},
                needs="keys",
                fresh=True,
                run=self._revoke,
            ),
        ]

    async def _list(self, said: ListKeys, exchange: Exchange) -> Outcome:
        records = await self._keyring.list(_author(exchange), _user_id(said.user_id, exchange))
        return data(Keys([_shown(record) for record in records]))

    async def _create(self, said: CreateKey, exchange: Exchange) -> Outcome:
        asked.within_bytes(said.name, "name", shapes.MAX_NAME_BYTES)
        user_id = _user_id(said.user_id, exchange)
        made = await self._keyring.create(_author(exchange), user_id, asked.key_fields(said))
        return data(shapes.KeyWithSecret(**msgspec.structs.asdict(_shown(made.record)), key=made.plaintext))

    async def _revoke(self, said: RevokeKey, exchange: Exchange) -> Outcome:
        record = await self._keyring.set_status(_author(exchange), said.id, "revoked")
        effective_by = int(time.time()) + self._cache_seconds
        return data(shapes.ChangedKey(**msgspec.structs.asdict(_shown(record)), effective_by=effective_by))


def _author(exchange: Exchange) -> Author:
    return Author(exchange.caller, exchange.record.request_id)


def _user_id(said: str | UnsetType, exchange: Exchange) -> str:
    return exchange.caller.user_id if said is UNSET else said


def _shown(record: KeyRecord) -> ShownKey:
    return shown.key(keys.user_of(record.id), record, time.time())
