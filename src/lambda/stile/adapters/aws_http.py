"""The lean HTTP client, with the one method more that S3 needs."""

from collections.abc import Sequence

from stile.adapters.http_answer import Header, HttpAnswer
from stile.adapters.http_client import HttpClient, _lines, _target


class AwsHttp(HttpClient):
    """GET beside POST, with the same rules and over the same connections."""

    async def get(self, url: str, headers: Sequence[Header]) -> HttpAnswer:
        """Ask, and wait for the answer's head; raises what `post` does."""
        origin, start = _target(url)
        head = b"GET" + start.removeprefix(b"POST") + _lines(headers) + b"\r\n"
        now = self._loop.time()
        kept = self._take(origin, now)
        if kept is not None and (answer := await kept.ask(head, b"", now)) is not None:
            return answer
        connection = await self._connect(origin)
        answer = await connection.ask(head, b"", self._loop.time())
        assert answer is not None, "only a kept connection gives None"  # noqa: S101
        return answer
