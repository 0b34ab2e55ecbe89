"""The processes of the cold-start benchmark: the artifact, and an empty app, as Lambda functions on one core.

The artifact is started through its bootstrap, on an interpreter with nothing installed beside it, as on Lambda.
"""

import contextlib
import json
import os
import pathlib
import secrets
import subprocess
import tempfile
import time
import venv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests import function, program
from tests.mocks import anthropic, aws, cognito
from tests.mocks.runtime_api import RuntimeApi

ROOT = pathlib.Path(__file__).resolve().parent.parent
ARTIFACT = ROOT / "build" / "lambda"
MODELS = ("relayed", "translated")  # named for their way through the gateway


@dataclass(frozen=True)
class State:
    """Users and keys: what a gateway's environment says of them, and a key."""

    settings: Mapping[str, str]
    key: str = field(repr=False)

    def call(self, model: str, *, stream: bool = True) -> dict[str, Any]:
        """The event of a call with the key."""
        body = call_body(model, stream=stream)
        return event("POST", "/v1/chat/completions", {"authorization": f"Bearer {self.key}"}, body)


@dataclass(frozen=True)
class Place:
    """Where functions run: a folder, their core and their Python, the gateway's config, and the places of its state."""

    folder: pathlib.Path
    core: int
    python: pathlib.Path
    config: pathlib.Path
    embedded: State
    in_cognito: State


@dataclass(frozen=True)
class Function:
    """A function's process, started at `at`."""

    process: "subprocess.Popen[bytes]"
    at: float

    def seconds(self) -> float:
        """Since its start."""
        return time.perf_counter() - self.at

    def peak_mb(self) -> float:
        return peak_mb(self.process.pid)


def make_place(folder: pathlib.Path, core: int, openai_base: str, anthropic_base: str, cloud: aws.Aws) -> Place:
    """States as gateways make them, each with a key, and a config that names both providers."""
    with program.running(folder / "state") as running:
        embedded = State({"STILE_DIRECTORY": "sqlite", "STILE_HOME": str(running.home)}, running.key)
    cloud.keep("pepper", secrets.token_urlsafe(48))
    settings = cognito.environment(cloud, cloud.url, cognito.make_pool(cloud), "pepper", AWS_SESSION_TOKEN="")
    with program.administered(folder / "in-cognito", **settings) as running:
        in_cognito = State(settings, running.key)
    providers = (("openai/ok", openai_base), (f"anthropic/{anthropic.MODEL}", anthropic_base))
    entries = [
        {"model_name": name, "litellm_params": {"model": model, "api_base": base, "api_key": "x"}}
        for name, (model, base) in zip(MODELS, providers, strict=True)
    ]
    config = folder / "config.yaml"
    config.write_text(json.dumps({"model_list": entries}))
    bare = folder / "bare"
    venv.create(bare, symlinks=True)
    return Place(folder, core, bare / "bin" / "python3", config, embedded, in_cognito)


def call_body(model: str, *, stream: bool) -> str:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": stream})


def event(method: str, path: str, headers: Mapping[str, str], body: str | None = None) -> dict[str, Any]:
    """A request as API Gateway hands it to a function."""
    context = {"requestId": "bench", "identity": {"sourceIp": "192.0.2.1"}}
    return {"httpMethod": method, "path": path, "headers": headers, "requestContext": context, "body": body}


def peak_mb(pid: int) -> float:
    """The most memory that a process has had so far, in MB (10^6 bytes)."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    (kilobytes,) = (line.split()[1] for line in status if line.startswith("VmHWM:"))
    return int(kilobytes) * 1024 / 1e6


@contextlib.contextmanager
def gateway(place: Place, api: RuntimeApi, state: State | None = None) -> Iterator[Function]:
    """The artifact, with the embedded state if no other is named."""
    settings = {
        "PATH": f"{place.python.parent}:{os.environ['PATH']}",
        "STILE_CONFIG": str(place.config),
        **(state or place.embedded).settings,
    }
    with _process(place, api, [str(ARTIFACT / "bootstrap")], settings) as running:
        yield running


@contextlib.contextmanager
def empty(place: Place, api: RuntimeApi) -> Iterator[Function]:
    """The gateway's host with an app that does nothing."""
    command = [str(place.python), str(ROOT / "bench" / "empty_app.py")]
    with _process(place, api, command, {"PYTHONPATH": str(ARTIFACT)}) as running:
        yield running


@contextlib.contextmanager
def _process(place: Place, api: RuntimeApi, command: list[str], settings: Mapping[str, str]) -> Iterator[Function]:
    """A process on the function's core; it ends when the block does."""
    environment = function.environment(api, ARTIFACT, **settings)
    own = os.sched_getaffinity(0)
    with tempfile.NamedTemporaryFile(dir=place.folder, suffix=".out") as output:
        os.sched_setaffinity(0, {place.core})  # children inherit it, from their first instruction on
        try:
            at = time.perf_counter()
            process = subprocess.Popen(
                command, cwd=place.folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        finally:
            os.sched_setaffinity(0, own)

        def ended() -> str | None:
            code = process.poll()
            return None if code is None else f"it had ended with {code}: {pathlib.Path(output.name).read_text()}"

        api.follow(ended)
        try:
            yield Function(process, at)
        finally:
            process.kill()
            process.wait()
