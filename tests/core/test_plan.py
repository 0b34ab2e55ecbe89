"""The plan of a call: what is tried, in which order, after which pause."""

import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stile.core import failures
from stile.core.failures import Failure
from stile.core.health import Health
from stile.core.plan import LONGEST_PAUSE, MAX_ATTEMPTS, Plan, arrange, attempts, pause
from stile.core.routes import Policy, Routes, Target
from stile.core.secret import Secret

SERVER_ERROR = Failure("server_error", "again")
UNAUTHORIZED = Failure("unauthorized", "elsewhere")
TOO_LONG = Failure("context_window", "final")
REFUSED_CONTENT = Failure("content_policy", "final")


def target(name: str, *, weight: float = 1, order: float = math.inf, key: str = "") -> Target:
    """A target whose id is `name`: its model's name, a slash, and its own."""
    return Target(
        label=name,
        provider="p",
        model=name,
        via="relay",
        id=name,
        weight=weight,
        order=order,
        api_key=Secret(key) if key else None,
    )


def table(**sizes: int) -> dict[str, list[Target]]:
    """Models with so many targets each."""
    return {model: [target(f"{model}/{place}") for place in range(size)] for model, size in sizes.items()}


def fallbacks(**named: Sequence[str]) -> Policy:
    return Policy(num_retries=0, fallbacks={"failure": named})


class World(NamedTuple):
    """Models, the policy over them, and what every attempt ends with, in turn."""

    table: Mapping[str, Sequence[Target]]
    policy: Policy
    ends: float
    script: Sequence[Failure]
    seed: int


class Attempt(NamedTuple):
    target: Target
    model: str
    wait: float
    asked_at: float  # when the plan was asked
    failure: Failure


def plan_of(routes: Routes, model: str = "a", health: Health | None = None, seed: int = 1) -> Plan:
    group = routes.find(model)
    assert group is not None
    return Plan(routes, health or Health(routes.policy), group, random.Random(seed).random)


def walk(plan: Plan, script: Iterator[Failure], ends: float = math.inf) -> Iterator[Attempt]:
    """Every attempt of a call that nobody serves; each takes a tenth of a second."""
    now = 0.0
    while (step := plan.next(now, ends)) is not None:
        tried, wait = step
        failure = next(script)
        yield Attempt(tried, tried.id.partition("/")[0], wait, now, failure)
        now += wait + 0.1
        plan.failed(tried, failure, now)


def tried(plan: Plan, said: Callable[[Target], Failure], now: float = 0, ends: float = math.inf) -> list[str]:
    """The ids of all that is tried, each failing as `said`, while no time goes by."""
    ids = []
    while (step := plan.next(now, ends)) is not None:
        ids.append(step[0].id)
        plan.failed(step[0], said(step[0]), now)
    return ids


def all_fail(_target: Target) -> Failure:
    return SERVER_ERROR


repeatable = st.sampled_from([SERVER_ERROR, failures.UNREACHABLE, failures.BROKEN, failures.TIMEOUT])
wishing = st.builds(
    Failure, st.just("rate_limited"), st.just("again"), st.sampled_from([None, 0.0, 0.4, 2.0, LONGEST_PAUSE, 30.0])
)
any_failure = st.one_of(repeatable, wishing, st.sampled_from([UNAUTHORIZED, failures.NOT_TAKEN]))
any_end = st.one_of(any_failure, st.sampled_from([TOO_LONG, REFUSED_CONTENT, failures.REFUSED]))


@st.composite
def worlds(draw: st.DrawFn, failing: st.SearchStrategy[Failure] = any_failure) -> World:
    models = "abcde"[: draw(st.integers(1, 5))]
    made = {
        model: [
            target(
                f"{model}/{place}",
                weight=draw(st.sampled_from([0, 0.5, 1, 3])),
                order=draw(st.sampled_from([1, 2, math.inf])),
            )
            for place in range(draw(st.integers(1, 4)))
        ]
        for model in models
    }
    following = {
        model: draw(st.lists(st.sampled_from(later), max_size=3, unique=True))
        for place, model in enumerate(models)
        if (later := models[place + 1 :])
    }
    policy = Policy(
        num_retries=draw(st.integers(0, 5)),
        retry_after=draw(st.sampled_from([0, 0, 1.5, 7])),
        fallbacks={"failure": {model: others for model, others in following.items() if others}},
    )
    script = draw(st.lists(failing, min_size=MAX_ATTEMPTS, max_size=MAX_ATTEMPTS))
    return World(made, policy, draw(st.sampled_from([math.inf, 0.3, 2, 10])), script, draw(st.integers(0, 99)))


