"""`stile` as its users have it: a process in an environment that has its packages and none of the gateway's."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from tests.program import WAIT
from tools import venv

ROOT = Path(__file__).parent.parent.parent
CLI = ROOT / "src" / "cli"


@cache
def python() -> str:
    """The Python of the environment."""
    return str(venv.environment(CLI / "requirements.txt") / "bin" / "python")


@dataclass
class Said:
    code: int
    out: str = field(repr=False)  # it may hold a key
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Terminal:
    """A person's machine: a home folder, and what is in the environment beside it."""

    home: Path
    env: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def environment(self) -> dict[str, str]:
        base = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        # No keyring of this machine's: the file is what is tested, except where a test names another.
        quiet = {"PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring", "PYTHONPATH": str(CLI)}
        return {**base, "HOME": str(self.home), "NO_COLOR": "1", "PYTHONWARNINGS": "error", **quiet, **self.env}

    def run(self, *arguments: str, stdin: str = "") -> Said:
        """One command, to its end."""
        ended = subprocess.run(
            [python(), "-m", "stile_cli", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=WAIT,
            check=False,
            env=self.environment,
            cwd=self.home,
        )
        return Said(ended.returncode, ended.stdout, ended.stderr)

    def ok(self, *arguments: str, stdin: str = "") -> Said:
        """One that succeeds."""
        said = self.run(*arguments, stdin=stdin)
        assert said.code == 0, (arguments[:2], said.err)
        return said

    def record(self, *arguments: str) -> Any:
        """What one answers with --json."""
        return self.ok(*arguments, "--json").json

    def profiles(self) -> Path:
        """The file of profiles."""
        name = "Library/Application Support" if sys.platform == "darwin" else ".config"
        return self.home / name / "stile" / "profiles.toml"
