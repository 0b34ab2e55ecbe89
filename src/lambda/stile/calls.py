"""The story of one model call: route → attempts → meter → settle.

A target that does not take the operation as it is, but chats, is asked in a chat (see `dialects`), and its answer is
made what the caller expects. An attempt that fails is followed by the next one of the plan until the first event of a
stream, or a whole answer, is there: from then on it is the answer. Usage is settled when the body was handed over, or,
for streams, when they end, in whatever way they end.
"""

import asyncio
import logging
import math
import random
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from stile import answers, dialects
from stile.core import envelope, failures, prices, sse, usage
from stile.core.body import Fields
from stile.core.failures import Failure
from stile.core.form import Form
from stile.core.health import Health
from stile.core.operations import THROUGH_CHAT, Operation
from stile.core.plan import Plan
from stile.core.prices import Price
from stile.core.records import Caller
from stile.core.routes import Routes, Target, Via
from stile.core.sse import StreamMeter
from stile.core.usage import Usage
from stile.dialects import Translation
from stile.errors import BadRequest, Forbidden, ModelNotFound, PublicError, UpstreamFailed, UpstreamTimeout
from stile.patience import Patience, Patiences
from stile.ports import Headers, Upstream, UpstreamAnswer, UpstreamRequest, told_dropped
from stile.telemetry.records import CallRecord

UPSTREAM_ERROR = "upstream_error"  # what the log says of a provider's own refusal, which goes to the caller
IDLE_SECONDS = 300.0  # between two events of a stream, where the configuration says nothing

_JSON: Headers = [(b"content-type", b"application/json")]
# Their streams say what was used in an event of its own, when they are asked to; their answers are made of tokens.
_CHATS = frozenset({"chat", "completions"})
_TEXTS = _CHATS | {"responses", "messages"}
_PRICED_BY_TOKEN = _TEXTS | {"embeddings"}
_MEANING = {
    "upstream_unreachable": failures.UNREACHABLE,
    "upstream_broken": failures.BROKEN,
    "upstream_timeout": failures.TIMEOUT,
}


_log = logging.getLogger("stile.calls")


class Secrets(Protocol):
    """Those of the configuration."""

    def look(self) -> None:
        """Renew them in the background when they are old."""

    async def now(self) -> bool:
        """Renew them; answers whether any has changed."""


class Prices(Protocol):
    """What models cost."""

    def find(self, target: Target, served: str | None) -> Price | None:
        """The price of a target's model; `served` is what its answer calls it. None where it is not known."""


class ModelCall(msgspec.Struct, frozen=True):
    """A checked call. `size`: bytes of its body. `wants_usage`: the caller asked for usage at the end of the stream.
    `trace`: headers that tell the provider which trace it belongs to. `form`: its body where that is one. `dropped`:
    what of the body was left out already."""

    operation: Operation
    model: str
    fields: Fields
    size: int
    stream: bool
    wants_usage: bool
    headers: Headers
    trace: Headers = ()
    form: Form | None = None
    dropped: Sequence[str] = ()


class _Failed(Exception):
    """One attempt's end, and what the caller is told when no other follows."""

    def __init__(self, failure: Failure, told: UpstreamAnswer | PublicError) -> None:
        super().__init__(failure.kind)
        self.failure = failure
        self.told = told


class _Opened(NamedTuple):
    """A stream of which something is here: whose it is, what can go on already, what is to come, and its meter."""

    target: Target
    first: bytes
    body: AsyncGenerator[bytes, None]
    meter: StreamMeter