def walked(world: World) -> list[Attempt]:
    plan = plan_of(Routes(world.table, world.policy), seed=world.seed)
    return list(walk(plan, iter(world.script), world.ends))


@given(worlds(any_end))
def test_a_call_ends_after_twelve_attempts_and_has_one_at_least(world: World) -> None:
    assert 1 <= len(walked(world)) <= MAX_ATTEMPTS == 12


@given(worlds(any_end))
def test_a_model_never_has_more_attempts_than_its_retries_and_one(world: World) -> None:
    made = Counter(attempt.model for attempt in walked(world))
    assert max(made.values()) <= 1 + world.policy.num_retries


@given(worlds(repeatable))
def test_each_model_of_the_chain_has_attempts_of_its_own(world: World) -> None:
    routes = Routes(world.table, world.policy)
    chain = ["a", *(group.name for group in routes.followers("a"))]
    expected = [model for model in chain for _ in range(1 + world.policy.num_retries)][:MAX_ATTEMPTS]
    patient = world._replace(policy=msgspec.structs.replace(world.policy, retry_after=0), ends=math.inf)
    made = walked(patient)
    assert [attempt.model for attempt in made] == expected


@given(worlds(any_end))
def test_models_come_in_the_order_of_the_chain_each_once(world: World) -> None:
    routes = Routes(world.table, world.policy)
    chain = ["a", *(group.name for group in routes.followers("a"))]
    models = [model for model, _ in itertools.groupby(attempt.model for attempt in walked(world))]
    assert len(models) == len(set(models))
    if all(attempt.failure.occasion == "failure" for attempt in walked(world)):
        assert models == chain[: len(models)]


def given_up(attempt: Attempt, world: World) -> bool:
    """Whether its target may not be tried again, or not be waited for."""
    wish = max(attempt.failure.retry_after or 0, world.policy.retry_after)
    return attempt.failure.remedy == "elsewhere" or wish > 0 or world.ends < math.inf


@given(worlds())
def test_every_target_of_a_model_is_tried_once_before_one_is_tried_twice(world: World) -> None:
    made = walked(world)
    for place, attempt in enumerate(made):
        before = [earlier for earlier in made[:place] if earlier.model == attempt.model]
        counts = Counter(earlier.target.id for earlier in before)
        if not counts[attempt.target.id]:
            continue
        left_out = {earlier.target.id for earlier in before if given_up(earlier, world)}
        for other in world.table[attempt.model]:
            assert counts[other.id] >= 1
            assert counts[other.id] >= counts[attempt.target.id] or other.id in left_out


@given(worlds(repeatable))
def test_order_comes_before_weight(world: World) -> None:
    for model, found in itertools.groupby(walked(world), key=lambda attempt: attempt.model):
        first_round = [attempt.target for attempt in found][: len(world.table[model])]
        orders = [one.order for one in first_round]
        assert orders == sorted(orders)


@given(worlds())
def test_a_pause_comes_before_a_repetition_only_and_is_as_long_as_all_wish(world: World) -> None:
    made = walked(world)
    for place, attempt in enumerate(made):
        before = [earlier for earlier in made[:place] if earlier.target.id == attempt.target.id]
        if not before:
            assert attempt.wait == 0
            continue
        assert attempt.wait > 0
        assert attempt.wait >= world.policy.retry_after
        wishes = [earlier for earlier in before if earlier.failure.retry_after is not None]
        if wishes:
            last = wishes[-1]
            free_at = last.asked_at + last.wait + 0.1 + (last.failure.retry_after or 0)
            assert attempt.asked_at + attempt.wait >= free_at - 1e-9


@given(worlds())
def test_nothing_is_waited_for_past_the_end_of_the_call(world: World) -> None:
    for attempt in walked(world):
        assert not attempt.wait or attempt.asked_at + attempt.wait < world.ends


@given(worlds())
def test_a_provider_that_wishes_for_too_long_a_pause_is_not_waited_for(world: World) -> None:
    made = walked(world)
    for place, attempt in enumerate(made):
        if (attempt.failure.retry_after or 0) <= LONGEST_PAUSE:
            continue
        free_at = attempt.asked_at + attempt.wait + 0.1 + (attempt.failure.retry_after or 0)
        for later in made[place + 1 :]:
            assert later.target.id != attempt.target.id or free_at - later.asked_at <= LONGEST_PAUSE


@given(worlds())
def test_a_target_that_only_others_can_stand_in_for_is_not_tried_again(world: World) -> None:
    made = walked(world)
    for place, attempt in enumerate(made):
        if attempt.failure.remedy == "elsewhere":
            assert attempt.target.id not in [later.target.id for later in made[place + 1 :]]


