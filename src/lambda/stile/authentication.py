"""The story of a key that comes with a call: from its text to the Caller, or to a refusal.

Malformed and unminted keys are refused without I/O. Others are looked up in the directory through a bounded cache, with
one lookup in flight per key. Expiry is checked on every call. When the directory fails, a key that was verified before
goes on for at most STALE_SECONDS, for model calls only; an unknown one is told to come back.
"""

import asyncio
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable

import msgspec

from stile import sign_in
from stile.core import keys
from stile.core.keys import Pepper, PresentedKey
from stile.core.records import Caller, Entry, KeyRecord
from stile.entries import Entries
from stile.errors import DirectoryUnavailable, Forbidden, InvalidKey
from stile.ports import Directory
from stile.sign_in import SignIn

UNKNOWN_SECONDS = 10
STALE_SECONDS = 900
ASK_AGAIN_SECONDS = 5  # while the directory is away
CACHE_ENTRIES = 10_000

_REFUSED = "Incorrect API key provided. Send a key of this gateway as 'Authorization: Bearer sk-stile-…'."


class _Known(msgspec.Struct):
    """What the directory said of one key, and until when it is believed. No record: no such key.

    `proof`: of the text that was checked last, by which the same text is known again until `proven_until`.
    """

    fetched: float
    fresh_until: float
    record: KeyRecord | None = None
    caller: Caller | None = None
    enabled: bool = False
    proof: bytes = b""
    proven_until: float = 0