class Calls:
    """Takes model calls to their targets, and has the configuration's secrets renewed when a provider refuses one. Made
    inside the event loop."""

    def __init__(
        self,
        routes: Routes,
        upstreams: Mapping[Via, Upstream],
        health: Health,
        secrets: Secrets,
        price_list: Prices,
    ) -> None:
        self._routes = routes
        self._prices = price_list
        self._upstreams = upstreams
        self._health = health
        self._secrets = secrets
        self._patiences = Patiences()
        self._random = random.Random()  # noqa: S311 (it spreads load; asking the system would cost a call 1 µs a target)

    def restored(self) -> None:
        """Take chances of its own: all that are made from one snapshot would have the same."""
        self._random.seed()

    async def make(self, caller: Caller, call: ModelCall, record: CallRecord, ends: float = math.inf) -> UpstreamAnswer:
        """Make the call and note what it used in `record`. Raises PublicError.

        `ends`: when its time is over, by the loop's clock. A body that streams must be iterated to its end or closed:
        both settle the call.
        """
        self._secrets.look()
        record.model, record.stream = call.model, call.stream
        record.model_name = self._routes.configured(call.model)
        group = self._routes.find(call.model)
        if group is None:
            raise ModelNotFound(
                f"The model '{call.model}' does not exist here. GET /v1/models lists those you can use.", param="model"
            )
        if not caller.may_use(call.model):
            raise Forbidden(
                f"This API key may not use the model '{call.model}'.", code="model_not_allowed", param="model"
            )
        try:
            return await self._walk(Plan(self._routes, self._health, group, self._random.random), call, record, ends)
        except asyncio.CancelledError:
            self._settle(record, call, None, usage.estimate(call.size, 0))
            raise

    async def _walk(self, plan: Plan, call: ModelCall, record: CallRecord, ends: float) -> UpstreamAnswer:
        """Attempt after attempt, until one succeeds or none is left: then what the last one ended with."""
        now = asyncio.get_running_loop().time
        last: _Failed | None = None
        while (step := plan.next(now(), ends)) is not None:
            target, wait = step
            if wait:
                record.upstream_ms += wait * 1000
                await asyncio.sleep(wait)
            try:
                answer = await self._attempt(target, call, record)
            except _Failed as failed:
                _log.debug("request %s: attempt %d, %s: %s", record.request_id, record.attempts, target.id, failed)
                if last is None or failed.failure is not failures.NOT_TAKEN:
                    last = failed
                plan.failed(target, failed.failure, now())
                _note(record, target, failed.failure)
                if failed.failure.kind == "unauthorized" and await self._secrets.now():
                    plan.renew()
            else:
                _log.debug("request %s: attempt %d, %s: answers", record.request_id, record.attempts, target.id)
                return answer
        assert last is not None, "every model has a target"  # noqa: S101
        if isinstance(last.told, PublicError):
            raise last.told
        record.error = UPSTREAM_ERROR
        return last.told

    async def _attempt(self, target: Target, call: ModelCall, record: CallRecord) -> UpstreamAnswer:
        """One attempt: a whole answer, or a stream whose first event is here. Raises _Failed."""
        record.target, record.target_id = target.label, target.id
        record.attempts += 1
        patience = self._patiences.begin((target.stream_timeout if call.stream else None) or target.timeout)
        began = time.perf_counter()
        try:
            return await self._send(target, call, record, patience)
        except asyncio.CancelledError:
            if not patience.lost():
                raise
            raise _Failed(failures.TIMEOUT, UpstreamTimeout(f"{target.label} did not answer in time.")) from None
        except PublicError as error:
            raise _Failed(_meaning(error), error) from error
        finally:
            patience.stop()
            record.upstream_ms += (time.perf_counter() - began) * 1000

    async def _send(self, target: Target, call: ModelCall, record: CallRecord, patience: Patience) -> UpstreamAnswer:
        way, request, translation = _asked(target, call)
        answer = await self._upstreams[way].send(request)
        body = answer.body
        if isinstance(body, bytes):
            if answer.status >= 400:
                raise _Failed(failures.read(answer.status, answer.headers, body, time.time()), answer)
            self._health.succeeded(target)
            self._settle(record, call, target, _usage_of(body, call))
        elif answer.events:
            hide = request.operation in _CHATS and not call.wants_usage and translation is None
            opened = await _open(body, StreamMeter(hide_usage=hide), target)
            limit = patience.limit or IDLE_SECONDS
            answer = msgspec.structs.replace(answer, body=self._metered(opened, limit, call, record))
        else:
            answer = msgspec.structs.replace(answer, body=self._counted(target, body, call, record))
        if translation is not None:
            answer = answers.translated(answer, translation, stream=call.stream)
        return told_dropped(answer, call.dropped) if call.dropped else answer

    async def _metered(
        self, opened: _Opened, limit: float, call: ModelCall, record: CallRecord
    ) -> AsyncGenerator[bytes, None]:
        """The stream to its end, whichever it is: then the target's health is known, and the call's usage."""
        feed, following = opened.meter.feed, opened.body.__anext__
        now = asyncio.get_running_loop().time
        patience = Patience(limit)
        try:
            yield opened.first
            patience.wait()
            while True:
                patience.until = now() + limit
                try:
                    chunk = await following()
                except StopAsyncIteration:
                    break
                patience.until = None
                ready = feed(chunk)
                if ready:
                    yield ready
            rest = opened.meter.close()
            if rest:
                yield rest
            self._health.succeeded(opened.target)
        except (asyncio.CancelledError, sse.EventTooLarge, sse.EventCutOff, PublicError) as error:
            told = _told(error, patience, opened.target)
            if told is None:
                raise
            self._health.failed(opened.target, _meaning(told), now())
            raise told from None
        finally:
            patience.stop()
            self._settle(record, call, opened.target, opened.meter.usage_or_estimate(call.size))
            await opened.body.aclose()

    async def _counted(
        self, target: Target, body: AsyncGenerator[bytes, None], call: ModelCall, record: CallRecord
    ) -> AsyncGenerator[bytes, None]:
        """Bytes that are no events, to their end."""
        try:
            async for chunk in body:
                yield chunk
            self._health.succeeded(target)
        except PublicError as error:
            self._health.failed(target, _meaning(error), asyncio.get_running_loop().time())
            raise
        finally:
            self._settle(record, call, target, usage.estimate(call.size, 0))
            await body.aclose()

    def _settle(self, record: CallRecord, call: ModelCall, target: Target | None, used: Usage) -> None:
        """Note what was used, and what that costs where its price is known. `target`: None when none has answered."""
        record.input_tokens, record.output_tokens = used.input_tokens, used.output_tokens
        record.cached_tokens, record.reasoning_tokens = used.cached_tokens, used.reasoning_tokens
        record.usage_estimated = used.estimated
        if target is None:
            return
        record.model_served = used.model or target.model
        price = self._prices.find(target, used.model) if call.operation in _PRICED_BY_TOKEN else None
        if price is not None:
            record.cost_usd = prices.cost(price, used)


