"""The story of keys: made, changed, rotated, suspended, resumed, revoked, deleted.

Every change reads the entry anew and is written only if the entry still says what was read; one that lost a race is
applied again on what is there, a revoke and a deletion as long as the request has time. Each leaves a random stamp: who
finds another's change on top of the own one has not lost. A key's plaintext leaves here once, in the answer to `create`
or `rotate`.
"""

import asyncio
import hashlib
import itertools
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from stile import changes, shown
from stile.changes import Audit, Changes
from stile.core import keys
from stile.core.keys import KeyId, Pepper
from stile.core.records import Entry, KeyRecord, Rotation, Scope, SecretHash, Status, slot_attribute
from stile.core.rights import Author
from stile.entries import Entries
from stile.errors import Conflict, Forbidden, Rejected, UnknownKey, UnknownUser, Unprocessable
from stile.ports import Directory

ATTEMPTS = 8
REPEAT_SECONDS = 24 * 3600  # how long a rotation can be repeated with its Idempotency-Key
_STAMPS = 4  # so many changes may come on top of one within the second that it waits
_TIE_SECONDS = 0.2  # two who undo each other's change come apart by a pause of random length
_random = secrets.SystemRandom()


class NewKey(msgspec.Struct, frozen=True):
    """A key that was just made or rotated. `plaintext` is nowhere else and cannot be had again."""

    record: KeyRecord
    plaintext: str

    def __repr__(self) -> str:
        return f"NewKey({self.record.id}, ***)"


class KeyFields(msgspec.Struct, frozen=True, kw_only=True):
    """What can be said of a key. What is UNSET stays as it is, or takes its default."""

    name: str | UnsetType = UNSET
    scopes: Sequence[Scope] | UnsetType = UNSET
    models: Sequence[str] | UnsetType | None = UNSET
    tools: Sequence[str] | UnsetType | None = UNSET
    expires: int | UnsetType | None = UNSET
    metadata: Mapping[str, Any] | UnsetType = UNSET


class _Step(NamedTuple):
    """A change of one key: its record before and after, None where there is none."""

    action: str
    key: KeyId
    before: KeyRecord | None
    after: KeyRecord | None


