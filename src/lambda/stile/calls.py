"""The story of one model call: route → send → meter → settle.

What comes back is either whole or a stream of events. Usage is settled when the body was handed over, or, for streams,
when they end, in whatever way they end.
"""

import random
from collections.abc import AsyncGenerator, Mapping

import msgspec

from stile.core import routes, sse, usage
from stile.core.body import Fields
from stile.core.records import Caller
from stile.core.routes import Routes, Target, Via
from stile.core.sse import StreamMeter
from stile.errors import Forbidden, ModelNotFound, UpstreamFailed
from stile.ports import Headers, Operation, Upstream, UpstreamAnswer, UpstreamRequest
from stile.telemetry import CallRecord


class ModelCall(msgspec.Struct, frozen=True):
    """A checked call. `size`: bytes of its body. `wants_usage`: the caller asked for usage at the end of the stream."""

    operation: Operation
    model: str
    fields: Fields
    size: int
    stream: bool
    wants_usage: bool
    headers: Headers


class Calls:
    """Takes model calls to their targets."""

    def __init__(self, table: Routes, upstreams: Mapping[Via, Upstream]) -> None:
        self._routes = table
        self._upstreams = upstreams

    async def make(self, caller: Caller, call: ModelCall, record: CallRecord) -> UpstreamAnswer:
        """Make the call and note what it used in `record`. Raises PublicError.

        A body that streams must be iterated to its end or closed: both settle the call.
        """
        record.model, record.stream = call.model, call.stream
        target = self._route(caller, call)
        record.target = target.label
        answer = await self._upstreams[target.via].send(
            UpstreamRequest(call.operation, target, call.fields, call.stream, call.headers)
        )
        if isinstance(answer.body, bytes):
            if answer.status < 400:
                _settle(record, _usage_of(answer.body, call))
            else:
                record.error = "upstream_error"
            return answer
        meter = StreamMeter(hide_usage=not call.wants_usage)
        return UpstreamAnswer(answer.status, answer.headers, _metered(answer.body, meter, call, record))

    def _route(self, caller: Caller, call: ModelCall) -> Target:
        targets = self._routes.find(call.model)
        if not targets:
            raise ModelNotFound(
                f"The model '{call.model}' does not exist here. GET /v1/models lists those you can use.", param="model"
            )
        if not caller.may_use(call.model):
            raise Forbidden(
                f"This API key may not use the model '{call.model}'.", code="model_not_allowed", param="model"
            )
        if len(targets) == 1:
            return targets[0]
        return routes.choose(targets, random.random())  # noqa: S311 (spreads load; nothing secret)


async def _metered(
    body: AsyncGenerator[bytes, None], meter: StreamMeter, call: ModelCall, record: CallRecord
) -> AsyncGenerator[bytes, None]:
    try:
        async for chunk in body:
            ready = meter.feed(chunk)
            if ready:
                yield ready
        rest = meter.close()
        if rest:
            yield rest
    except sse.EventTooLarge:
        raise UpstreamFailed(
            f"{record.target} sent an event of over {sse.MAX_EVENT_BYTES} bytes.", code="upstream_broken"
        ) from None
    except sse.EventCutOff:
        raise UpstreamFailed(f"{record.target} broke off its answer.", code="upstream_broken") from None
    finally:
        _settle(record, meter.usage_or_estimate(call.size))
        await body.aclose()


def _usage_of(body: bytes, call: ModelCall) -> usage.Usage:
    found = usage.find(body)
    if found is not None:
        return found.usage
    return usage.estimate(call.size, len(body) if call.operation == "chat" else 0)


def _settle(record: CallRecord, used: usage.Usage) -> None:
    record.input_tokens, record.output_tokens = used.input_tokens, used.output_tokens
    record.usage_estimated = used.estimated
