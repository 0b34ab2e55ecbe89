"""What the plan of a call costs: measured in this process, with a hundred models of four weighted targets each."""

import pathlib
import random
import sys
import timeit

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "src" / "lambda"))

from stile.core.health import Health
from stile.core.plan import Chance, Plan
from stile.core.routes import Policy, Routes, Target

MODELS = 100
TARGETS = 4
MOST_MICROSECONDS = 20
_CALLS = 5000


def microseconds(chance: Chance) -> float:
    """For finding a model's targets, putting them in order, and taking the first."""
    names = [f"model-{number}" for number in range(MODELS)]
    table = {
        name: [
            Target(f"openai/{name}", "openai", name, "relay", id=f"{name}-{number}", weight=number)
            for number in range(1, TARGETS + 1)
        ]
        for name in names
    }
    fallbacks = {name: names[number + 1 : number + 4] for number, name in enumerate(names)}
    routes = Routes(table, Policy(fallbacks={"failure": fallbacks}))
    health = Health(routes.policy)

    def plan() -> None:
        group = routes.find(names[MODELS // 2])
        assert group is not None
        Plan(routes, health, group, chance).next(0, 1)

    return min(timeit.repeat(plan, number=_CALLS, repeat=5)) / _CALLS * 1e6


def report() -> str:
    """One line for the aim."""
    cost = microseconds(random.Random().random)
    verdict = "met" if cost < MOST_MICROSECONDS else "NOT met"
    return f"Aim: < {MOST_MICROSECONDS} µs for the plan of a call with {MODELS} models: {cost:.1f} µs, {verdict}."
