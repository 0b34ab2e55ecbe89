"""A chat's answer made the answer that the caller expects: whole, or event by event as it comes."""

from collections.abc import AsyncGenerator, Callable

import msgspec

from stile.dialects import Translation
from stile.errors import PublicError
from stile.ports import Headers, UpstreamAnswer, told_dropped

_JSON: Headers = [(b"content-type", b"application/json")]
_EVENTS: Headers = [(b"content-type", b"text/event-stream")]


def translated(answer: UpstreamAnswer, translation: Translation, *, stream: bool) -> UpstreamAnswer:
    """The answer in the caller's dialect. `stream`: the caller asked for events, also where the target gave none.

    Raises UpstreamFailed for a whole answer that is none, as a body does in mid-stream.
    """
    kept = [header for header in answer.headers if not header[0].startswith(b"content-")]
    body: bytes | AsyncGenerator[bytes, None]
    if not isinstance(answer.body, bytes):
        body = _rewritten(answer.body, translation)
    elif stream:
        body = _at_once(translation.at_once(answer.body))
    else:
        body = translation.whole(answer.body)
    headers = [*(_JSON if isinstance(body, bytes) else _EVENTS), *kept]
    return told_dropped(msgspec.structs.replace(answer, headers=headers, body=body), translation.dropped)


async def _rewritten(body: AsyncGenerator[bytes, None], translation: Translation) -> AsyncGenerator[bytes, None]:
    stream = translation.stream()
    try:
        async for chunk in body:
            failure = _tried(stream.feed, chunk)
            ready = stream.ready()
            if ready:
                yield ready
            if failure is not None:
                raise failure
        failure = _tried(stream.close)
        ready = stream.ready()
        if ready:
            yield ready
        if failure is not None:
            raise failure
    finally:
        await body.aclose()


def _tried(step: Callable[..., None], *arguments: bytes) -> PublicError | None:
    """How a step failed, if it did: what came before the failure goes out first."""
    try:
        step(*arguments)
    except PublicError as failure:
        return failure
    return None


async def _at_once(events: bytes) -> AsyncGenerator[bytes, None]:
    yield events
