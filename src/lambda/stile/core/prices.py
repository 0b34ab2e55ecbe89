"""What a call costs, from its usage and the model's price.

Providers charge for tokens in several ways: what came from their cache costs less, what was put into it often more, and
above some size of the input all tokens of the call cost more. Where a price says nothing of a part, that part costs
what the whole does.
"""

from collections.abc import Sequence

import msgspec

from stile.core.usage import Usage

FIELDS = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cached",
    "cache_creation_input_token_cost": "cache_write",
    "cache_creation_input_token_cost_above_1hr": "cache_write_1h",
    "output_cost_per_reasoning_token": "reasoning",
}
"""LiteLLM's names of rates, and ours."""


class Rates(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """US dollars per token. None: as the input, as `cache_write`, as the output."""

    input: float
    output: float
    cached: float | None = None
    cache_write: float | None = None
    cache_write_1h: float | None = None
    reasoning: float | None = None


class Price(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """A model's price. `tiers`: input tokens above which other rates hold for the whole call, largest first."""

    rates: Rates
    tiers: Sequence[tuple[int, Rates]] = ()


def cost(price: Price, used: Usage) -> float:
    """US dollars: the sum of each kind of tokens times its rate. Parts that exceed their whole are cut to it."""
    sent, received = max(used.input_tokens, 0), max(used.output_tokens, 0)
    rates = next((rates for above, rates in price.tiers if sent > above), price.rates)
    cached = _part(used.cached_tokens, sent)
    written = _part(used.cache_write_tokens, sent - cached)
    for_an_hour = _part(used.cache_write_1h_tokens, written)
    reasoned = _part(used.reasoning_tokens, received)
    write = _or(rates.cache_write, rates.input)
    return (
        (sent - cached - written) * rates.input
        + cached * _or(rates.cached, rates.input)
        + (written - for_an_hour) * write
        + for_an_hour * _or(rates.cache_write_1h, write)
        + (received - reasoned) * rates.output
        + reasoned * _or(rates.reasoning, rates.output)
    )


def _part(tokens: int | None, whole: int) -> int:
    return min(max(tokens or 0, 0), whole)


def _or(rate: float | None, otherwise: float) -> float:
    return otherwise if rate is None else rate
