"""Builds the Lambda artifact on any machine: locked wheels for the target, what is needed of them, bytecode, one zip.

`make build` calls it. The same sources and locks give the same bytes.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from tools import prune

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "lambda"
LOCK = SOURCE / "requirements.txt"
OWN = ("app.py", "bootstrap", "stile")
TREE, PACKAGE = ROOT / "build" / "lambda", ROOT / "build" / "lambda.zip"
TASK_ROOT = "/var/task"  # where Lambda puts the artifact: tracebacks name it
PLATFORMS = {"arm64": "aarch64-manylinux_2_28", "x86_64": "x86_64-manylinux_2_28"}  # Amazon Linux 2023 has glibc 2.34
LIMIT_BYTES = 200_000_000  # Lambda's own is 250 MiB, layers included
SHOWN = 10
_PLACEHOLDER = "https://placeholder.invalid"  # an address, for those that are variables too
_LONG_AGO = (1980, 1, 1, 0, 0, 0)


class BuildError(Exception):
    """The artifact cannot be built. The text says what to do."""


def main() -> int:
    options = _options()
    try:
        into = options.into or TREE
        build(into, options.arch, options.python, options.config)
        if not options.into:
            write_zip(into, PACKAGE)
        report(into, None if options.into else PACKAGE)
    except (BuildError, prune.Stale) as error:
        print(f"build: {error}", file=sys.stderr)
        return 1
    return 0


def build(tree: Path, arch: str, version: str, config: Path | None) -> None:
    """Leave the artifact's tree at `tree`. Raises BuildError."""
    compiler = None if os.environ.get("ALLOW_NO_PYC") == "1" else interpreter(version)
    if config is not None:
        check(config)
    _make_room(tree)
    install(tree, arch, version)
    prune.prune(tree)
    if compiler is not None:
        compile_packages(tree, compiler)
    for name in OWN:
        _copy(SOURCE / name, tree / name)
    _write_prices(tree)
    if config is not None:
        shutil.copyfile(config, tree / "config.yaml")
    if compiler is not None:
        _compile(compiler, tree, tree / "app.py", tree / "stile")
    else:
        print("build: WITHOUT BYTECODE (ALLOW_NO_PYC=1): each cold start compiles what it imports", file=sys.stderr)
    _set_modes(tree)


def _write_prices(tree: Path) -> None:
    """What a start needs to know of the packed LiteLLM's map of models."""
    sys.path.insert(0, str(SOURCE))
    from stile.adapters import price_map  # noqa: PLC0415 (the sources that are built)

    (tree / "stile" / price_map.PACKED.name).write_bytes(price_map.pack(tree / "litellm"))


def check(config: Path) -> None:
    """That a start would take the model file, whatever its variables and secrets will hold. Raises BuildError."""
    if not config.is_file():
        raise BuildError(f"CONFIG={config}: there is no such file")
    sys.path.insert(0, str(SOURCE))
    from stile import modelfile  # noqa: PLC0415 (the sources that are built)
    from stile.errors import ConfigError  # noqa: PLC0415

    content = config.read_bytes()
    variables = re.findall(rb"os\.environ/(\w+)", content)
    environment = {"AWS_REGION": "eu-west-1", **{name.decode(): _PLACEHOLDER for name in variables}}
    try:
        secrets = dict.fromkeys(modelfile.references(str(config), content), _PLACEHOLDER)
        modelfile.read(str(config), content, environment, secrets)
    except ConfigError as error:
        raise BuildError(f"CONFIG={config}: a start would refuse it:\n{error}") from None


def install(tree: Path, arch: str, version: str) -> None:
    """Install the locked packages for the target, from wheels alone, each checked against its hash."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder) / "requirements.txt"
        wanted.write_text(_without(LOCK.read_text(), set(prune.DISTRIBUTIONS)))
        pip = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-config", "--target", str(tree)]
        target = ["--python-platform", PLATFORMS[arch], "--python-version", version]
        rules = ["--only-binary", ":all:", "--no-deps", "--require-hashes", "--link-mode", "copy"]
        done = subprocess.run([*pip, *target, *rules, "-r", str(wanted)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"the packages for {arch} and Python {version} cannot be installed:\n{done.stderr.strip()}")
    (tree / ".lock").unlink(missing_ok=True)


def compile_packages(tree: Path, compiler: str) -> None:
    """Replace the packages' sources by their bytecode: half of the files, and no look at a source at import."""
    _compile(compiler, tree, "-b", tree)
    for source in tree.rglob("*.py"):
        if source.with_suffix(".pyc").exists():
            source.unlink()