class Keyring:
    """Changes keys. `forget` is told each key that changed; `audit` gets a line for each change."""

    def __init__(
        self,
        directory: Directory,
        pepper: Pepper,
        *,
        audit: Audit,
        forget: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._directory = directory
        self._pepper = pepper
        self._entries = Entries(pepper)
        self._changes = Changes(directory, self._entries, audit)
        self._forget = forget
        self._clock = clock

    async def list(self, by: Author, user_id: str) -> Sequence[KeyRecord]:
        """All keys of a user, the oldest first. Raises Forbidden, UnknownUser."""
        by.require(user_id)
        found = self._entries.keys(await self._user(user_id)).values()
        return sorted(found, key=lambda record: (record.created, record.id))

    async def get(self, by: Author, key_id: str) -> KeyRecord:
        """One key. Raises Forbidden, UnknownKey."""
        named = _named(by, key_id)
        return self._held(await self._entry_of(named), named)

    def held(self, entry: Entry, key_id: str) -> KeyRecord:
        """One key of a user who is known already. Raises UnknownKey."""
        named = keys.read_id(key_id)
        if named is None:
            raise UnknownKey
        return self._held(entry, named)

    async def create(
        self, by: Author, user_id: str, wanted: KeyFields, *, besides: Mapping[str, object] | None = None
    ) -> NewKey:
        """A key in a free slot, taken at random. Raises Forbidden, UnknownUser, Rejected when all slots are taken.

        `besides`: attributes that are written with it, all or none.
        """
        by.require(user_id)
        for _ in range(ATTEMPTS):
            entry = await self._user(user_id)
            key_id = keys.make_id(
                self._pepper.newest, user_id, secrets.choice(free_slots(entry)), secrets.token_bytes(keys.NONCE_BYTES)
            )
            plaintext = self._mint(key_id)
            record = self._new_record(by, key_id, self._digest(plaintext), wanted)
            if besides is None:
                self._check(by, entry, record)
            try:
                await self._write(by, entry, _Step("key.create", key_id, None, record), besides)
            except Conflict:
                continue
            return NewKey(record, plaintext)
        raise Conflict("Too many changes to this user at once; no key was made. Try again.")

    async def update(self, by: Author, key_id: str, wanted: KeyFields) -> KeyRecord:
        """Change what is said of a key. Raises Forbidden, UnknownKey, Rejected for a revoked one."""

        def turn(record: KeyRecord) -> KeyRecord:
            _refuse_revoked(record)
            return self._with(record, wanted)

        return await self._change(by, "key.update", key_id, turn)

    async def rotate(
        self, by: Author, key_id: str, *, grace_seconds: int, idempotency_key: str | None = None
    ) -> NewKey:
        """A new secret for the same key; the one it had lives on for `grace_seconds`, and one before that ends.

        With the same `idempotency_key` a rotation is repeated: the secret that nobody saw is replaced, and the old
        one's end stays as it was. Raises Forbidden, UnknownKey, Rejected for a revoked key.
        """
        plaintext = self._mint(_named(by, key_id))
        digest = self._digest(plaintext)
        now = int(self._clock())
        attempt = idempotency_key and hashlib.sha256(idempotency_key.encode()).hexdigest()[:32]

        def turn(record: KeyRecord) -> KeyRecord:
            _refuse_revoked(record)
            last = record.rotation
            if last is not None and last.attempt == attempt and now < last.at + REPEAT_SECONDS:
                return replace(record, hashes=(SecretHash(digest), *record.hashes[1:]))
            old = SecretHash(record.hashes[0].digest, now + grace_seconds)
            rotation = Rotation(attempt, now) if attempt else None
            return replace(record, hashes=(SecretHash(digest), old), rotation=rotation)

        return NewKey(await self._change(by, "key.rotate", key_id, turn), plaintext)

    async def set_status(self, by: Author, key_id: str, status: Status) -> KeyRecord:
        """Suspend, resume or revoke. A revoked key stays revoked: Rejected for anything else of it."""

        def turn(record: KeyRecord) -> KeyRecord:
            if status == "revoked":
                return replace(record, status=status)
            _refuse_revoked(record)
            if record.held and not by.is_admin:
                raise Forbidden("An admin has suspended this API key; ask one to resume it.", code="admin_required")
            return replace(record, status=status, held=status == "suspended" and by.is_admin)

        action = {"revoked": "key.revoke", "suspended": "key.suspend", "active": "key.resume"}[status]
        return await self._change(by, action, key_id, turn, widens=status == "active", always=status == "revoked")

    async def delete(self, by: Author, key_id: str) -> None:
        """Forget a key; its slot is free again. Raises Forbidden, UnknownKey."""
        named = _named(by, key_id)
        while True:
            entry = await self._entry_of(named)
            try:
                return await self._write(by, entry, _Step("key.delete", named, self._held(entry, named), None))
            except Conflict:
                await _come_apart()

    async def _change(
        self,
        by: Author,
        action: str,
        key_id: str,
        turn: Callable[[KeyRecord], KeyRecord],
        *,
        widens: bool = True,
        always: bool = False,
    ) -> KeyRecord:
        """Apply `turn` until it holds. `widens`: what comes out must be within the author's rights."""
        named = _named(by, key_id)
        for _ in itertools.count() if always else range(ATTEMPTS):
            entry = await self._entry_of(named)
            record = self._held(entry, named)
            changed = replace(turn(record), stamps=(_stamp(), *record.stamps[: _STAMPS - 1]))
            if widens:
                self._check(by, entry, changed)
            try:
                await self._write(by, entry, _Step(action, named, record, changed))
            except Conflict:
                await _come_apart()
                continue
            return changed
        raise Conflict("Too many changes to this key at once; this one was not made. Try again.")

    async def _write(self, by: Author, entry: Entry, step: _Step, besides: Mapping[str, object] | None = None) -> None:
        before, after = (
            record and shown.key(entry.user_id, record, self._clock()) for record in (step.before, step.after)
        )
        line = changes.line(by, step.action, entry.user_id, step.key.text, before=before, after=after)
        values = {slot_attribute(step.key.slot): step.after, **(besides or {})}
        try:
            await self._changes.write(entry, values, line, held=lambda now: self._has_held(step, now))
        finally:
            self._forget(step.key.text)

    def _has_held(self, step: _Step, entry: Entry) -> bool:
        """Whether a change that is no longer there as it was written is in what was written on top of it."""
        record = self._entries.key(entry, step.key.slot)
        there = record is not None and record.id == step.key.text
        if step.after is None or record is None:
            return step.after is None and not there
        return there and step.after.stamps[0] in record.stamps

    def _check(self, by: Author, entry: Entry, record: KeyRecord) -> None:
        standing = self._entries.standing(entry)
        by.check(record, standing.role if standing else "member")

    async def _user(self, user_id: str) -> Entry:
        entry = await self._directory.get(user_id)
        if entry is None:
            raise UnknownUser
        return entry

    async def _entry_of(self, named: KeyId) -> Entry:
        entry = await self._directory.get(named.user_id)
        if entry is None:
            raise UnknownKey
        return entry

    def _held(self, entry: Entry, named: KeyId) -> KeyRecord:
        record = self._entries.key(entry, named.slot)
        if record is None or record.id != named.text:
            raise UnknownKey
        return record

    def _new_record(self, by: Author, key_id: KeyId, digest: str, wanted: KeyFields) -> KeyRecord:
        plain = KeyRecord(
            id=key_id.text,
            hashes=(SecretHash(digest),),
            name="",
            created=int(self._clock()),
            scopes=by.default_scopes(),
            models=by.default_models(),
            tools=by.default_tools(),
            expires=by.default_expires(),
            stamps=(_stamp(),),
        )
        return self._with(plain, wanted)

    def _with(self, record: KeyRecord, wanted: KeyFields) -> KeyRecord:
        if isinstance(wanted.expires, int) and wanted.expires <= self._clock():
            raise Unprocessable("The time at which the key would end has passed.", param="expires_at")
        said = {name: value for name, value in msgspec.structs.asdict(wanted).items() if value is not UNSET}
        return replace(record, **said)

    def _mint(self, key_id: KeyId) -> str:
        return self._pepper.mint(key_id, secrets.token_bytes(keys.SECRET_BYTES))

    def _digest(self, plaintext: str) -> str:
        presented = keys.parse(plaintext)
        assert presented is not None  # noqa: S101 (it was minted a line ago)
        return self._pepper.digest(presented)


def free_slots(entry: Entry) -> Sequence[int]:
    """The slots in which nothing is, not even what was tampered with. Raises Rejected when there are none."""
    free = [slot for slot in range(1, keys.SLOTS + 1) if not entry.attributes.get(slot_attribute(slot))]
    if not free:
        raise Rejected(
            f"This user has {keys.SLOTS} keys, revoked ones included; delete one first.", code="too_many_keys"
        )
    return free


def _named(by: Author, key_id: str) -> KeyId:
    named = keys.read_id(key_id)
    if named is None:
        raise UnknownKey
    by.require(named.user_id)
    return named


def _refuse_revoked(record: KeyRecord) -> None:
    if record.status == "revoked":
        raise Rejected("A revoked key stays revoked; make a new one.", code="key_revoked")


def _stamp() -> str:
    return secrets.token_hex(4)


async def _come_apart() -> None:
    await asyncio.sleep(_random.uniform(0, _TIE_SECONDS))
