"""What tests of the dialects share: one stage for each worker."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import stage as stages
from tests.stage import Stage


@pytest.fixture(scope="session")
def stage(output: Path) -> Iterator[Stage]:
    with stages.running(Path(tempfile.mkdtemp(dir=output))) as running:
        yield running
