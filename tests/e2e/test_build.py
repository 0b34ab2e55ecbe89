"""The build: what is in the artifact, for which machine, that it is made the same again, and what a wrong call says."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.e2e.rie import ARTIFACT, ROOT
from tools import build, prune

from stile.adapters import price_map

PACKAGE = ROOT / "build" / "lambda.zip"
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


def test_our_own_modules_have_their_sources_and_all_have_bytecode() -> None:
    sources = [
        path for path in ARTIFACT.rglob("*.py") if path.relative_to(ARTIFACT).parts[0] not in ("stile", "app.py")
    ]
    assert not sources
    for source in (ARTIFACT / "stile").rglob("*.py"):
        tag = sys.implementation.cache_tag
        assert (source.parent / "__pycache__" / f"{source.stem}.{tag}.pyc").is_file(), source


def test_the_models_prices_are_packed() -> None:
    packed = ARTIFACT / "stile" / "prices.json"
    prices = json.loads(packed.read_bytes())
    assert prices["openai/gpt-4o"][0][:2] == [2.5e-6, 10e-6]
    assert packed.read_bytes() == price_map.pack(ARTIFACT / "litellm")


def test_bytecode_is_believed_and_names_the_place_on_lambda() -> None:
    pyc = next((ARTIFACT / "stile" / "__pycache__").glob("serverless.*.pyc")).read_bytes()
    assert int.from_bytes(pyc[4:8], "little") == 0b01  # PEP 552: by hash, unchecked
    assert b"/var/task/stile/serverless.py" in pyc
    assert str(ROOT).encode() not in pyc


def test_the_package_is_the_tree_and_its_bootstrap_can_be_run() -> None:
    with zipfile.ZipFile(PACKAGE) as package:
        entries = {entry.filename: entry for entry in package.infolist()}
    assert set(entries) == {str(path.relative_to(ARTIFACT)) for path in ARTIFACT.rglob("*") if path.is_file()}
    assert entries["bootstrap"].external_attr >> 16 == 0o100755
    assert {entry.external_attr >> 16 for name, entry in entries.items() if name != "bootstrap"} == {0o100644}
    assert sum(entry.file_size for entry in entries.values()) < build.LIMIT_BYTES


def test_what_is_left_out_is_out() -> None:
    installed = {path.name.split("-")[0].replace("_", "-") for path in ARTIFACT.glob("*.dist-info")}
    assert not installed & prune.DISTRIBUTIONS.keys()
    locked = set(re.findall(r"(?m)^([a-z0-9-]+)==", build.LOCK.read_text()))
    assert locked >= prune.DISTRIBUTIONS.keys()
    assert {"litellm", "aiohttp", "msgspec"} <= installed
    assert not [pattern for pattern in prune.PATHS if pattern != "**/__pycache__" and list(ARTIFACT.glob(pattern))]


def copy_of_the_sources(folder: Path) -> Path:
    for name in ("src", "tools"):
        shutil.copytree(ROOT / name, folder / name)
    for name in ("Makefile", "requirements-dev.txt"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def make(
    folder: Path, *arguments: str, settings: Mapping[str, str] | None = None, umask: int = -1
) -> "subprocess.CompletedProcess[str]":
    command = ["make", *arguments, f"ARCH={os.uname().machine.replace('aarch64', 'arm64')}"]
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **(settings or {})},
        umask=umask,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("arch", build.PLATFORMS)
def test_every_library_is_for_the_machine_that_was_asked_for(tmp_path: Path, arch: str) -> None:
    build.install(tmp_path, arch, "3.13")
    libraries = list(tmp_path.rglob("*.so*"))
    assert {_machine(library) for library in libraries} == {_MACHINES[arch]}
    modules = {name.partition(".")[2] for name in (library.name for library in libraries) if name.endswith(".so")}
    assert modules == {f"cpython-313-{_NAMES[arch]}-linux-gnu.so", "abi3.so"}


_MACHINES = {"x86_64": 62, "arm64": 183}  # e_machine of ELF
_NAMES = {"x86_64": "x86_64", "arm64": "aarch64"}


def _machine(library: Path) -> int:
    head = library.read_bytes()[:20]
    assert head[:4] == b"\x7fELF", library
    return int.from_bytes(head[18:20], "little")


def test_a_package_whose_bytes_are_not_the_locked_ones_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "requirements.txt"
    entry = re.search(r"(?ms)^six==.*?(?=^\S)", build.LOCK.read_text())
    assert entry
    lock.write_text(re.sub(r"sha256:[0-9a-f]{8}", "sha256:00000000", entry[0]))
    monkeypatch.setattr(build, "LOCK", lock)
    with pytest.raises(build.BuildError, match=r"(?is)cannot be installed.*hash"):
        build.install(tmp_path / "tree", "arm64", "3.13")


def test_the_same_sources_make_the_same_bytes_elsewhere(tmp_path: Path) -> None:
    folder = copy_of_the_sources(tmp_path)
    (folder / "src" / "lambda" / "bootstrap").chmod(0o644)  # as in a checkout without modes
    settings = {"PYTHONOPTIMIZE": "2", "PYTHONPYCACHEPREFIX": str(tmp_path / "elsewhere")}
    built = make(folder, "build", f"PYTHON={VERSION}", settings=settings, umask=0o077)
    assert built.returncode == 0, built.stderr
    assert re.search(r"MB  in all, of 200$", built.stdout, re.MULTILINE)
    assert (folder / "build" / "lambda" / "stile").stat().st_mode & 0o777 == 0o755  # SAM zips the tree as it is
    packages = [path.read_bytes() for path in (PACKAGE, folder / "build" / "lambda.zip")]
    assert hashlib.sha256(packages[0]).digest() == hashlib.sha256(packages[1]).digest()


def test_sam_gets_its_tree_with_the_model_file_packed(tmp_path: Path) -> None:
    folder = copy_of_the_sources(tmp_path)
    (folder / "config.yaml").write_text("model_list: []\n")
    artifacts = tmp_path / "artifacts"
    settings = {"ARTIFACTS_DIR": str(artifacts), "CONFIG": "config.yaml", "ALLOW_NO_PYC": "1"}
    built = make(folder, "build-Gateway", f"PYTHON={VERSION}", settings=settings)
    assert built.returncode == 0, built.stderr
    assert "WITHOUT BYTECODE" in built.stderr
    assert (artifacts / "config.yaml").read_text() == "model_list: []\n"
    assert (artifacts / "litellm" / "main.py").is_file()
    assert os.access(artifacts / "bootstrap", os.X_OK)


@pytest.mark.parametrize(
    ("arguments", "settings", "said"),
    [
        (["PYTHON=3.99"], {}, "no interpreter here is Python 3.99, which compiles the bytecode. Install it"),
        ([], {"PYTHON_BIN": "/nowhere/python3"}, "/nowhere/python3 is not Python 3.13"),
        ([f"PYTHON={VERSION}", "CONFIG=nowhere.yaml"], {}, "CONFIG=nowhere.yaml: there is no such file"),
        ([f"PYTHON={VERSION}", "CONFIG=Makefile"], {}, "CONFIG=Makefile: a start would refuse it"),
    ],
)
def test_a_build_that_cannot_be_says_what_to_do(
    tmp_path: Path, arguments: list[str], settings: dict[str, str], said: str
) -> None:
    built = make(copy_of_the_sources(tmp_path), "build", *arguments, settings=settings)
    assert built.returncode != 0
    assert said in built.stderr


@pytest.mark.parametrize("into", ["mine", ""])
def test_a_folder_that_holds_something_is_never_emptied(tmp_path: Path, into: str) -> None:
    folder = copy_of_the_sources(tmp_path)
    (folder / "mine").mkdir()
    (folder / "mine" / "thesis.txt").write_text("years of work")
    built = make(folder, "build-Gateway", f"PYTHON={VERSION}", settings={"ARTIFACTS_DIR": into})
    assert built.returncode != 0
    assert "is not empty" in built.stderr
    assert (folder / "mine" / "thesis.txt").read_text() == "years of work"


def test_an_artifact_that_is_too_large_fails_and_says_where_to_look(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "large").mkdir()
    with (tmp_path / "large" / "file").open("wb") as file:
        file.truncate(build.LIMIT_BYTES + 1)
    with pytest.raises(build.BuildError, match=r"over 200 MB; see tools/prune.py"):
        build.report(tmp_path, None)
    assert "200.0 MB  large" in capsys.readouterr().out


def test_an_interpreter_that_does_not_run_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shim, works = tmp_path / "shims" / "python3.99", tmp_path / "pyenv" / "versions" / "3.99.1" / "bin" / "python3"
    for path, script in ((shim, "exit 127"), (works, "echo 3.99")):
        path.parent.mkdir(parents=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(shim.parent))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    monkeypatch.delenv("PYTHON_BIN", raising=False)
    assert build.interpreter("3.99") == str(works)


def test_what_is_left_out_must_have_been_there(tmp_path: Path) -> None:
    with pytest.raises(prune.Stale, match=r"tools/prune.py names bin"):
        prune.prune(tmp_path)
