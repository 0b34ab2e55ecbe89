"""Everything that can go wrong, as one tree.

    StileError
    ├── ConfigError                 the start stops; every fault is listed
    ├── StateError                  what is kept on disk cannot be used; nothing was overwritten
    ├── Conflict, EmailTaken, UnknownUser, ValueTooLarge      what a directory answers
    └── PublicError                 has an HTTP status and a public code
        ├── BadRequest        400   malformed or refused by a rule
        ├── InvalidKey        401   missing, malformed, unknown, expired or revoked
        ├── Forbidden         403   known, but not allowed
        ├── ModelNotFound     404
        ├── UnknownPath       404
        ├── MethodNotAllowed  405
        ├── BodyTooLarge      413
        ├── UpstreamFailed    502   no answer, or one that cannot be read
        ├── DirectoryUnavailable 503
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


class Conflict(StileError):
    """A directory entry no longer holds what the change was based on; nothing was written."""


class EmailTaken(StileError):
    """Another user has this e-mail address."""


class UnknownUser(StileError):
    """No user has this id."""


class ValueTooLarge(StileError):
    """A directory attribute would exceed 2,048 bytes; nothing was written."""


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
    status, kind, code = 401, "invalid_request_error", "invalid_api_key"


class Forbidden(PublicError):
    status, kind, code = 403, "permission_error", "forbidden"


class ModelNotFound(PublicError):
    status, kind, code = 404, "invalid_request_error", "model_not_found"


class UnknownPath(PublicError):
    status, kind, code = 404, "invalid_request_error", "unknown_url"


class MethodNotAllowed(PublicError):
    status, kind, code = 405, "invalid_request_error", "method_not_supported"


class BodyTooLarge(PublicError):
    status, kind, code = 413, "invalid_request_error", "request_too_large"


class UpstreamFailed(PublicError):
    status, kind, code = 502, "upstream_error", "upstream_unreachable"


class DirectoryUnavailable(PublicError):
    status, kind, code = 503, "server_error", "directory_unavailable"


class UpstreamTimeout(PublicError):
    status, kind, code = 504, "upstream_error", "upstream_timeout"
