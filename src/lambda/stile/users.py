"""The story of users: made, found, changed, deleted. All of it is for admins; only oneself is shown to everybody."""

import time
from collections.abc import Callable, Mapping, Sequence

import msgspec
from msgspec import UNSET, UnsetType

from stile import changes, shown
from stile.changes import Audit, Changes
from stile.core.keys import Pepper
from stile.core.records import Entry, Policy, Role, Standing
from stile.core.rights import Author
from stile.entries import POLICY, ROLE, Entries
from stile.errors import Conflict, EmailTaken, UnknownUser
from stile.ports import Directory
from stile.shown import ShownUser

ATTEMPTS = 8


class PolicyFields(msgspec.Struct, frozen=True, kw_only=True):
    """What can be changed of a user's policy. What is UNSET stays as it is."""

    models: Sequence[str] | UnsetType | None = UNSET
    tools: Sequence[str] | UnsetType | None = UNSET


class UserFields(msgspec.Struct, frozen=True, kw_only=True):
    """What can be changed of a user. What is UNSET stays as it is; a policy of None is taken away."""

    role: Role | UnsetType = UNSET
    policy: PolicyFields | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET


class Users:
    """Changes users. `forget` is told each user that changed; `audit` gets a line for each change."""

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
        self._entries = Entries(pepper)
        self._changes = Changes(directory, self._entries, audit)
        self._forget = forget
        self._clock = clock

    async def create(
        self,
        by: Author,
        email: str,
        role: Role,
        policy: Policy | None = None,
        *,
        machine: bool = False,
        invite: bool = False,
    ) -> Entry:
        """A user with a role. Raises Forbidden, EmailTaken, Unprocessable (see Directory.create)."""
        by.require_admin()
        values: dict[str, object] = {ROLE: Standing(role, int(self._clock()), machine)}
        if policy is not None:
            values[POLICY] = policy
        for name, value in values.items():
            self._entries.write("", name, value)  # what is too large shall be told before there is a user
        try:
            entry = await self._directory.create(email, mailbox=not machine, invite=invite)
        except EmailTaken:
            found = await self._directory.find(email)
            if found is None or found.attributes:
                raise
            entry = found  # somebody who has no right here yet: of another program, or half made when something failed
        try:
            return await self._write(by, "user.create", entry, values, made=True)
        except Conflict:
            raise EmailTaken(f"{email} belongs to another user.", param="email") from None

    def standing(self, entry: Entry, role: Role) -> Standing:
        """The standing of a user who gets this role now."""
        held = self._entries.standing(entry) or Standing(role, int(self._clock()))
        return msgspec.structs.replace(held, role=role)

    async def get(self, user_id: str) -> Entry:
        """One user. Raises UnknownUser."""
        entry = await self._directory.get(user_id)
        if entry is None:
            raise UnknownUser
        return entry

    async def find(self, by: Author, email: str) -> Entry | None:
        """The user with this address. Raises Forbidden."""
        by.require_admin()
        return await self._directory.find(email)

    async def list(self, by: Author, *, limit: int, cursor: str | None) -> tuple[Sequence[Entry], str | None]:
        """Some users, and the cursor of the next ones. Raises Forbidden, Unprocessable."""
        by.require_admin()
        page = await self._directory.list(limit=limit, cursor=cursor)
        return page.entries, page.next_cursor

    async def update(self, by: Author, user_id: str, wanted: UserFields) -> Entry:
        """Change role, policy, or whether the user's keys work. Raises Forbidden, UnknownUser, ValueTooLarge."""
        by.require_admin()
        entry = await self.get(user_id)
        if wanted.enabled is False and entry.enabled:  # what takes rights away goes first
            entry = await self._enable(by, entry, enabled=False)
        if wanted.role is not UNSET or wanted.policy is not UNSET:
            entry = await self._set(by, entry, wanted)
        if wanted.enabled is True and not entry.enabled:
            entry = await self._enable(by, entry, enabled=True)
        return entry

    async def delete(self, by: Author, user_id: str) -> None:
        """Forget a user and every key. Raises Forbidden, UnknownUser."""
        by.require_admin()
        entry = await self.get(user_id)
        line = changes.line(by, "user.delete", user_id, before=self.shown(entry))
        try:
            await self._changes.follow(self._directory.delete(user_id), line)
        finally:
            self._forget(user_id)

    def shown(self, entry: Entry) -> ShownUser:
        """What callers see of a user."""
        return shown.user(entry, self._entries.standing(entry), self._entries.policy(entry))

    async def _set(self, by: Author, entry: Entry, wanted: UserFields) -> Entry:
        for _ in range(ATTEMPTS):
            values: dict[str, object] = {}
            if wanted.role is not UNSET:
                values[ROLE] = self.standing(entry, wanted.role)
            if wanted.policy is not UNSET:
                values[POLICY] = wanted.policy and self._policy(entry, wanted.policy)
            try:
                return await self._write(by, "user.update", entry, values)
            except Conflict:
                entry = await self.get(entry.user_id)
        raise Conflict("Too many changes to this user at once; this one was not made. Try again.")

    def _policy(self, entry: Entry, wanted: PolicyFields) -> Policy:
        said = {
            name: value and tuple(value) for name, value in msgspec.structs.asdict(wanted).items() if value is not UNSET
        }
        return msgspec.structs.replace(self._entries.policy(entry), **said)

    async def _enable(self, by: Author, entry: Entry, *, enabled: bool) -> Entry:
        changed = msgspec.structs.replace(entry, enabled=enabled)
        action = "user.enable" if enabled else "user.disable"
        line = changes.line(by, action, entry.user_id, before=self.shown(entry), after=self.shown(changed))
        try:
            await self._changes.follow(self._directory.enable(entry.user_id, enabled=enabled), line)
        finally:
            self._forget(entry.user_id)
        return changed

    async def _write(
        self, by: Author, action: str, entry: Entry, values: Mapping[str, object], *, made: bool = False
    ) -> Entry:
        sealed = {name: value and self._entries.write(entry.user_id, name, value) for name, value in values.items()}
        kept = {name: value for name, value in {**entry.attributes, **sealed}.items() if value}
        changed = msgspec.structs.replace(entry, attributes=kept)
        before = None if made else self.shown(entry)
        line = changes.line(by, action, entry.user_id, before=before, after=self.shown(changed))
        try:
            await self._changes.write(entry, values, line)
        finally:
            self._forget(entry.user_id)
        return changed
