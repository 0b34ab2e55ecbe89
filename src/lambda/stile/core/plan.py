"""The plan of a call: which targets are tried, in which order, and after which pause.

Pure: chance, clock and health come in. A model's targets come by health, then by order, then by a random order that
their weights bend; each is tried once before one is tried twice. Then come the models that stand in for it. Cool-down
only puts a target last. A cache of answers would be asked before the first attempt.
"""

import itertools
from collections.abc import Callable, Container, Iterator, Sequence

from stile.core.failures import Failure
from stile.core.health import Health
from stile.core.routes import Group, Policy, Routes, Target

MAX_ATTEMPTS = 12
LONGEST_PAUSE = 5.0  # seconds; a target that asks for a longer one is not waited for
_FIRST_PAUSE = 0.25  # doubles with each repetition

Chance = Callable[[], float]  # a random number in [0, 1), another one each time


class Plan:
    """One call's. `next` tells the attempt to make, `failed` takes what came of it; times are of one clock.

    Most calls succeed at once: what only a failure needs is made when there is one.
    """

    __slots__ = (
        "_asked",
        "_chance",
        "_group",
        "_health",
        "_last",
        "_left",
        "_made",
        "_models",
        "_policy",
        "_routes",
        "_spent",
        "_targets",
        "_tried",
        "_visited",
    )

    _asked: dict[str, float]  # target → when it may be asked again
    _last: str
    _models: Iterator[Group]
    _left: int  # attempts of the model that is tried now
    _spent: set[str]  # not to be tried again
    _targets: Iterator[Target]
    _tried: dict[str, int]
    _visited: set[str]

    def __init__(self, routes: Routes, health: Health, group: Group, chance: Chance) -> None:
        self._routes = routes
        self._policy = routes.policy
        self._health = health
        self._chance = chance
        self._group = group
        self._made = 0

    def next(self, now: float, ends: float) -> tuple[Target, float] | None:
        """The next target and the seconds to wait before it is tried; None when there is nothing left to try.

        `ends`: when the call's time is over.
        """
        if not self._made:
            return self._first(now)
        while self._made < MAX_ATTEMPTS:
            target = next(self._targets, None) if self._left else None
            if target is None:
                if not self._go_on(now):
                    return None
                continue
            wait = self._wait(target, now)
            if wait and (self._asked.get(target.id, 0) - now > LONGEST_PAUSE or now + wait >= ends):
                self._spent.add(target.id)  # and its share falls to the model's others
                continue
            self._made += 1
            self._left -= 1
            self._last = target.id
            self._tried[target.id] = self._tried.get(target.id, 0) + 1
            return target, wait
        return None

    def failed(self, target: Target, failure: Failure, now: float) -> None:
        """Take an attempt's end into account, and into the health of all calls."""
        self._health.failed(target, failure, now)
        if failure.retry_after is not None:
            self._asked[target.id] = now + failure.retry_after
        if failure.remedy == "elsewhere":
            self._spent.add(target.id)
        elif failure.remedy == "final":
            self._targets = iter(())
            self._models = self._after(failure)

    def renew(self) -> None:
        """The last target's secrets are new: try it once more, and at once."""
        group = self._routes.find(self._group.name)
        fresh = [target for target in group.targets if target.id == self._last] if group is not None else []
        self._spent.discard(self._last)
        self._tried.pop(self._last, None)
        self._left += len(fresh)
        self._targets = itertools.chain(fresh, self._targets)

    def _first(self, now: float) -> tuple[Target, float]:
        order = arrange(self._group.targets, self._health, now, self._chance)
        first = order[0]
        self._made, self._last = 1, first.id
        self._spent, self._asked = set(), {}
        self._tried = {first.id: 1}
        self._visited = {self._routes.meant(self._group.name)}
        self._take(order)
        next(self._targets)  # this one
        self._left -= 1
        self._models = self._routes.followers(self._group.name)
        return first, 0

    def _after(self, failure: Failure) -> Iterator[Group]:
        """The models left after what no other attempt at this one would change."""
        if failure.occasion == "failure":
            return iter(())
        special = self._routes.followers(self._group.name, failure.occasion)
        first = len(self._visited) == 1
        return special if first else itertools.chain(special, self._models)  # of a chain, the others are still there

    def _go_on(self, now: float) -> bool:
        """On to the next model, if there is one."""
        for group in self._models:
            name = self._routes.meant(group.name)
            if name not in self._visited:
                self._visited.add(name)
                self._group = group
                self._take(arrange(group.targets, self._health, now, self._chance))
                return True
        return False

    def _take(self, order: Sequence[Target]) -> None:
        """These in turn, as often as a model is tried; each of them may be passed over once more."""
        self._left = 1 + self._policy.num_retries
        self._targets = attempts(order, self._left + len(order), self._spent)

    def _wait(self, target: Target, now: float) -> float:
        repetition = self._tried.get(target.id, 0)
        if not repetition:
            return 0
        return pause(self._policy, repetition, self._asked.get(target.id, 0) - now, self._chance())


def attempts(order: Sequence[Target], wanted: int, spent: Container[str]) -> Iterator[Target]:
    """`wanted` attempts over the targets in turn, those left out whose id is in `spent`: it may grow meanwhile."""
    made = 0
    while made < wanted:
        before = made
        for target in order:
            if made < wanted and target.id not in spent:
                made += 1
                yield target
        if made == before:
            return


def arrange(targets: Sequence[Target], health: Health, now: float, chance: Chance) -> Sequence[Target]:
    """Each target of a model once, the best first. Weighted without replacement (Efraimidis and Spirakis, 2006: the
    key of each is a random number to the power of 1 / weight); one whose weight is 0 comes behind the others of its
    order."""
    if len(targets) == 1:
        return targets
    troubled = health.troubled

    def rank(target: Target) -> tuple[float, float, float]:
        key = chance() ** (1 / target.weight) if target.weight > 0 else chance() - 1
        return (health.due(target, now) if troubled else 0, target.order, -key)

    return sorted(targets, key=rank)


def pause(policy: Policy, repetition: int, asked: float, chance: float) -> float:
    """Seconds to wait before a target is tried again, the `repetition`-th time; `asked`: what its provider wants.

    Half of it is random, so that a crowd comes apart.
    """
    grown = min(_FIRST_PAUSE * 2.0 ** (repetition - 1), LONGEST_PAUSE)
    return max(grown * (1 + chance) / 2, policy.retry_after, asked)
