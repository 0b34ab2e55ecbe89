"""The real program as a child process: started, spoken to over its socket, stopped by its own handle."""

import contextlib
import hashlib
import http.client
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

APP = Path(__file__).parent.parent / "src" / "lambda" / "app.py"
WAIT = 30

T = TypeVar("T")

KEY = re.compile(r"sk-stile-[0-9a-f]{48}-[0-9A-Za-z]{59}")
_BASE = re.compile(r"Base URL  (http://\S+)/v1")


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = self.json["error"]
        return error


@dataclass
class Program:
    """A gateway that runs. `key` is the first admin's, when this was the first start."""

    process: "subprocess.Popen[bytes]"
    out: Path
    err: Path
    home: Path
    base: str
    key: str = field(repr=False)

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.base.removeprefix("http://").rsplit(":", 1)
        return host, int(port)

    def ask(
        self, method: str, path: str, body: Any = None, *, key: str | None = "", headers: dict[str, str] | None = None
    ) -> Answer:
        """One request. `key`: None sends none, "" the admin's. `body`: bytes, or anything that JSON can say."""
        sent = dict(headers or {})
        if key is not None:
            sent.setdefault("authorization", f"Bearer {key or self.key}")
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection(*self.address, timeout=WAIT)
        with contextlib.closing(connection):
            connection.request(method, path, data, sent)
            response = connection.getresponse()
            headers_ = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, headers_, response.read())

    def lines(self) -> list[dict[str, Any]]:
        """The log's lines so far, those that are whole."""
        return [json.loads(line) for line in self.out.read_text().split("\n")[:-1] if line.startswith("{")]

    def calls(self) -> list[dict[str, Any]]:
        """The lines of calls alone."""
        return [line for line in self.lines() if line["event"] == "call"]

    def line_of(self, request_id: str) -> dict[str, Any]:
        """The log line of one call; it is written when the call has ended, so it may be a moment away."""
        return wait_for(
            lambda: next((line for line in self.lines() if line.get("request_id") == request_id), None),
            f"the log line of {request_id}",
        )

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(WAIT)


def wait_for(look: Callable[[], T | None], what: str) -> T:
    """The first true answer of `look`; fails after WAIT seconds."""
    until = time.monotonic() + WAIT
    while time.monotonic() < until:
        found = look()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError(f"waited {WAIT} s for {what}")


def environment(home: Path, **settings: str) -> dict[str, str]:
    """A clean environment: nothing of this machine's credentials."""
    kept = {
        name: os.environ[name] for name in ("PATH", "HOME", "LANG", "COVERAGE_PROCESS_CONFIG") if name in os.environ
    }
    # Nobody listens on port 9 (discard), so that an Ollama of this machine is not found.
    return {**kept, "STILE_HOME": str(home), "STILE_PORT": "0", "OLLAMA_HOST": "127.0.0.1:9", **settings}


def start(folder: Path, home: Path, **settings: str) -> Program:
    """Start the program and wait until it answers /health."""
    return launch(APP, folder, home, **settings)


def launch(app: Path, folder: Path, home: Path, **settings: str) -> Program:
    """The same with this entry in place of the program's own."""
    folder.mkdir(parents=True, exist_ok=True)
    number = len(list(folder.glob("*.out")))
    out, err = folder / f"{number}.out", folder / f"{number}.err"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, str(app)],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env=environment(home, **settings),
        )

    def healthy() -> Program | None:
        assert process.poll() is None, f"ended with {process.returncode}: {err.read_text()}"
        text = out.read_text()
        base = _BASE.search(text)
        if base is None or "curl" not in text:
            return None
        key = KEY.search(text)
        program = Program(process, out, err, home, base[1], key[0] if key else "")
        try:
            return program if program.ask("GET", "/health", key=None).status == 200 else None
        except OSError:
            return None

    try:
        program = wait_for(healthy, "the gateway to answer")
    except BaseException:
        process.kill()
        process.wait()
        raise
    return program


@contextlib.contextmanager
def running(folder: Path, **settings: str) -> Iterator[Program]:
    """A gateway that runs until the block ends; what it wrote to standard error must be nothing."""
    with launched(APP, folder, **settings) as program:
        yield program


@contextlib.contextmanager
def launched(app: Path, folder: Path, **settings: str) -> Iterator[Program]:
    """The same with this entry in place of the program's own."""
    program = launch(app, folder, folder / "home", **settings)
    try:
        yield program
    finally:
        if program.process.poll() is None:
            program.process.kill()
            program.process.wait()


@contextlib.contextmanager
def administered(folder: Path, **settings: str) -> Iterator[Program]:
    """A gateway that runs, with its first admin's key also where no start prints one: there it comes by bootstrap."""
    token = secrets.token_hex(32)
    settings = {"STILE_BOOTSTRAP_SHA256": hashlib.sha256(token.encode()).hexdigest(), **settings}
    with running(folder, **settings) as program:
        if not program.key:
            asked = {"token": token, "email": f"admin-{token[:8]}@example.com"}
            program.key = program.ask("POST", "/api/bootstrap", asked, key=None).json["key"]
        yield program


def run(*arguments: str, env: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run the program to its end."""
    return subprocess.run(
        [sys.executable, str(APP), *arguments], env=env, capture_output=True, text=True, timeout=WAIT, check=False
    )
