"""Where the client programs are: those of npm without their installers' scripts, so with links to what these would have
chosen; those of PyPI each in an environment of its own."""

import platform
from pathlib import Path

from tests.e2e import npm
from tools import venv

HERE = Path(__file__).parent
_MACHINE = {"x86_64": "x64", "aarch64": "arm64"}
_LOCKS = {
    **{name: HERE / f"{name}.txt" for name in ("aider", "llm", "sdks")},
    "dev": HERE.parent.parent.parent / "requirements-dev.txt",
}


def folder(program: str, needs: str = "") -> Path:
    """The folder that a program is in, once it is installed; `needs` names the lock of its Python packages. Fails when
    it is not there then."""
    lock = _LOCKS.get(needs or program)
    found = _of_npm() if lock is None else venv.environment(lock) / "bin"
    assert (found / program).exists(), f"NOT RUN: {program} could not be installed; there is no {found / program}"
    return found


def modules() -> Path:
    """Where Node finds the packages."""
    return npm.installed(HERE) / "node_modules"


def _of_npm() -> Path:
    packages = modules()
    machine = _MACHINE[platform.machine()]
    opencode = "opencode-linux-x64-baseline" if machine == "x64" else "opencode-linux-arm64"  # runs on older CPUs too
    links = {
        "node": packages / f"node-linux-{machine}" / "bin" / "node",
        "claude": packages / "@anthropic-ai" / f"claude-code-linux-{machine}" / "claude",
        "opencode": packages / opencode / "bin" / "opencode",
        **{name: packages / ".bin" / name for name in ("codex", "copilot", "cn", "cline")},
    }
    found = packages.parent / "bin"
    found.mkdir(exist_ok=True)
    for name, program in links.items():
        if not (found / name).is_symlink():
            (found / name).symlink_to(program)
    return found
