"""What is known of each target's health: how often it failed in a row, and until when it comes last.

One instance's own knowledge, without a clock: `now` is passed in, in seconds of one clock that never goes back.
"""

import msgspec

from stile.core.failures import Failure, Kind
from stile.core.routes import Policy, Target

LONGEST_REST = 600  # seconds; a provider that asks for more is asked again after this time


class State(msgspec.Struct):
    """One target that has failed. `until`: when it no longer comes last; 0 when it does not."""

    fails: int = 0
    until: float = 0
    last_error: Kind | None = None


class Health:
    """Of all targets of one instance. A target without a state has not failed."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._states: dict[str, State] = {}

    @property
    def troubled(self) -> bool:
        """Whether any target has failed."""
        return bool(self._states)

    def state(self, target: Target) -> State:
        return self._states.get(target.id) or State()

    def due(self, target: Target, now: float) -> float:
        """When the target no longer comes last: 0 for one that does not now."""
        state = self._states.get(target.id)
        return state.until if state is not None and state.until > now else 0

    def succeeded(self, target: Target) -> None:
        """It has answered: whatever was before counts no more, but its last error stays to be seen."""
        if self._states and (state := self._states.get(target.id)) is not None:
            state.fails, state.until = 0, 0

    def failed(self, target: Target, failure: Failure, now: float) -> None:
        """Note a failure. A refused connection or a failed look-up makes it rest at once, others by their number."""
        if not failure.counts or (target.is_pattern and failure.kind == "not_found"):
            return  # under a pattern callers name the model, and may name one that is not there
        state = self._states.setdefault(target.id, State())
        state.fails += 1
        state.last_error = failure.kind
        if failure.kind == "unreachable" or state.fails >= self._policy.allowed_fails:
            state.until = max(state.until, now + self._policy.cooldown_time)
        if failure.retry_after is not None:
            state.until = max(state.until, now + min(failure.retry_after, LONGEST_REST))
