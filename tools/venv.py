"""Run Python in an environment made from one lock file: `python3 tools/venv.py LOCK [--] ARGUMENTS…`.

The environment lives outside the checkout, under the user's cache, named by the lock's content and the interpreter,
so every clone with the same lock shares it and a changed lock makes a new one. Only the standard library is used:
this is the first thing that runs on a fresh machine.
"""

import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

OLDEST = (3, 11)


def cache_folder() -> pathlib.Path:
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "stile"


def environment(lock: pathlib.Path) -> pathlib.Path:
    """The environment for `lock`, made first if there is none; answers its folder."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    content = hashlib.sha256(lock.read_bytes() + sys.base_prefix.encode()).hexdigest()[:12]
    folder = cache_folder() / f"{lock.stem}-py{version}-{content}"
    ready = folder / ".ready"
    if ready.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not ready.exists():
            make(folder, lock)
            ready.touch()
    return folder


def make(folder: pathlib.Path, lock: pathlib.Path) -> None:
    print(f"Making the Python environment for {lock.name} (once; a minute or two) …", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    # The lock names every package that is needed, down to the last, so pip has nothing to find out.
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
    command = [str(folder / "bin" / "python"), *install, "-r", str(lock)]
    installed = subprocess.run(command, capture_output=True, text=True, check=False)
    if installed.returncode:
        print(installed.stdout + installed.stderr, file=sys.stderr)
        installed.check_returncode()
    # Without bytecode every start compiles LiteLLM's thousands of files again: an installer may have left it out.
    subprocess.run([folder / "bin" / "python", "-m", "compileall", "-q", "-j", "0", folder / "lib"], check=False)


def main() -> int:  # noqa: RET503 (execv does not return)
    if sys.version_info < OLDEST:
        print(f"Stile needs Python 3.11 or newer; this is {sys.version.split()[0]}.", file=sys.stderr)
        print("Name another one: make run PYTHON=python3.12", file=sys.stderr)
        return 1
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    arguments = sys.argv[3:] if sys.argv[2:3] == ["--"] else sys.argv[2:]
    try:
        python = environment(pathlib.Path(sys.argv[1])) / "bin" / "python"
    except subprocess.CalledProcessError as failure:
        print(f"The environment could not be made: {failure}", file=sys.stderr)
        return 1
    os.execv(python, [str(python), *arguments])  # does not return


if __name__ == "__main__":
    sys.exit(main())
