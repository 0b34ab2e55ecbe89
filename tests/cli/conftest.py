"""A gateway with users in SQLite, and one with users in Cognito, each with a terminal whose admin is logged in."""

import hashlib
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests import program
from tests.cli.terminal import Terminal
from tests.program import Program


@dataclass
class Place:
    """A gateway that runs, and the token that was deployed with it."""

    gateway: Program
    token: str = field(repr=False)


@pytest.fixture(scope="session")
def place(output: Path, directory: dict[str, str]) -> Iterator[Place]:
    token = secrets.token_hex(32)
    settings = {"STILE_BOOTSTRAP_SHA256": hashlib.sha256(token.encode()).hexdigest(), **directory}
    with program.running(Path(tempfile.mkdtemp(dir=output)), **settings) as running:
        yield Place(running, token)


@pytest.fixture(scope="session")
def first(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Terminal:
    """The first admin, who came by the token."""
    admin = Terminal(tmp_path_factory.mktemp("admin"))
    made = admin.ok("bootstrap", place.gateway.base, "--email", "admin@example.com", "--json", stdin=place.token)
    assert made.json["user"]["role"] == "admin"
    return Terminal(admin.home, {"STILE_URL": place.gateway.base, "STILE_API_KEY": made.json["key"]})


@pytest.fixture
def admin(first: Terminal, tmp_path: Path) -> Terminal:
    """A terminal of the admin's for one test; the environment says who."""
    return Terminal(tmp_path, dict(first.env))
