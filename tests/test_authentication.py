"""Who is calling: the checks of a key, the cache, and what happens when the directory is away."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from stile.adapters.directory_sqlite import SQLiteDirectory
from stile.authentication import ASK_AGAIN_SECONDS, CACHE_ENTRIES, STALE_SECONDS, UNKNOWN_SECONDS, Authenticator
from stile.core import keys
from stile.core.keys import Pepper
from stile.core.records import ADMIN_SCOPES, Entry, Policy, slot_attribute
from stile.core.rights import Author
from stile.errors import DirectoryUnavailable, Forbidden, InvalidKey
from stile.keyring import KeyFields, Keyring
from stile.ports import Change
from stile.telemetry.records import AuditRecord
from stile.users import Users

PEPPER = Pepper({1: b"p" * 32})
CACHE_SECONDS = 60
BY = Author()  # the machine itself
Story = Callable[["World"], Awaitable[None]]


class CountingDirectory(SQLiteDirectory):
    """The real directory, which counts its reads and can be away."""

    reads = 0
    away = False

    async def get(self, user_id: str) -> Entry | None:
        self.reads += 1
        await asyncio.sleep(0)
        if self.away:
            raise DirectoryUnavailable("away")
        return await super().get(user_id)


class World:
    """A directory, a clock that a test turns, and the two stories that share them."""

    def __init__(self, path: Path) -> None:
        self.now = 1_000_000.0
        self.directory = CountingDirectory(path)
        self.authenticator = Authenticator(self.directory, PEPPER, cache_seconds=CACHE_SECONDS, clock=lambda: self.now)
        self.lines: list[AuditRecord] = []
        told = {"audit": self.lines.append, "clock": lambda: self.now}
        self.users = Users(self.directory, PEPPER, forget=self.authenticator.forget_user, **told)  # type: ignore[arg-type]
        self.keyring = Keyring(self.directory, PEPPER, forget=self.authenticator.forget, **told)  # type: ignore[arg-type]
        # Another instance changes keys without telling this one.
        self.elsewhere = Keyring(self.directory, PEPPER, **told)  # type: ignore[arg-type]
        self.user_id = ""

    async def key(self, **more: object) -> str:
        made = await self.keyring.create(BY, self.user_id, KeyFields(name="test", **more))  # type: ignore[arg-type]
        self.directory.reads = 0
        return made.plaintext


def play(tmp_path: Path, story: Story) -> None:
    async def main() -> None:
        world = World(tmp_path / "stile.db")
        try:
            user = await world.users.create(BY, "one@example.com", "admin")
            world.user_id = user.user_id
            await story(world)
        finally:
            await world.directory.close()

    asyncio.run(main())


def id_of(text: str) -> str:
    key = keys.parse(text)
    assert key is not None
    return key.id


def test_a_good_key_names_its_caller_and_one_read_serves_many_calls(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        text = await world.key(scopes=ADMIN_SCOPES, models=("a", "b/*"))
        callers = await asyncio.gather(*(world.authenticator.authenticate(text) for _ in range(50)))
        assert world.directory.reads == 1
        assert {caller.user_id for caller in callers} == {world.user_id}
        assert callers[0].is_admin
        assert callers[0].may_use("a")
        assert callers[0].may_use("b/c")
        assert not callers[0].may_use("c")

    play(tmp_path, story)


@pytest.mark.parametrize("text", [None, "", "sk-other", "sk-stile-x", "Bearer"])
def test_what_is_no_key_is_refused_without_a_read(tmp_path: Path, text: str | None) -> None:
    async def story(world: World) -> None:
        with pytest.raises(InvalidKey):
            await world.authenticator.authenticate(text)
        assert world.directory.reads == 0

    play(tmp_path, story)


def test_a_key_of_another_deployment_is_refused_without_a_read(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        key_id = keys.make_id(1, world.user_id, 1, b"n" * keys.NONCE_BYTES)
        with pytest.raises(InvalidKey):
            await world.authenticator.authenticate(Pepper({1: b"q" * 32}).mint(key_id, b"s" * 32))
        assert world.directory.reads == 0

    play(tmp_path, story)


def test_a_minted_key_that_no_record_knows_is_refused_and_remembered_for_a_while(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        text = PEPPER.mint(keys.make_id(1, world.user_id, 1, b"n" * keys.NONCE_BYTES), b"s" * 32)
        for _ in range(3):
            with pytest.raises(InvalidKey):
                await world.authenticator.authenticate(text)
        assert world.directory.reads == 1
        world.now += UNKNOWN_SECONDS
        with pytest.raises(InvalidKey):
            await world.authenticator.authenticate(text)
        assert world.directory.reads == 2

    play(tmp_path, story)


def test_a_right_id_with_a_wrong_secret_is_refused(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        named = keys.read_id(id_of(await world.key()))
        assert named is not None
        with pytest.raises(InvalidKey):
            await world.authenticator.authenticate(PEPPER.mint(named, b"s" * 32))

    play(tmp_path, story)


def test_expiry_is_checked_on_every_call_also_of_a_cached_key(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        text = await world.key(expires=int(world.now) + 5)
        await world.authenticator.authenticate(text)
        world.now += 5
        with pytest.raises(InvalidKey, match="expired"):
            await world.authenticator.authenticate(text)
        assert world.directory.reads == 1

    play(tmp_path, story)


def test_a_revoke_holds_here_at_once_and_elsewhere_within_the_cache_time(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        here, there = await world.key(), await world.key()
        for text in (here, there):
            await world.authenticator.authenticate(text)
        await world.keyring.set_status(BY, id_of(here), "revoked")
        await world.elsewhere.set_status(BY, id_of(there), "revoked")
        with pytest.raises(InvalidKey, match="revoked"):
            await world.authenticator.authenticate(here)
        await world.authenticator.authenticate(there)
        world.now += CACHE_SECONDS
        with pytest.raises(InvalidKey, match="revoked"):
            await world.authenticator.authenticate(there)

    play(tmp_path, story)


def test_a_lookup_that_was_under_way_during_a_revoke_is_not_kept(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        text = await world.key()
        pending = asyncio.create_task(world.authenticator.authenticate(text))
        await asyncio.sleep(0)
        await world.keyring.set_status(BY, id_of(text), "revoked")
        await asyncio.gather(pending, return_exceptions=True)
        with pytest.raises(InvalidKey, match="revoked"):
            await world.authenticator.authenticate(text)

    play(tmp_path, story)


def test_a_suspended_key_is_forbidden_until_it_is_resumed(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        text = await world.key()
        await world.keyring.set_status(BY, id_of(text), "suspended")
        with pytest.raises(Forbidden) as refused:
            await world.authenticator.authenticate(text)
        assert refused.value.code == "key_suspended"
        await world.keyring.set_status(BY, id_of(text), "active")
        await world.authenticator.authenticate(text)

    play(tmp_path, story)


def test_a_disabled_user_has_no_working_key(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        text = await world.key()
        await world.directory.enable(world.user_id, enabled=False)
        with pytest.raises(Forbidden) as refused:
            await world.authenticator.authenticate(text)
        assert refused.value.code == "user_disabled"

    play(tmp_path, story)


def test_a_text_that_was_checked_is_known_again_and_no_other(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        text = await world.key(expires=int(world.now) + 50)
        await world.authenticator.authenticate(text)
        assert (await world.authenticator.authenticate(text)).user_id == world.user_id
        for other in (text[:-1] + "g", text.replace("sk-stile", "sk-stilf"), text + " ", text[:57]):
            with pytest.raises(InvalidKey):
                await world.authenticator.authenticate(other)
        world.now += 50
        with pytest.raises(InvalidKey, match="expired"):
            await world.authenticator.authenticate(text)

    play(tmp_path, story)


def test_both_secrets_of_a_rotated_key_live_until_the_grace_ends(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        old = await world.key()
        new = (await world.keyring.rotate(BY, id_of(old), grace_seconds=10)).plaintext
        assert id_of(new) == id_of(old)
        for text in (old, new):
            await world.authenticator.authenticate(text)
        world.now += 10
        await world.authenticator.authenticate(new)
        with pytest.raises(InvalidKey):
            await world.authenticator.authenticate(old)

    play(tmp_path, story)


def test_the_users_policy_bounds_what_a_key_may_use(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        user = await world.users.create(BY, "two@example.com", "member", Policy(models=("a",)))
        made = await world.keyring.create(BY, user.user_id, KeyFields(name="k", models=("a", "b")))
        caller = await world.authenticator.authenticate(made.plaintext)
        assert caller.may_use("a")
        assert not caller.may_use("b")
        assert not caller.is_admin

    play(tmp_path, story)


def test_who_writes_the_directory_gains_no_right(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def story(world: World) -> None:
        member = await world.users.create(BY, "two@example.com", "member")
        text = (await world.keyring.create(BY, member.user_id, KeyFields(name="k"))).plaintext
        entry = await world.directory.get(member.user_id)
        admin = await world.directory.get(world.user_id)
        assert entry is not None
        assert admin is not None
        # The admin's own role, copied, is sealed for another user.
        await world.directory.write(
            member.user_id, {"role": Change(entry.attributes["role"], admin.attributes["role"])}
        )
        with pytest.raises(InvalidKey):
            await world.authenticator.authenticate(text)
        assert "tampering" in caplog.text

    play(tmp_path, story)


def test_a_record_moved_to_another_slot_or_edited_is_no_record(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        text = await world.key(expires=int(world.now) + 100)
        named = keys.read_id(id_of(text))
        entry = await world.directory.get(world.user_id)
        assert named is not None
        assert entry is not None
        slot = slot_attribute(named.slot)
        record = entry.attributes[slot]
        longer = record.replace(str(int(world.now) + 100), str(int(world.now) + 900))
        assert longer != record
        await world.directory.write(world.user_id, {slot: Change(record, longer)})
        with pytest.raises(InvalidKey):
            await world.authenticator.authenticate(text)

    play(tmp_path, story)


def test_when_the_directory_is_away_known_callers_go_on_for_model_calls_and_others_are_told_to_wait(
    tmp_path: Path,
) -> None:
    async def story(world: World) -> None:
        known, unknown = await world.key(scopes=ADMIN_SCOPES), await world.key()
        await world.authenticator.authenticate(known)
        world.directory.away = True
        world.now += CACHE_SECONDS
        caller = await world.authenticator.authenticate(known)
        assert caller.scopes == {"inference", "mcp"}
        with pytest.raises(DirectoryUnavailable):
            await world.authenticator.authenticate(unknown)
        world.now += STALE_SECONDS
        with pytest.raises(DirectoryUnavailable):
            await world.authenticator.authenticate(known)
        world.directory.away = False
        assert (await world.authenticator.authenticate(known)).is_admin

    play(tmp_path, story)


def test_a_directory_that_is_away_is_not_asked_for_every_call(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        known = await world.key()
        await world.authenticator.authenticate(known)
        world.directory.away = True
        world.now += CACHE_SECONDS
        for _ in range(10):
            await world.authenticator.authenticate(known)
        assert world.directory.reads == 2
        world.now += ASK_AGAIN_SECONDS
        await world.authenticator.authenticate(known)
        assert world.directory.reads == 3

    play(tmp_path, story)


def test_the_cache_is_bounded(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        for number in range(CACHE_ENTRIES + 5):
            text = PEPPER.mint(keys.make_id(1, world.user_id, 1, number.to_bytes(6)), b"s" * 32)
            with pytest.raises(InvalidKey):
                await world.authenticator.authenticate(text)
        assert len(world.authenticator._cache) == CACHE_ENTRIES

    play(tmp_path, story)


def test_a_reused_slot_does_not_revive_the_old_key(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        old = await world.key()
        named = keys.read_id(id_of(old))
        assert named is not None
        slot = slot_attribute(named.slot)
        entry = await world.directory.get(world.user_id)
        assert entry is not None
        record = world.authenticator._entries.key(entry, named.slot)
        assert record is not None
        fresh = msgspec.structs.replace(record, id=keys.make_id(1, world.user_id, named.slot, b"x" * 6).text)
        sealed = world.authenticator._entries.write(world.user_id, slot, fresh)
        await world.directory.write(world.user_id, {slot: Change(entry.attributes[slot], sealed)})
        with pytest.raises(InvalidKey):
            await world.authenticator.authenticate(old)

    play(tmp_path, story)
