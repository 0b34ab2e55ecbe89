"""Users and keys: made, changed, and what a race does to them."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from stile.adapters.directory_sqlite import SQLiteDirectory
from stile.core import keys
from stile.core.keys import Pepper
from stile.errors import BadRequest, EmailTaken, UnknownUser, ValueTooLarge
from stile.keyring import Keyring

PEPPER = Pepper({1: b"p" * 32})


def play(tmp_path: Path, story: Callable[[Keyring, SQLiteDirectory], Awaitable[None]]) -> None:
    async def main() -> None:
        directory = SQLiteDirectory(tmp_path / "stile.db")
        try:
            await story(Keyring(directory, PEPPER), directory)
        finally:
            await directory.close()

    asyncio.run(main())


def test_a_plaintext_is_nowhere_in_the_directory(tmp_path: Path) -> None:
    async def story(keyring: Keyring, directory: SQLiteDirectory) -> None:
        user = await keyring.create_user("one@example.com", "member")
        made = await keyring.create_key(user.user_id, "k")
        secret = made.plaintext.rsplit("-", 1)[1]
        entry = await directory.get(user.user_id)
        assert entry is not None
        stored = "".join(entry.attributes.values())
        assert secret not in stored
        assert secret not in repr(made)

    play(tmp_path, story)


def test_twenty_keys_fit_and_a_twenty_first_is_refused(tmp_path: Path) -> None:
    async def story(keyring: Keyring, directory: SQLiteDirectory) -> None:
        user = await keyring.create_user("one@example.com", "member")
        made = await asyncio.gather(*(keyring.create_key(user.user_id, f"k{n}") for n in range(5)))
        for number in range(15):
            await keyring.create_key(user.user_id, f"l{number}")
        held = await keyring.keys_of(user.user_id)
        assert len(held) == keys.SLOTS
        assert {new.record.id for new in made} <= {record.id for record in held.values()}
        with pytest.raises(BadRequest) as refused:
            await keyring.create_key(user.user_id, "one more")
        assert refused.value.code == "too_many_keys"
        assert directory

    play(tmp_path, story)


def test_a_revoked_key_stays_revoked(tmp_path: Path) -> None:
    async def story(keyring: Keyring, _: SQLiteDirectory) -> None:
        user = await keyring.create_user("one@example.com", "member")
        key_id = (await keyring.create_key(user.user_id, "k")).record.id
        await keyring.set_status(key_id, "revoked")
        assert (await keyring.set_status(key_id, "revoked")).status == "revoked"
        for change in (
            keyring.set_status(key_id, "active"),
            keyring.set_status(key_id, "suspended"),
            keyring.rotate(key_id, grace_seconds=10),
        ):
            with pytest.raises(BadRequest) as refused:
                await change
            assert refused.value.code == "key_revoked"

    play(tmp_path, story)


def test_a_revoke_that_races_other_changes_ends_revoked(tmp_path: Path) -> None:
    async def story(keyring: Keyring, directory: SQLiteDirectory) -> None:
        assert (await directory.list()).entries == []
        user = await keyring.create_user("one@example.com", "member")
        for _ in range(10):
            made = await keyring.create_key(user.user_id, "k")
            await asyncio.gather(
                keyring.rotate(made.record.id, grace_seconds=10),
                keyring.set_status(made.record.id, "suspended"),
                keyring.set_status(made.record.id, "revoked"),
                keyring.set_status(made.record.id, "active"),
                return_exceptions=True,
            )
            held = await keyring.keys_of(user.user_id)
            assert next(record for record in held.values() if record.id == made.record.id).status == "revoked"

    play(tmp_path, story)


def test_errors_say_what_is_wrong_and_write_nothing(tmp_path: Path) -> None:
    async def story(keyring: Keyring, directory: SQLiteDirectory) -> None:
        user = await keyring.create_user("one@example.com", "member")
        with pytest.raises(EmailTaken):
            await keyring.create_user("one@example.com", "admin")
        with pytest.raises(ValueTooLarge):
            await keyring.create_key(user.user_id, "n" * 2048)
        for unknown in ("nonsense", keys.make_id(1, user.user_id, 1, b"n" * 6).text):
            with pytest.raises(UnknownUser):
                await keyring.set_status(unknown, "revoked")
        entry = await directory.get(user.user_id)
        assert entry is not None
        assert entry.attributes.keys() == {"role"}

    play(tmp_path, story)
