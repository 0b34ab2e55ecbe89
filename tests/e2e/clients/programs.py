"""Where the client programs are: those of npm without their installers' scripts, so with links to what these would have
chosen; those of PyPI each in an environment of its own."""

import platform
from pathlib import Path

from tests.e2e import npm
from tools import venv

HERE = Path(__file__).parent
_MACHINE = {"x86_64": "x64", "aarch64": "arm64"}
_OF_PYPI = ("aider", "llm")


def folders(program: str) -> list[Path]:
    """Folders to look for a program in, where it is installed. Fails when it is not there then."""
    found = venv.environment(HERE / f"{program}.txt") / "bin" if program in _OF_PYPI else _of_npm()
    assert (found / program).exists(), f"NOT RUN: {program} could not be installed; there is no {found / program}"
    return [found]


def _of_npm() -> Path:
    modules = npm.installed(HERE) / "node_modules"
    machine = _MACHINE[platform.machine()]
    opencode = "opencode-linux-x64-baseline" if machine == "x64" else "opencode-linux-arm64"  # runs on older CPUs too
    links = {
        "node": modules / f"node-linux-{machine}" / "bin" / "node",
        "claude": modules / "@anthropic-ai" / f"claude-code-linux-{machine}" / "claude",
        "opencode": modules / opencode / "bin" / "opencode",
        "codex": modules / ".bin" / "codex",
        "copilot": modules / ".bin" / "copilot",
    }
    found = modules.parent / "bin"
    found.mkdir(exist_ok=True)
    for name, program in links.items():
        if not (found / name).is_symlink():
            (found / name).symlink_to(program)
    return found
