"""How long a call waits for a provider, on a real event loop."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from stile.patience import YOUNG_SECONDS, Patience, Patiences

LIMIT = 0.02
FOREVER = 30.0  # seconds; a test that waits this long has failed


def run(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run `work` as a task of its own."""

    async def bounded() -> Any:
        async with asyncio.timeout(FOREVER):
            return await asyncio.create_task(work())

    return asyncio.run(bounded())


async def silence() -> None:
    await asyncio.Event().wait()


def test_waiting_longer_than_the_limit_cancels_the_task_and_is_told() -> None:
    async def work() -> tuple[bool, int]:
        patience = Patience(LIMIT)
        patience.wait()
        began = asyncio.get_running_loop().time()
        with pytest.raises(asyncio.CancelledError):
            await silence()
        assert asyncio.get_running_loop().time() - began >= LIMIT * 0.9
        task = asyncio.current_task()
        assert task is not None
        return patience.lost(), task.cancelling()

    assert run(work) == (True, 0)


def test_after_it_was_lost_the_task_goes_on_and_can_lose_patience_again() -> None:
    async def work() -> int:
        lost = 0
        for _ in range(3):
            patience = Patience(LIMIT)
            patience.wait()
            try:
                await silence()
            except asyncio.CancelledError:
                lost += patience.lost()
            patience.stop()
        await asyncio.sleep(LIMIT * 2)
        return lost

    assert run(work) == 3


def test_it_fires_once_for_one_wait() -> None:
    async def work() -> list[bool]:
        patience = Patience(LIMIT)
        patience.wait()
        with pytest.raises(asyncio.CancelledError):
            await silence()
        first = patience.lost()
        await asyncio.sleep(LIMIT * 4)
        return [first, patience.lost()]

    assert run(work) == [True, False]


def test_one_that_has_fired_can_be_waited_with_again() -> None:
    async def work() -> list[bool]:
        patience, lost = Patience(LIMIT), []
        for _ in range(2):
            patience.wait()
            with pytest.raises(asyncio.CancelledError):
                await silence()
            lost.append(patience.lost())
        return lost

    assert run(work) == [True, True]


def test_what_comes_in_time_is_no_loss_however_long_the_whole_takes() -> None:
    async def work() -> bool:
        patience, now = Patience(LIMIT * 20), asyncio.get_running_loop().time
        patience.wait()
        for _ in range(25):
            patience.until = now() + LIMIT * 20
            await asyncio.sleep(LIMIT)
            patience.until = None
        patience.stop()
        return patience.lost()

    assert run(work) is False


def test_it_is_not_lost_while_nothing_is_waited_for() -> None:
    async def work() -> bool:
        patience = Patience(LIMIT)
        patience.wait()
        patience.until = None
        await asyncio.sleep(LIMIT * 4)
        patience.stop()
        return patience.lost()

    assert run(work) is False


@pytest.mark.parametrize("by_itself", [True, False])
def test_a_rest_that_outlives_the_timer_is_followed_by_a_whole_new_wait(by_itself: bool) -> None:
    async def work() -> bool:
        patience, now = Patience(LIMIT), asyncio.get_running_loop().time
        patience.wait()
        patience.until = None
        await asyncio.sleep(LIMIT * 2.5)  # the timer finds nobody waiting, twice
        began = now()
        if by_itself:
            patience.wait()
        else:
            patience.until = began + LIMIT
        with pytest.raises(asyncio.CancelledError):
            await silence()
        assert now() - began >= LIMIT * 0.9
        return patience.lost()

    assert run(work) is True


def test_a_wait_that_begins_late_in_the_timers_run_is_a_whole_one() -> None:
    async def work() -> bool:
        limit = LIMIT * 15
        patience = Patience(limit)
        patience.wait()
        await asyncio.sleep(limit * 0.3)
        patience.until = None
        patience.wait()
        began = asyncio.get_running_loop().time()
        with pytest.raises(asyncio.CancelledError):
            await silence()
        assert asyncio.get_running_loop().time() - began >= limit * 0.9
        return patience.lost()

    assert run(work) is True


def test_when_it_is_stopped_it_does_not_fire() -> None:
    async def work() -> bool:
        patience = Patience(LIMIT)
        patience.wait()
        patience.stop()
        patience.stop()
        await asyncio.sleep(LIMIT * 4)
        return patience.lost()

    assert run(work) is False


def test_without_a_limit_it_waits_for_as_long_as_it_takes() -> None:
    async def work() -> bool:
        patience = Patience(None)
        patience.wait()
        await asyncio.sleep(LIMIT * 2)
        patience.stop()
        return patience.lost()

    assert run(work) is False


