"""One invocation as the Runtime API's emulator sees it, and as a test asks about it.

A runtime's answer is kept chunk by chunk, in the order in which it came, so that a test can say what had already come
when something else happened. Whatever Lambda or API Gateway would stumble over is written down as a violation.
"""

import base64
import binascii
import json
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

WAIT = 30  # seconds after which a wait counts as failed
SEPARATOR = b"\0" * 8
PRELUDE_BYTES = 16 * 1024  # the separator must have come within them
ERROR_TYPE, ERROR_BODY = "lambda-runtime-function-error-type", "lambda-runtime-function-error-body"

_LAST_WORDS = 1  # seconds in which what a runtime sent before its end has surely come

T = TypeVar("T")


class Watch:
    """What tests and the emulator's threads share: one lock, what went wrong, and how to wait for each other."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.violations: list[str] = []
        self.ended: Callable[[], str | None] = lambda: None

    def violation(self, text: str) -> None:
        with self.changed:
            self.violations.append(text)

    def wait(self, look: Callable[[], T | None], what: str) -> T:
        """The first true answer of `look`, which is asked under the lock; fails when it cannot come any more."""
        until = time.monotonic() + WAIT
        with self.changed:
            while not (found := look()):
                why = self.ended()
                if why:
                    until = min(until, time.monotonic() + _LAST_WORDS)
                if time.monotonic() > until:
                    raise AssertionError(self._failure(what, why))
                self.changed.wait(0.05)
            return found

    def _failure(self, what: str, why: str | None) -> str:
        lines = [f"waited for {what}, but {why or f'it did not come in {WAIT} s'}"]
        return "\n".join(lines + [f"violation: {violation}" for violation in self.violations])


@dataclass(frozen=True)
class Failure:
    """What a runtime said of a failure."""

    kind: str
    message: str


@dataclass(frozen=True)
class Head:
    """The prelude of a streamed answer."""

    status: int
    headers: dict[str, str]
    multi_value_headers: dict[str, list[str]]
    cookies: list[str]


class Invocation:
    """One call of the function. Tests ask its public methods, which wait; those with `on_` belong to the emulator."""

    def __init__(
        self, watch: Watch, event: bytes, *, seconds: float, invocation_id: str | None, chunked: bool, slowly: bool
    ) -> None:
        self.id = str(uuid.uuid4())
        self.trace_id = (
            f"Root=1-{int(time.time()):08x}-{uuid.uuid4().hex[:24]};Parent={uuid.uuid4().hex[:16]};Sampled=0"
        )
        self.event = event
        self.invocation_id = invocation_id
        self.chunked = chunked
        self.slowly = slowly
        self.deadline = 0.0
        self.mode: str | None = None
        self.answered = False
        self._seconds = seconds
        self._watch = watch
        self._start = bytearray()
        self._head: Head | None = None
        self._chunks: list[bytes] = []
        self._asked = 0
        self._left = 0.0
        self._failure: Failure | None = None
        self._error: Failure | None = None

    def head(self) -> Head:
        """The status and headers of a streamed answer, as soon as they have come."""
        self._wait(lambda: self._head is not None, "the prelude of a streamed answer")
        assert self._head is not None
        return self._head

    def next_chunk(self) -> bytes | None:
        """The next piece of a streamed answer's body, as soon as it has come; None at the end."""

        def look() -> bool:
            return len(self._chunks) > self._asked or (self.mode == "streaming" and self.answered)

        self._wait(look, f"chunk {self._asked + 1} of a streamed answer")
        self._asked += 1
        return self._chunks[self._asked - 1] if self._asked <= len(self._chunks) else None

    def body(self) -> bytes:
        """A streamed answer's body, when the whole of it has come."""
        self._wait(lambda: self.mode == "streaming" and self.answered, "the end of a streamed answer")
        return b"".join(self._chunks)

    def broken_off(self) -> Failure | None:
        """What the trailers of a streamed answer say, when the whole of it has come."""
        self.body()
        return self._failure

    def result(self) -> Any:
        """What an answer that is not streamed says."""
        self._wait(lambda: self.mode == "buffered" and self.answered, "an answer in one piece")
        return json.loads(b"".join(self._chunks))

    def error(self) -> Failure:
        """The failure that was reported in place of an answer."""
        self._watch.wait(lambda: self.answered, f"the end of invocation {self.id}")
        assert self._error is not None, f"an answer, and no failure: {self._head or self._chunks[:1]}"
        return self._error

    def seconds_left(self) -> float:
        """How much of its time was left when it was answered."""
        self._watch.wait(lambda: self.answered, f"the end of invocation {self.id}")
        return self._left

    def _wait(self, look: Callable[[], bool], what: str) -> None:
        self._watch.wait(lambda: look() or self.answered, what)
        if not look():
            said = self._error or f"its answer was {self.mode}, of {sum(map(len, self._chunks))} bytes"
            raise AssertionError("\n".join([f"waited for {what}, but: {said}", *self._watch.violations]))

    def on_taken(self) -> None:
        """The runtime is given the event."""
        self.deadline = time.time() + self._seconds

    def on_begin(self, mode: str) -> None:
        """An answer begins: "streaming" or "buffered", or "error" in its place."""
        self.mode = mode

    def on_chunk(self, chunk: bytes) -> None:
        with self._watch.changed:
            rest = self._after_prelude(chunk) if self.mode == "streaming" and self._head is None else chunk
            if rest:
                self._chunks.append(rest)
            self._watch.changed.notify_all()

    def on_end(self, trailers: Mapping[str, str]) -> None:
        with self._watch.changed:
            if self.mode == "streaming" and self._head is None:
                self._complain("the answer ended before its prelude did")
            if trailers:
                self._failure = self._read_trailers(trailers)
            self._end()

    def on_error(self, failure: Failure) -> None:
        with self._watch.changed:
            self._error = failure
            self._end()

    def _end(self) -> None:
        self._left = self.deadline - time.time()
        if self._left < 0:
            self._complain(f"the answer was {-self._left:.3f} s late; Lambda would have ended the process")
        self.answered = True
        self._watch.changed.notify_all()

    def _after_prelude(self, chunk: bytes) -> bytes:
        self._start += chunk
        prelude, separator, rest = self._start.partition(SEPARATOR)
        if len(prelude) + len(separator) > PRELUDE_BYTES:
            self._complain(f"no separator within the first {PRELUDE_BYTES} bytes")
        if not separator:
            return b""
        self._head = self._read_prelude(bytes(prelude))
        return bytes(rest)

    def _read_prelude(self, prelude: bytes) -> Head:
        fields = _json_object(prelude)
        if fields is None:
            self._complain(f"the prelude is no JSON object: {prelude[:200]!r}")
            return Head(0, {}, {}, [])
        if unknown := fields.keys() - _PRELUDE:
            self._complain(f"the prelude has {', '.join(sorted(unknown))}, which nobody knows")
        for name, (default, fits) in _PRELUDE.items():
            if not fits(fields.setdefault(name, default)):
                self._complain(f"the prelude's {name} is {fields[name]!r}")
        return Head(fields["statusCode"], fields["headers"], fields["multiValueHeaders"], fields["cookies"])

    def _read_trailers(self, trailers: Mapping[str, str]) -> Failure:
        if trailers.keys() != {ERROR_TYPE, ERROR_BODY}:
            self._complain(f"the trailers are {', '.join(sorted(trailers))}; both type and body belong there")
        try:
            body = base64.b64decode(trailers.get(ERROR_BODY, ""), validate=True)
        except binascii.Error:
            body = b"(no base64)"
        return read_failure(body, self._complain)

    def _complain(self, text: str) -> None:
        self._watch.violation(f"invocation {self.id}: {text}")


def read_failure(body: bytes, complain: Callable[[str], None]) -> Failure:
    """A failure as a runtime reports it. The type that a header names beside it may be another: AWS's own says more."""
    said = _json_object(body) or {}
    kind, message = said.get("errorType"), said.get("errorMessage")
    if not (isinstance(kind, str) and isinstance(message, str) and _texts(said.get("stackTrace", []))):
        complain(f"a failure needs errorType, errorMessage and perhaps a stackTrace: {body[:200]!r}")
    return Failure(str(kind), str(message))


def _json_object(text: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _status(value: object) -> bool:
    return isinstance(value, int) and 200 <= value <= 599


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _single(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(each, str) for each in value.values())


def _multiple(value: object) -> bool:
    return isinstance(value, dict) and all(_texts(each) for each in value.values())


_PRELUDE: dict[str, tuple[Any, Callable[[object], bool]]] = {
    "statusCode": (None, _status),
    "headers": ({}, _single),
    "multiValueHeaders": ({}, _multiple),
    "cookies": ([], _texts),
}
