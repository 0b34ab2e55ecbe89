"""The directory in Cognito where Cognito is not like a database: races, throttling, time-outs, other people's users.

A strict wrapper stands in front of moto's server (tests/mocks/cognito.py). Two clients are told apart by their access
keys, and a schedule makes their requests come in every order that there is.
"""

import asyncio
import contextlib
import itertools
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence

import pytest
from tests.mocks import cognito
from tests.mocks.cognito import Cognito

from stile.adapters import user_pool
from stile.adapters.aws_client import AwsClient
from stile.adapters.directory_cognito import CognitoDirectory
from stile.core.keys import Pepper
from stile.core.records import slot_attribute
from stile.core.rights import Author
from stile.entries import Entries
from stile.errors import ConfigError, Conflict, DirectoryUnavailable, PublicError, Unconfirmed
from stile.keyring import KeyFields, Keyring, NewKey
from stile.ports import Change
from stile.telemetry.records import AuditRecord
from stile.users import Users

PEPPER = Pepper({1: b"p" * 32})
BY = Author()
WINDOW = 0.5
READ, WRITE = "AdminGetUser", "AdminUpdateUserAttributes"
# Every order in which two clients can read and write.
ORDERS = sorted(
    {
        order
        for order in itertools.permutations([("A", READ), ("A", WRITE), ("B", READ), ("B", WRITE)])
        if order.index(("A", READ)) < order.index(("A", WRITE)) and order.index(("B", READ)) < order.index(("B", WRITE))
    }
)
NAMES = ["".join(f"{client}{'r' if operation == READ else 'w'}" for client, operation in order) for order in ORDERS]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cognito]:
    with cognito.running(tmp_path_factory.mktemp("aws")) as running:
        yield running


class Side:
    """One of two clients."""

    def __init__(self, directory: CognitoDirectory) -> None:
        self.directory = directory
        self.keyring = Keyring(directory, PEPPER, audit=lambda _: None)
        self.users = Users(directory, PEPPER, audit=lambda _: None)


@contextlib.asynccontextmanager
async def side(environment: dict[str, str], window: float = WINDOW) -> AsyncGenerator[Side, None]:
    client = AwsClient(environment)
    try:
        yield Side(CognitoDirectory(client, environment["STILE_USER_POOL_ID"], window=window))
    finally:
        await client.close()


def play(pool: Cognito, story: Callable[[Side], Awaitable[None]], window: float = WINDOW) -> None:
    async def main() -> None:
        async with side(pool.environment(), window) as one:
            await story(one)

    asyncio.run(main())


def race(
    pool: Cognito, story: Callable[[Side, Side, Callable[[Sequence[tuple[str, str]]], None]], Awaitable[None]]
) -> None:
    """Two clients; the story is given a way to say in which order their requests come."""

    async def main() -> None:
        first, second = pool.environment(), pool.environment()
        names = {"A": first["AWS_ACCESS_KEY_ID"], "B": second["AWS_ACCESS_KEY_ID"]}

        def order(steps: Sequence[tuple[str, str]]) -> None:
            pool.order([(names[client], operation) for client, operation in steps])

        async with side(first) as one, side(second) as other:
            await story(one, other, order)

    asyncio.run(main())


def address() -> str:
    return f"{uuid.uuid4().hex}@example.com"


# --- races ---


@pytest.mark.parametrize("steps", ORDERS, ids=NAMES)
def test_of_two_writes_one_holds_and_the_other_is_told(pool: Cognito, steps: Sequence[tuple[str, str]]) -> None:
    async def story(one: Side, other: Side, order: Callable[[Sequence[tuple[str, str]]], None]) -> None:
        user_id = (await one.directory.create(address())).user_id
        order(steps)
        told = await asyncio.gather(
            one.directory.write(user_id, {"policy": Change(None, "A")}),
            other.directory.write(user_id, {"policy": Change(None, "B")}),
            return_exceptions=True,
        )
        entry = await one.directory.get(user_id)
        assert entry is not None
        winner = entry.attributes["policy"]
        assert [type(result) for result in told] == (
            [type(None), Conflict] if winner == "A" else [Conflict, type(None)]
        )

    race(pool, story)


