"""What a service of AWS says instead of a result, read from its JSON or XML, and what to do about it."""

import html
import re
from collections.abc import Mapping, Sequence

import msgspec

from stile.adapters.http_answer import Header

# Codes of this side, for when there was no answer that could be read.
NO_CREDENTIALS, UNREACHABLE, TIMED_OUT = "NoCredentials", "Unreachable", "TimedOut"
CANNOT_BE_SENT, TOO_LARGE, UNREADABLE = "CannotBeSent", "TooLarge", "Unreadable"

_THROTTLED = frozenset(
    {
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
_NOT_TAKEN = "AWS does not take these credentials; renew them"
_NO_WAY = "check the network; a function in a VPC needs an endpoint of the service, or a way out"
_ADVICE = {
    "ExpiredToken": _NOT_TAKEN,
    "ExpiredTokenException": _NOT_TAKEN,
    "InvalidAccessKeyId": _NOT_TAKEN,
    "InvalidClientTokenId": _NOT_TAKEN,
    "InvalidSignatureException": _NOT_TAKEN,
    "SignatureDoesNotMatch": _NOT_TAKEN,
    "UnrecognizedClientException": _NOT_TAKEN,
    CANNOT_BE_SENT: "check what of AWS stands in the environment: its AWS_ENDPOINT_URL must begin with https:// or http://",
    "RequestTimeTooSkewed": "set this machine's clock",
    TIMED_OUT: _NO_WAY,
    UNREACHABLE: _NO_WAY,
}
_SHOWN = 300  # characters of a service's message
_REGION_HEADER = b"x-amz-bucket-region"


class AwsError(Exception):
    """`code` is the service's own (`ResourceNotFoundException`), or one of those above.

    `status` is 0 when there was no answer. `region`: where S3 says that the bucket is.
    """

    def __init__(self, code: str, message: str, *, status: int = 0, region: str | None = None) -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code
        self.message = message
        self.status = status
        self.region = region

    @property
    def throttled(self) -> bool:
        """Whether the service asks to slow down; it has then done nothing."""
        return self.code in _THROTTLED or self.status == 429

    @property
    def heard(self) -> bool:
        """Whether the service refused the request, so that it has surely done nothing."""
        return 400 <= self.status < 500

    @property
    def retries(self) -> int:
        """How often the request is worth sending again."""
        if self.throttled:
            return 3
        return 1 if self.status >= 500 or self.code == UNREACHABLE else 0

    def told(self, advice: Mapping[str, str]) -> str:
        """One line for people, with what to do. `advice`: by code, before the general one."""
        todo = advice.get(self.code) or _ADVICE.get(self.code)
        return f"{self}; {todo}" if todo else str(self)


class _Said(msgspec.Struct):
    """JSON 1.0 and 1.1. Services differ in how they write the message's name."""

    type: str = msgspec.field(name="__type", default="")
    message: str = ""
    old_message: str = msgspec.field(name="Message", default="")


def read(status: int, headers: Sequence[Header], body: bytes) -> AwsError:
    """The error of an answer that is no success."""
    region = next((value.decode("latin-1") for name, value in headers if name == _REGION_HEADER), None)
    if body.lstrip().startswith(b"<"):
        text = body.decode("utf-8", "replace")
        return _error(_element(text, "Code"), _element(text, "Message"), status, region or _element(text, "Region"))
    try:
        said = msgspec.json.decode(body, type=_Said)
    except (ValueError, RecursionError):
        said = _Said()
    return _error(said.type.rpartition("#")[2], said.message or said.old_message, status, region)


def _error(code: str | None, message: str | None, status: int, region: str | None) -> AwsError:
    shown = " ".join((message or "").split())[:_SHOWN]
    return AwsError(code or f"Status{status}", shown, status=status, region=region)


def _element(text: str, name: str) -> str | None:
    """S3's errors are flat and small, so that an XML parser would be much for little."""
    found = re.search(rf"<{name}>([^<]*)</{name}>", text)
    return html.unescape(found[1]) if found else None
