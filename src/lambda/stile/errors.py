"""Everything that can go wrong, as one tree.

    StileError
    ├── ConfigError                 the start stops; every fault is listed
    ├── StateError                  what is kept on disk cannot be used; nothing was overwritten
    └── PublicError                 has an HTTP status and a public code
        ├── BadRequest        400   malformed or refused by a rule
        ├── InvalidKey        401   missing, malformed, unknown, expired or revoked
        ├── Forbidden         403   known, but not allowed
        ├── ModelNotFound     404
        ├── UnknownPath       404
        ├── UnknownResponse   404
        ├── UnknownUser       404
        ├── UnknownKey        404
        ├── MethodNotAllowed  405
        ├── Conflict          409   an entry no longer holds what a change was based on
        ├── Rejected          409   what there is does not allow it
        │   └── EmailTaken
        ├── BodyTooLarge      413
        ├── ValueTooLarge     413   more than an attribute of the directory takes
        ├── Unprocessable     422   can be read, but a field is unknown, or has a wrong type or value
        ├── NoWebSocket       426
        ├── UpstreamFailed    502   no answer, or one that cannot be read
        ├── DirectoryUnavailable 503
        │   └── Unconfirmed         a change may have been made, or not
        └── UpstreamTimeout   504

Nothing here knows a dialect: the edge renders a PublicError in the caller's own envelope.
"""

from collections.abc import Sequence


class StileError(Exception):
    """The root of the tree."""


class ConfigError(StileError):
    """A setting or the model file is wrong. `faults` names every one of them, one line each."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = list(faults)


class StateError(StileError):
    """The database or the pepper cannot be used as it is. One line says why."""


class PublicError(StileError):
    """An error that a caller is told: `status`, `kind` (the envelope's type), `code`, `param`, extra headers."""

    status = 500
    kind = "server_error"
    code: str | None = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.param = param
        self.headers = tuple(headers)


class BadRequest(PublicError):
    status, kind, code = 400, "invalid_request_error", "invalid_request"


class InvalidKey(PublicError):
    """`reason` goes into the log alone: `missing`, `malformed`, `unminted`, `unknown`, `revoked` or `expired`."""

    status, kind, code = 401, "invalid_request_error", "invalid_api_key"

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class Forbidden(PublicError):
    status, kind, code = 403, "permission_error", "forbidden"


class ModelNotFound(PublicError):
    status, kind, code = 404, "invalid_request_error", "model_not_found"


class UnknownPath(PublicError):
    status, kind, code = 404, "invalid_request_error", "unknown_url"


class UnknownResponse(PublicError):
    status, kind, code = 404, "invalid_request_error", "response_not_found"


class UnknownUser(PublicError):
    status, kind, code = 404, "invalid_request_error", "user_not_found"

    def __init__(self) -> None:
        super().__init__("No user has this id.")


class UnknownKey(PublicError):
    status, kind, code = 404, "invalid_request_error", "key_not_found"

    def __init__(self) -> None:
        super().__init__("No key has this id.")


class MethodNotAllowed(PublicError):
    status, kind, code = 405, "invalid_request_error", "method_not_supported"


class Conflict(PublicError):
    """Nothing was written, or what was written is no longer there."""

    status, kind, code = 409, "invalid_request_error", "conflict"


class Rejected(PublicError):
    status, kind, code = 409, "invalid_request_error", "rejected"


class EmailTaken(Rejected):
    code = "email_taken"


class BodyTooLarge(PublicError):
    status, kind, code = 413, "invalid_request_error", "request_too_large"


class ValueTooLarge(PublicError):
    """Nothing was written."""

    status, kind, code = 413, "invalid_request_error", "record_too_large"


class Unprocessable(PublicError):
    status, kind, code = 422, "invalid_request_error", "invalid_value"


class NoWebSocket(PublicError):
    """Clients that try one first go on without it."""

    status, kind, code = 426, "invalid_request_error", "websocket_not_supported"


class UpstreamFailed(PublicError):
    status, kind, code = 502, "upstream_error", "upstream_unreachable"


class DirectoryUnavailable(PublicError):
    status, kind, code = 503, "server_error", "directory_unavailable"


class Unconfirmed(DirectoryUnavailable):
    code = "change_unconfirmed"

    def __init__(self, *, headers: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(
            "Nobody knows whether the change was made. Look, and make it again if it was not.", headers=headers
        )


class UpstreamTimeout(PublicError):
    status, kind, code = 504, "upstream_error", "upstream_timeout"