@given(worlds(any_end))
def test_a_final_failure_ends_the_attempts_at_its_model(world: World) -> None:
    made = walked(world)
    for attempt, following in itertools.pairwise(made):
        if attempt.failure.remedy == "final":
            assert following.model != attempt.model
            assert attempt.failure.occasion != "failure"


def test_a_refusal_of_the_callers_own_doing_is_the_answer_at_once() -> None:
    routes = Routes(table(a=3, b=1), Policy(fallbacks={"failure": {"a": ["b"]}}))
    assert len(tried(plan_of(routes), lambda _: failures.REFUSED)) == 1


def test_attempts_that_were_not_made_do_not_count() -> None:
    """A target that is not waited for leaves its share to the others of its model."""
    routes = Routes({"a": [target("a/busy", order=1), target("a/failing", order=2)]}, Policy(num_retries=2))
    busy = Failure("rate_limited", "again", 30)
    made = tried(plan_of(routes), lambda one: busy if one.id == "a/busy" else SERVER_ERROR)
    assert made == ["a/busy", "a/failing", "a/failing"]


def test_the_share_of_several_that_are_not_waited_for_is_spread_over_the_others() -> None:
    names = ["a/busy", "a/busier", "a/x", "a/y"]
    made = [target(name, order=place) for place, name in enumerate(names)]
    busy = Failure("rate_limited", "again", 30)
    plan = plan_of(Routes({"a": made}, Policy(num_retries=5)))
    found = tried(plan, lambda one: busy if one.id.startswith("a/bus") else SERVER_ERROR)
    assert found == [*names, "a/x", "a/y"]


@pytest.mark.parametrize("wish", [LONGEST_PAUSE, LONGEST_PAUSE - 1])
def test_a_pause_that_is_not_too_long_is_kept(wish: float) -> None:
    plan = plan_of(Routes(table(a=1), Policy(num_retries=1)))
    first = plan.next(0, math.inf)
    assert first is not None
    assert first[1] == 0
    plan.failed(first[0], Failure("rate_limited", "again", wish), 0)
    assert plan.next(0, math.inf) == (first[0], wish)


def test_a_wish_counts_from_when_it_was_told() -> None:
    plan = plan_of(Routes(table(a=1), Policy(num_retries=1)))
    step = plan.next(0, math.inf)
    assert step is not None
    plan.failed(step[0], Failure("rate_limited", "again", 8), 10)
    again = plan.next(14, math.inf)
    assert again is not None
    assert again[1] == pytest.approx(4)


def test_a_repetition_whose_pause_would_pass_the_end_gives_way_to_the_next_model() -> None:
    routes = Routes(table(a=1, b=1), Policy(num_retries=1, retry_after=2, fallbacks={"failure": {"a": ["b"]}}))
    assert tried(plan_of(routes), all_fail, ends=2) == ["a/0", "b/0"]
    assert tried(plan_of(routes), all_fail, ends=2.1) == ["a/0", "a/0", "b/0", "b/0"]


@given(
    st.integers(1, 12),
    st.floats(0, 1, exclude_max=True),
    st.floats(0, 60),
    st.floats(-60, 60),
)
def test_a_pause_is_random_and_at_least_what_is_wished_for(
    repetition: int, chance: float, least: float, asked: float
) -> None:
    waited = pause(Policy(retry_after=least), repetition, asked, chance)
    assert waited >= max(least, asked)
    assert 0 < waited <= max(LONGEST_PAUSE, least, asked)


@given(st.integers(1, 11), st.floats(0, 1, exclude_max=True))
def test_pauses_grow_until_they_are_longest(repetition: int, chance: float) -> None:
    first, second = (pause(Policy(), number, 0, chance) for number in (repetition, repetition + 1))
    assert second > first or second == first == pause(Policy(), 50, 0, chance)
    assert pause(Policy(), repetition, 0, 0) < pause(Policy(), repetition, 0, 0.999)


@given(st.integers(1, 5), st.integers(0, 9), st.sets(st.integers(0, 4)))
def test_attempts_take_turns_and_leave_out_what_is_spent(size: int, wanted: int, out: set[int]) -> None:
    order = [target(str(place)) for place in range(size)]
    spent = {str(place) for place in out}
    left = [one for one in order if one.id not in spent]
    expected = list(itertools.islice(itertools.cycle(left), wanted)) if left else []
    assert list(attempts(order, wanted, spent)) == expected


