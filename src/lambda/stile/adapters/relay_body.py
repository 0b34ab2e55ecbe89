"""The body of a relayed call: what its caller said, with the target's name of the model, over what the configuration
sets."""

import functools
from collections.abc import Mapping

import msgspec

from stile.core import body as bodies
from stile.core import parameters
from stile.core.body import Fields
from stile.ports import UpstreamRequest

JSON = b"application/json"

_SAME = {"max_tokens": "max_completion_tokens"}  # the old name and the new one; OpenAI refuses both at once
_TRUE = msgspec.Raw(b"true")


def make(request: UpstreamRequest, *, asks_usage: bool) -> tuple[bytes, bytes]:
    """Content type and bytes. `asks_usage`: the stream is asked to end with its usage."""
    if request.form is not None:
        return request.form.content_type, request.form.with_text("model", request.target.model)
    fields = _with_defaults(request) if request.target.defaults else dict(request.fields)
    fields["model"] = _text(request.target.model)
    if request.target.stream_usage is False:
        fields.pop("stream_options", None)  # it would be refused; usage comes unasked, or is estimated
    if asks_usage:
        options: Mapping[str, msgspec.Raw] = bodies.take(fields, "stream_options", Fields, {})
        fields["stream_options"] = msgspec.Raw(msgspec.json.encode({**options, "include_usage": _TRUE}))
    return JSON, bodies.write(fields)


def _with_defaults(request: UpstreamRequest) -> Fields:
    """The request's fields over those that the configuration sets for this operation."""
    names = parameters.CONFIGURED.get(request.operation, {})
    said = {_SAME.get(name, name) for name in request.fields}
    fields = {
        names[name]: msgspec.Raw(msgspec.json.encode(value))
        for name, value in request.target.defaults.items()
        if name in names and _SAME.get(names[name], names[name]) not in said
    }
    return {**fields, **request.fields}


@functools.lru_cache(1024)
def _text(value: str) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))
