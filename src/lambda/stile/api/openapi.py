"""The OpenAPI document of the REST API (OpenAPI 3.1.0), made of the types by which requests are validated.

`links` tell which answer leads to which further call: the life of a key.
"""

from typing import Any

import msgspec

from stile import __version__
from stile.api import shapes
from stile.api.operations import OPERATIONS, Operation

_ABOUT = """Users, their API keys, and the models that these may use. Send a key as `Authorization: Bearer sk-stile-…`.

An admin's key with the scope `admin` manages everybody. Any other key with the scope `keys` manages the keys of its own
user, within its own rights. The text of a key stands in the answers to bootstrap, create and rotate, and nowhere else.
A change holds at once where it was made, and within the cache time everywhere."""

_ERRORS = {
    400: "The body is not JSON",
    401: "The key is missing, malformed, unknown, expired or revoked",
    403: "Not allowed",
    404: "There is no such user or key",
    409: "What there is does not allow it: a taken address, a revoked key, 20 keys already, a used token",
    413: "The body, or what would be kept of it, is too large",
    422: "An unknown field, a wrong type or value",
    503: "The directory cannot be used now; `retry-after` says when to come back",
}


def document() -> dict[str, Any]:
    """The whole document."""
    kinds: list[type[msgspec.Struct]] = [shapes.Error]
    for operation in OPERATIONS:
        kinds += [kind for kind in (operation.answer, operation.body) if kind is not None and kind not in kinds]
    _, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _described(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Stile", "version": __version__, "description": _ABOUT},
        "servers": [{"url": "."}],
        "tags": [{"name": "Users"}, {"name": "Keys"}, {"name": "Models"}],
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "schemas": shapes.shown(components),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "bearerFormat": "sk-stile-…"}},
        },
    }


def _described(operation: Operation) -> dict[str, Any]:
    told: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "description": f"For {operation.who}." if operation.who else "Without a key: the token is what counts.",
        "tags": [operation.tag],
        "responses": _responses(operation),
    }
    if operation.who is None:
        told["security"] = []
    if operation.parameters:
        told["parameters"] = list(operation.parameters)
    if operation.body is not None:
        content = {"schema": _ref(operation.body), "example": operation.example}
        told["requestBody"] = {"required": operation.body_required, "content": {"application/json": content}}
    return told


def _responses(operation: Operation) -> dict[str, Any]:
    good: dict[str, Any] = {
        "description": "Done",
        "content": {"application/json": {"schema": _ref(operation.answer)}},
    }
    if operation.links:
        good["links"] = {
            name: {"operationId": name, "parameters": {"id": f"$response.body#{pointer}"}}
            for name, pointer in operation.links
        }
    always = (503,) if operation.who is None else (401, 503)
    return {
        str(operation.status): good,
        **{str(status): _error(status) for status in sorted((*operation.errors, *always))},
    }


def _error(status: int) -> dict[str, Any]:
    return {"description": _ERRORS[status], "content": {"application/json": {"schema": _ref(shapes.Error)}}}


def _ref(kind: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}