def _asked(target: Target, call: ModelCall) -> tuple[Via, UpstreamRequest, Translation | None]:
    """What the target is asked, and how its answer is made the caller's. Raises BadRequest for what it cannot do."""
    way = target.way(call.operation)
    if way is not None:
        asked = UpstreamRequest(call.operation, target, call.fields, call.stream, call.headers, call.trace, call.form)
        return way, asked, None
    way = target.way("chat") if call.operation in THROUGH_CHAT else None
    if way is None:
        raise BadRequest(
            f"The model '{call.model}' cannot be asked for this ({call.operation}).",
            code="unsupported_operation",
            param="model",
        )
    translation = dialects.through_chat(call.operation, call.fields, call.model, target)
    return way, UpstreamRequest("chat", target, translation.fields, call.stream, (), call.trace), translation


async def _open(body: AsyncGenerator[bytes, None], meter: StreamMeter, target: Target) -> _Opened:
    """A stream up to its first event, the comments before it included. Raises _Failed for an error in its place, and
    UpstreamFailed when it ends without one; then the stream is closed."""
    ready = b""
    try:
        async for chunk in body:
            ready += meter.feed(chunk)
            if ready.startswith(b"data:") or (ready and sse.first_data(ready) is not None):
                break
        else:
            ready += meter.close()
        data = sse.first_data(ready)
        if data is None:
            raise sse.EventCutOff
        if (error := failures.in_stream(data)) is not None:
            status, failure = error
            said = target.without_secrets(data.decode("utf-8", "replace")).encode()
            raise _Failed(failure, UpstreamAnswer(status, _JSON, envelope.keep_or_wrap(said, status, target.label)))
    except (sse.EventTooLarge, sse.EventCutOff) as error:
        await body.aclose()
        raise _broken(error, target.label) from None
    except BaseException:
        await body.aclose()
        raise
    return _Opened(target, ready, body, meter)


def _told(error: BaseException, patience: Patience, target: Target) -> PublicError | None:
    """What a stream that has begun ends with; None when it was the call that was ended."""
    if isinstance(error, PublicError):
        return error
    if isinstance(error, sse.EventTooLarge | sse.EventCutOff):
        return _broken(error, target.label)
    return UpstreamTimeout(f"{target.label} stopped in the middle of its answer.") if patience.lost() else None


def _broken(error: sse.EventTooLarge | sse.EventCutOff, who: str) -> UpstreamFailed:
    if isinstance(error, sse.EventTooLarge):
        return UpstreamFailed(f"{who} sent an event of over {sse.MAX_EVENT_BYTES} bytes.", code="upstream_broken")
    return UpstreamFailed(f"{who} broke off its answer.", code="upstream_broken")


def _meaning(error: PublicError) -> Failure:
    """What an adapter's error means for the plan; of an error that is not about the target, that no other helps."""
    if isinstance(error, BadRequest):
        return failures.NOT_TAKEN
    return _MEANING.get(error.code or "", failures.REFUSED)


def _note(record: CallRecord, target: Target, failure: Failure) -> None:
    """Failed attempts are seen in the log even when another one succeeded."""
    if record.failed_attempts is msgspec.UNSET:
        record.failed_attempts = []
    record.failed_attempts.append(f"{target.label} {failure.kind}")


def _usage_of(body: bytes, call: ModelCall) -> Usage:
    found = usage.find(body)
    if found is not None:
        return found.usage
    return usage.estimate(call.size, len(body) if call.operation in _TEXTS else 0)
