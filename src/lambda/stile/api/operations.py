"""What the REST API offers, operation by operation: who may, what goes in, what comes out, and where it leads to."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from stile.api import shapes
from stile.ports import MAX_PAGE
from stile.shown import ShownKey, ShownUser

_KEY = {"expires_in": "90d", "name": "laptop", "scopes": ["inference"], "models": ["gpt-4o", "anthropic/*"]}
_USER_ID = {"name": "id", "in": "path", "required": True, "description": "A user's id", "schema": {"type": "string"}}
_KEY_ID = {"name": "id", "in": "path", "required": True, "description": "A key's id", "schema": {"type": "string"}}
_PAGING = (
    {
        "name": "limit",
        "in": "query",
        "description": "How many users at most",
        "schema": {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": 50},
    },
    {"name": "cursor", "in": "query", "description": "`next_cursor` of the list before", "schema": {"type": "string"}},
    {
        "name": "email",
        "in": "query",
        "description": "Only the user with this address",
        "schema": shapes.shown(msgspec.json.schema(shapes.Email)),
    },
)
_IDEMPOTENCY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "With the same one a rotation is repeated within a day: the secret that nobody saw is replaced, and"
    " the old one ends when it was going to",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}


class Operation(NamedTuple):
    """One method of one path. `errors`: the statuses besides 401 and 503."""

    path: str
    method: str
    name: str
    summary: str
    tag: str
    who: str | None
    answer: type[msgspec.Struct]
    status: int = 200
    body: type[msgspec.Struct] | None = None
    example: Mapping[str, Any] | None = None
    parameters: Sequence[Mapping[str, Any]] = ()
    errors: Sequence[int] = ()
    body_required: bool = True
    links: Sequence[tuple[str, str]] = ()  # operation, and the pointer to the id that it takes


_OF_A_USER = tuple(
    (name, "/id") for name in ("showUser", "updateUser", "createKeyOfUser", "listKeysOfUser", "deleteUser")
)
_OF_A_KEY = tuple(
    (name, "/id") for name in ("showKey", "updateKey", "suspendKey", "resumeKey", "rotateKey", "revokeKey", "deleteKey")
)
_ADMINS, _OWNERS = "admins", "admins; members for themselves"
OPERATIONS = (
    Operation(
        "/api/bootstrap",
        "post",
        "bootstrap",
        "Make the first admin, by a one-time token",
        "Users",
        None,
        shapes.FirstKey,
        201,
        shapes.BootstrapRequest,
        {"token": "0123456789abcdef" * 4, "email": "you@example.com"},
        errors=(400, 403, 409, 413, 422),
    ),
    Operation("/api/me", "get", "me", "Who am I?", "Users", "everybody", shapes.Me),
    Operation(
        "/api/users",
        "post",
        "createUser",
        "Make a user",
        "Users",
        _ADMINS,
        ShownUser,
        201,
        shapes.NewUser,
        {"email": "ann@example.com", "role": "member", "policy": {"models": ["gpt-4o"]}},
        errors=(400, 403, 409, 413, 422),
        links=_OF_A_USER,
    ),
    Operation(
        "/api/users",
        "get",
        "listUsers",
        "List users",
        "Users",
        _ADMINS,
        shapes.UserList,
        parameters=_PAGING,
        errors=(403, 422),
    ),
    Operation(
        "/api/users/{id}",
        "get",
        "showUser",
        "Show a user",
        "Users",
        _ADMINS,
        ShownUser,
        parameters=(_USER_ID,),
        errors=(403, 404),
    ),
    Operation(
        "/api/users/{id}",
        "patch",
        "updateUser",
        "Change a user's role or policy, or keep all keys out",
        "Users",
        _ADMINS,
        ShownUser,
        200,
        shapes.UserChange,
        {"enabled": False},
        (_USER_ID,),
        (400, 403, 404, 409, 413, 422),
    ),
    Operation(
        "/api/users/{id}",
        "delete",
        "deleteUser",
        "Forget a user and every key",
        "Users",
        _ADMINS,
        shapes.Deleted,
        parameters=(_USER_ID,),
        errors=(403, 404),
    ),
    Operation(
        "/api/users/{id}/keys",
        "post",
        "createKeyOfUser",
        "Make a key for a user",
        "Keys",
        _OWNERS,
        shapes.KeyWithSecret,
        201,
        shapes.NewKey,
        _KEY,
        (_USER_ID,),
        (400, 403, 404, 409, 413, 422),
        links=_OF_A_KEY,
    ),
    Operation(
        "/api/users/{id}/keys",
        "get",
        "listKeysOfUser",
        "List a user's keys",
        "Keys",
        _OWNERS,
        shapes.KeyList,
        parameters=(_USER_ID,),
        errors=(403, 404),
    ),
    Operation(
        "/api/keys",
        "post",
        "createKey",
        "Make a key for oneself",
        "Keys",
        "everybody with the scope `keys`",
        shapes.KeyWithSecret,
        201,
        shapes.NewKey,
        _KEY,
        errors=(400, 403, 409, 413, 422),
        links=_OF_A_KEY,
    ),
    Operation(
        "/api/keys",
        "get",
        "listKeys",
        "List one's own keys",
        "Keys",
        "everybody with the scope `keys`",
        shapes.KeyList,
        errors=(403,),
    ),
    Operation(
        "/api/keys/{id}",
        "get",
        "showKey",
        "Show a key",
        "Keys",
        _OWNERS,
        ShownKey,
        parameters=(_KEY_ID,),
        errors=(403, 404),
    ),
    Operation(
        "/api/keys/{id}",
        "patch",
        "updateKey",
        "Change what a key is called and may do",
        "Keys",
        _OWNERS,
        shapes.ChangedKey,
        200,
        shapes.KeyChange,
        {"name": "desktop", "expires_at": None},
        (_KEY_ID,),
        (400, 403, 404, 409, 413, 422),
    ),
    Operation(
        "/api/keys/{id}",
        "delete",
        "deleteKey",
        "Forget a key; its slot is free again",
        "Keys",
        _OWNERS,
        shapes.Deleted,
        parameters=(_KEY_ID,),
        errors=(403, 404),
    ),
    Operation(
        "/api/keys/{id}/rotate",
        "post",
        "rotateKey",
        "A new secret; the old one lives on for a while",
        "Keys",
        _OWNERS,
        shapes.KeyWithSecret,
        200,
        shapes.Rotation,
        {"grace_period": "1h"},
        (_KEY_ID, _IDEMPOTENCY),
        (400, 403, 404, 409, 413, 422),
        body_required=False,
    ),
    Operation(
        "/api/models",
        "get",
        "listModels",
        "List models with their targets and the state of each",
        "Models",
        "everybody",
        shapes.ModelList,
    ),
    *(
        Operation(
            f"/api/keys/{{id}}/{verb}",
            "post",
            f"{verb}Key",
            summary,
            "Keys",
            _OWNERS,
            shapes.ChangedKey,
            parameters=(_KEY_ID,),
            errors=(403, 404, 409, 413),
        )
        for verb, summary in (
            ("revoke", "End a key and all its secrets, for good"),
            ("suspend", "Keep a key out for a while"),
            ("resume", "Let a suspended key in again"),
        )
    ),
)
