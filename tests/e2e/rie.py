"""AWS's own Runtime Interface Emulator around the built artifact: the binary that the SAM CLI's package carries."""

import base64
import contextlib
import http.client
import json
import os
import platform
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.program import WAIT, Answer, wait_for
from tools import venv

ROOT = Path(__file__).parent.parent.parent
ARTIFACT = ROOT / "build" / "lambda"
SEPARATOR = b"\0" * 8
_INVOKE = "/2015-03-31/functions/function/invocations"
_BINARIES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}


@dataclass
class Emulator:
    """A function that runs under the emulator. Calls are taken one by one, as by one environment of Lambda."""

    address: tuple[str, int]
    log: Path
    key: str = field(repr=False)

    def invoke(self, event: Any) -> bytes:
        """The function's raw answer to an event."""
        connection = http.client.HTTPConnection(*self.address, timeout=WAIT)
        with contextlib.closing(connection):
            connection.request("POST", _INVOKE, json.dumps(event))
            return connection.getresponse().read()

    def ask(self, method: str, path: str, body: Any = None, key: str = "", **headers: str) -> Answer:
        """An HTTP request as API Gateway hands it over, and the answer as it would hand it back."""
        known = key or self.key
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        raw = self.invoke(event(method, path, body, sent | ({"authorization": f"Bearer {known}"} if known else {})))
        prelude, separator, rest = raw.partition(SEPARATOR)
        assert separator, raw
        head = json.loads(prelude)
        return Answer(head["statusCode"], head["headers"], rest)


def event(method: str, path: str, body: Any, headers: dict[str, str]) -> dict[str, Any]:
    """An event of API Gateway's REST API."""
    return {
        "resource": "/{proxy+}",
        "path": path,
        "httpMethod": method,
        "headers": headers,
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "multiValueQueryStringParameters": None,
        "pathParameters": {"proxy": path.removeprefix("/")},
        "requestContext": {"requestId": "e2e", "identity": {"sourceIp": "192.0.2.7"}},
        "body": _body(body),
        "isBase64Encoded": isinstance(body, bytes),
    }


def _body(body: Any) -> str | None:
    """As the API hands it over: bytes of a binary type as base64."""
    if isinstance(body, bytes):
        return base64.b64encode(body).decode()
    return None if body is None else json.dumps(body)


@contextlib.contextmanager
def running(folder: Path, command: Sequence[str], key: str = "", **settings: str) -> Iterator[Emulator]:
    """The artifact under the emulator, started as `command` starts it on Lambda, with Lambda's environment variables.

    `python3` is a bare interpreter, so that nothing but the artifact can be imported.
    """
    address, api = ("127.0.0.1", _free_port()), f"127.0.0.1:{_free_port()}"
    env = {
        "PATH": f"{_bare_interpreter()}:{os.environ['PATH']}",
        "LAMBDA_TASK_ROOT": str(ARTIFACT),
        "AWS_LAMBDA_FUNCTION_NAME": "gateway",
        "AWS_LAMBDA_FUNCTION_TIMEOUT": str(WAIT),
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
        "AWS_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "example",
        "OLLAMA_HOST": "127.0.0.1:9",
        **settings,
    }
    at = f"{address[0]}:{address[1]}"
    arguments = ["--runtime-interface-emulator-address", at, "--runtime-api-address", api, *command]
    log = folder / "emulator.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [binary(), *arguments], cwd=ARTIFACT, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    try:
        wait_for(lambda: _listens(address) or process.poll() is not None, "the emulator to listen")
        assert process.poll() is None, log.read_text()
        yield Emulator(address, log, key)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(WAIT)


def binary() -> Path:
    """The emulator for this machine."""
    environment = venv.environment(ROOT / "tools" / "requirements-sam.txt")
    name = f"aws-lambda-rie-{_BINARIES[platform.machine().lower()]}"
    found = next(environment.glob(f"lib/python*/site-packages/samcli/local/rapid/{name}"))
    found.chmod(0o755)
    return found


def _bare_interpreter() -> Path:
    folder = Path(sys.base_prefix) / "bin"
    command = [str(folder / "python3"), "-c", "import sys; print(sys.version_info[:2])"]
    assert subprocess.check_output(command, text=True).strip() == str(sys.version_info[:2])
    return folder


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _listens(address: tuple[str, int]) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(address) == 0