def interpreter(version: str) -> str:
    """A Python of the target's minor version that really runs: bytecode is for one version only. Raises BuildError."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    named = os.environ.get("PYTHON_BIN")
    installed = sorted(str(path) for path in pyenv.glob(f"{version}.*/bin/python3"))
    for candidate in [named] if named else [sys.executable, f"python{version}", *installed]:
        if _version_of(candidate) == version:
            return candidate
    raise BuildError(
        f"{named or 'no interpreter here'} is {'not ' if named else ''}Python {version}, which compiles the bytecode. "
        f"Install it (pyenv install {version}, uv python install {version}, or your system's package), "
        "or name one: PYTHON_BIN=/path/to/python3. ALLOW_NO_PYC=1 builds without: cold starts take twice as long."
    )


def write_zip(tree: Path, package: Path) -> None:
    """The tree as a zip whose bytes depend on the files' names and content alone."""
    with zipfile.ZipFile(package, "w", zipfile.ZIP_DEFLATED) as zipped:
        for path in _files(tree):
            entry = zipfile.ZipInfo(path.relative_to(tree).as_posix(), _LONG_AGO)
            entry.external_attr = path.stat().st_mode << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            zipped.writestr(entry, path.read_bytes())


def report(tree: Path, package: Path | None) -> None:
    """Print what takes the room. Raises BuildError when it is too much."""
    sizes: dict[str, int] = {}
    for path in _files(tree):
        top = path.relative_to(tree).parts[0]
        sizes[top] = sizes.get(top, 0) + path.stat().st_size
    total = sum(sizes.values())
    for name, size in sorted(sizes.items(), key=lambda item: -item[1])[:SHOWN]:
        print(f"{size / 1e6:8.1f} MB  {name}")
    print(f"{total / 1e6:8.1f} MB  in all, of {LIMIT_BYTES / 1e6:.0f}")
    if package is not None:
        digest = hashlib.sha256(package.read_bytes()).hexdigest()
        print(f"{package.stat().st_size / 1e6:8.1f} MB  {package.relative_to(ROOT)}, sha256 {digest[:16]}")
    if total > LIMIT_BYTES:
        raise BuildError(f"the artifact is over {LIMIT_BYTES / 1e6:.0f} MB; see tools/prune.py for what else can go")


def _make_room(tree: Path) -> None:
    """An empty folder. Only the build's own place is ever emptied: a wrong ARTIFACTS_DIR must cost nobody a folder."""
    if tree == TREE:
        shutil.rmtree(tree, ignore_errors=True)
    elif tree.exists() and any(tree.iterdir()):
        raise BuildError(f"{tree} is not empty; ARTIFACTS_DIR, which `sam build` sets, is for the artifact alone")
    tree.mkdir(parents=True, exist_ok=True)


def _set_modes(tree: Path) -> None:
    """Whatever the umask and the checkout say: on Lambda another user reads the files."""
    for path in (tree, *tree.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path == tree / "bootstrap" else 0o644)


def _compile(compiler: str, tree: Path, *what: str | Path) -> None:
    """Bytecode that is believed without a look at its source, and does not depend on where it was made."""
    rules = ["--invalidation-mode", "unchecked-hash", "-s", str(tree), "-p", TASK_ROOT]
    command = [compiler, "-m", "compileall", "-q", "-f", "-j", "0", *rules, *map(str, what)]
    # PYTHONOPTIMIZE and PYTHONPYCACHEPREFIX would put other bytecode elsewhere.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment["PYTHONHASHSEED"] = "0"
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"a source cannot be compiled:\n{done.stdout}{done.stderr}")


def _version_of(candidate: str) -> str | None:
    """Its minor version, asked of itself: a shim may be there and not run."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        shown = subprocess.run([candidate, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return shown.stdout.strip()


def _without(lock: str, names: set[str]) -> str:
    """A lock file without some of its packages."""
    entries = re.split(r"(?m)^(?=[A-Za-z0-9])", lock)
    return "".join(entry for entry in entries if re.split(r"[=\[ ;]", entry, maxsplit=1)[0] not in names)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def _files(tree: Path) -> Iterator[Path]:
    return (path for path in sorted(tree.rglob("*")) if path.is_file())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make build", description=__doc__)
    parser.add_argument("--arch", choices=sorted(PLATFORMS), default="arm64")
    parser.add_argument("--python", default="3.13", help="the target's version, as 3.13")
    parser.add_argument("--config", type=Path, help="a model file to pack")
    parser.add_argument("--into", type=Path, help="an empty folder to leave the tree in, without a zip")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
