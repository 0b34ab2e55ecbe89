"""Server-sent events in passing: hand on whole events as they came, find usage, hold back only what nobody asked for.

Events end at a blank line, `\\n\\n`, `\\r\\n\\r\\n` or `\\r\\r` (WHATWG HTML, 9.2.5; those that OpenAI's SDKs know).
Bytes are cut at events only, so a chunk that ends inside an event, or inside a UTF-8 sequence, waits for the rest.
"""

import itertools
import re

import msgspec

from stile.core import usage as usages

MAX_EVENT_BYTES = 32 * 1024 * 1024
DONE = b"[DONE]"
# How the last event of a stream is told from others, in each dialect that has one.
_LAST = re.compile(
    rb"\[DONE\]|message_stop|response\.(completed|incomplete|failed)|(transcript\.text|speech\.audio)\.done|image_\w+\.completed"
)

_ENDINGS = (b"\n\n", b"\r\n\r\n", b"\r\r")
_END = re.compile(rb"\n\n|\r\n\r\n|\r\r")
_DATA = re.compile(rb"^data: ?(.*?)\r?$", re.MULTILINE)


class EventTooLarge(Exception):
    """An event outgrew MAX_EVENT_BYTES without ending."""


class EventCutOff(Exception):
    """The stream ended inside an event."""


class StreamMeter:
    """One stream's passage. `hide_usage`: hold back events that carry usage alone, which the caller did not ask for."""

    def __init__(self, *, hide_usage: bool) -> None:
        self.usage: usages.Usage | None = None
        self.events = 0
        self._hide_usage = hide_usage
        self._rest = bytearray()
        self._bytes = 0
        self._smallest = MAX_EVENT_BYTES

    def feed(self, chunk: bytes) -> bytes:
        """Take bytes as they came; answer those that can go on now, perhaps none."""
        if self._rest or not chunk.endswith(_ENDINGS):
            chunk = self._up_to_last_event(chunk)
            if not chunk:
                return b""
        self.events += chunk.count(_ENDINGS[0]) or 1
        size = len(chunk)
        self._bytes += size
        if size < self._smallest:  # noqa: PLR1730 (min() would cost a call for each chunk)
            self._smallest = size
        return self._inspect(chunk) if usages.may_hold_usage(chunk) else chunk

    def close(self) -> bytes:
        """What is left when the stream has ended: an event that only lacks its blank line, else raises EventCutOff."""
        rest, self._rest = bytes(self._rest), bytearray()
        if not rest.strip():
            return rest
        data = data_of(rest)
        if data != DONE and not _is_json(data) and not rest.startswith(b":"):
            raise EventCutOff
        return self._inspect(rest)

    def usage_or_estimate(self, input_bytes: int) -> usages.Usage:
        """The provider's figures, or a guess: what the events hold beyond the envelope that all of them share."""
        if self.usage is not None:
            return self.usage
        content = self._bytes - self.events * self._smallest if self.events else 0
        return usages.estimate(input_bytes, content, self.events)

    def _up_to_last_event(self, chunk: bytes) -> bytes:
        seen = max(0, len(self._rest) - len(_ENDINGS[1]) + 1)
        self._rest += chunk
        ends = [found + len(mark) for mark in _ENDINGS if (found := self._rest.rfind(mark, seen)) >= 0]
        if not ends:
            if len(self._rest) > MAX_EVENT_BYTES:
                raise EventTooLarge
            return b""
        cut = max(ends)
        whole = bytes(self._rest[:cut])
        del self._rest[:cut]
        return whole

    def _inspect(self, events: bytes) -> bytes:
        kept = []
        for event in split(events):
            found = usages.find(data_of(event))
            if found is not None:
                self.usage = found.after(self.usage)
            if found is None or not (found.alone and self._hide_usage):
                kept.append(event)
        return b"".join(kept)


def _is_json(data: bytes) -> bool:
    try:
        msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def split(data: bytes) -> list[bytes]:
    """Cut at every event's end; the pieces joined are `data` again."""
    ends = [0, *(match.end() for match in _END.finditer(data)), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(ends) if start < end]


def data_of(event: bytes) -> bytes:
    """An event's data: its `data:` lines joined by newlines."""
    return b"\n".join(_DATA.findall(event))


def first_data(events: bytes) -> bytes | None:
    """The data of the first event that has any; None when there are comments alone."""
    return next((data for part in split(events) if (data := data_of(part))), None)


def is_last(events: bytes) -> bool:
    """Whether these events look like the end of an answer."""
    return _LAST.search(events) is not None


def event(data: bytes, name: bytes = b"") -> bytes:
    """One event with this data (which must not hold a newline), and with this name if it has one."""
    return b"event: %b\ndata: %b\n\n" % (name, data) if name else b"data: " + data + b"\n\n"