def test_a_cancel_of_anothers_is_not_its_own() -> None:
    """As when a client has gone: the task is cancelled, and stays so."""

    async def work() -> tuple[bool, int, bool]:
        told: list[tuple[bool, int]] = []

        async def call() -> None:
            patience = Patience(FOREVER)
            patience.wait()
            try:
                await silence()
            except asyncio.CancelledError:
                task = asyncio.current_task()
                assert task is not None
                told.append((patience.lost(), task.cancelling()))
                raise
            finally:
                patience.stop()

        task = asyncio.create_task(call())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        return *told[0], task.cancelled()

    assert run(work) == (False, 1, True)


@pytest.mark.parametrize("other_first", [True, False])
def test_both_at_once_count_as_the_others(other_first: bool) -> None:
    async def work() -> tuple[bool, int]:
        told: list[tuple[bool, int]] = []

        async def call() -> None:
            task = asyncio.current_task()
            assert task is not None
            loop = asyncio.get_running_loop()
            patience = Patience(LIMIT)
            if other_first:
                loop.call_later(LIMIT, task.cancel)
                patience.wait()
            else:
                patience.wait()
                loop.call_later(LIMIT, task.cancel)
            time.sleep(LIMIT * 1.5)  # both are due in the loop's next round
            try:
                await silence()
            except asyncio.CancelledError:
                told.append((patience.lost(), task.cancelling()))
                raise

        task = asyncio.create_task(call())
        await asyncio.wait([task])
        assert task.cancelled()
        return told[0]

    assert run(work) == (False, 1)


def test_the_deadline_of_another_that_comes_later_is_still_the_others() -> None:
    """Its own cancel is taken back, so that a deadline around it does not mistake it for its own."""

    async def work() -> str:
        patience = Patience(LIMIT)
        try:
            async with asyncio.timeout(LIMIT * 20):
                patience.wait()
                try:
                    await silence()
                except asyncio.CancelledError:
                    assert patience.lost()
                await silence()
        except TimeoutError:
            return "deadline"
        return "none"

    assert run(work) == "deadline"


def test_what_is_caught_by_a_deadline_around_it_is_not_lost() -> None:
    async def work() -> list[bool | str]:
        patience, told = Patience(FOREVER), list[bool | str]()
        try:
            async with asyncio.timeout(LIMIT):
                patience.wait()
                try:
                    await silence()
                except asyncio.CancelledError:
                    told.append(patience.lost())
                    raise
        except TimeoutError:
            told.append("deadline")
        patience.stop()
        return told

    assert run(work) == [False, "deadline"]


def test_the_wait_of_one_task_leaves_others_alone() -> None:
    async def work() -> list[bool]:
        async def call(limit: float) -> bool:
            patience = Patience(limit)
            patience.wait()
            try:
                await asyncio.sleep(LIMIT * 3)
            except asyncio.CancelledError:
                return patience.lost()
            finally:
                patience.stop()
            return False

        return list(await asyncio.gather(call(LIMIT), call(FOREVER)))

    assert run(work) == [True, False]


@pytest.mark.parametrize("limit", [LIMIT, YOUNG_SECONDS * 3])
def test_one_of_several_is_lost_when_its_time_is_over_and_the_others_are_not(limit: float) -> None:
    async def work() -> list[bool]:
        patiences = Patiences()

        async def attempt(seconds: float | None, lasts: float) -> bool:
            patience = patiences.begin(seconds)
            began = asyncio.get_running_loop().time()
            try:
                await asyncio.sleep(lasts)
            except asyncio.CancelledError:
                assert asyncio.get_running_loop().time() - began >= limit * 0.9
                return patience.lost()
            finally:
                patience.stop()
            return False

        waits = [(limit, FOREVER), (FOREVER, 0), (None, limit * 2), (limit, FOREVER), (FOREVER, limit * 2)]
        return await asyncio.gather(*(attempt(*wait) for wait in waits))

    assert run(work) == [True, False, False, True, False]


def test_those_that_are_soon_over_get_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    timers = []

    async def work() -> None:
        loop = asyncio.get_running_loop()
        call_at = loop.call_at

        def counted(when: float, *work: Any) -> asyncio.TimerHandle:
            timers.append(when)
            return call_at(when, *work)

        monkeypatch.setattr(loop, "call_at", counted)
        patiences = Patiences()
        for _ in range(100):
            patiences.begin(FOREVER).stop()

    run(work)
    assert len(timers) == 1, "the one that sweeps"
