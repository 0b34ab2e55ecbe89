"""What a directory keeps of users and keys, and what the gateway knows of a caller.

An entry's attributes are strings of at most 2,048 bytes, sealed (see keys.py): `role`, `policy`, and one record per key
slot, `api_key_01` to `api_key_20`. Times are whole seconds since 1970, UTC.
"""

import hmac
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

MAX_ATTRIBUTE_BYTES = 2048

Role = Literal["admin", "member"]
Status = Literal["active", "suspended", "revoked"]
Scope = Literal["inference", "mcp", "keys", "admin"]
MEMBER_SCOPES: tuple[Scope, ...] = ("inference", "mcp", "keys")
ADMIN_SCOPES: tuple[Scope, ...] = (*MEMBER_SCOPES, "admin")


def slot_attribute(slot: int) -> str:
    """The attribute that holds the record of key slot 1 to 20."""
    return f"api_key_{slot:02d}"


class Entry(msgspec.Struct, frozen=True):
    """One user as a directory stores it. `attributes` holds only those that are set."""

    user_id: str
    email: str
    enabled: bool
    attributes: Mapping[str, str]


class Page(msgspec.Struct, frozen=True):
    """Some users, and where the next ones begin (None: there are no more)."""

    entries: Sequence[Entry]
    next_cursor: str | None


class Standing(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a user is. Without one a user has no right at all. `machine`: a service, and nobody reads its mail."""

    role: Role
    created: int | None = None
    machine: bool = False


class SecretHash(msgspec.Struct, frozen=True, omit_defaults=True, rename={"digest": "h", "until": "u"}):
    """One secret of a key: its HMAC in hex and, for one that was rotated away, when it ends."""

    digest: str
    until: int | None = None


class Rotation(msgspec.Struct, frozen=True, omit_defaults=True, rename={"attempt": "a", "at": "t"}):
    """The last rotation that can be repeated: a hash of its Idempotency-Key in hex, and when it was."""

    attempt: str
    at: int


class KeyRecord(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One API key. `models` and MCP's `tools` are names or patterns that end in `*`; None allows what the user's policy
    allows.

    `hashes`: the newest secret first, then the one that was rotated away. `held`: suspended by an admin, who alone
    resumes it. `stamps`: of the last changes, the newest first: who finds the own one there was not overwritten.
    """

    id: str
    hashes: tuple[SecretHash, ...]
    name: str
    created: int
    status: Status = "active"
    expires: int | None = None
    scopes: tuple[Scope, ...] = MEMBER_SCOPES
    models: tuple[str, ...] | None = None
    tools: tuple[str, ...] | None = None
    limits: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    rotation: Rotation | None = None
    held: bool = False
    stamps: tuple[str, ...] = ()

    def accepted_until(self, digest: str, now: float) -> float | None:
        """When the living secret with this digest ends (perhaps never: inf), or None when there is no such secret.

        Every hash is compared, each in constant time.
        """
        accepted = None
        for kept in self.hashes:
            until = math.inf if kept.until is None else kept.until
            if hmac.compare_digest(kept.digest, digest) and now < until:
                accepted = until
        return accepted


class Policy(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the whole user may do, whichever key is used."""

    models: tuple[str, ...] | None = None
    tools: tuple[str, ...] | None = None
    limits: dict[str, Any] = {}


class Caller(msgspec.Struct, frozen=True):
    """Who is calling, after the key was checked."""

    user_id: str
    key_id: str
    role: Role
    scopes: frozenset[Scope]
    key_models: tuple[str, ...] | None = None
    user_models: tuple[str, ...] | None = None
    key_tools: tuple[str, ...] | None = None
    user_tools: tuple[str, ...] | None = None
    key_expires: int | None = None

    def may_use(self, model: str) -> bool:
        """Whether both the key and its user's policy allow the model."""
        return _listed(model, self.key_models) and _listed(model, self.user_models)

    def may_call(self, tool: str) -> bool:
        """Whether both the key and its user's policy allow the tool of MCP."""
        return _listed(tool, self.key_tools) and _listed(tool, self.user_tools)

    @property
    def is_admin(self) -> bool:
        return self.role == "admin" and "admin" in self.scopes


def _listed(name: str, patterns: tuple[str, ...] | None) -> bool:
    if patterns is None:
        return True
    return any(name == pattern or (pattern.endswith("*") and name.startswith(pattern[:-1])) for pattern in patterns)
