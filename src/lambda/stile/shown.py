"""What is shown of users and keys, in answers and in the audit: all of it but the hashes of secrets."""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from stile.core.records import Entry, KeyRecord, Policy, Role, Scope, Standing

ShownStatus = Literal["active", "suspended", "revoked", "expired"]


class ShownPolicy(msgspec.Struct, frozen=True):
    """What the whole user may do, whichever key is used. `models`, and MCP's `tools`: names, or patterns that end in
    `*`; null: all."""

    models: list[str] | None = None
    tools: list[str] | None = None


class ShownUser(msgspec.Struct, frozen=True):
    """A person or a service. `role` is null for somebody who has no right here."""

    id: str
    email: str
    role: Role | None
    enabled: bool
    machine: bool
    policy: ShownPolicy
    created_at: int | None


class ShownKey(msgspec.Struct, frozen=True, kw_only=True):
    """An API key without its secret. Times are seconds since 1970, UTC.

    `previous_secret_expires_at`: when the secret ends that a rotation replaced, as long as it still works.
    """

    id: str
    user_id: str
    name: str
    status: ShownStatus
    created_at: int
    expires_at: int | None
    scopes: list[Scope]
    models: list[str] | None
    tools: list[str] | None
    metadata: dict[str, Any]
    previous_secret_expires_at: int | None


def user(entry: Entry, standing: Standing | None, policy: Policy) -> ShownUser:
    """A user as callers see one."""
    return ShownUser(
        id=entry.user_id,
        email=entry.email,
        role=standing.role if standing else None,
        enabled=entry.enabled,
        machine=bool(standing and standing.machine),
        policy=ShownPolicy(_listed(policy.models), _listed(policy.tools)),
        created_at=standing.created if standing else None,
    )


def key(user_id: str, record: KeyRecord, now: float) -> ShownKey:
    """A key as callers see one at `now`."""
    ended = record.expires is not None and now >= record.expires and record.status != "revoked"
    previous = [kept.until for kept in record.hashes[1:] if kept.until is not None and now < kept.until]
    return ShownKey(
        id=record.id,
        user_id=user_id,
        name=record.name,
        status="expired" if ended else record.status,
        created_at=record.created,
        expires_at=record.expires,
        scopes=list(record.scopes),
        models=_listed(record.models),
        tools=_listed(record.tools),
        metadata=record.metadata,
        previous_secret_expires_at=previous[0] if previous and record.status != "revoked" else None,
    )


def _listed(names: Sequence[str] | None) -> list[str] | None:
    return None if names is None else list(names)
