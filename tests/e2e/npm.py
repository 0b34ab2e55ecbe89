"""Packages of npm, installed once into the user's cache by the lock that stands beside their package.json."""

import fcntl
import hashlib
import shutil
import subprocess
from pathlib import Path

from tools import venv

_INSTALL = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund"]


def installed(packages: Path) -> Path:
    """The folder in which `node_modules` is, made first if there is none. No package's own scripts are run."""
    lock = packages / "package-lock.json"
    assert shutil.which("npm"), "npm is missing: the tests of make e2e need Node, 20 or newer"
    folder = venv.cache_folder() / f"{packages.name}-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    ready = folder / ".ready"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not ready.exists():
            for name in ("package.json", "package-lock.json"):
                shutil.copy(packages / name, folder)
            subprocess.run(_INSTALL, cwd=folder, check=True, stdout=subprocess.DEVNULL)
            ready.touch()
    return folder
