"""Anthropic's dialect: the list of models, in the shape that its clients read (API reference, "List Models").

Messages and the counting of their tokens are calls of models like all others.
"""

from datetime import UTC, datetime
from urllib.parse import parse_qs

from stile.api import envelopes, model_calls
from stile.api.openai import OpenAI
from stile.api.request import Reply, Request, json_reply
from stile.catalog import Catalog, Model
from stile.errors import BadRequest

_MOST, _USUAL = 1000, 20


class Models:
    """The handlers of /v1/models, which both dialects have."""

    def __init__(self, openai: OpenAI, catalog: Catalog) -> None:
        self._openai = openai
        self._created_at = datetime.fromtimestamp(catalog.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    async def list(self, request: Request) -> Reply:
        """All that the caller may use; in Anthropic's shape a page of them."""
        if envelopes.asked_for(request) is not envelopes.ANTHROPIC:
            return await self._openai.models(request)
        models = self._openai.usable(model_calls.caller_of(request))
        asked = parse_qs(request.scope.get("query_string", b"").decode("latin-1"))
        limit = _limit(asked.get("limit", [str(_USUAL)])[0])
        page, has_more = _page(models, _place(models, asked, "after_id"), _place(models, asked, "before_id"), limit)
        return json_reply(
            {
                "data": [self._shown(model) for model in page],
                "has_more": has_more,
                "first_id": page[0].id if page else None,
                "last_id": page[-1].id if page else None,
            }
        )

    async def show(self, request: Request) -> Reply:
        if envelopes.asked_for(request) is not envelopes.ANTHROPIC:
            return await self._openai.model(request)
        return json_reply(self._shown(self._openai.find(request)))

    def _shown(self, model: Model) -> dict[str, object]:
        shown = {"type": "model", "id": model.id, "display_name": model.id, "created_at": self._created_at}
        return {**shown, "lifecycle": "active"}


def _limit(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > len(str(_MOST)) or not 1 <= int(text) <= _MOST:
        raise BadRequest(f"limit must be a number from 1 to {_MOST}.", code="invalid_value", param="limit")
    return int(text)


def _place(models: list[Model], asked: dict[str, list[str]], name: str) -> int | None:
    """Where the model stands that a page begins behind, or ends before."""
    if name not in asked:
        return None
    for place, model in enumerate(models):
        if model.id == asked[name][0]:
            return place
    raise BadRequest(f"{name} is no model of this list.", code="invalid_value", param=name)


def _page(models: list[Model], after: int | None, before: int | None, limit: int) -> tuple[list[Model], bool]:
    if before is not None:
        start = max(0, before - limit)
        return models[start:before], start > 0
    start = 0 if after is None else after + 1
    return models[start : start + limit], len(models) > start + limit
