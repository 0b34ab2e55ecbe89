"""The story of an access token that comes in a key's place: from its text to the Caller, or to a refusal.

The token says who came; what they may do says the directory, as for their keys. Who signed in may call models and MCP's
tools for them, within the user's policy, and manages nothing: for that there are keys.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable

import msgspec

from stile.core.keys import Pepper
from stile.core.records import Caller, Scope
from stile.entries import Entries
from stile.errors import Forbidden
from stile.ports import Directory, Tokens

UNKNOWN_SECONDS = 10
CACHE_ENTRIES = 10_000

_SCOPES: frozenset[Scope] = frozenset({"inference", "mcp"})
_BEGIN = "eyJ"  # of a JSON object in base64, which the head of each token is


class _Person(msgspec.Struct, frozen=True):
    """What the directory said of a user, and until when it is believed."""

    fresh_until: float
    enabled: bool
    caller: Caller | None


def is_token(text: str) -> bool:
    """Whether a text is meant as a token; no key begins so."""
    return text.startswith(_BEGIN)


class SignIn:
    """Answers who is calling with a token. `clock` tells seconds since 1970."""

    def __init__(
        self,
        directory: Directory,
        pepper: Pepper,
        tokens: Tokens,
        *,
        cache_seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._directory = directory
        self._entries = Entries(pepper)
        self._tokens = tokens
        self._cache_seconds = cache_seconds
        self._clock = clock
        self._people: OrderedDict[str, _Person] = OrderedDict()
        self._lookups: dict[str, asyncio.Task[_Person]] = {}

    async def authenticate(self, text: str, *, fresh: bool = False) -> Caller:
        """The caller who holds the token `text`. Raises InvalidKey, Forbidden, DirectoryUnavailable."""
        token = await self._tokens.check(text)
        person = self._people.get(token.user_id)
        if fresh:
            person = await self._look_up(token.user_id)
        elif person is None or self._clock() >= person.fresh_until:
            person = await self._fetch(token.user_id)
        if person.caller is None:
            raise Forbidden("You are signed in, but no user of this gateway. Ask an admin to give you a role.")
        if not person.enabled:
            raise Forbidden("This user is disabled.", code="user_disabled")
        return msgspec.structs.replace(person.caller, key_id=f"client:{token.client_id}", key_expires=token.expires)

    def forget(self, user_id: str) -> None:
        """Look the user up anew at the next call, even if a lookup is under way."""
        self._people.pop(user_id, None)
        self._lookups.pop(user_id, None)

    async def _fetch(self, user_id: str) -> _Person:
        """What the directory says, asked once for all who wait for it."""
        lookup = self._lookups.get(user_id)
        if lookup is None:
            lookup = self._lookups[user_id] = asyncio.create_task(self._look_up(user_id))
            lookup.add_done_callback(lambda done: self._landed(user_id, done))
        return await asyncio.shield(lookup)

    def _landed(self, user_id: str, lookup: "asyncio.Task[_Person]") -> None:
        if self._lookups.get(user_id) is not lookup:
            return  # forgotten meanwhile: what it read may be older than the change
        del self._lookups[user_id]
        if lookup.cancelled() or lookup.exception() is not None:
            return
        self._people[user_id] = lookup.result()
        self._people.move_to_end(user_id)
        if len(self._people) > CACHE_ENTRIES:
            self._people.popitem(last=False)

    async def _look_up(self, user_id: str) -> _Person:
        entry = await self._directory.get(user_id)
        standing = None if entry is None else self._entries.standing(entry)
        if entry is None or standing is None:
            return _Person(self._clock() + min(UNKNOWN_SECONDS, self._cache_seconds), enabled=False, caller=None)
        policy = self._entries.policy(entry)
        caller = Caller(
            user_id=user_id,
            key_id="",
            role=standing.role,
            scopes=_SCOPES,
            user_models=policy.models,
            user_tools=policy.tools,
        )
        return _Person(self._clock() + self._cache_seconds, entry.enabled, caller)
