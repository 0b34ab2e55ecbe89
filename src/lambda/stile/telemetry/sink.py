"""The way of lines to a descriptor that may block or break: a pipe that nobody reads, a paused terminal, a full disk.

A call never waits for it. What cannot be written now waits in memory; beyond a bound, lines are left out and counted,
so that no line is ever torn and the first ones, which tell how it began, are kept.
"""

import asyncio
import os
import select
import stat
import threading
import time
from collections.abc import Callable

MAX_WAITING_BYTES = 4 * 1024 * 1024
PATIENCE_SECONDS = 1.0
_STUCK_PATIENCE_SECONDS = 0.1
_STUCK_RETRY_SECONDS = 0.05
_SOON = 0.001  # where somebody reads again
_BROKEN_RETRY_SECONDS = 1.0


class Sink:
    """Lines to one descriptor: inside an event loop all of one turn at once. Any thread may bring some.

    `lost` makes the line that tells how many are missing.
    """

    def __init__(self, descriptor: int, lost: Callable[[int], bytes]) -> None:
        self._own = _terminal(descriptor)
        self._out = descriptor if self._own is None else self._own
        self._lost = lost
        # A file takes all at once; of others no more is asked than goes in without waiting.
        self._slice = None if _is_file(self._out) else select.PIPE_BUF
        self._poll = select.poll()
        self._poll.register(self._out, select.POLLOUT)
        self._waiting: list[bytes] = []
        self._rest = b""  # of what was written in part
        self._size = 0
        self._left_out = 0
        self._held = False
        self._stuck = self._broken = False
        self._due: asyncio.Handle | None = None
        self._lock = threading.RLock()  # what is logged while a line is written comes from the same thread

    def put(self, line: bytes) -> None:
        """Take a line, without its newline, to be written soon."""
        with self._lock:
            if self._size > MAX_WAITING_BYTES:
                self._left_out += 1
                return
            self._waiting.append(line)
            self._size += len(line) + 1
            if self._due is None and not self._held:
                try:
                    self._due = asyncio.get_running_loop().call_soon(self._turn)
                except RuntimeError:  # no loop runs here: nothing to wait for
                    self._write()

    def hold(self) -> None:
        """Keep lines back until `flush`."""
        self._held = True

    def flush(self) -> None:
        """Write what waits; a sink that gets stuck at it is given a moment, one that was stuck before a short one."""
        self._flush(_STUCK_PATIENCE_SECONDS if self._stuck else PATIENCE_SECONDS)

    def close(self) -> None:
        """Write what waits, and let go of what was opened for it."""
        self._flush(PATIENCE_SECONDS)
        if self._own is not None:
            os.close(self._own)

    def _flush(self, patience: float) -> None:
        self._held = False
        until = time.monotonic() + patience
        while not self._write() and not self._broken:
            left = until - time.monotonic()
            if left <= 0 or not self._writable(left):
                break

    def _turn(self) -> None:
        self._due = None
        before = self._size
        if self._held or self._write():
            return
        pause = _BROKEN_RETRY_SECONDS if self._broken else _STUCK_RETRY_SECONDS if self._size == before else _SOON
        self._due = asyncio.get_running_loop().call_later(pause, self._turn)

    def _write(self) -> bool:
        """Write what goes without waiting; answers whether all is out."""
        with self._lock:
            if self._left_out and self._size <= MAX_WAITING_BYTES // 2:
                self._waiting.append(self._lost(self._left_out))
                self._size += len(self._waiting[-1]) + 1
                self._left_out = 0
            self._broken = False
            if self._size and (self._slice is None or self._writable(0)):
                self._write_waiting()
            self._stuck = self._size > 0
            return not self._stuck

    def _write_waiting(self) -> None:
        lines, self._waiting = self._waiting, []
        rest = memoryview(b"%b%b\n" % (self._rest, b"\n".join(lines)) if lines else self._rest)
        before = len(rest)
        try:
            while rest and (before == len(rest) or self._slice is None or self._writable(0)):
                rest = rest[os.write(self._out, rest[: self._slice]) :]
        except BlockingIOError:
            pass
        except OSError:  # a reader that has gone, a full disk: a call must not fail for its line
            self._broken = True
        self._rest = bytes(rest)
        self._size -= before - len(rest)

    def _writable(self, seconds: float) -> bool:
        return any(event & select.POLLOUT for _, event in self._poll.poll(seconds * 1000))


def _is_file(descriptor: int) -> bool:
    try:
        return stat.S_ISREG(os.fstat(descriptor).st_mode)
    except OSError:
        return False


def _terminal(descriptor: int) -> int | None:
    """The terminal behind a descriptor, opened anew so that writes to it never wait; None where there is none. Others
    that have the terminal open are not touched by that."""
    try:
        return os.open(os.ttyname(descriptor), os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
