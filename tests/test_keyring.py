"""Users and keys: made, changed, who may, and what a race does to them."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from stile.adapters.directory_sqlite import SQLiteDirectory
from stile.core import keys
from stile.core.keys import Pepper
from stile.core.records import ADMIN_SCOPES, Caller, Role, Scope
from stile.core.rights import Author
from stile.errors import DirectoryUnavailable, EmailTaken, Forbidden, Rejected, UnknownKey, Unprocessable, ValueTooLarge
from stile.keyring import REPEAT_SECONDS, KeyFields, Keyring, NewKey
from stile.telemetry.records import AuditRecord
from stile.users import UserFields, Users

PEPPER = Pepper({1: b"p" * 32})
BY = Author()  # the machine itself


class World:
    """A directory with a member, a clock that a test turns, and what was audited."""

    def __init__(self, directory: SQLiteDirectory) -> None:
        self.now = time.time()
        self.directory = directory
        self.lines: list[AuditRecord] = []
        self.users = Users(directory, PEPPER, audit=self.lines.append, clock=lambda: self.now)
        self.keyring = Keyring(directory, PEPPER, audit=self.lines.append, clock=lambda: self.now)
        self.user_id = ""

    async def key(self, name: str = "k") -> str:
        return (await self.keyring.create(BY, self.user_id, KeyFields(name=name))).record.id

    def caller(self, role: Role = "member", **more: object) -> Author:
        given: dict[str, object] = {"scopes": frozenset(ADMIN_SCOPES), "user_id": self.user_id, **more}
        return Author(Caller(key_id="caller", role=role, **given))  # type: ignore[arg-type]


def play(tmp_path: Path, story: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        directory = SQLiteDirectory(tmp_path / "stile.db")
        try:
            world = World(directory)
            world.user_id = (await world.users.create(BY, "one@example.com", "member")).user_id
            await story(world)
        finally:
            await directory.close()

    asyncio.run(main())


def digest(made: NewKey) -> str:
    presented = keys.parse(made.plaintext)
    assert presented is not None
    return PEPPER.digest(presented)


def test_a_plaintext_is_nowhere_in_the_directory(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        made = await world.keyring.create(BY, world.user_id, KeyFields(name="k"))
        secret = made.plaintext.rsplit("-", 1)[1]
        stored = "".join((await world.users.get(world.user_id)).attributes.values())
        assert secret not in stored
        assert secret not in repr(made)
        assert secret not in msgspec.json.encode(world.lines).decode()

    play(tmp_path, story)


def test_twenty_keys_fit_and_a_twenty_first_is_refused(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        made = set(await asyncio.gather(*(world.key(f"k{n}") for n in range(5))))
        for number in range(15):
            made.add(await world.key(f"l{number}"))
        held = await world.keyring.list(BY, world.user_id)
        assert {record.id for record in held} == made
        assert len(made) == keys.SLOTS
        with pytest.raises(Rejected) as refused:
            await world.key("one more")
        assert refused.value.code == "too_many_keys"
        await world.keyring.delete(BY, held[3].id)
        assert await world.key("in its place")

    play(tmp_path, story)


def test_a_revoked_key_stays_revoked(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        key_id = await world.key()
        await world.keyring.set_status(BY, key_id, "revoked")
        assert (await world.keyring.set_status(BY, key_id, "revoked")).status == "revoked"
        for change in (
            world.keyring.set_status(BY, key_id, "active"),
            world.keyring.set_status(BY, key_id, "suspended"),
            world.keyring.rotate(BY, key_id, grace_seconds=10),
            world.keyring.update(BY, key_id, KeyFields(name="other")),
        ):
            with pytest.raises(Rejected) as refused:
                await change
            assert refused.value.code == "key_revoked"

    play(tmp_path, story)


def test_a_revoke_that_races_other_changes_ends_revoked(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        for _ in range(10):
            key_id = await world.key()
            await asyncio.gather(
                world.keyring.rotate(BY, key_id, grace_seconds=10),
                world.keyring.set_status(BY, key_id, "suspended"),
                world.keyring.set_status(BY, key_id, "revoked"),
                world.keyring.set_status(BY, key_id, "active"),
                world.keyring.update(BY, key_id, KeyFields(name="other")),
                return_exceptions=True,
            )
            assert (await world.keyring.get(BY, key_id)).status == "revoked"

    play(tmp_path, story)


def test_a_rotation_that_is_repeated_replaces_the_secret_nobody_saw(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        first = await world.keyring.create(BY, world.user_id, KeyFields(name="k"))
        key_id = first.record.id
        lost = await world.keyring.rotate(BY, key_id, grace_seconds=100, idempotency_key="a")
        world.now += 10
        again = await world.keyring.rotate(BY, key_id, grace_seconds=5000, idempotency_key="a")
        assert again.plaintext != lost.plaintext
        assert [kept.digest for kept in again.record.hashes] == [digest(again), digest(first)]
        assert again.record.hashes[1].until == lost.record.hashes[1].until
        other = await world.keyring.rotate(BY, key_id, grace_seconds=5, idempotency_key="b")
        assert [kept.digest for kept in other.record.hashes] == [digest(other), digest(again)]
        world.now += REPEAT_SECONDS
        later = await world.keyring.rotate(BY, key_id, grace_seconds=5, idempotency_key="b")
        assert [kept.digest for kept in later.record.hashes] == [digest(later), digest(other)], "that one was in use"

    play(tmp_path, story)


def test_errors_say_what_is_wrong_and_write_nothing(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        with pytest.raises(EmailTaken):
            await world.users.create(BY, "one@example.com", "admin")
        with pytest.raises(ValueTooLarge):
            await world.key("n" * 2048)
        with pytest.raises(Unprocessable):
            await world.keyring.create(BY, world.user_id, KeyFields(name="k", expires=int(world.now)))
        for unknown in ("nonsense", keys.make_id(1, world.user_id, 1, b"n" * 6).text):
            with pytest.raises(UnknownKey):
                await world.keyring.set_status(BY, unknown, "revoked")
        assert (await world.users.get(world.user_id)).attributes.keys() == {"role"}
        assert [line.action for line in world.lines] == ["user.create"]

    play(tmp_path, story)


def test_a_user_who_was_left_half_made_is_made_whole_by_the_next_attempt(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        async def refuse(*_: object) -> None:
            raise DirectoryUnavailable("x")

        write, world.directory.write = world.directory.write, refuse  # type: ignore[method-assign,assignment]
        with pytest.raises(DirectoryUnavailable):
            await world.users.create(BY, "two@example.com", "member")
        world.directory.write = write  # type: ignore[method-assign]
        assert await world.users.create(BY, "two@example.com", "member")
        with pytest.raises(EmailTaken):
            await world.users.create(BY, "two@example.com", "member")

    play(tmp_path, story)


@pytest.mark.parametrize(
    ("given", "wanted", "allowed"),
    [
        ({}, {}, True),
        ({}, {"scopes": ("mcp",)}, True),
        ({"scopes": frozenset({"keys", "mcp"})}, {}, True),
        ({"scopes": frozenset({"keys"})}, {"scopes": ("inference",)}, False),
        ({}, {"scopes": ("admin",)}, False),
        ({"key_models": ("a", "b/*")}, {}, True),
        ({"key_models": ("a", "b/*")}, {"models": ("b/c", "b/d*", "a")}, True),
        ({"key_models": ("a", "b/*")}, {"models": ("b*",)}, False),
        ({"key_models": ("a", "b/*")}, {"models": None}, False),
        ({"key_models": ("*",)}, {"models": None}, True),
        ({"user_models": ("a",)}, {"models": None}, True),
        ({"user_models": ("a",)}, {"models": ("c",)}, False),
        ({"key_expires": 5_000_000_000}, {}, True),
        ({"key_expires": 5_000_000_000}, {"expires": None}, False),
        ({"key_expires": 5_000_000_000}, {"expires": 5_000_000_001}, False),
        ({"key_expires": 5_000_000_000}, {"expires": 4_999_999_999}, True),
    ],
)
def test_a_member_hands_on_what_its_key_has_and_no_more(
    tmp_path: Path, given: dict[str, object], wanted: dict[str, object], allowed: bool
) -> None:
    async def story(world: World) -> None:
        by = world.caller(**given)  # type: ignore[arg-type]
        fields = KeyFields(name="k", **wanted)  # type: ignore[arg-type]
        other = await world.key("made by an admin")
        if allowed:
            record = (await world.keyring.create(by, world.user_id, fields)).record
            by.check(record, "member")
            return
        for change in (
            world.keyring.create(by, world.user_id, fields),
            world.keyring.update(by, other, fields),
        ):
            with pytest.raises(Forbidden):
                await change
        assert len(await world.keyring.list(BY, world.user_id)) == 1

    play(tmp_path, story)


def test_a_key_cannot_get_at_a_wider_one_by_rotating_or_resuming_it(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        narrow = world.caller(scopes=frozenset({"keys"}))
        wider = await world.key()
        with pytest.raises(Forbidden):
            await world.keyring.rotate(narrow, wider, grace_seconds=0)
        assert (await world.keyring.set_status(narrow, wider, "suspended")).status == "suspended"
        with pytest.raises(Forbidden):
            await world.keyring.set_status(narrow, wider, "active")
        assert (await world.keyring.set_status(narrow, wider, "revoked")).status == "revoked"

    play(tmp_path, story)


def test_what_an_admin_has_suspended_only_an_admin_resumes(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        key_id = await world.key()
        member, admin = world.caller(), world.caller("admin", user_id="another")
        await world.keyring.set_status(admin, key_id, "suspended")
        for status in ("active", "suspended"):
            with pytest.raises(Forbidden):
                await world.keyring.set_status(member, key_id, status)
        assert (await world.keyring.set_status(admin, key_id, "active")).status == "active"
        await world.keyring.set_status(member, key_id, "suspended")
        assert (await world.keyring.set_status(member, key_id, "active")).status == "active"

    play(tmp_path, story)


@pytest.mark.parametrize("scopes", [("inference",), ("keys",), ("admin",), ADMIN_SCOPES])
@pytest.mark.parametrize("role", ["member", "admin"])
def test_who_may_manage_whom(tmp_path: Path, role: Role, scopes: tuple[Scope, ...]) -> None:
    is_admin = role == "admin" and "admin" in scopes

    async def story(world: World) -> None:
        other = (await world.users.create(BY, "two@example.com", "member")).user_id
        by = world.caller(role, scopes=frozenset(scopes))
        for user_id, allowed in ((world.user_id, is_admin or "keys" in scopes), (other, is_admin)):
            held = await world.keyring.create(BY, user_id, KeyFields(name="k", scopes=("keys",)))
            tried = {
                "list": world.keyring.list(by, user_id),
                "get": world.keyring.get(by, held.record.id),
                "create": world.keyring.create(by, user_id, KeyFields(name="new", scopes=("keys",))),
                "update": world.keyring.update(by, held.record.id, KeyFields(name="renamed")),
                "rotate": world.keyring.rotate(by, held.record.id, grace_seconds=1),
                "suspend": world.keyring.set_status(by, held.record.id, "suspended"),
                "resume": world.keyring.set_status(by, held.record.id, "active"),
                "revoke": world.keyring.set_status(by, held.record.id, "revoked"),
                "delete": world.keyring.delete(by, held.record.id),
            }
            assert {name for name, change in tried.items() if await passes(change)} == (
                set(tried) if allowed else set()
            )
        of_users = (
            world.users.list(by, limit=1, cursor=None),
            world.users.find(by, "one@example.com"),
            world.users.create(by, "three@example.com", "member"),
            world.users.update(by, other, UserFields(role="admin")),
            world.users.delete(by, other),
        )
        assert [await passes(change) for change in of_users] == [is_admin] * 5

    play(tmp_path, story)


async def passes(change: Awaitable[object]) -> bool:
    try:
        await change
    except Forbidden:
        return False
    return True


def test_the_scope_admin_is_for_admins_also_when_an_admin_would_give_it(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        with pytest.raises(Forbidden) as refused:
            await world.keyring.create(BY, world.user_id, KeyFields(name="k", scopes=ADMIN_SCOPES))
        assert refused.value.code == "scope_not_allowed"
        await world.users.update(BY, world.user_id, UserFields(role="admin"))
        assert await world.keyring.create(BY, world.user_id, KeyFields(name="k", scopes=ADMIN_SCOPES))

    play(tmp_path, story)


def test_every_change_is_audited_with_who_and_what_it_was_before(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        by = Author(world.caller("admin", user_id="boss").caller, "req_1")
        await world.users.update(by, world.user_id, UserFields(role="admin", enabled=False))
        key_id = (await world.keyring.create(by, world.user_id, KeyFields(name="k"))).record.id
        await world.keyring.update(by, key_id, KeyFields(name="other"))
        await world.keyring.rotate(by, key_id, grace_seconds=5)
        for status in ("suspended", "active", "revoked"):
            await world.keyring.set_status(by, key_id, status)
        await world.keyring.delete(by, key_id)
        await world.users.delete(by, world.user_id)
        assert [line.action.split(".") for line in world.lines] == [
            ["user", "create"],
            ["user", "disable"],
            ["user", "update"],
            ["key", "create"],
            ["key", "update"],
            ["key", "rotate"],
            ["key", "suspend"],
            ["key", "resume"],
            ["key", "revoke"],
            ["key", "delete"],
            ["user", "delete"],
        ]
        for line in world.lines[1:]:
            assert (line.by_user_id, line.by_key_id, line.request_id) == ("boss", "caller", "req_1")
            assert line.user_id == world.user_id
        renamed = world.lines[4]
        assert renamed.before is not None
        assert renamed.after is not None
        assert (renamed.before["name"], renamed.after["name"], renamed.key_id) == ("k", "other", key_id)
        assert "hash" not in msgspec.json.encode(world.lines).decode()

    play(tmp_path, story)


def test_a_change_whose_client_went_away_is_audited_as_unknown(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        key_id = await world.key()
        writing = asyncio.Event()

        async def hang(*_: object) -> None:
            writing.set()
            await asyncio.Event().wait()

        world.directory.write = hang  # type: ignore[method-assign,assignment]
        change = asyncio.create_task(world.keyring.set_status(BY, key_id, "revoked"))
        await writing.wait()
        change.cancel()
        with pytest.raises(asyncio.CancelledError):
            await change
        line = world.lines[-1]
        assert (line.action, line.key_id, line.outcome) == ("key.revoke", key_id, "unknown")

    play(tmp_path, story)
