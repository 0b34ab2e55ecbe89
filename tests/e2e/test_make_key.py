"""`make key`, more often than one admin has slots for keys."""

from pathlib import Path

from tests import program
from tests.program import environment


def test_make_key_never_runs_out_of_slots(folder: Path) -> None:
    env = environment(folder / "home")
    made = {program.run("key", env=env).stdout.strip() for _ in range(22)}
    assert len(made) == 22
    with program.running(folder) as gateway:
        assert {gateway.ask("GET", "/v1/models", key=key).status for key in made} == {200}
