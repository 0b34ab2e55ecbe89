"""OpenAI's dialect: chat completions, embeddings, and the list of models."""

from stile.api.request import Reply, Request, json_reply
from stile.calls import Calls, ModelCall
from stile.catalog import Catalog, Model
from stile.core import body as bodies
from stile.core.body import Fields
from stile.core.records import Caller
from stile.errors import BadRequest, ModelNotFound
from stile.ports import Headers, Operation

# Headers of a caller that may go up to a provider. Credentials, cookies and account choices never do.
_UP = frozenset({b"openai-beta", b"idempotency-key", b"x-title", b"http-referer"})
_REQUIRED: dict[Operation, tuple[str, ...]] = {"chat": ("model", "messages"), "embeddings": ("model", "input")}


class OpenAI:
    """The handlers of OpenAI's paths."""

    def __init__(self, calls: Calls, catalog: Catalog) -> None:
        self._calls = calls
        self._catalog = catalog

    async def call(self, operation: Operation, request: Request) -> Reply:
        """Chat completions or embeddings."""
        call = _read(request.body, operation, _headers_up(request))
        answer = await self._calls.make(_caller(request), call, request.record, request.ends)
        return Reply(answer.status, answer.headers, answer.body)

    async def models(self, request: Request) -> Reply:
        caller = _caller(request)
        return json_reply({"object": "list", "data": [self._shown(model) for model in self._usable(caller)]})

    async def model(self, request: Request) -> Reply:
        wanted = request.scope["path_params"]["id"]
        for model in self._usable(_caller(request)):
            if model.id == wanted:
                return json_reply(self._shown(model))
        raise ModelNotFound(f"The model '{wanted}' does not exist or this API key may not use it.", param="model")

    def _usable(self, caller: Caller) -> list[Model]:
        return [model for model in self._catalog.models() if caller.may_use(model.id)]

    def _shown(self, model: Model) -> dict[str, object]:
        return {"id": model.id, "object": "model", "created": self._catalog.created, "owned_by": model.owned_by}


def _read(body: bytes, operation: Operation, headers: Headers) -> ModelCall:
    fields = bodies.read(body, _REQUIRED[operation])
    model: str = bodies.take(fields, "model", str, "")
    if not model:
        raise BadRequest("'model' must not be empty.", code="missing_required_parameter", param="model")
    stream = operation == "chat" and bool(bodies.take(fields, "stream", bool, default=False))
    wants_usage = False
    if operation == "chat":
        _check_messages(fields)
        if stream and "stream_options" in fields:
            wants_usage = bool(bodies.take(fields, "stream_options", dict[str, object], {}).get("include_usage"))
    return ModelCall(operation, model, fields, len(body), stream, wants_usage, headers)


def _check_messages(fields: Fields) -> None:
    if len(fields["messages"]) < 8 and not bodies.take(fields, "messages", list[object], []):
        raise BadRequest("'messages' must hold at least one message.", code="empty_array", param="messages")


def _headers_up(request: Request) -> Headers:
    return [header for header in request.scope["headers"] if header[0] in _UP]


def _caller(request: Request) -> Caller:
    assert request.caller is not None  # noqa: S101 (these paths need a scope, so the frame has checked a key)
    return request.caller