@pytest.mark.parametrize("steps", ORDERS, ids=NAMES)
def test_two_keys_made_at_once_are_two_keys(pool: Cognito, steps: Sequence[tuple[str, str]]) -> None:
    async def story(one: Side, other: Side, order: Callable[[Sequence[tuple[str, str]]], None]) -> None:
        user_id = (await one.users.create(BY, address(), "member")).user_id
        # Two slots are free, so that both often take the same one.
        full = {slot_attribute(slot): Change(None, "x") for slot in range(1, 19)}
        await one.directory.write(user_id, full)
        order(steps)
        made = await asyncio.gather(
            one.keyring.create(BY, user_id, KeyFields(name="A")), other.keyring.create(BY, user_id, KeyFields(name="B"))
        )
        held = await one.keyring.list(BY, user_id)
        assert {record.id for record in held} == {new.record.id for new in made}
        assert len(held) == 2

    race(pool, story)


RIVALS: dict[str, Callable[[Keyring, str], Awaitable[object]]] = {
    "rotate": lambda keyring, key_id: keyring.rotate(BY, key_id, grace_seconds=100),
    "update": lambda keyring, key_id: keyring.update(BY, key_id, KeyFields(name="other")),
    "resume": lambda keyring, key_id: keyring.set_status(BY, key_id, "active"),
}


@pytest.mark.parametrize("rival", RIVALS)
@pytest.mark.parametrize("steps", ORDERS, ids=NAMES)
def test_a_revoke_that_races_anything_ends_revoked(pool: Cognito, steps: Sequence[tuple[str, str]], rival: str) -> None:
    async def story(one: Side, other: Side, order: Callable[[Sequence[tuple[str, str]]], None]) -> None:
        user_id = (await one.users.create(BY, address(), "member")).user_id
        key_id = (await one.keyring.create(BY, user_id, KeyFields(name="k"))).record.id
        if rival == "resume":
            await one.keyring.set_status(BY, key_id, "suspended")
        order(steps)
        revoked, result = await asyncio.gather(
            one.keyring.set_status(BY, key_id, "revoked"),
            RIVALS[rival](other.keyring, key_id),
            return_exceptions=True,
        )
        assert not isinstance(revoked, BaseException)
        record = await one.keyring.get(BY, key_id)
        assert record.status == "revoked"
        assert isinstance(result, (PublicError, NewKey, type(record)))

    race(pool, story)


@pytest.mark.parametrize("steps", ORDERS, ids=NAMES)
def test_a_deletion_that_races_a_rotation_ends_deleted(pool: Cognito, steps: Sequence[tuple[str, str]]) -> None:
    async def story(one: Side, other: Side, order: Callable[[Sequence[tuple[str, str]]], None]) -> None:
        user_id = (await one.users.create(BY, address(), "member")).user_id
        key_id = (await one.keyring.create(BY, user_id, KeyFields(name="k"))).record.id
        order(steps)
        gone, _ = await asyncio.gather(
            one.keyring.delete(BY, key_id),
            other.keyring.rotate(BY, key_id, grace_seconds=100),
            return_exceptions=True,
        )
        assert gone is None
        assert await one.keyring.list(BY, user_id) == []

    race(pool, story)


def test_opposite_wishes_come_to_an_end(pool: Cognito) -> None:
    async def story(one: Side, other: Side, _: object) -> None:
        user_id = (await one.users.create(BY, address(), "member")).user_id
        key_id = (await one.keyring.create(BY, user_id, KeyFields(name="k"))).record.id
        suspended, resumed = await asyncio.gather(
            one.keyring.set_status(BY, key_id, "suspended"), other.keyring.set_status(BY, key_id, "active")
        )
        assert (suspended.status, resumed.status) == ("suspended", "active")
        assert (await one.keyring.get(BY, key_id)).status in {"suspended", "active"}

    race(pool, story)


