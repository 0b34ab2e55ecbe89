"""What is known of each target's health."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stile.core import failures
from stile.core.failures import Failure, Kind
from stile.core.health import LONGEST_REST, Health, State
from stile.core.routes import Policy, Target

ERROR = Failure("server_error", "again")


def target(name: str = "t") -> Target:
    return Target(label=name, provider="p", model=name, via="relay", id=name)


def health(allowed_fails: int = 3, cooldown_time: float = 5) -> Health:
    return Health(Policy(allowed_fails=allowed_fails, cooldown_time=cooldown_time))


def test_a_target_that_has_not_failed_is_ready() -> None:
    known = health()
    assert not known.troubled
    assert known.state(target()) == State(fails=0, until=0, last_error=None)
    assert known.due(target(), 1000) == 0


def test_so_many_failures_in_a_row_make_a_target_rest() -> None:
    known = health()
    for second in (1, 2):
        known.failed(target(), ERROR, second)
        assert known.due(target(), second) == 0
    known.failed(target(), ERROR, 3)
    assert known.state(target()) == State(fails=3, until=8, last_error="server_error")
    assert known.due(target(), 7.9) == 8
    assert known.due(target(), 8) == 0
    assert known.troubled


def test_a_success_between_failures_begins_the_count_anew() -> None:
    known = health(allowed_fails=2)
    for _ in range(5):
        known.failed(target(), ERROR, 0)
        assert known.due(target(), 0) == 0
        known.succeeded(target())
    assert known.state(target()) == State(fails=0, until=0, last_error="server_error")


def test_a_success_ends_the_rest_and_leaves_the_last_error_to_be_seen() -> None:
    known = health(allowed_fails=1)
    known.failed(target(), failures.TIMEOUT, 0)
    assert known.due(target(), 0) == 5
    known.succeeded(target())
    assert known.due(target(), 0) == 0
    assert known.state(target()).last_error == "timeout"


def test_a_success_of_a_target_that_never_failed_is_nothing_to_note() -> None:
    known = health()
    known.succeeded(target())
    assert not known.troubled


@pytest.mark.parametrize("allowed", [0, 1])
def test_where_no_failure_is_allowed_the_first_makes_it_rest(allowed: int) -> None:
    known = health(allowed_fails=allowed)
    known.failed(target(), ERROR, 10)
    assert known.due(target(), 10) == 15


def test_after_its_rest_one_more_failure_makes_it_rest_again() -> None:
    known = health()
    for _ in range(3):
        known.failed(target(), ERROR, 0)
    assert known.due(target(), 6) == 0
    known.failed(target(), ERROR, 6)
    assert known.due(target(), 6) == 11


def test_without_a_cool_down_nothing_rests() -> None:
    known = health(cooldown_time=0)
    for _ in range(9):
        known.failed(target(), failures.UNREACHABLE, 4)
    assert known.due(target(), 4) == 0
    assert known.state(target()).fails == 9


def test_a_refused_connection_or_a_failed_look_up_makes_it_rest_at_once() -> None:
    known = health()
    known.failed(target(), failures.UNREACHABLE, 1)
    assert known.state(target()) == State(fails=1, until=6, last_error="unreachable")


@pytest.mark.parametrize(("asked", "counted"), [(0, False), (0.5, False), (1, False), (1.1, True), (None, True)])
def test_a_provider_that_is_busy_for_a_moment_is_not_counted(asked: float | None, counted: bool) -> None:
    known = health(allowed_fails=1)
    known.failed(target(), Failure("rate_limited", "again", asked), 0)
    assert known.troubled is counted
    assert bool(known.due(target(), 0)) is counted


@pytest.mark.parametrize("kind", ["rate_limited", "server_error"])
def test_it_rests_for_as_long_as_its_provider_asks(kind: Kind) -> None:
    known = health(allowed_fails=9)
    known.failed(target(), Failure(kind, "again", 42), 100)
    assert known.due(target(), 100) == 142
    known.failed(target(), ERROR, 101)
    assert known.due(target(), 101) == 142


def test_a_shorter_wish_does_not_end_a_longer_rest() -> None:
    known = health(allowed_fails=1, cooldown_time=60)
    known.failed(target(), ERROR, 0)
    known.failed(target(), Failure("rate_limited", "again", 2), 10)
    assert known.due(target(), 10) == 70


def test_no_wish_is_followed_for_longer_than_ten_minutes() -> None:
    known = health(allowed_fails=9)
    known.failed(target(), Failure("rate_limited", "again", 1e9), 0)
    assert known.due(target(), 0) == LONGEST_REST == 600


@pytest.mark.parametrize("kind", ["refused", "context_window", "content_policy"])
def test_what_one_caller_sent_does_not_speak_against_a_target(kind: Kind) -> None:
    known = health(allowed_fails=1)
    known.failed(target(), Failure(kind, "final"), 0)
    assert not known.troubled


@pytest.mark.parametrize("kind", ["unauthorized", "forbidden", "not_found"])
def test_a_target_that_is_set_up_wrongly_rests_too(kind: Kind) -> None:
    known = health(allowed_fails=1)
    known.failed(target(), Failure(kind, "elsewhere"), 0)
    assert known.due(target(), 0) == 5


def test_a_name_of_a_callers_choice_that_is_not_there_does_not_speak_against_a_pattern() -> None:
    known = health(allowed_fails=1)
    known.failed(target("openai*"), Failure("not_found", "elsewhere"), 0)
    assert not known.troubled
    known.failed(target("openai*"), Failure("forbidden", "elsewhere"), 0)
    assert known.due(target("openai*"), 0) == 5


def test_targets_are_known_by_their_ids_and_each_alone() -> None:
    known = health(allowed_fails=1)
    known.failed(target("one"), ERROR, 0)
    assert known.due(target("other"), 0) == 0
    assert known.due(Target(label="renewed", provider="p", model="m", via="relay", id="one"), 0) == 5


@given(st.lists(st.tuples(st.sampled_from([ERROR, failures.UNREACHABLE, None]), st.floats(0, 3)), max_size=30))
def test_it_rests_exactly_when_its_last_failures_say_so(events: list[tuple[Failure | None, float]]) -> None:
    known, now, fails, until = health(), 0.0, 0, 0.0
    for failure, passed in events:
        now += passed
        if failure is None:
            known.succeeded(target())
            fails, until = 0, 0
        else:
            known.failed(target(), failure, now)
            fails += 1
            if fails >= 3 or failure is failures.UNREACHABLE:
                until = now + 5
        assert known.due(target(), now) == (until if until > now else 0)
