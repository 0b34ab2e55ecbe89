"""The models that are served, with their targets and the state of each, as this instance knows it."""

import asyncio
import math
import time

from stile.api.request import Reply, Request, json_reply
from stile.api.shapes import ModelList, ShownModel, ShownTarget
from stile.catalog import Catalog
from stile.core.health import Health
from stile.core.routes import Group, Target


class ModelStates:
    """The handler of /api/models, and what readiness shows of targets."""

    def __init__(self, catalog: Catalog, health: Health) -> None:
        self._routes = catalog.routes
        self._health = health

    async def list(self, request: Request) -> Reply:
        """Those that the caller may use; patterns among them."""
        caller = request.caller
        assert caller is not None  # noqa: S101 (this path needs a key, so the frame has checked one)
        shown = [self._model(group) for group in self._routes.groups if caller.may_use(group.name)]
        return json_reply(ModelList(shown, None))

    def targets(self) -> dict[str, ShownTarget]:
        """All targets by their ids."""
        return {target.id: self._target(target) for group in self._routes.groups for target in group.targets}

    def _model(self, group: Group) -> ShownModel:
        policy = self._routes.policy
        return ShownModel(
            id=group.name,
            aliases=[alias for alias, model in policy.aliases.items() if model == group.name],
            targets=[self._target(target) for target in group.targets],
            fallbacks=[follower.name for follower in self._routes.followers(group.name)],
            context_window_fallbacks=list(self._routes.named(group.name, "context_window")),
            content_policy_fallbacks=list(self._routes.named(group.name, "content_policy")),
        )

    def _target(self, target: Target) -> ShownTarget:
        now = asyncio.get_running_loop().time()
        state, due = self._health.state(target), self._health.due(target, now)
        return ShownTarget(
            id=target.id,
            target=target.label,
            order=None if math.isinf(target.order) else target.order,
            weight=target.weight,
            state="cooling" if due else "ok",
            until=math.ceil(time.time() + due - now) if due else None,
            fails=state.fails,
            last_error=state.last_error,
        )