def test_a_rotation_that_was_overwritten_is_made_once(pool: Cognito) -> None:
    async def story(one: Side, other: Side, order: Callable[[Sequence[tuple[str, str]]], None]) -> None:
        user_id = (await one.users.create(BY, address(), "member")).user_id
        first = await one.keyring.create(BY, user_id, KeyFields(name="k"))
        order([("A", READ), ("B", READ), ("A", WRITE), ("B", WRITE)])
        made, _ = await asyncio.gather(
            one.keyring.rotate(BY, first.record.id, grace_seconds=100),
            other.keyring.update(BY, first.record.id, KeyFields(name="other")),
        )
        record = await one.keyring.get(BY, first.record.id)
        assert record.name == "other"
        assert record.hashes == made.record.hashes
        assert record.hashes[1].digest == first.record.hashes[0].digest

    race(pool, story)


# --- writes that nobody answers ---


def test_a_write_that_was_applied_and_not_answered_is_found(pool: Cognito) -> None:
    async def story(one: Side) -> None:
        user_id = (await one.directory.create(address())).user_id
        pool.drop(WRITE, 1, applied=True)
        await one.directory.write(user_id, {"policy": Change(None, "p")})
        entry = await one.directory.get(user_id)
        assert entry is not None
        assert entry.attributes == {"policy": "p"}

    play(pool, story)


def test_a_write_that_was_neither_answered_nor_applied_is_unconfirmed_and_sent_once(pool: Cognito) -> None:
    async def story(one: Side) -> None:
        user_id = (await one.directory.create(address())).user_id
        pool.drop(WRITE, 1, applied=False)
        before = pool.calls[WRITE]
        with pytest.raises(Unconfirmed) as told:
            await one.directory.write(user_id, {"policy": Change(None, "p")})
        assert (told.value.status, told.value.code) == (503, "change_unconfirmed")
        assert dict(told.value.headers)["retry-after"]
        assert pool.calls[WRITE] == before + 1

    play(pool, story)


def test_a_write_after_which_nothing_can_be_read_is_unconfirmed_and_audited(
    pool: Cognito, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_pool, "SECONDS", 0.3)

    async def story(one: Side) -> None:
        user_id = (await one.users.create(BY, address(), "member")).user_id
        lines: list[AuditRecord] = []
        keyring = Keyring(one.directory, PEPPER, audit=lines.append)
        pool.hook(WRITE, lambda: pool.fail(READ, 1000))
        try:
            with pytest.raises(Unconfirmed):
                await keyring.create(BY, user_id, KeyFields(name="k"))
        finally:
            pool.calm()
        assert [(line.action, line.outcome) for line in lines] == [("key.create", "unknown")]

    play(pool, story)


def test_a_throttled_write_is_made_again_from_its_beginning(pool: Cognito) -> None:
    async def story(one: Side) -> None:
        user_id = (await one.directory.create(address())).user_id
        pool.throttle(WRITE, 2)
        reads = pool.calls[READ]
        await one.directory.write(user_id, {"policy": Change(None, "p")})
        assert pool.calls[READ] - reads == 4, "one before each write, and the one that looks whether it held"

    play(pool, story)


# --- lookups ---


def test_a_throttled_lookup_waits_and_is_answered(pool: Cognito) -> None:
    async def story(one: Side) -> None:
        made = await one.directory.create(address())
        pool.throttle(READ, 4)
        assert await one.directory.get(made.user_id) == made
        pool.fail(READ, 1)
        assert await one.directory.get(made.user_id) == made

    play(pool, story)


def test_a_lookup_that_gets_no_answer_is_unavailable_and_never_unknown(
    pool: Cognito, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_pool, "SECONDS", 0.3)

    async def story(one: Side) -> None:
        made = await one.directory.create(address())
        for trouble in (pool.throttle, pool.fail):
            trouble(READ, 1000)
            with pytest.raises(DirectoryUnavailable) as told:
                await one.directory.get(made.user_id)
            assert 1 <= int(dict(told.value.headers)["retry-after"]) <= 3
            with pytest.raises(DirectoryUnavailable):
                await one.directory.check()
            pool.calm()
        assert await one.directory.get(made.user_id) == made

    play(pool, story)


