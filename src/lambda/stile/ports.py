"""What the gateway needs from the world outside, named for the need. Adapters implement it; nothing here connects."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Protocol
from urllib.parse import quote

import msgspec

from stile.core.body import Fields
from stile.core.form import Form
from stile.core.operations import Operation
from stile.core.records import Entry, Page
from stile.core.routes import Target

Headers = Sequence[tuple[bytes, bytes]]  # names in lower case, as ASGI has them
MAX_PAGE = 60  # of users: the most that Cognito lists at once
_DROPPED = b"x-stile-dropped"
_MAX_DROPPED = 1024  # characters of names that callers may have chosen


class Change(msgspec.Struct, frozen=True):
    """One attribute's change: written only while it still holds `before`. None stands for absent."""

    before: str | None
    after: str | None


class Directory(Protocol):
    """Users and what is recorded of them: the source of truth for who may call.

    Any method may raise DirectoryUnavailable. Reads are always fresh.
    """

    async def get(self, user_id: str) -> Entry | None:
        """One user with all attributes."""

    async def find(self, email: str) -> Entry | None:
        """The user with this e-mail address, whatever its letter case."""

    async def list(self, *, limit: int = 50, cursor: str | None = None) -> Page:
        """Users in a stable order, at most MAX_PAGE. Raises Unprocessable for a cursor that none of its pages gave."""

    async def create(self, email: str, *, mailbox: bool = True, invite: bool = False) -> Entry:
        """A new, enabled user without attributes. Raises EmailTaken.

        `mailbox`: whether the address is one at which somebody reads. `invite`: send a mail with a first password;
        raises Unprocessable where there is nobody to send it.
        """

    async def write(self, user_id: str, changes: Mapping[str, Change]) -> None:
        """Apply all changes or none. Raises Conflict when one `before` no longer holds, UnknownUser, ValueTooLarge.

        When it returns, the changes are there and no earlier reader's change can still undo them. Conflict is also
        raised when that happened meanwhile. Raises Unconfirmed when nobody knows whether they were applied.
        """

    async def enable(self, user_id: str, *, enabled: bool) -> None:
        """Let a user in, or keep all of the user's keys out. Raises UnknownUser."""

    async def delete(self, user_id: str) -> None:
        """Forget a user and every key. Raises UnknownUser."""

    async def claim(self, name: str) -> None:
        """Take a name, once and for all. Raises Conflict when it is taken: of two at once, one gets it."""

    async def claimed(self, name: str) -> bool:
        """Whether a name is taken."""

    async def check(self) -> None:
        """Raises DirectoryUnavailable when it cannot be read now."""

    async def release(self) -> None:
        """Let go of idle connections; the next call makes new ones."""

    async def close(self) -> None:
        """Let go of what is held."""


class ContentLog(Protocol):
    """Keeps what was asked and answered, apart from everything else."""

    async def write(self, line: bytes) -> None:
        """Keep one line: JSON, without a newline. What cannot be kept is lost, and told in the program's own log."""

    async def release(self) -> None:
        """Let go of what goes stale in a process that sleeps."""

    async def close(self) -> None:
        """Let go of what is held."""


class Token(msgspec.Struct, frozen=True):
    """Who came with an access token, by which client, and until when that holds: in seconds since 1970."""

    user_id: str
    client_id: str
    expires: int


class Tokens(Protocol):
    """Knows the access tokens of people who signed in."""

    async def check(self, text: str) -> Token:
        """Who came with this token. Raises InvalidKey, DirectoryUnavailable."""


class UpstreamRequest(msgspec.Struct, frozen=True):
    """A model call for one target. `fields` is the body's top level, checked; `headers` may go up as they are,
    and so may `trace`, which says to which trace it belongs.

    `form`: the body where it is one, whose fields besides files are `fields`.
    """

    operation: Operation
    target: Target
    fields: Fields
    stream: bool
    headers: Headers = ()
    trace: Headers = ()
    form: Form | None = None


class UpstreamAnswer(msgspec.Struct, frozen=True):
    """Status, headers that may come down, and the body: bytes, or a stream as it arrives, which is server-sent events
    unless `events` says that it is anything else.

    A body that streams raises UpstreamFailed or UpstreamTimeout when it breaks off, and must be closed (`aclose`) by
    whoever stops reading early: that ends the call upstream. A status of 400 or above always comes with bytes that are
    an error envelope.
    """

    status: int
    headers: Headers
    body: bytes | AsyncGenerator[bytes, None]
    events: bool = True


def told_dropped(answer: UpstreamAnswer, names: Sequence[str]) -> UpstreamAnswer:
    """The answer with a header that names what of the call was left out, beside what it names already; as it is when
    nothing was."""
    if not names:
        return answer
    told = [value for name, value in answer.headers if name == _DROPPED]
    shown = [*told, *(quote(name, safe="._-=[]").encode() for name in dict.fromkeys(names))]
    others = [header for header in answer.headers if header[0] != _DROPPED]
    return msgspec.structs.replace(answer, headers=[*others, (_DROPPED, b", ".join(shown)[:_MAX_DROPPED])])


class Listing(msgspec.Struct, frozen=True):
    """Where a provider lists its models. `aws_region`: it is signed for this region, with AWS's credentials."""

    url: str
    headers: Mapping[str, str]
    aws_region: str | None = None


class Upstream(Protocol):
    """A way to models: by relay, by translation, or none at all."""

    async def send(self, request: UpstreamRequest) -> UpstreamAnswer:
        """Make the call. Raises UpstreamFailed, UpstreamTimeout, or BadRequest for what the target cannot take."""

    async def warm_up(self) -> None:
        """Do now what only the first call would do: import, load certificates. Nothing is connected."""

    async def release(self) -> None:
        """Let go of idle connections; the next call makes new ones."""

    async def close(self) -> None:
        """Close connections."""
