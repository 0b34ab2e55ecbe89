"""`/metrics`: a single machine's numbers, for Prometheus or for a look."""

from stile.api.request import Reply, Request
from stile.telemetry.tally import CONTENT_TYPE, Tally


class Numbers:
    """The handler."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    async def show(self, _: Request) -> Reply:
        """All calls since the start."""
        return Reply(200, [(b"content-type", CONTENT_TYPE)], self._tally.text().encode())
