"""`stile` installed as its users install it, from the folder, into an environment that has nothing else."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests import program
from tests.cli.terminal import CLI

SECONDS = 300


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The installed program; the folder is a copy, in which nothing may be left behind."""
    folder = tmp_path_factory.mktemp("cli")
    shutil.copytree(CLI, folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
    before = sorted(folder.joinpath("source").rglob("*"))
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    pip: list[str | Path] = [
        folder / "venv" / "bin" / "python",
        "-m",
        "pip",
        "install",
        "-q",
        "--disable-pip-version-check",
    ]
    for wanted in (["-r", str(CLI / "requirements.txt")], [f"{folder / 'source'}[keyring]"]):
        made = subprocess.run([*pip, *wanted], capture_output=True, text=True, timeout=SECONDS, check=False)
        assert made.returncode == 0, made.stderr
    assert sorted(folder.joinpath("source").rglob("*")) == before
    return folder / "venv" / "bin" / "stile"


def test_the_installed_program_logs_in_and_chats(installed: Path, folder: Path, tmp_path: Path) -> None:
    env = {"HOME": str(tmp_path), "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"}

    def stile(*arguments: str, stdin: str = "") -> str:
        done = subprocess.run(
            [installed, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=program.WAIT,
            check=False,
            env=env,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    with program.running(folder) as gateway:
        stile("login", gateway.base, stdin=gateway.key)
        assert stile("chat", "Hello", "--model", "echo").endswith("You said: Hello\n")
