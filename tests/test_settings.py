"""The environment's settings, and their documentation."""

import re
from pathlib import Path

import pytest

from stile import settings
from stile.errors import ConfigError

DOC = Path(__file__).parent.parent / "doc" / "config.md"


def test_without_an_environment_there_are_defaults() -> None:
    read = settings.read({})
    assert (read.host, read.port, read.home, read.config) == ("127.0.0.1", 4000, Path(".stile"), None)
    assert read.max_body_bytes == 32 * 1024 * 1024


def test_all_faults_are_told_at_once_with_the_nearest_name() -> None:
    wrong = {"STILE_PROT": "1", "STILE_PORT": "http", "STILE_MAX_BODY_BYTES": "5", "STILE_FETCH_URLS": "maybe"}
    with pytest.raises(ConfigError) as refused:
        settings.read(wrong)
    faults = refused.value.faults
    assert len(faults) == 4
    assert "did you mean STILE_PORT?" in faults[0]


def test_the_clients_own_variables_are_no_fault() -> None:
    assert settings.read({"STILE_URL": "http://127.0.0.1:4000", "STILE_API_KEY": "x"}) == settings.read({})


def test_every_setting_is_documented_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(STILE_\w+)` \| `?([^|`]*)`? \|", DOC.read_text(), re.MULTILINE))
    assert {name: default.strip() for name, default in rows.items()} == {
        name: setting.default for name, setting in settings.SETTINGS.items()
    }
