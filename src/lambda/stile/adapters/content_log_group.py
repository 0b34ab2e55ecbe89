"""The content log as a log group of CloudWatch, one event for each call (PutLogEvents).

Each process has a log stream of its own there, made on first use. A line is there when `write` is over, for a function
is frozen when its call is; and a service that does not answer must not make calls slow, so every line has little time,
and after one that got no answer there is a rest in which lines are lost at once.

What CloudWatch says of a fault is never shown: its checks quote the values that they refuse, which are the content.
"""

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import msgspec

from stile.adapters.aws_client import AwsClient, Service
from stile.adapters.aws_error import TIMED_OUT, AwsError
from stile.adapters.lost_lines import LostLines
from stile.errors import ConfigError

SECONDS = 2  # for one line, with all that it takes
REST_SECONDS = 10
MAX_BYTES = 1_048_576 - 26  # of a request's events, each with CloudWatch's own 26 bytes

_SERVICE = Service("logs", "CLOUDWATCH_LOGS", "Logs_20140328")
_THERE, _GONE = "ResourceAlreadyExistsException", "ResourceNotFoundException"
_ADVICE = {
    "AccessDeniedException": "allow logs:CreateLogStream and logs:PutLogEvents on it",
    _GONE: "there is no such log group in this account and region: make it, or set STILE_CONTENT_BYTES to 0",
}
_LATE = AwsError(TIMED_OUT, f"there was no answer within {SECONDS} seconds").told({})


class _Done(msgspec.Struct):
    """What CreateLogStream and PutLogEvents answer. The latter takes events of other times, and keeps none of them."""

    rejected: dict[str, int] | None = msgspec.field(name="rejectedLogEventsInfo", default=None)


class ContentLogGroup:
    """Made inside the event loop that it is used in. `environment` names region, credentials and endpoint.

    Raises ConfigError without a region. `clock`: seconds that never go back.
    """

    def __init__(
        self, group: str, environment: Mapping[str, str], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
        place = f"STILE_CONTENT_LOG: cloudwatch:{group}"
        if not region:
            raise ConfigError([f"{place} cannot be written without a region; set AWS_REGION"])
        self._group = group
        self._region = region
        self._client = AwsClient(environment)
        self._clock = clock
        self._lost = LostLines(place, clock=clock)
        self._rests_until = 0.0
        self._stream: str | None = None
        self._made = False

    async def write(self, line: bytes) -> None:
        """Keep one line. What got no answer is sent again while there is time, so one may be there twice."""
        if len(line) > MAX_BYTES:
            self._lost.add("it is longer than CloudWatch takes; set STILE_CONTENT_BYTES lower")
            return
        if self._clock() < self._rests_until:
            self._lost.add(_LATE)
            return
        try:
            async with asyncio.timeout(SECONDS):
                await self._put(line)
        except TimeoutError:
            self._rests_until = self._clock() + REST_SECONDS
            self._lost.add(_LATE)
        except AwsError as error:
            self._lost.add(_told(error))

    async def release(self) -> None:
        """Let go of connections and credentials, and of the stream: the next line makes its own."""
        self._stream, self._made, self._rests_until = None, False, 0.0
        await self._client.release()

    async def close(self) -> None:
        """Close connections."""
        await self._client.close()

    async def _put(self, line: bytes) -> None:
        stream = self._stream = self._stream or _new_name()
        if not self._made:
            await self._make(stream)
        try:
            await self._send(stream, line)
        except AwsError as error:
            if error.code != _GONE:
                raise
            await self._make(stream)  # somebody has deleted it
            await self._send(stream, line)

    async def _make(self, stream: str) -> None:
        asked = {"logGroupName": self._group, "logStreamName": stream}
        try:
            await self._client.call(_SERVICE, self._region, "CreateLogStream", asked, _Done)
        except AwsError as error:
            if error.code != _THERE:  # made by another call of this process, or by one whose answer was lost
                raise
        self._made = stream == self._stream

    async def _send(self, stream: str, line: bytes) -> None:
        event = {"timestamp": int(time.time() * 1000), "message": line.decode("utf-8", "replace")}
        asked = {"logGroupName": self._group, "logStreamName": stream, "logEvents": [event]}
        done = await self._client.call(_SERVICE, self._region, "PutLogEvents", asked, _Done)
        if done.rejected:
            self._lost.add("CloudWatch does not take lines of this time; set this machine's clock")


def _new_name() -> str:
    """Random bits of the system's: a generator's would be the same in all that are made from one snapshot."""
    return f"{datetime.now(UTC):%Y/%m/%d}/{os.urandom(16).hex()}"


def _told(error: AwsError) -> str:
    """With the service's code alone; what was found out on this side holds nothing of the line."""
    return (AwsError(error.code, "") if error.status else error).told(_ADVICE)
