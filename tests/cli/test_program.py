"""The program itself: what its help imports and costs, its page, and which packages it may use."""

import ast
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.terminal import CLI, Terminal, python
from tools import cli_page

FILES = sorted((CLI / "stile_cli").rglob("*.py"))
LIBRARIES = {"click": None, "httpx": {"rest.py"}, "truststore": {"rest.py"}, "rich": {"output.py"}}
LIBRARIES |= {"keyring": {"profiles.py"}, "tomlkit": {"profiles.py"}}


def test_the_page_of_the_commands_is_fresh() -> None:
    assert cli_page.PAGE.read_text() == cli_page.text(), "make schema writes it anew"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_nothing_of_the_gateways_is_imported_and_each_library_has_its_file(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        named = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        named += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for top in {name.split(".")[0] for name in named} - {"stile_cli"} - set(sys.stdlib_module_names):
            assert top in LIBRARIES, top
            assert (files := LIBRARIES[top]) is None or path.name in files, top


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    script = "import sys, stile_cli.main\nprint(*sorted({name.split('.')[0] for name in sys.modules}))"
    env = Terminal(tmp_path).environment
    loaded = subprocess.run(
        [python(), "-c", script], capture_output=True, text=True, check=True, env=env
    ).stdout.split()
    assert "click" in loaded
    assert not {"httpx", "rich", "keyring", "tomlkit", "truststore", "ssl", "stile"} & set(loaded)


def test_help_is_quick(tmp_path: Path) -> None:
    """At most twelve times what Python takes to do nothing: the best of several, turn by turn."""
    env = Terminal(tmp_path).environment

    def cpu(*arguments: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([python(), *arguments], check=True, env=env, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    rounds = [(cpu("-c", "pass"), cpu("-m", "stile_cli", "--help")) for _ in range(7)]
    nothing, help_ = (min(column) for column in zip(*rounds, strict=True))
    assert help_ <= 12 * nothing