def test_attempts_leave_out_what_is_spent_meanwhile() -> None:
    spent: set[str] = set()
    found = attempts([target("x"), target("y")], 9, spent)
    assert [next(found).id, next(found).id] == ["x", "y"]
    spent.add("x")
    assert [next(found).id, next(found).id] == ["y", "y"]
    spent.add("y")
    assert next(found, None) is None


@given(
    st.lists(st.tuples(st.sampled_from([0, 1, 5]), st.sampled_from([1, 2]), st.integers(0, 9)), min_size=1, max_size=7),
    st.integers(0, 99),
)
def test_cooling_down_puts_last_and_never_empties(said: list[tuple[float, float, int]], seed: int) -> None:
    targets = [target(f"a/{place}", weight=weight, order=order) for place, (weight, order, _) in enumerate(said)]
    health = Health(Policy())
    for one, (_, _, seconds) in zip(targets, said, strict=True):
        if seconds:
            health.failed(one, Failure("server_error", "again", seconds), 0)
    now = 4.0
    found = arrange(targets, health, now, random.Random(seed).random)
    assert sorted(one.id for one in found) == [one.id for one in targets]
    due = [health.due(one, now) for one in found]
    assert due == sorted(due)
    awake = [one for one in found if not health.due(one, now)]
    assert [one.order for one in awake] == sorted(one.order for one in awake)


def test_when_all_cool_down_the_one_that_is_due_first_is_tried() -> None:
    routes = Routes({"a": [target("a/later", order=1, weight=9), target("a/sooner", order=2)]}, Policy(num_retries=1))
    health = Health(routes.policy)
    health.failed(target("a/later"), Failure("server_error", "again", 9), 0)
    health.failed(target("a/sooner"), Failure("server_error", "again", 6), 0)
    assert tried(plan_of(routes, health=health), all_fail) == ["a/sooner", "a/later"]
    assert tried(plan_of(routes, health=health), all_fail, now=10) == ["a/later", "a/sooner"]


def test_a_failure_in_one_call_puts_the_target_last_in_the_next() -> None:
    routes = Routes({"a": [target("a/first", order=1), target("a/second", order=2)]}, Policy(num_retries=1))
    health = Health(routes.policy)
    assert tried(plan_of(routes, health=health), lambda _: failures.UNREACHABLE) == ["a/first", "a/second"]
    health.succeeded(target("a/second"))
    assert tried(plan_of(routes, health=health), all_fail, now=1) == ["a/second", "a/first"]


@pytest.mark.parametrize(
    ("weights", "shares"),
    [
        ((1, 1), (0.5, 0.5)),
        ((3, 1), (0.75, 0.25)),
        ((900, 100), (0.9, 0.1)),
        ((0.2, 0.6, 0.2), (0.2, 0.6, 0.2)),
        ((2e6, 1e6, 1e6), (0.5, 0.25, 0.25)),
        ((1, 0), (1, 0)),
        ((0, 0), (0.5, 0.5)),
    ],
)
def test_weights_bend_the_choice(weights: Sequence[float], shares: Sequence[float]) -> None:
    targets = [target(str(place), weight=weight) for place, weight in enumerate(weights)]
    chance, health, draws = random.Random(5).random, Health(Policy()), 4000
    first = Counter(arrange(targets, health, 0, chance)[0].id for _ in range(draws))
    for place, share in enumerate(shares):
        assert first[str(place)] / draws == pytest.approx(share, abs=0.05)


def test_the_second_choice_follows_the_weights_of_the_rest() -> None:
    targets = [target("x", weight=2), target("y", weight=3), target("z", weight=1)]
    chance, health = random.Random(5).random, Health(Policy())
    orders = [[one.id for one in arrange(targets, health, 0, chance)] for _ in range(6000)]
    after_x = [order[1] for order in orders if order[0] == "x"]
    assert after_x.count("y") / len(after_x) == pytest.approx(0.75, abs=0.06)


@given(st.lists(st.sampled_from([0, 0.1, 1, 50]), min_size=2, max_size=6), st.integers(0, 999))
def test_a_weight_of_nothing_comes_behind_the_others_of_its_order(weights: list[float], seed: int) -> None:
    targets = [target(str(place), weight=weight) for place, weight in enumerate(weights)]
    found = arrange(targets, Health(Policy()), 0, random.Random(seed).random)
    weighty = [one.weight > 0 for one in found]
    assert weighty == sorted(weighty, reverse=True)


def test_a_lower_order_goes_first_even_without_weight() -> None:
    targets = [target("heavy", weight=100, order=2), target("light", weight=0, order=1), target("none")]
    found = arrange(targets, Health(Policy()), 0, random.Random(1).random)
    assert [one.id for one in found] == ["light", "heavy", "none"]