class Authenticator:
    """Answers who is calling. `clock` tells seconds since 1970. `people`: for tokens that come in place of keys."""

    def __init__(
        self,
        directory: Directory,
        pepper: Pepper,
        *,
        cache_seconds: float,
        clock: Callable[[], float] = time.time,
        people: SignIn | None = None,
    ) -> None:
        self._people = people
        self._directory = directory
        self._pepper = pepper
        self._entries = Entries(pepper)
        self._cache_seconds = cache_seconds
        self._clock = clock
        self._proof_key = secrets.token_bytes(32)
        self._cache: OrderedDict[str, _Known] = OrderedDict()
        self._lookups: dict[str, asyncio.Task[_Known]] = {}

    async def authenticate(self, text: str | None, *, fresh: bool = False) -> Caller:
        """The caller who holds the key `text`. Raises InvalidKey, Forbidden, DirectoryUnavailable.

        `fresh`: by what the directory says now, and not by what it said a while ago.
        """
        if text is None:
            raise InvalidKey("No API key was provided. Send one as 'Authorization: Bearer sk-stile-…'.", "missing")
        if self._people is not None and sign_in.is_token(text):
            return await self._people.authenticate(text, fresh=fresh)
        if fresh:
            return await self._check_anew(text)
        return self._recognise(text) or await self._check(text)

    def _recognise(self, text: str) -> Caller | None:
        """The caller of a text that was checked a moment ago: a third of the work of checking it again."""
        known = self._cache.get(keys.id_of(text))
        if known is None or self._clock() >= known.proven_until:
            return None
        return known.caller if hmac.compare_digest(known.proof, self._prove(text)) else None

    def _prove(self, text: str) -> bytes:
        return hashlib.blake2b(text.encode(), key=self._proof_key).digest()

    async def _check_anew(self, text: str) -> Caller:
        key = self._minted(text)
        known = await self._lookup(key.id)
        self._keep(key.id, known)
        return self._admit(key, known, self._clock())

    def _minted(self, text: str) -> PresentedKey:
        key = keys.parse(text)
        if key is None:
            raise InvalidKey(_REFUSED, "malformed")
        if not self._pepper.was_minted(key):
            raise InvalidKey(_REFUSED, "unminted")
        return key

    async def _check(self, text: str) -> Caller:
        key = self._minted(text)
        known = self._cache.get(key.id)
        now = self._clock()
        if known is None or now >= known.fresh_until:
            known = await self._fetch(key.id, known)
        caller = self._admit(key, known, now)
        known.proof = self._prove(text)
        return caller

    def forget(self, key_id: str) -> None:
        """Look the key up anew at its next call, even if a lookup is under way."""
        self._cache.pop(key_id, None)
        self._lookups.pop(key_id, None)

    def forget_user(self, user_id: str) -> None:
        """The same for all keys of a user."""
        if self._people is not None:
            self._people.forget(user_id)
        for key_id in [*self._cache, *self._lookups]:
            if keys.user_of(key_id) == user_id:
                self.forget(key_id)

    def _admit(self, key: PresentedKey, known: _Known, now: float) -> Caller:
        record, caller = known.record, known.caller
        ends = None if record is None else record.accepted_until(self._pepper.digest(key), now)
        if record is None or caller is None or ends is None:
            raise InvalidKey(_REFUSED, "unknown")
        if record.status == "revoked":
            raise InvalidKey("This API key has been revoked.", "revoked")
        if record.expires is not None and now >= record.expires:
            raise InvalidKey("This API key has expired.", "expired")
        if record.status == "suspended":
            raise Forbidden("This API key is suspended. Ask an admin to resume it.", code="key_suspended")
        if not known.enabled:
            raise Forbidden("The user of this API key is disabled.", code="user_disabled")
        known.proven_until = min(known.fresh_until, ends, record.expires or ends)
        return caller

    async def _fetch(self, key_id: str, known: _Known | None) -> _Known:
        lookup = self._lookups.get(key_id)
        if lookup is None:
            lookup = asyncio.create_task(self._lookup(key_id))
            self._lookups[key_id] = lookup
            lookup.add_done_callback(lambda done: self._landed(key_id, done))
        try:
            # Shielded: one caller who goes away must not take the answer from the others who wait for it.
            return await asyncio.shield(lookup)
        except DirectoryUnavailable:
            now = self._clock()
            if known is None or known.caller is None or now >= known.fetched + STALE_SECONDS:
                raise
            stale = _for_model_calls_only(known, until=now + ASK_AGAIN_SECONDS)
            self._cache[key_id] = stale
            return stale

    def _landed(self, key_id: str, lookup: "asyncio.Task[_Known]") -> None:
        if self._lookups.get(key_id) is not lookup:
            return  # forgotten meanwhile: what it read may be older than the change
        del self._lookups[key_id]
        if lookup.cancelled() or lookup.exception() is not None:
            return
        self._keep(key_id, lookup.result())

    def _keep(self, key_id: str, known: _Known) -> None:
        self._cache[key_id] = known
        self._cache.move_to_end(key_id)
        if len(self._cache) > CACHE_ENTRIES:
            self._cache.popitem(last=False)

    async def _lookup(self, key_id: str) -> _Known:
        named = keys.read_id(key_id)
        entry = await self._directory.get(named.user_id) if named else None
        now = self._clock()
        known = self._read(entry, key_id, named.slot) if entry and named else None
        if known is None:
            return _Known(fetched=now, fresh_until=now + min(UNKNOWN_SECONDS, self._cache_seconds))
        return msgspec.structs.replace(known, fetched=now, fresh_until=now + self._cache_seconds)

    def _read(self, entry: Entry, key_id: str, slot: int) -> _Known | None:
        """What the entry says of this key; None when the slot holds another key or the user has no role."""
        record, standing = self._entries.key(entry, slot), self._entries.standing(entry)
        if record is None or record.id != key_id or standing is None:
            return None
        policy = self._entries.policy(entry)
        caller = Caller(
            user_id=entry.user_id,
            key_id=key_id,
            role=standing.role,
            scopes=frozenset(record.scopes),
            key_models=record.models,
            user_models=policy.models,
            key_tools=record.tools,
            user_tools=policy.tools,
            key_expires=record.expires,
        )
        return _Known(fetched=0, fresh_until=0, record=record, caller=caller, enabled=entry.enabled)


def _for_model_calls_only(known: _Known, until: float) -> _Known:
    assert known.caller is not None  # noqa: S101 (only verified keys come here)
    caller = msgspec.structs.replace(known.caller, scopes=known.caller.scopes & {"inference", "mcp"})
    return msgspec.structs.replace(known, caller=caller, fresh_until=until, proven_until=0)