def test_one_lookup_answers_everything_for_a_call(pool: Cognito) -> None:
    async def story(one: Side) -> None:
        made = await one.users.create(BY, address(), "member")
        pool.calls.clear()
        entry = await one.directory.get(made.user_id)
        assert entry is not None
        assert Entries(PEPPER).standing(entry) is not None
        assert pool.calls == {READ: 1}

    play(pool, story)


# --- pools and users that were there before ---


def test_a_pool_that_lacks_attributes_is_told_which(pool: Cognito) -> None:
    with pool.aws.client("cognito-idp") as client:
        fixed = {"Name": "policy", "AttributeDataType": "String", "Mutable": False}
        short = {
            "Name": "api_key_01",
            "AttributeDataType": "String",
            "StringAttributeConstraints": {"MaxLength": "256"},
        }
        schema = [{"Name": "role", "AttributeDataType": "String", "Mutable": True}, fixed, {**short, "Mutable": True}]
        other = client.create_user_pool(PoolName="other", Schema=schema)["UserPool"]["Id"]

    async def main() -> None:
        client = AwsClient(pool.environment())
        try:
            with pytest.raises(ConfigError) as refused:
                await CognitoDirectory(client, other).prepare()
            assert len(refused.value.faults) == 21
            for fault, name in zip(refused.value.faults[:2], ("policy", "api_key_01"), strict=True):
                assert f"has an attribute custom:{name} that is not a mutable string of up to 2048" in fault
            assert "lacks the attribute custom:api_key_02" in refused.value.faults[2]
            with pytest.raises(ConfigError) as refused:
                await CognitoDirectory(client, "eu-west-1_Nobody").prepare()
            assert "cannot be used" in refused.value.faults[0]
        finally:
            await client.close()

    asyncio.run(main())


@pytest.fixture
def by_name(pool: Cognito) -> str:
    """A pool in which people have names of their own, as those from another provider have."""
    names = ["role", "policy", *(slot_attribute(slot) for slot in range(1, 21))]
    schema = [{"Name": name, "AttributeDataType": "String", "Mutable": True} for name in names]
    with pool.aws.client("cognito-idp") as client:
        return str(client.create_user_pool(PoolName="named", Schema=schema)["UserPool"]["Id"])


def test_somebody_who_came_by_another_provider_is_found_by_sub_and_remembered(pool: Cognito, by_name: str) -> None:
    with pool.aws.client("cognito-idp") as client:
        made = client.admin_create_user(UserPoolId=by_name, Username="Google_123")["User"]
        impostor = client.admin_create_user(UserPoolId=by_name, Username="00000000-0000-4000-8000-000000000001")["User"]
    sub = next(attribute["Value"] for attribute in made["Attributes"] if attribute["Name"] == "sub")
    assert impostor

    async def main() -> None:
        client = AwsClient(pool.environment())
        try:
            directory = CognitoDirectory(client, by_name, window=WINDOW)
            pool.calls.clear()
            entry = await directory.get(sub)
            assert entry is not None
            assert entry.user_id == sub
            assert pool.calls == {READ: 2, "ListUsers": 1}
            await directory.get(sub)
            assert pool.calls == {READ: 3, "ListUsers": 1}
            await directory.write(sub, {"role": Change(None, "r")})
            await directory.enable(sub, enabled=False)
            changed = await directory.get(sub)
            assert changed is not None
            assert (changed.enabled, changed.attributes) == (False, {"role": "r"})
            # A Username that looks like somebody's sub is nobody's.
            assert await directory.get("00000000-0000-4000-8000-000000000001") is None
            await directory.delete(sub)
            assert await directory.get(sub) is None
        finally:
            await client.close()

    asyncio.run(main())
