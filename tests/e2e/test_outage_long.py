"""The outage game, played for longer than `make test` has time for."""

from tests import test_outage


def test_no_call_is_lost_or_answered_twice_in_a_long_game() -> None:
    test_outage.play(games=40, steps=15)
