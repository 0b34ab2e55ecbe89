"""OpenAI's dialect: chat completions, embeddings, and the list of models."""

import functools
from urllib.parse import quote

from stile.api.request import Reply, Request, json_reply
from stile.calls import Calls, ModelCall
from stile.catalog import Catalog, Model
from stile.core import body as bodies
from stile.core.body import Fields
from stile.core.records import Caller
from stile.errors import BadRequest, ModelNotFound, PublicError
from stile.ports import Headers, Operation
from stile.telemetry import MAX_SHOWN

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
        try:
            answer = await self._calls.make(_caller(request), call, request.record, request.ends)
        except PublicError as error:
            if request.record.attempts:
                error.headers = (*error.headers, *((name.decode(), value.decode()) for name, value in _told(request)))
            raise
        return Reply(answer.status, [*answer.headers, *_told(request)], answer.body)

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


def _told(request: Request) -> Headers:
    """Which target answered, after how many attempts, and the gateway's own share of the time; the last two are for
    those who read them from LiteLLM's proxy."""
    record = request.record
    return [
        (b"x-stile-target", _visible(record.target or "")),
        (b"x-stile-attempts", b"%d" % record.attempts),
        (b"x-stile-overhead-ms", b"%.2f" % max(0, request.elapsed_ms() - record.upstream_ms)),
        (b"x-litellm-model-id", _visible(record.target_id or "")),
        (b"x-litellm-call-id", record.request_id.encode()),
    ]


@functools.lru_cache(1024)
def _visible(text: str) -> bytes:
    """A name as a header's value: callers choose some of them, and headers hold visible ASCII alone."""
    return quote(text, safe="/:@!$&'()*+,;=~ ?#[]")[:MAX_SHOWN].encode()


def _caller(request: Request) -> Caller:
    assert request.caller is not None  # noqa: S101 (these paths need a scope, so the frame has checked a key)
    return request.caller
