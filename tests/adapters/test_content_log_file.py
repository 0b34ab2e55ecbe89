"""The content log as a file: who can read it, what a full disk costs, and what the log says of it."""

import asyncio
import contextlib
import json
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stile.adapters.content_log_file import ContentLogFile
from stile.errors import ConfigError

SOURCES = Path(__file__).parent.parent.parent / "src" / "lambda"
LINES = [json.dumps({"request_id": f"req_{number}", "request": "planted ü"}).encode() for number in range(3)]


@contextlib.contextmanager
def opened(path: Path) -> Iterator[ContentLogFile]:
    log = ContentLogFile(path)
    try:
        yield log
    finally:
        asyncio.run(log.close())


def write(log: ContentLogFile, *lines: bytes) -> None:
    async def all_of_them() -> None:
        for line in lines:
            await log.write(line)

    asyncio.run(all_of_them())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@contextlib.contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file of this process may grow beyond so many bytes: to a writer, a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "content.log"


def test_lines_are_added_to_a_file_that_only_its_owner_can_read(path: Path) -> None:
    before = os.umask(0)
    try:
        with opened(path) as log:
            write(log, *LINES[:2])
    finally:
        os.umask(before)
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)
    with opened(path) as log:
        write(log, LINES[2])
    assert path.read_bytes().splitlines() == LINES


@pytest.mark.parametrize("given", [0o644, 0o640, 0o604, 0o620, 0o660, 0o601])
def test_a_file_that_is_open_to_others_is_refused_and_left_as_it_is(path: Path, given: int) -> None:
    path.parent.mkdir()
    path.write_bytes(b"earlier\n")
    path.chmod(given)
    with pytest.raises(ConfigError) as refused:
        ContentLogFile(path)
    assert refused.value.faults == [
        f"STILE_CONTENT_LOG: {path} can be read by others (its mode is {given:04o}); run: chmod 600 {path}"
    ]
    assert (path.read_bytes(), mode(path)) == (b"earlier\n", given)


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    os.mkfifo(tmp_path / "read", 0o600)
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").touch()
    told = {
        "folder": "cannot be written (Is a directory)",
        "pipe": "cannot be written (No such device or address)",
        "read": "is not a file; name one",
        "text/content.log": "cannot be written (File exists)",
    }
    reader = os.open(tmp_path / "read", os.O_RDONLY | os.O_NONBLOCK)
    try:
        for name, why in told.items():
            with pytest.raises(ConfigError) as refused:
                ContentLogFile(tmp_path / name)
            assert refused.value.faults == [f"STILE_CONTENT_LOG: {tmp_path / name} {why}"]
    finally:
        os.close(reader)


def test_a_full_disk_costs_the_line_alone_and_is_told_once(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with opened(path) as log:
        write(log, LINES[0])
        with room_for(path.stat().st_size):
            write(log, *LINES, *LINES)
        write(log, LINES[1])
    assert path.read_bytes().splitlines() == LINES[:2]
    assert [(one.levelname, one.name) for one in caplog.records] == [("WARNING", "stile.content")]
    assert caplog.messages == [f"STILE_CONTENT_LOG: {path}: a line was lost: File too large; is the disk full?"]


def test_a_line_that_found_room_for_its_beginning_spoils_no_other(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with opened(path) as log:
        write(log, LINES[0])
        with room_for(path.stat().st_size + 10):
            write(log, LINES[1], LINES[2])
        write(log, LINES[1], LINES[2])
    assert path.read_bytes().splitlines() == [LINES[0], LINES[1][:10], LINES[1], LINES[2]]
    assert len(caplog.messages) == 1
    assert "planted" not in caplog.text


def test_after_the_end_nothing_is_written_anywhere(
    path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(path) as log:
        write(log, LINES[0])
    with (tmp_path / "other").open("wb"):  # has the closed file's number now
        write(log, LINES[1])
        asyncio.run(log.close())
    assert path.read_bytes().splitlines() == LINES[:1]
    assert (tmp_path / "other").read_bytes() == b""
    assert len(caplog.messages) == 1


def test_processes_that_share_a_file_never_mix_their_lines(path: Path) -> None:
    code = (
        "import asyncio, json, pathlib, sys\n"
        "from stile.adapters.content_log_file import ContentLogFile\n"
        "async def main():\n"
        "    log = ContentLogFile(pathlib.Path(sys.argv[1]))\n"
        "    for number in range(200):\n"
        "        await log.write(json.dumps([sys.argv[2], number, sys.argv[2] * 70_000]).encode())\n"
        "asyncio.run(main())\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path), name], cwd=SOURCES) for name in "ab"]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    read = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert all(text == name * 70_000 for name, _, text in read)
    for name in "ab":
        assert [number for of, number, _ in read if of == name] == list(range(200))
