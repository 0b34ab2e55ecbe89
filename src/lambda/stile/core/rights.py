"""Who may change users and keys, and how far. Nobody hands on more than they have.

An admin (by role, with a key of the scope `admin`) manages everybody. A member's key of the scope `keys` manages the
keys of its own user, within its own rights: what it makes, changes, rotates or resumes has no scope, no model, no tool
and no time that it does not have itself. Otherwise a key that was confined could make itself another that is not.
"""

from collections.abc import Sequence

import msgspec

from stile.core.records import MEMBER_SCOPES, Caller, KeyRecord, Role, Scope
from stile.errors import Forbidden


class Author(msgspec.Struct, frozen=True):
    """Who makes a change, in which request. No caller: the program itself, on the machine or at the bootstrap."""

    caller: Caller | None = None
    request_id: str | None = None

    @property
    def is_admin(self) -> bool:
        return self.caller is None or self.caller.is_admin

    def require_admin(self) -> None:
        """Raises Forbidden."""
        if not self.is_admin:
            raise Forbidden("Only an admin may do this, with a key that has the scope 'admin'.", code="admin_required")

    def require(self, user_id: str) -> None:
        """Raises Forbidden when the author may not manage the keys of this user."""
        if self.caller is None or self.caller.is_admin:
            return
        if self.caller.user_id != user_id:
            raise Forbidden("Only an admin may see or change what belongs to another user.", code="admin_required")
        if "keys" not in self.caller.scopes:
            raise Forbidden("This API key does not have the scope 'keys'.", code="missing_scope")

    def default_scopes(self) -> tuple[Scope, ...]:
        """The scopes of a new key when none are named."""
        if self.caller is None or self.caller.is_admin:
            return MEMBER_SCOPES
        return tuple(scope for scope in MEMBER_SCOPES if scope in self.caller.scopes)

    def default_models(self) -> tuple[str, ...] | None:
        """The models of a new key when none are named: the author's own."""
        return None if self.caller is None or self.caller.is_admin else self.caller.key_models

    def default_tools(self) -> tuple[str, ...] | None:
        """The tools of a new key when none are named: the author's own."""
        return None if self.caller is None or self.caller.is_admin else self.caller.key_tools

    def default_expires(self) -> int | None:
        """The end of a new key when none is named: the author's own."""
        return None if self.caller is None or self.caller.is_admin else self.caller.key_expires

    def check(self, record: KeyRecord, role: Role) -> None:
        """Raises Forbidden when the author may not hand out `record` to a user with this role."""
        if "admin" in record.scopes and role != "admin":
            raise Forbidden(
                "The scope 'admin' is for the keys of admins only.", code="scope_not_allowed", param="scopes"
            )
        if self.caller is None or self.caller.is_admin:
            return
        beyond = [scope for scope in record.scopes if scope not in self.caller.scopes]
        if beyond:
            raise Forbidden(
                f"This API key does not have the scope '{beyond[0]}' itself.", code="scope_not_allowed", param="scopes"
            )
        caller = self.caller
        if (model := _first_beyond(record.models, caller.key_models, caller.user_models)) is not None:
            raise Forbidden(
                f"This API key may not use the model '{model}' itself.", code="model_not_allowed", param="models"
            )
        if (tool := _first_beyond(record.tools, caller.key_tools, caller.user_tools)) is not None:
            raise Forbidden(
                f"This API key may not use the tool '{tool}' itself.", code="tool_not_allowed", param="tools"
            )
        ends = self.caller.key_expires
        if ends is not None and (record.expires is None or record.expires > ends):
            raise Forbidden(
                "This API key ends earlier than the one it would make or change.",
                code="expiry_not_allowed",
                param="expires_at",
            )


def _first_beyond(wanted: Sequence[str] | None, key: Sequence[str] | None, user: Sequence[str] | None) -> str | None:
    """The first of a record's names that the author's key, or its user, does not cover. A record without names stands
    for all that its user has, which the author's key must have too."""
    return _beyond(("*",) if wanted is None else wanted, key) or _beyond(wanted or (), user)


def _beyond(wanted: Sequence[str], own: Sequence[str] | None) -> str | None:
    if own is None:
        return None
    return next((name for name in wanted if not any(_covers(pattern, name) for pattern in own)), None)


def _covers(pattern: str, name: str) -> bool:
    """Whether all that `name` stands for, a name or a pattern itself, is in what `pattern` stands for."""
    return pattern == name or (pattern.endswith("*") and name.startswith(pattern[:-1]))
