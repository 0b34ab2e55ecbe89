"""How lost lines are told: the first at once, then their number, at most once a minute."""

import pytest

from stile.adapters.lost_lines import PAUSE_SECONDS, LostLines


def test_the_first_is_told_at_once_and_the_others_with_their_number_a_minute_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 5.0
    lost = LostLines("There", clock=lambda: now)
    for _ in range(1000):
        lost.add("it rains")
        now += PAUSE_SECONDS / 1000
    assert caplog.messages == ["There: a line was lost: it rains"]
    now = 5.0 + PAUSE_SECONDS
    lost.add("it snows")
    lost.add("it hails")
    assert caplog.messages[1:] == ["There: 1000 lines were lost: it snows"]
