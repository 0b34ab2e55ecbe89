"""What a call costs."""

import itertools

import pytest

from stile.core.prices import Price, Rates, cost
from stile.core.usage import Usage

PLAIN = Price(Rates(input=3, output=15))
WHOLE = Price(
    Rates(input=3, output=15, cached=0.3, cache_write=3.75, cache_write_1h=6, reasoning=20),
    [(200_000, Rates(input=6, output=22, cached=0.6, cache_write=7.5)), (100_000, Rates(input=4, output=18))],
)


@pytest.mark.parametrize(
    ("price", "used", "dollars"),
    [
        (PLAIN, Usage(10, 4), 10 * 3 + 4 * 15),
        (PLAIN, Usage(0, 0), 0),
        (PLAIN, Usage(10, 4, cached_tokens=6, cache_write_tokens=2, reasoning_tokens=3), 10 * 3 + 4 * 15),
        (WHOLE, Usage(10, 4, cached_tokens=6), 4 * 3 + 6 * 0.3 + 4 * 15),
        (WHOLE, Usage(10, 4, cache_write_tokens=6), 4 * 3 + 6 * 3.75 + 4 * 15),
        (WHOLE, Usage(10, 4, cache_write_tokens=6, cache_write_1h_tokens=5), 4 * 3 + 3.75 + 5 * 6 + 4 * 15),
        (WHOLE, Usage(10, 4, reasoning_tokens=3), 10 * 3 + 15 + 3 * 20),
        (WHOLE, Usage(100_000, 1), 100_000 * 3 + 15),
        (WHOLE, Usage(100_001, 1), 100_001 * 4 + 18),
        (WHOLE, Usage(200_001, 1, cached_tokens=1, reasoning_tokens=1), 200_000 * 6 + 0.6 + 22),
    ],
)
def test_each_kind_of_tokens_has_its_rate(price: Price, used: Usage, dollars: float) -> None:
    assert cost(price, used) == pytest.approx(dollars)


def test_no_figures_make_a_call_cost_less_than_nothing_or_more_than_its_dearest_tokens() -> None:
    odd = [-5, 0, 3, 10, 10**12]
    for sent, received, cached, written, for_an_hour, reasoned in itertools.product(odd, repeat=6):
        used = Usage(sent, received, False, cached, written, for_an_hour, reasoned)
        most = max(sent, 0) * 7.5 + max(received, 0) * 22
        assert 0 <= cost(WHOLE, used) <= most * 1.000001
