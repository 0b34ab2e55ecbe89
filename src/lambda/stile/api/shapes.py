"""What the management of users and keys takes and answers, as types: requests are validated by them, and the OpenAPI
document is made of them."""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from stile.bootstrap import MIN_TOKEN
from stile.core.failures import Kind
from stile.core.records import Role, Scope
from stile.shown import ShownKey, ShownUser

# The end of a pattern: in Python `$` alone lets a line break follow. Schemas are shown without the look-ahead, which
# the regular expressions of many clients do not have, and of which only Python has need.
END = r"$(?!\n)"
MAX_NAME_BYTES = 128
MAX_EMAIL_CHARACTERS = 128  # Cognito takes no longer ones

_MODEL = Annotated[str, Meta(min_length=1, max_length=256, pattern=rf"^[^\x00-\x1f\x7f]+{END}")]
Models = Annotated[
    list[_MODEL],
    Meta(
        min_length=1, max_length=64, description="Names, or patterns that end in `*`. null: all that the user may use"
    ),
]
Tools = Annotated[
    list[Annotated[str, Meta(min_length=1, max_length=64, pattern=rf"^[A-Za-z0-9_.-]*\*?{END}")]],
    Meta(
        min_length=1,
        max_length=64,
        description="Tools of MCP by name, or patterns that end in `*`. null: all that the user may use",
    ),
]
Scopes = Annotated[list[Scope], Meta(min_length=1, max_length=4)]
Name = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MAX_NAME_BYTES,
        pattern=rf"^[^\x00-\x1f\x7f]+{END}",
        description=f"At most {MAX_NAME_BYTES} bytes of UTF-8",
    ),
]
Email = Annotated[
    str,
    Meta(
        max_length=MAX_EMAIL_CHARACTERS,
        pattern=rf"^[A-Za-z0-9.!#$%&'*+/=?^_`{{|}}~-]+@[A-Za-z0-9](-?[A-Za-z0-9])*(\.[A-Za-z0-9](-?[A-Za-z0-9])*)+{END}",
        description="An address, in which case does not count",
    ),
]
MAX_GRACE_SECONDS = 30 * 86_400
_DURATION = "Seconds, minutes, hours, days or weeks, as in `90d`"
Lifetime = (
    Annotated[str, Meta(pattern=rf"^[1-9][0-9]{{0,8}}(s|m|h|d|w){END}", description=_DURATION)]
    | Annotated[int, Meta(ge=1, le=10**9)]
)
Grace = (
    Annotated[str, Meta(pattern=rf"^[0-9]{{1,7}}(s|m|h|d|w){END}", description=_DURATION)]
    | Annotated[int, Meta(ge=0, le=MAX_GRACE_SECONDS)]
)
Moment = Annotated[datetime, Meta(tz=True)]
LAST_MOMENT = 253_402_300_799  # the end of the year 9999
Epoch = Annotated[int, Meta(ge=0, le=LAST_MOMENT)]
Metadata = Annotated[dict[str, Any], Meta(max_length=64, description="Whatever you want to keep with the key")]


class _Asked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request's body."""


class PolicyFields(_Asked, frozen=True, kw_only=True):
    """What the whole user may do, whichever key is used."""

    models: Models | None = None
    tools: Tools | None = None


class PolicyChange(_Asked, frozen=True, kw_only=True):
    """What shall be otherwise of a policy. What is not there stays."""

    models: Models | UnsetType | None = UNSET
    tools: Tools | UnsetType | None = UNSET


class NewUser(_Asked, frozen=True, kw_only=True):
    """A user to be made. `machine`: a service, whose address nobody reads. `invite`: mail them a first password."""

    email: Email
    role: Role = "member"
    policy: PolicyFields | None = None
    machine: bool = False
    invite: bool = False


class UserChange(_Asked, frozen=True, kw_only=True):
    """What shall be otherwise of a user. What is not there stays; a policy of null is taken away."""

    role: Role | UnsetType = UNSET
    policy: PolicyChange | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET


class KeyChange(_Asked, frozen=True, kw_only=True):
    """What shall be otherwise of a key. What is not there stays. An expiry of null: it never ends."""

    name: Name | UnsetType = UNSET
    expires_in: Lifetime | UnsetType = UNSET
    expires_at: Epoch | Moment | UnsetType | None = UNSET
    scopes: Scopes | UnsetType = UNSET
    models: Models | UnsetType | None = UNSET
    tools: Tools | UnsetType | None = UNSET
    metadata: Metadata | UnsetType = UNSET


class NewKey(KeyChange, frozen=True, kw_only=True):
    """A key to be made. Without scopes: `inference`, `mcp` and `keys`, as far as the caller's own key has them."""

    name: Name


class Rotation(_Asked, frozen=True, kw_only=True):
    """How long the secret lives on that is replaced: up to 30 days."""

    grace_period: Grace = "24h"


class BootstrapRequest(_Asked, frozen=True, kw_only=True):
    """The one-time token, at least 64 hex characters, and whom it makes the first admin."""

    token: Annotated[str, Meta(min_length=MIN_TOKEN, max_length=512, pattern=rf"^[0-9a-fA-F]+{END}")]
    email: Email


class KeyWithSecret(ShownKey, frozen=True, kw_only=True):
    """An API key with its secret in `key`, which is shown this once and is nowhere else."""

    key: str


class FirstKey(KeyWithSecret, frozen=True, kw_only=True):
    """The first admin, and a key of all scopes."""

    user: ShownUser


class ChangedKey(ShownKey, frozen=True, kw_only=True):
    """`effective_by`: when the change holds everywhere. Where it was made, it holds at once."""

    effective_by: int


class UserList(msgspec.Struct, frozen=True):
    """Some users. `next_cursor` leads to the next ones; null: there are no more."""

    data: list[ShownUser]
    next_cursor: str | None


class KeyList(msgspec.Struct, frozen=True):
    """All keys of a user: there are never more than 20."""

    data: list[ShownKey]
    next_cursor: None


class Me(msgspec.Struct, frozen=True):
    """Who is calling, with which key."""

    user: ShownUser
    role: Role
    scopes: list[Scope]
    key: ShownKey


class ShownTarget(msgspec.Struct, frozen=True):
    """One place that answers for a model, as this instance knows it. `cooling`: it comes last, `until` then; `fails`:
    in a row; `last_error`: the kind of its last failure. `order`: lower goes first; null goes last."""

    id: str
    target: str
    order: float | None
    weight: float
    state: Literal["ok", "cooling"]
    until: int | None
    fails: int
    last_error: Kind | None


class ShownModel(msgspec.Struct, frozen=True):
    """One model, or a pattern of them: its other names, its targets, and the models that stand in for it, in the order
    in which they are tried."""

    id: str
    aliases: list[str]
    targets: list[ShownTarget]
    fallbacks: list[str]
    context_window_fallbacks: list[str]
    content_policy_fallbacks: list[str]


class ModelList(msgspec.Struct, frozen=True):
    """All models that one may use."""

    data: list[ShownModel]
    next_cursor: None


class Deleted(msgspec.Struct, frozen=True):
    """What is no longer there."""

    id: str
    deleted: Literal[True]


class ErrorFields(msgspec.Struct, frozen=True):
    """What went wrong. `code` is for programs, `message` for people, `param` names the field."""

    message: str
    type: str
    param: str | None
    code: str | None


class Error(msgspec.Struct, frozen=True):
    """OpenAI's envelope of errors."""

    error: ErrorFields


def shown(schema: Any) -> Any:
    """A JSON Schema as others read it."""
    if isinstance(schema, list):
        return [shown(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: value.replace(END, "$") if name == "pattern" and isinstance(value, str) else shown(value)
        for name, value in schema.items()
    }
