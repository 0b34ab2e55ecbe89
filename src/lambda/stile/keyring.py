"""The story of users and keys: made, rotated, suspended, resumed, revoked.

Every change reads the entry anew and is written only if the entry still says what was read; one that lost a race is
applied again on what is there. A key's plaintext leaves here once, in the answer to `create_key` or `rotate`.
"""

import secrets
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from stile.core import keys
from stile.core.keys import KeyId, Pepper
from stile.core.records import (
    MEMBER_SCOPES,
    Entry,
    KeyRecord,
    Policy,
    Role,
    Scope,
    SecretHash,
    Status,
    slot_attribute,
)
from stile.entries import POLICY, ROLE, Entries
from stile.errors import BadRequest, Conflict, UnknownUser
from stile.ports import Change, Directory

ATTEMPTS = 8


class NewKey(msgspec.Struct, frozen=True):
    """A key that was just made or rotated. `plaintext` is nowhere else and cannot be had again."""

    record: KeyRecord
    plaintext: str

    def __repr__(self) -> str:
        return f"NewKey({self.record.id}, ***)"


class Keyring:
    """Changes users and keys. `forget` is told each key that changed; `clock` tells seconds since 1970."""

    def __init__(
        self,
        directory: Directory,
        pepper: Pepper,
        *,
        forget: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._directory = directory
        self._pepper = pepper
        self._entries = Entries(pepper)
        self._forget = forget or (lambda _: None)
        self._clock = clock

    async def create_user(self, email: str, role: Role, policy: Policy | None = None) -> Entry:
        """A user with a role. Raises EmailTaken."""
        entry = await self._directory.create(email)
        await self._write(entry, {ROLE: role} | ({POLICY: policy} if policy else {}))
        return entry

    async def create_key(
        self,
        user_id: str,
        name: str,
        *,
        scopes: Sequence[Scope] = MEMBER_SCOPES,
        models: Sequence[str] | None = None,
        expires: int | None = None,
    ) -> NewKey:
        """A key in a free slot, taken at random. Raises UnknownUser, or BadRequest when all slots are taken."""
        for _ in range(ATTEMPTS):
            entry = await self._user(user_id)
            free = [slot for slot in range(1, keys.SLOTS + 1) if slot_attribute(slot) not in entry.attributes]
            if not free:
                raise BadRequest(f"This user has {keys.SLOTS} keys; delete one first.", code="too_many_keys")
            key_id = keys.make_id(
                self._pepper.newest, user_id, secrets.choice(free), secrets.token_bytes(keys.NONCE_BYTES)
            )
            plaintext = self._mint(key_id)
            record = KeyRecord(
                id=key_id.text,
                hashes=(SecretHash(self._digest(plaintext)),),
                name=name,
                created=int(self._clock()),
                scopes=tuple(scopes),
                models=None if models is None else tuple(models),
                expires=expires,
            )
            try:
                await self._write(entry, {slot_attribute(key_id.slot): record})
            except Conflict:
                continue
            self._forget(key_id.text)
            return NewKey(record, plaintext)
        raise Conflict("Too many changes to this user at once; nothing was written")

    async def rotate(self, key_id: str, *, grace_seconds: int) -> NewKey:
        """A new secret for the same key; the one it had lives on for `grace_seconds`. Raises BadRequest if revoked."""
        named = _read_id(key_id)
        plaintext = self._mint(named)
        until = int(self._clock()) + grace_seconds

        def turn(record: KeyRecord) -> KeyRecord:
            if record.status == "revoked":
                raise BadRequest("A revoked key cannot be rotated; make a new one.", code="key_revoked")
            old = SecretHash(record.hashes[0].digest, until)
            return msgspec.structs.replace(record, hashes=(SecretHash(self._digest(plaintext)), old))

        return NewKey(await self._change(named, turn), plaintext)

    async def set_status(self, key_id: str, status: Status) -> KeyRecord:
        """Suspend, resume or revoke. A revoked key stays revoked; raises BadRequest for anything else of it."""

        def turn(record: KeyRecord) -> KeyRecord:
            if record.status == "revoked" != status:
                raise BadRequest("A revoked key stays revoked; make a new one.", code="key_revoked")
            return msgspec.structs.replace(record, status=status)

        return await self._change(_read_id(key_id), turn)

    async def keys_of(self, user_id: str) -> Mapping[int, KeyRecord]:
        """All keys of a user, by slot. Raises UnknownUser."""
        return self._entries.keys(await self._user(user_id))

    async def _change(self, named: KeyId, turn: Callable[[KeyRecord], KeyRecord]) -> KeyRecord:
        for _ in range(ATTEMPTS):
            entry = await self._user(named.user_id)
            record = self._entries.key(entry, named.slot)
            if record is None or record.id != named.text:
                raise UnknownUser("No key has this id")
            changed = turn(record)
            try:
                await self._write(entry, {slot_attribute(named.slot): changed})
            except Conflict:
                continue
            self._forget(named.text)
            return changed
        raise Conflict("Too many changes to this key at once; nothing was written")

    async def _write(self, entry: Entry, values: Mapping[str, object]) -> None:
        changes = {
            name: Change(entry.attributes.get(name), self._entries.write(entry.user_id, name, value))
            for name, value in values.items()
        }
        await self._directory.write(entry.user_id, changes)

    async def _user(self, user_id: str) -> Entry:
        entry = await self._directory.get(user_id)
        if entry is None:
            raise UnknownUser("No user has this id")
        return entry

    def _mint(self, key_id: KeyId) -> str:
        return self._pepper.mint(key_id, secrets.token_bytes(keys.SECRET_BYTES))

    def _digest(self, plaintext: str) -> str:
        presented = keys.parse(plaintext)
        assert presented is not None  # noqa: S101 (it was minted a line ago)
        return self._pepper.digest(presented)


def _read_id(text: str) -> KeyId:
    named = keys.read_id(text)
    if named is None:
        raise UnknownUser("No key has this id")
    return named
