"""A request for a model, read into a call: what all dialects share of it."""

from collections.abc import Sequence

from stile.api.request import Request
from stile.calls import ModelCall
from stile.core import body as bodies
from stile.core import form as forms
from stile.core.body import Fields
from stile.core.form import Form
from stile.core.operations import Operation
from stile.core.records import Caller
from stile.dialects import responses_request, translation
from stile.errors import BadRequest
from stile.ports import Headers

# Headers of a caller that may go up to a provider. Credentials, cookies and account choices never do.
_UP = frozenset(
    {b"openai-beta", b"idempotency-key", b"x-title", b"http-referer", b"anthropic-version", b"anthropic-beta"}
)
_REQUIRED: dict[Operation, tuple[str, ...]] = {
    "chat": ("model", "messages"),
    "embeddings": ("model", "input"),
    "responses": ("model",),
    "completions": ("model", "prompt"),
    "moderations": ("model", "input"),
    "images": ("model", "prompt"),
    "image_edits": ("model", "prompt"),
    "transcriptions": ("model",),
    "translations": ("model",),
    "speech": ("model", "input"),
    "rerank": ("model", "query", "documents"),
    "messages": ("model", "messages"),
    "count_tokens": ("model", "messages"),
}
_FORMS = frozenset({"transcriptions", "translations", "image_edits"})
_NEVER_STREAMED = frozenset({"embeddings", "moderations", "rerank", "count_tokens", "translations", "speech"})


def read(operation: Operation, request: Request) -> ModelCall:
    """The call. Raises BadRequest."""
    if operation in _FORMS and not _is_json(request):
        return _read_form(operation, request)
    fields = bodies.read(request.body)
    if (deployment := request.path_params.get("deployment")) is not None:
        fields["model"] = translation.raw(deployment, "model")
    dropped: Sequence[str] = ()
    if operation == "chat" and "messages" not in fields and "input" in fields:
        fields, dropped = _of_a_response(fields)
    required = _REQUIRED[operation]
    bodies.require(fields, required)
    model: str = bodies.take(fields, "model", str, "")
    _check_model(model)
    stream = operation not in _NEVER_STREAMED and bool(bodies.take(fields, "stream", bool, default=False))
    wants_usage = False
    if "messages" in required:
        _check_messages(fields)
    if stream and "stream_options" in fields:
        wants_usage = bool(bodies.take(fields, "stream_options", dict[str, object], {}).get("include_usage"))
    size = len(request.body)
    trace = request.trace.headers()
    return ModelCall(operation, model, fields, size, stream, wants_usage, _headers_up(request), trace, dropped=dropped)


def caller_of(request: Request) -> Caller:
    """Who calls, on a path that needs a key."""
    assert request.caller is not None  # noqa: S101 (these paths need a scope, so the frame has checked a key)
    return request.caller


def _of_a_response(fields: Fields) -> tuple[Fields, list[str]]:
    """A body of the Responses API that was sent as a chat, which Cursor does, as the chat that it means."""
    chat = responses_request.read(fields, drop=False, keep_rest=True)
    chat.plain()
    return chat.fields(), chat.dropped


def _read_form(operation: Operation, request: Request) -> ModelCall:
    form = forms.read(request.body, request.header(b"content-type") or "")
    bodies.check_names(form.texts.keys() | form.files)
    said = form.text("model")
    model = request.path_params.get("deployment") or said
    if model is None:
        raise BadRequest("Missing required parameter: 'model'.", code="missing_required_parameter", param="model")
    _check_model(model)
    stream = operation not in _NEVER_STREAMED and _text(form, "stream") == "true"
    size, trace = len(request.body), request.trace.headers()
    return ModelCall(operation, model, {}, size, stream, False, _headers_up(request), trace, form)


def _text(form: Form, name: str) -> str:
    return (form.text(name) or "").strip().lower()


def _is_json(request: Request) -> bool:
    return (request.header(b"content-type") or "").lower().startswith("application/json")


def _check_model(model: str) -> None:
    if not model:
        raise BadRequest("'model' must not be empty.", code="missing_required_parameter", param="model")
    if len(model) > bodies.MAX_NAME:
        raise BadRequest(f"'model' must have {bodies.MAX_NAME} letters at most.", code="invalid_value", param="model")


def _check_messages(fields: Fields) -> None:
    if len(fields["messages"]) < 8 and not bodies.take(fields, "messages", list[object], []):
        raise BadRequest("'messages' must hold at least one message.", code="empty_array", param="messages")


def _headers_up(request: Request) -> Headers:
    return [header for header in request.scope["headers"] if header[0] in _UP]
