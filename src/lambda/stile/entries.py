"""What a directory entry says, its seals checked: a wrong one counts as absent and is logged as tampering."""

import logging
from typing import Any

import msgspec

from stile.core.keys import SLOTS, Pepper
from stile.core.records import MAX_ATTRIBUTE_BYTES, Entry, KeyRecord, Policy, Standing, slot_attribute
from stile.errors import ValueTooLarge

ROLE, POLICY = "role", "policy"

_log = logging.getLogger("stile.entries")


class Entries:
    """Reads and writes the sealed attributes of users, with this deployment's pepper."""

    def __init__(self, pepper: Pepper) -> None:
        self._pepper = pepper

    def standing(self, entry: Entry) -> Standing | None:
        """What the user is; without it a user has no right at all."""
        standing: Standing | None = self._read(entry, ROLE, Standing)
        return standing

    def policy(self, entry: Entry) -> Policy:
        """The user's policy; without one the keys alone decide."""
        return self._read(entry, POLICY, Policy) or Policy()

    def key(self, entry: Entry, slot: int) -> KeyRecord | None:
        """The key in a slot."""
        record: KeyRecord | None = self._read(entry, slot_attribute(slot), KeyRecord)
        return record

    def keys(self, entry: Entry) -> dict[int, KeyRecord]:
        """All keys of a user, by slot."""
        found = {slot: self.key(entry, slot) for slot in range(1, SLOTS + 1)}
        return {slot: record for slot, record in found.items() if record is not None}

    def write(self, user_id: str, attribute: str, value: object) -> str:
        """`value` as it is stored: compact JSON and its seal. Raises ValueTooLarge."""
        sealed = self._pepper.seal(user_id, attribute, msgspec.json.encode(value).decode())
        if len(sealed.encode()) > MAX_ATTRIBUTE_BYTES:
            raise ValueTooLarge(
                f"What would be kept is larger than {MAX_ATTRIBUTE_BYTES} bytes; nothing was written. Say less."
            )
        return sealed

    def _read(self, entry: Entry, attribute: str, kind: Any) -> Any:
        sealed = entry.attributes.get(attribute)
        if not sealed:
            return None
        value = self._pepper.unseal(entry.user_id, attribute, sealed)
        if value is None:
            _log.error("tampering: %s of user %s has a wrong seal and counts as absent", attribute, entry.user_id)
            return None
        try:
            return msgspec.json.decode(value, type=kind)
        except msgspec.ValidationError as fault:
            _log.error("%s of user %s is of another version and counts as absent: %s", attribute, entry.user_id, fault)
            return None