SPECIAL = Policy(
    num_retries=2,
    fallbacks={
        "failure": {"a": ["general"], "long": ["longest"]},
        "context_window": {"a": ["long"]},
        "content_policy": {"a": ["mild"]},
    },
)


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (TOO_LONG, ["a/0", "long/0", "longest/0"]),
        (REFUSED_CONTENT, ["a/0", "mild/0"]),
        (UNAUTHORIZED, ["a/0", "general/0"]),
    ],
)
def test_special_refusals_go_to_their_own_followers_without_a_retry(failure: Failure, expected: list[str]) -> None:
    routes = Routes(table(a=1, general=1, long=1, longest=1, mild=1), SPECIAL)
    assert tried(plan_of(routes), lambda one: failure if one.id == "a/0" else UNAUTHORIZED) == expected


@pytest.mark.parametrize("failure", [TOO_LONG, REFUSED_CONTENT])
def test_special_refusals_without_followers_of_their_own_go_to_the_general_ones(failure: Failure) -> None:
    routes = Routes(table(a=3, b=2, c=1), fallbacks(a=["b"], b=["c"]))
    made = tried(plan_of(routes), lambda _: failure)
    assert [one[0] for one in made] == ["a", "b", "c"]


def test_a_special_refusal_without_any_followers_is_the_answer() -> None:
    assert len(tried(plan_of(Routes(table(a=3))), lambda _: TOO_LONG)) == 1


def test_after_a_special_refusal_in_a_fallback_the_rest_of_the_chain_follows() -> None:
    """None is lost that some target could have served: c may take what b finds too long."""
    routes = Routes(table(a=1, b=1, c=1), fallbacks(a=["b", "c"]))
    assert tried(plan_of(routes), lambda one: TOO_LONG if one.id == "b/0" else SERVER_ERROR) == ["a/0", "b/0", "c/0"]


def test_a_model_that_was_tried_under_an_alias_is_not_tried_again_under_its_name() -> None:
    policy = Policy(
        num_retries=0,
        aliases={"nick": "a"},
        fallbacks={"failure": {"a": ["b"]}, "context_window": {"b": ["a", "c"]}},
    )
    routes = Routes(table(a=1, b=1, c=1), policy)
    for name in ("a", "nick"):
        made = tried(plan_of(routes, name), lambda one: TOO_LONG if one.id == "b/0" else SERVER_ERROR)
        assert made == ["a/0", "b/0", "c/0"]


def test_a_model_that_names_its_alias_as_a_special_follower_is_not_tried_again() -> None:
    policy = Policy(
        num_retries=0,
        aliases={"nick": "a"},
        fallbacks={"failure": {"a": ["b"]}, "context_window": {"b": ["nick"]}},
    )
    routes = Routes(table(a=1, b=1), policy)
    assert tried(plan_of(routes), lambda one: TOO_LONG if one.id == "b/0" else SERVER_ERROR) == ["a/0", "b/0"]


def test_renewed_secrets_have_the_same_target_tried_at_once() -> None:
    old = {"a": [target("a/0", order=1, key="old-key"), target("a/1", order=2)]}
    routes = Routes(old, Policy(num_retries=1))
    plan = plan_of(routes)
    first = plan.next(0, math.inf)
    assert first is not None
    plan.failed(first[0], UNAUTHORIZED, 0)
    routes.replace({"a": [target("a/0", order=1, key="new-key"), target("a/1", order=2)]})
    plan.renew()
    again = plan.next(0, math.inf)
    assert again is not None
    assert (again[0].id, again[1]) == ("a/0", 0)
    assert again[0].api_key is not None
    assert again[0].api_key.reveal() == "new-key"
    plan.failed(again[0], UNAUTHORIZED, 0)
    assert tried(plan, all_fail) == ["a/1"]


def test_renewing_the_secrets_of_a_model_that_is_gone_goes_on_to_the_next() -> None:
    routes = Routes(table(a=1, b=1), fallbacks(a=["b"]))
    plan = plan_of(routes)
    first = plan.next(0, math.inf)
    assert first is not None
    plan.failed(first[0], UNAUTHORIZED, 0)
    routes.replace(table(b=1))
    plan.renew()
    assert tried(plan, all_fail) == ["b/0"]


def test_renewals_count_as_attempts() -> None:
    plan = plan_of(Routes(table(a=1)))
    made = 0
    while (step := plan.next(0, math.inf)) is not None:
        made += 1
        plan.failed(step[0], UNAUTHORIZED, 0)
        plan.renew()
    assert made == MAX_ATTEMPTS
