"""The outage game, played for longer than `make test` has time for."""

import pytest
from tests import test_outage


@pytest.mark.parametrize("part", range(4))
def test_no_call_is_lost_or_answered_twice_in_a_long_game(part: int) -> None:  # noqa: ARG001 (each is another game)
    test_outage.play(games=10, steps=15)
