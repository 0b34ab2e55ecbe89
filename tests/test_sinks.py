"""A log that blocks or breaks never stops a call, no line is torn, and what is lost is told."""

import contextlib
import fcntl
import http.client
import json
import os
import pty
import re
import resource
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from tests import program
from tests.program import KEY, Program, wait_for

HI = [{"role": "user", "content": "hi"}]
CHAT = "/v1/chat/completions"
PAGE = 4096
_BANNER_ENDS = re.compile(r"^curl .*'\s", re.MULTILINE)


def chats(gateway: Program, number: int, *, path: str = CHAT) -> list[str]:
    """The request ids of so many calls, each of which was answered."""
    body = json.dumps({"model": "echo", "messages": HI})
    asked = []
    with contextlib.closing(http.client.HTTPConnection(*gateway.address, timeout=program.WAIT)) as connection:
        for _ in range(number):
            connection.request("POST", path, body, {"authorization": f"Bearer {gateway.key}"})
            response = connection.getresponse()
            response.read()
            assert response.status == (200 if path == CHAT else 404)
            asked.append(response.headers["x-request-id"])
    return asked


class Piped:
    """A gateway whose standard output is a pipe, or a terminal, that somebody reads only when told to."""

    def __init__(self, folder: Path, *, terminal: bool = False, **settings: str) -> None:
        self.outlet, inside = pty.openpty() if terminal else os.pipe()
        if not terminal:
            fcntl.fcntl(inside, fcntl.F_SETPIPE_SZ, PAGE)
        env = program.environment(folder / "home", **settings)
        self._err = (folder / "gateway.err").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, str(program.APP)], env=env, stdin=subprocess.DEVNULL, stdout=inside, stderr=self._err
        )
        os.close(inside)
        self.text = ""
        while _BANNER_ENDS.search(self.text) is None:
            assert self._read_once(), self.text
        key, base = KEY.search(self.text), program._BASE.search(self.text)
        assert key is not None
        assert base is not None
        self.gateway = Program(self.process, folder, folder, folder, base[1], key[0])
        wait_for(self._healthy, "the gateway to answer")

    def _healthy(self) -> bool:
        try:
            return self.gateway.ask("GET", "/health", key=None).status == 200
        except OSError:
            return False

    def _read_once(self) -> bool:
        try:
            read = os.read(self.outlet, 65536)
        except OSError:  # a terminal whose program has ended
            return False
        self.text += read.decode()
        return bool(read)

    def drain(self) -> threading.Thread:
        """Read on, until the end."""

        def read() -> None:
            while self._read_once():
                pass

        reader = threading.Thread(target=read)
        reader.start()
        return reader

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines() if line.startswith("{")]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._err.close()
        os.close(self.outlet)


def test_a_pipe_that_nobody_reads_stops_no_call_and_tears_no_line(folder: Path) -> None:
    piped = Piped(folder)
    try:
        asked = chats(piped.gateway, 200)
        reader = piped.drain()
        asked += chats(piped.gateway, 5)
        piped.process.terminate()
        assert piped.process.wait(program.WAIT) == 0
        reader.join(program.WAIT)
        calls = [line["request_id"] for line in piped.lines() if line["event"] == "call"]
        assert calls == asked
    finally:
        piped.close()


def test_what_is_lost_is_told_when_the_reader_is_back(folder: Path) -> None:
    """4 MiB wait; a path of the greatest length makes lines of over 1,000 bytes."""
    piped = Piped(folder)
    try:
        path = "/" + "x" * 2000
        asked = chats(piped.gateway, 5000, path=path)
        reader = piped.drain()
        asked += wait_for(lambda: chats(piped.gateway, 1, path=path), "an answer")
        wait_for(lambda: " lost: " in piped.text, "the line that tells of the others")
        asked += chats(piped.gateway, 3)
        piped.process.terminate()
        piped.process.wait(program.WAIT)
        reader.join(program.WAIT)
        calls = [line["request_id"] for line in piped.lines() if line["event"] == "call"]
        (told,) = (line for line in piped.lines() if line["event"] == "log")
        assert len(calls) == len(set(calls))
        assert int(told["message"].split()[0]) == len(asked) - len(calls) > 0
        assert calls[:1000] == asked[:1000]
        assert calls[-3:] == asked[-3:]
    finally:
        piped.close()


def test_a_reader_that_has_gone_stops_no_call(folder: Path) -> None:
    piped = Piped(folder)
    try:
        os.close(piped.outlet)
        chats(piped.gateway, 50)
        piped.process.terminate()
        assert piped.process.wait(program.WAIT) == 0
    finally:
        piped.outlet = os.open(os.devnull, os.O_RDONLY)
        piped.close()


@pytest.mark.parametrize("form", ["json", "pretty"])
def test_a_paused_terminal_stops_no_call(folder: Path, form: str) -> None:
    piped = Piped(folder, terminal=True, STILE_LOG_FORMAT=form)
    try:
        asked = chats(piped.gateway, 200)  # far more than a terminal holds
        reader = piped.drain()
        last = chats(piped.gateway, 1)[0]
        wait_for(lambda: last in piped.text, "the last line")
        piped.process.terminate()
        assert piped.process.wait(program.WAIT) == 0
        reader.join(program.WAIT)
        assert [request_id for request_id in asked if request_id not in piped.text] == []
    finally:
        piped.close()


def test_a_full_disk_stops_no_call(folder: Path) -> None:
    with program.running(folder, STILE_LOG_FILE="/dev/full") as gateway:
        chats(gateway, 100)
        assert gateway.stop() == 0
        assert gateway.err.read_text() == ""


def test_lines_that_found_no_room_are_there_once_there_is_some(folder: Path) -> None:
    """A file that may not grow stands for the disk; room is made by emptying it."""
    log = folder / "calls.log"
    with program.running(folder, STILE_LOG_FILE=str(log)) as gateway:
        size = log.stat().st_size
        resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (size + 5000, resource.RLIM_INFINITY))
        asked = chats(gateway, 30)
        wait_for(lambda: log.stat().st_size >= size + 5000, "the file to be full")
        full = log.read_text()
        os.truncate(log, 0)
        resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        wait_for(lambda: asked[-1] in log.read_text(), "the last line")
        lines = [json.loads(line) for line in (full + log.read_text()).splitlines()]
        assert [line["request_id"] for line in lines if line["event"] == "call"] == asked
