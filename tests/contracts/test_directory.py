"""What every Directory must do, whatever is behind it. An adapter passes this suite unchanged."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest
from tests.mocks import cognito

from stile.adapters.aws_client import AwsClient
from stile.adapters.directory_cognito import CognitoDirectory
from stile.adapters.directory_sqlite import SQLiteDirectory
from stile.core.records import MAX_ATTRIBUTE_BYTES
from stile.errors import Conflict, EmailTaken, UnknownUser, Unprocessable, ValueTooLarge
from stile.ports import Change, Directory

T = TypeVar("T")
Use = Callable[[Callable[[Directory], Awaitable[T]]], T]
Opened = Callable[[Path], contextlib.AbstractAsyncContextManager[Directory]]
WINDOW = 0.2  # seconds: on one machine a write needs no more


@contextlib.asynccontextmanager
async def _sqlite(folder: Path) -> AsyncGenerator[Directory, None]:
    yield SQLiteDirectory(folder / "stile.db")


@contextlib.asynccontextmanager
async def _cognito(folder: Path) -> AsyncGenerator[Directory, None]:
    with cognito.running(folder) as pool:
        environment = pool.environment()
        client = AwsClient(environment)
        try:
            yield CognitoDirectory(client, environment["STILE_USER_POOL_ID"], window=WINDOW)
        finally:
            await client.close()


@pytest.fixture(params=[_sqlite, _cognito], ids=["sqlite", "cognito"])
def opened(request: pytest.FixtureRequest) -> Opened:
    """Opens a directory in which nobody is."""
    found: Opened = request.param
    return found


@pytest.fixture
def use(opened: Opened, tmp_path: Path) -> Use[object]:
    """Runs a story against a directory of its own."""

    def run(story: Callable[[Directory], Awaitable[object]]) -> object:
        async def main() -> object:
            async with opened(tmp_path) as directory:
                try:
                    return await story(directory)
                finally:
                    await directory.close()

        return asyncio.run(main())

    return run


def test_a_new_user_is_enabled_and_has_no_attributes(use: Use[object]) -> None:
    async def story(directory: Directory) -> None:
        made = await directory.create("one@example.com")
        assert uuid.UUID(made.user_id)
        read = await directory.get(made.user_id)
        assert read == made
        assert made.enabled
        assert made.attributes == {}

    use(story)


def test_nobody_is_none(use: Use[object]) -> None:
    async def story(directory: Directory) -> None:
        assert await directory.get(str(uuid.uuid4())) is None
        assert await directory.find("nobody@example.com") is None

    use(story)


def test_an_address_belongs_to_one_user_whatever_its_case(use: Use[object]) -> None:
    async def story(directory: Directory) -> None:
        made = await directory.create("One@Example.com")
        with pytest.raises(EmailTaken):
            await directory.create("one@example.COM")
        found = await directory.find("ONE@example.com")
        assert found is not None
        assert found.user_id == made.user_id

    use(story)


def test_attributes_come_back_as_they_were_written(use: Use[object]) -> None:
    value = '{"name":"Grüße 世界 🎉","quote":"\\"\'; DROP TABLE users"}.0f'

    async def story(directory: Directory) -> None:
        user = await directory.create("one@example.com")
        await directory.write(user.user_id, {"api_key_01": Change(None, value), "role": Change(None, "admin")})
        read = await directory.get(user.user_id)
        assert read is not None
        assert read.attributes == {"api_key_01": value, "role": "admin"}

    use(story)


def test_a_value_is_replaced_or_removed(use: Use[object]) -> None:
    async def story(directory: Directory) -> None:
        user = await directory.create("one@example.com")
        await directory.write(user.user_id, {"role": Change(None, "a"), "policy": Change(None, "p")})
        await directory.write(user.user_id, {"role": Change("a", "b"), "policy": Change("p", None)})
        read = await directory.get(user.user_id)
        assert read is not None
        assert read.attributes == {"role": "b"}

    use(story)


@pytest.mark.parametrize("before", [None, "old"])
def test_a_change_of_what_is_no_longer_there_is_a_conflict_and_writes_nothing(
    use: Use[object], before: str | None
) -> None:
    async def story(directory: Directory) -> None:
        user = await directory.create("one@example.com")
        await directory.write(user.user_id, {"role": Change(None, "new")})
        with pytest.raises(Conflict):
            await directory.write(user.user_id, {"policy": Change(None, "p"), "role": Change(before, "mine")})
        read = await directory.get(user.user_id)
        assert read is not None
        assert read.attributes == {"role": "new"}

    use(story)


def test_of_two_changes_at_once_one_wins_and_the_other_is_told(use: Use[object]) -> None:
    async def story(directory: Directory) -> None:
        user = await directory.create("one@example.com")
        results = await asyncio.gather(
            *(directory.write(user.user_id, {"role": Change(None, str(number))}) for number in range(5)),
            return_exceptions=True,
        )
        assert sum(isinstance(result, Conflict) for result in results) == 4
        read = await directory.get(user.user_id)
        assert read is not None
        assert results[int(read.attributes["role"])] is None

    use(story)


def test_a_value_of_2048_bytes_fits_and_one_more_does_not(use: Use[object]) -> None:
    fits = "é" * (MAX_ATTRIBUTE_BYTES // 2)

    async def story(directory: Directory) -> None:
        user = await directory.create("one@example.com")
        await directory.write(user.user_id, {"policy": Change(None, fits)})
        with pytest.raises(ValueTooLarge):
            await directory.write(user.user_id, {"policy": Change(fits, fits + "x")})
        read = await directory.get(user.user_id)
        assert read is not None
        assert read.attributes == {"policy": fits}

    use(story)


def test_users_are_disabled_enabled_and_deleted(use: Use[object]) -> None:
    async def story(directory: Directory) -> None:
        user = await directory.create("one@example.com")
        await directory.write(user.user_id, {"role": Change(None, "member")})
        await directory.enable(user.user_id, enabled=False)
        read = await directory.get(user.user_id)
        assert read is not None
        assert not read.enabled
        await directory.enable(user.user_id, enabled=True)
        await directory.delete(user.user_id)
        assert await directory.get(user.user_id) is None
        again = await directory.create("one@example.com")
        assert again.attributes == {}

    use(story)


def test_changing_an_unknown_user_is_an_error(use: Use[object]) -> None:
    async def story(directory: Directory) -> None:
        nobody = str(uuid.uuid4())
        with pytest.raises(UnknownUser):
            await directory.write(nobody, {"role": Change(None, "admin")})
        with pytest.raises(UnknownUser):
            await directory.enable(nobody, enabled=True)
        with pytest.raises(UnknownUser):
            await directory.delete(nobody)

    use(story)


def test_lists_come_in_pages_that_hold_everybody_once(use: Use[object]) -> None:
    async def story(directory: Directory) -> None:
        made = {(await directory.create(f"user{number}@example.com")).user_id for number in range(7)}
        seen: list[str] = []
        cursor = None
        while True:
            page = await directory.list(limit=3, cursor=cursor)
            assert len(page.entries) <= 3
            seen.extend(entry.user_id for entry in page.entries)
            cursor = page.next_cursor
            if cursor is None:
                break
        assert len(seen) == 7
        assert set(seen) == made

    use(story)


def test_a_check_changes_nothing(use: Use[object]) -> None:
    async def story(directory: Directory) -> None:
        await directory.create("one@example.com")
        before = await directory.list()
        await directory.check()
        assert await directory.list() == before

    use(story)


def test_a_cursor_that_is_none_is_told(use: Use[object]) -> None:
    async def story(directory: Directory) -> None:
        await directory.create("one@example.com")
        with pytest.raises(Unprocessable):
            await directory.list(cursor="nonsense")

    use(story)


def test_a_name_is_taken_once(use: Use[object]) -> None:
    async def story(directory: Directory) -> None:
        assert not await directory.claimed("a-name")
        results = await asyncio.gather(*(directory.claim("a-name") for _ in range(5)), return_exceptions=True)
        assert sum(isinstance(result, Conflict) for result in results) == 4
        assert results.count(None) == 1
        assert await directory.claimed("a-name")
        assert not await directory.claimed("another")

    use(story)


def test_it_works_on_after_a_release(use: Use[object]) -> None:
    async def story(directory: Directory) -> None:
        made = await directory.create("one@example.com")
        await directory.release()
        assert await directory.get(made.user_id) == made

    use(story)
