"""The built artifact, and code that runs with it alone."""

import os
import subprocess
import sys
from pathlib import Path

from tests.e2e.rie import ARTIFACT, ROOT

# Credentials as Lambda has them, and nothing of the machine's own: no keys, no proxies, no folders.
_ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "AWS_REGION": "eu-central-1",
    "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "example",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
}


def alone(code: str, *arguments: str) -> str:
    """What a bare interpreter prints that can import the artifact and the standard library."""
    return _run([str(Path(sys.base_prefix) / "bin" / "python3"), "-I", "-S"], ARTIFACT, code, arguments)


def with_nothing_left_out(code: str, *arguments: str) -> str:
    """The same by the sources and all of the locked packages."""
    return _run([sys.executable, "-I"], ROOT / "src" / "lambda", code, arguments)


def _run(python: list[str], modules: Path, code: str, arguments: tuple[str, ...]) -> str:
    command = [*python, "-c", f"import sys; sys.path.insert(0, {str(modules)!r})\n{code}", *arguments]
    done = subprocess.run(command, env=_ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
