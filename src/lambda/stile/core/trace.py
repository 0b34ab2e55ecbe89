"""Which trace a call belongs to: W3C's Trace Context in and out, and AWS X-Ray's header beside it.

Formats: "Trace Context" (W3C Recommendation) for `traceparent` and `tracestate`, "Tracing header" in X-Ray's developer
guide for `x-amzn-trace-id`. Both name a trace by 32 hex digits; X-Ray writes a version and two dashes between them.
What cannot be read counts as absent. The place for spans, when they are wanted: a Trace has all that one needs.
"""

import re
from collections.abc import Iterable, Sequence

import msgspec

RANDOM_BYTES = 24  # for an id of a trace and one of a span

_TRACE_DIGITS = 32
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16
_MAX_STATE = 512  # what must be passed on at least; longer ones may be left out
_PARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_STATE = re.compile(rb"[\x20-\x7e\t]*")
_ROOT = re.compile(r"(?:^|;)\s*Root=1-([0-9a-f]{8})-([0-9a-f]{24})(?:$|;)")
_SAMPLED = re.compile(r"(?:^|;)\s*Sampled=([01])(?:$|;)")

Headers = Sequence[tuple[bytes, bytes]]


class Trace(msgspec.Struct, frozen=True, gc=False):
    """`id`: 32 hex digits; `span`: the call's own, 16; `flags`: two. `state`: other systems' notes. `xray`: X-Ray's own
    name of its trace, which another one than `id` may be when the caller brought that."""

    id: str
    span: str
    flags: str = "01"
    state: bytes = b""
    xray: str | None = None

    def headers(self) -> Headers:
        """What goes up with the call."""
        up = [(b"traceparent", f"00-{self.id}-{self.span}-{self.flags}".encode())]
        if self.state:
            up.append((b"tracestate", self.state))
        if self.xray is not None:
            up.append((b"x-amzn-trace-id", f"Root={self.xray};Parent={self.span};Sampled={self.flags[1]}".encode()))
        return up


def begin(headers: Iterable[tuple[bytes, bytes]], xray: str | None, random: str) -> Trace:
    """The call's trace. `xray`: what the host says of X-Ray's, which goes before a header; `random`: hex digits of
    RANDOM_BYTES from a source that no two processes share."""
    parents: list[bytes] = []
    states: list[bytes] = []
    for name, value in headers:
        if name == b"traceparent":
            parents.append(value)
        elif name == b"tracestate":
            states.append(value)
        elif name == b"x-amzn-trace-id" and xray is None:
            xray = value.decode("latin-1")
    span = random[_TRACE_DIGITS:]
    root = _ROOT.search(xray) if xray else None
    if root is not None and root[1] + root[2] == _NO_TRACE:
        root = None
    own = f"1-{root[1]}-{root[2]}" if root else None
    if len(parents) == 1 and (parent := _read(parents[0])) is not None:
        return Trace(parent[0], span, parent[1], _kept(b",".join(states)), own)
    if root is not None:
        sampled = _SAMPLED.search(xray or "")
        return Trace(root[1] + root[2], span, f"0{sampled[1]}" if sampled else "00", b"", own)
    return Trace(random[:_TRACE_DIGITS], span)


def _kept(state: bytes) -> bytes:
    return state if len(state) <= _MAX_STATE and _STATE.fullmatch(state) else b""


def _read(parent: bytes) -> tuple[str, str] | None:
    """Id and flags. Later versions may say more behind these fields, version 00 may not, and ff is none."""
    found = _PARENT.fullmatch(parent.strip(b" \t"))
    if found is None:
        return None
    version, trace, span, flags, more = (part.decode("latin-1") for part in found.groups(b""))
    if version == "ff" or trace == _NO_TRACE or span == _NO_SPAN or (version == "00" and more):
        return None
    return trace, f"0{int(flags, 16) & 1}"
