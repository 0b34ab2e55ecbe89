"""One message while it is answered: who sent it, and what a tool tells before it is done."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator

import msgspec

from stile.api.mcp import jsonrpc
from stile.core.records import Caller
from stile.ports import Headers
from stile.telemetry.records import CallRecord

PAUSE_SECONDS = 0.1  # between two notifications of progress, at least

OPENED, DONE = object(), object()


class Exchange:
    """What a tool knows of the message that calls it. Made inside the event loop.

    `ends`: by the loop's clock. `heard`: what goes to the client, or OPENED once a stream has begun, or DONE at last.
    `trace`: headers that tell a provider which trace the message belongs to.
    """

    def __init__(
        self,
        caller: Caller,
        record: CallRecord,
        ends: float,
        *,
        progress_token: msgspec.Raw,
        look_anew: Callable[[], Awaitable[Caller]],
        trace: Headers = (),
    ) -> None:
        self.caller = caller
        self.record = record
        self.ends = ends
        self.trace = trace
        self.heard: asyncio.Queue[object] = asyncio.Queue()
        self._token = progress_token
        self._look_anew = look_anew
        self._now = asyncio.get_running_loop().time
        self._told = 0
        self._waiting = ""
        self._due = 0.0
        self._idle = asyncio.Event()
        self._idle.set()

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """A tool runs for it."""
        self._idle.clear()
        try:
            yield
        finally:
            self._idle.set()

    async def settled(self) -> None:
        """Wait until no tool runs for it any more."""
        await self._idle.wait()

    async def renew_caller(self) -> None:
        """Know the caller by what the directory says now. Raises as the check of a key does."""
        self.caller = await self._look_anew()

    @property
    def wants_progress(self) -> bool:
        """Whether the client listens to what is told before the end."""
        return bool(bytes(self._token))

    def open(self) -> bool:
        """Begin a stream, if the client wants progress; answers whether it does. From here on the answer is events."""
        if self.wants_progress:
            self.heard.put_nowait(OPENED)
        return self.wants_progress

    def tell(self, text: str) -> None:
        """More of an answer's text, as progress: its pieces in turn are the text, and characters count."""
        self._waiting += text
        if self._waiting and self._now() >= self._due:
            self.flush()

    def flush(self) -> None:
        """Tell what has waited for the end of a pause."""
        if self.wants_progress and self._waiting:
            self._told += len(self._waiting)
            self.heard.put_nowait(jsonrpc.progress(self._token, self._told, self._waiting))
        self._waiting = ""
        self._due = self._now() + PAUSE_SECONDS
