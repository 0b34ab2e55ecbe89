"""A chat, chunk by chunk or all at once, for those who tell it in another dialect."""

from typing import Any, Protocol

from stile.dialects import chat_answer
from stile.dialects.chat_answer import Said, Usage
from stile.errors import UpstreamFailed


class Teller(Protocol):
    """Tells one answer in its dialect, as events."""

    def begin(self) -> None:
        """The answer has begun."""

    def add(self, said: Said, chances: list[dict[str, Any]]) -> None:
        """More of it; how likely its tokens were, where that was asked. Raises UpstreamFailed for what cannot be."""

    def finish(self, reason: str, usage: Usage | None) -> object:
        """It is over, for this reason of a chat's."""

    def events(self) -> bytes:
        """The events since the last time."""


class ChatStream:
    """The Stream of any dialect that has a Teller."""

    def __init__(self, teller: Teller) -> None:
        self._teller = teller
        self._finish: str | None = None
        self._usage: Usage | None = None
        self._begun = False
        self._ended = False

    def feed(self, events: bytes) -> None:
        for chunk in chat_answer.chunks(events):
            if not self._begun:
                self._begun = True
                self._teller.begin()
            if chunk is None:
                self._finish = self._finish or "stop"
                self._end()
                break
            self._usage = chunk.usage or self._usage
            if chunk.choices:
                choice = chunk.choices[0]
                self._finish = choice.finish_reason or self._finish
                if choice.delta is not None:
                    self._teller.add(choice.delta, choice.chances)

    def close(self) -> None:
        if self._finish is None:
            raise UpstreamFailed("The provider broke off its answer.", code="upstream_broken")
        self._end()

    def ready(self) -> bytes:
        return self._teller.events()

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._teller.finish(self._finish or "stop", self._usage)


def at_once(teller: Teller, answer: bytes) -> bytes:
    """A whole answer told as events. Raises UpstreamFailed."""
    said, reason, usage, chances = chat_answer.whole(answer)
    teller.begin()
    teller.add(said, chances)
    teller.finish(reason, usage)
    return teller.events()
