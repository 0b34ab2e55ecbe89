"""How a change of a user or a key gets into the directory: sealed, on top of what was read, and with its audit line."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from stile.core.records import Entry
from stile.core.rights import Author
from stile.entries import Entries
from stile.errors import Conflict, DirectoryUnavailable, Unconfirmed
from stile.ports import Change, Directory
from stile.telemetry.records import AuditRecord

Audit = Callable[[AuditRecord], None]


class Changes:
    """Writes attributes to the directory. `audit` gets a line for each change, also for one that may have been made."""

    def __init__(self, directory: Directory, entries: Entries, audit: Audit) -> None:
        self._directory = directory
        self._entries = entries
        self._audit = audit

    async def write(
        self,
        entry: Entry,
        values: Mapping[str, object],
        line: AuditRecord,
        *,
        held: Callable[[Entry], bool] = lambda _: False,
    ) -> None:
        """Give attributes of `entry` these values, None for absent. Raises what Directory.write does.

        `held` tells of an entry that is no longer as it was written whether the change is in it all the same: then
        somebody has made another one on top of it, and that is no conflict.
        """
        changes = {
            name: Change(
                before=entry.attributes.get(name),
                after=None if value is None else self._entries.write(entry.user_id, name, value),
            )
            for name, value in values.items()
        }
        await self.follow(self._write(entry.user_id, changes, held), line)

    async def _write(self, user_id: str, changes: Mapping[str, Change], held: Callable[[Entry], bool]) -> None:
        try:
            await self._directory.write(user_id, changes)
        except Conflict:
            try:
                entry = await self._directory.get(user_id)
            except DirectoryUnavailable as error:
                raise Unconfirmed(headers=error.headers) from error
            if entry is None or not held(entry):
                raise

    async def follow(self, change: Awaitable[None], line: AuditRecord) -> None:
        """Wait for a change and write its line, also when it was cancelled half way: its client may have gone."""
        try:
            await change
        except (Unconfirmed, asyncio.CancelledError):
            line.outcome = "unknown"
            self._audit(line)
            raise
        self._audit(line)


def line(
    by: Author,
    action: str,
    user_id: str,
    key_id: str | None = None,
    *,
    before: msgspec.Struct | None = None,
    after: msgspec.Struct | None = None,
) -> AuditRecord:
    """The audit line of a change by `by`; `before` and `after` are what is shown of the user or key."""
    return AuditRecord(
        action=action,
        user_id=user_id,
        key_id=key_id,
        by_user_id=by.caller.user_id if by.caller else None,
        by_key_id=by.caller.key_id if by.caller else None,
        request_id=by.request_id,
        before=_fields(before),
        after=_fields(after),
    )


def _fields(told: msgspec.Struct | None) -> dict[str, Any] | None:
    fields: dict[str, Any] | None = None if told is None else msgspec.to_builtins(told)
    return fields
