"""The Directory in one SQLite file: users and keys of a laptop or a single machine.

Several processes may have it open (`make key` beside a running gateway); SQLite's own locks keep changes apart. All
calls run on one thread of their own, so the event loop never waits for the disk.
"""

import asyncio
import contextlib
import os
import re
import sqlite3
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from stile.core.records import MAX_ATTRIBUTE_BYTES, Entry, Page
from stile.errors import (
    Conflict,
    DirectoryUnavailable,
    EmailTaken,
    StateError,
    UnknownUser,
    Unprocessable,
    ValueTooLarge,
)
from stile.ports import MAX_PAGE, Change

_APPLICATION_ID = 0x5374696C  # "Stil": SQLite's header field for the program that owns a file
_SCHEMA_VERSION = 1
_BUSY_SECONDS = 5
_USER_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_CLAIMS = "CREATE TABLE IF NOT EXISTS claims (name TEXT PRIMARY KEY) STRICT, WITHOUT ROWID"
_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE users (
    id TEXT PRIMARY KEY, email TEXT NOT NULL UNIQUE COLLATE NOCASE, enabled INTEGER NOT NULL DEFAULT 1
) STRICT;
CREATE TABLE attributes (
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE, name TEXT NOT NULL, value TEXT NOT NULL,
    PRIMARY KEY (user_id, name)
) STRICT, WITHOUT ROWID;
{_CLAIMS};
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {_SCHEMA_VERSION};
COMMIT;
"""

T = TypeVar("T")


class SQLiteDirectory:
    """The Directory port on the file `path`, made when it is not there. Raises StateError when it is not ours."""

    def __init__(self, path: Path) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="directory")
        try:
            self._connection = self._thread.submit(_open, path).result()
        except sqlite3.Error as fault:
            self._thread.shutdown()
            raise StateError(f"{path}: not a database that can be used ({fault}); it was left as it is") from None
        except StateError:
            self._thread.shutdown()
            raise

    async def get(self, user_id: str) -> Entry | None:
        return await self._run(lambda: self._entry("id", user_id))

    async def find(self, email: str) -> Entry | None:
        return await self._run(lambda: self._entry("email", email))

    async def list(self, *, limit: int = 50, cursor: str | None = None) -> Page:
        return await self._run(lambda: self._page(min(limit, MAX_PAGE), cursor or ""))

    async def create(self, email: str, *, mailbox: bool = True, invite: bool = False) -> Entry:  # noqa: ARG002
        if invite:
            raise Unprocessable("The embedded directory sends no mail; leave 'invite' out.", param="invite")
        user_id = str(uuid.uuid4())
        await self._run(lambda: self._insert(user_id, email))
        return Entry(user_id=user_id, email=email, enabled=True, attributes={})

    async def write(self, user_id: str, changes: Mapping[str, Change]) -> None:
        for name, change in changes.items():
            if change.after is not None and len(change.after.encode()) > MAX_ATTRIBUTE_BYTES:
                raise ValueTooLarge(f"{name} would hold more than {MAX_ATTRIBUTE_BYTES} bytes")
        await self._run(lambda: self._apply(user_id, changes))

    async def enable(self, user_id: str, *, enabled: bool) -> None:
        await self._run(lambda: self._one("UPDATE users SET enabled = ? WHERE id = ?", enabled, user_id))

    async def delete(self, user_id: str) -> None:
        await self._run(lambda: self._one("DELETE FROM users WHERE id = ?", user_id))

    async def claim(self, name: str) -> None:
        await self._run(lambda: self._claim(name))

    async def claimed(self, name: str) -> bool:
        found = "SELECT 1 FROM claims WHERE name = ?"
        return await self._run(lambda: self._connection.execute(found, (name,)).fetchone()) is not None

    async def check(self) -> None:
        await self._run(lambda: self._connection.execute("SELECT 1 FROM users LIMIT 1").fetchone())

    async def release(self) -> None:
        """There is nothing that goes stale."""

    async def close(self) -> None:
        await self._run(self._connection.close)
        self._thread.shutdown()

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except sqlite3.Error as fault:
            raise DirectoryUnavailable(
                f"The key directory cannot be read now ({fault}). Try again.", headers=[("retry-after", "1")]
            ) from fault

    def _entry(self, column: str, value: str) -> Entry | None:
        row = self._connection.execute(
            f"SELECT id, email, enabled FROM users WHERE {column} = ?",  # noqa: S608 (two column names, both ours)
            (value,),
        ).fetchone()
        return self._read(row) if row else None

    def _read(self, row: tuple[str, str, int]) -> Entry:
        user_id, email, enabled = row
        attributes = self._connection.execute("SELECT name, value FROM attributes WHERE user_id = ?", (user_id,))
        return Entry(user_id=user_id, email=email, enabled=bool(enabled), attributes=dict(attributes.fetchall()))

    def _page(self, limit: int, after: str) -> Page:
        if after and _USER_ID.fullmatch(after) is None:
            raise Unprocessable("This cursor is none that a list of users gave.", param="cursor")
        rows = self._connection.execute(
            "SELECT id, email, enabled FROM users WHERE id > ? ORDER BY id LIMIT ?", (after, limit + 1)
        ).fetchall()
        entries = [self._read(row) for row in rows[:limit]]
        return Page(entries=entries, next_cursor=entries[-1].user_id if len(rows) > limit else None)

    def _insert(self, user_id: str, email: str) -> None:
        try:
            self._one("INSERT INTO users (id, email) VALUES (?, ?)", user_id, email)
        except sqlite3.IntegrityError:
            raise EmailTaken(f"{email} belongs to another user.", param="email") from None

    def _claim(self, name: str) -> None:
        try:
            self._connection.execute("INSERT INTO claims VALUES (?)", (name,))
        except sqlite3.IntegrityError:
            raise Conflict(f"{name} is taken") from None

    def _one(self, statement: str, *values: object) -> None:
        if self._connection.execute(statement, values).rowcount != 1:
            raise UnknownUser

    def _apply(self, user_id: str, changes: Mapping[str, Change]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            entry = self._entry("id", user_id)
            if entry is None:
                raise UnknownUser
            for name, change in changes.items():
                if entry.attributes.get(name) != change.before:
                    raise Conflict(f"{name} was changed by somebody else")
                self._put(user_id, name, change.after)
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def _put(self, user_id: str, name: str, value: str | None) -> None:
        self._connection.execute("DELETE FROM attributes WHERE user_id = ? AND name = ?", (user_id, name))
        if value:
            self._connection.execute("INSERT INTO attributes VALUES (?, ?, ?)", (user_id, name, value))


def _open(path: Path) -> sqlite3.Connection:
    if not path.exists():
        _create(path)
    connection = _connect(path)
    try:
        _check(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)


def _create(path: Path) -> None:
    """Make the whole database under another name first: a file at `path` is never half made, and never replaced."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.touch(mode=0o600)
    try:
        connection = _connect(draft)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(_SCHEMA)
        connection.close()
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()


def _check(connection: sqlite3.Connection, path: Path) -> None:
    owner = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if owner != _APPLICATION_ID:
        raise StateError(f"{path}: not Stile's database, or a damaged one; it was left as it is")
    if version != _SCHEMA_VERSION:
        raise StateError(f"{path}: made by another version of Stile (schema {version}, this one has {_SCHEMA_VERSION})")
    if connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
        raise StateError(f"{path}: the database is damaged; it was left as it is. Restore it from a copy")
    connection.execute(_CLAIMS)  # databases of the first version have none
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")
