"""The story of answers that a provider keeps (`store` of the Responses API), looked up by their ids.

Nothing here remembers which target gave an answer, so those that may have it are asked in turn: each place once, with
each of its keys, of the models that the caller may use.
"""

import re
import time
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from stile.calls import UPSTREAM_ERROR
from stile.catalog import Catalog
from stile.core.records import Caller
from stile.core.routes import Target
from stile.errors import BadRequest, PublicError, UnknownResponse
from stile.ports import UpstreamAnswer
from stile.telemetry.records import CallRecord

MAX_PLACES = 8
_ID = re.compile(r"[A-Za-z0-9_-]{1,256}")
_QUERY = re.compile(r"[A-Za-z0-9_.=&%\[\]-]{0,512}")
_ELSEWHERE = frozenset({400, 401, 403, 404})  # an id of another place, as providers answer to it


class Keepers(Protocol):
    """The way to providers that keep answers."""

    async def look_up(self, target: Target, method: str, path: str) -> UpstreamAnswer:
        """Ask about an answer. Raises UpstreamFailed, UpstreamTimeout."""


class Asked(NamedTuple):
    """What is asked about an answer: by method, of the answer itself or of what is `under` it."""

    method: str
    id: str
    under: str
    query: str


class Stored:
    """Looks answers up."""

    def __init__(self, catalog: Catalog, keepers: Keepers) -> None:
        self._catalog = catalog
        self._keepers = keepers

    async def ask(self, caller: Caller, asked: Asked, record: CallRecord) -> UpstreamAnswer:
        """What the provider that has the answer says. Raises UnknownResponse when none has it, BadRequest."""
        if not _ID.fullmatch(asked.id) or not _QUERY.fullmatch(asked.query):
            raise BadRequest("This is no id of a response, or no query for one.", code="invalid_value")
        path = f"/{asked.id}{asked.under}" + (f"?{asked.query}" if asked.query else "")
        failed: PublicError | None = None
        refused: UpstreamAnswer | None = None
        for target in self._places(caller):
            record.target, record.target_id = target.label, target.id
            record.attempts += 1
            began = time.perf_counter()
            try:
                answer = await self._keepers.look_up(target, asked.method, path)
            except PublicError as error:
                failed = error
                continue
            finally:
                record.upstream_ms += (time.perf_counter() - began) * 1000
            if answer.status not in _ELSEWHERE:
                return answer
            refused = answer if answer.status == 400 else refused  # of what was asked, or of an id that is another's
        if refused is not None:
            record.error = UPSTREAM_ERROR
            return refused
        raise failed or UnknownResponse(f"No provider here keeps a response '{asked.id}'.")

    def _places(self, caller: Caller) -> Iterator[Target]:
        seen: set[tuple[str | None, str | None]] = set()
        for group in self._catalog.routes.groups:
            for target in group.targets if caller.may_use(group.name) else ():
                key = target.api_key.reveal() if target.api_key is not None else target.aws_region
                place = (target.urls.get("responses"), key)
                if place[0] is not None and place not in seen and len(seen) < MAX_PLACES:
                    seen.add(place)
                    yield target
