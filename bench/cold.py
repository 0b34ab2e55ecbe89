"""`python -m bench.cold [--rounds N] [--json FILE]`: what a cold start costs, and what a warm invocation adds.

The built artifact is started as Lambda starts it, through its bootstrap, on a bare interpreter, and asks an emulator of
the Runtime API for its first invocation; LiteLLM's proxy is started beside it in each round. doc/benchmark.md says how
to read the table.
"""

import argparse
import contextlib
import dataclasses
import http.client
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tests import program
from tests.function import environment as lambda_environment
from tests.mocks import anthropic, provider, runtime_api
from tests.mocks.openai import Upstream
from tests.mocks.openai import running as scripted
from tests.mocks.runtime_api import RuntimeApi
from tests.mocks.runtime_invocation import Invocation

from bench import servers
from bench.machine import Cores, cores, description

ROOT = pathlib.Path(__file__).resolve().parent.parent
ARTIFACT = ROOT / "build" / "lambda"
EMPTY = ROOT / "bench" / "empty_app.py"
RESULTS = pathlib.Path(__file__).parent / "results"
ROUNDS, WARM_CALLS = 7, 300
_START_SECONDS = 120
_HI = [{"role": "user", "content": "hi"}]

Figures = dict[str, list[float]]

# Figure → title, and how it is written.
SHOWN = {
    "ready": ("gateway: process start to ready, s", ".3f"),
    "relayed": ("gateway: process start to first byte of a relayed call, s", ".3f"),
    "translated": ("gateway: process start to first byte of a translated call, s", ".3f"),
    "restored-relayed": ("gateway: restore to first byte of a relayed call, s", ".3f"),
    "restored-translated": ("gateway: restore to first byte of a translated call, s", ".3f"),
    "litellm": ("LiteLLM proxy: process start to first answer, s", ".3f"),
    "relayed-mb": ("gateway: peak memory after a relayed call, MB", ".0f"),
    "translated-mb": ("gateway: peak memory after a translated call, MB", ".0f"),
    "litellm-mb": ("LiteLLM proxy: peak memory, MB", ".0f"),
    "empty-ms": ("warm: an empty ASGI app on the same host, ms", ".2f"),
    "health-ms": ("warm: `GET /health`, ms", ".2f"),
    "echo-ms": ("warm: a call of `echo`, with its key checked, ms", ".2f"),
    "relayed-ms": ("warm: a relayed call, the provider's own time in it, ms", ".2f"),
    "provider-ms": ("the provider's own time, asked directly, ms", ".2f"),
}
# What is aimed at: a text, and two figures with the most that their ratio may be.
AIMS = (
    ("a relayed call's first byte within 1/15 of LiteLLM proxy's start to first answer", "relayed", "litellm", 1 / 15),
    ("a translated call's first byte within 1/3 of it", "translated", "litellm", 1 / 3),
)
WARM_AIM_MS = 1


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a round runs: a folder, the state with its key, the config, and the core of what is measured."""

    folder: pathlib.Path
    home: pathlib.Path
    key: str
    config: pathlib.Path
    core: int

    def post(self, model: str, *, stream: bool = True) -> dict[str, Any]:
        body = {"model": model, "messages": _HI, "stream": stream}
        return _event("POST", "/v1/chat/completions", json.dumps(body), {"authorization": f"Bearer {self.key}"})


def main() -> int:
    options = _options()
    if not (ARTIFACT / "bootstrap").is_file():
        print("There is no artifact for this machine: make bench-cold builds it.", file=sys.stderr)
        return 1
    two = cores()
    with (
        tempfile.TemporaryDirectory(prefix="stile-cold-") as name,
        scripted() as upstream,
        provider.on_a_thread(anthropic.chat) as claude,
    ):
        os.sched_setaffinity(0, {two.load})
        figures = _measure(_place(pathlib.Path(name), upstream, claude.url, two), upstream, options.rounds)
    print(_table(figures))
    target = options.json or RESULTS / f"cold-{time.strftime('%Y-%m-%dT%H%M', time.gmtime())}.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps({"machine": description(), "rounds": figures}, indent=1))
    print(f"\nAll rounds: {target}")
    return 0


def _place(folder: pathlib.Path, upstream: Upstream, claude: str, two: Cores) -> Place:
    with program.running(folder / "state") as gateway:
        home, key = gateway.home, gateway.key
    models = [("ok", "openai/ok", upstream.base), ("claude", f"anthropic/{anthropic.MODEL}", claude)]
    entries = [
        {"model_name": name, "litellm_params": {"model": model, "api_base": base, "api_key": "x"}}
        for name, model, base in models
    ]
    config = folder / "config.yaml"
    config.write_text(json.dumps({"model_list": entries}))
    return Place(folder, home, key, config, two.server)


def _measure(place: Place, upstream: Upstream, rounds: int) -> Figures:
    figures: Figures = {name: [] for name in SHOWN}
    steps: Mapping[str, Callable[[], Mapping[str, float]]] = {
        "relayed": lambda: _first_call(place, "ok", "relayed"),
        "translated": lambda: _first_call(place, "claude", "translated"),
        "restored-relayed": lambda: {"restored-relayed": _restored(place, "ok")},
        "restored-translated": lambda: {"restored-translated": _restored(place, "claude")},
        "litellm": lambda: _litellm(place, upstream),
        "warm": lambda: _warm(place, upstream, WARM_CALLS // rounds + 1),
    }
    for name in ("litellm", "translated"):
        steps[name]()  # so that the files of both are in the machine's cache for all rounds
    for number in range(1, rounds + 1):
        print(f"Round {number} of {rounds} …", file=sys.stderr, flush=True)
        for step in steps.values():  # interleaved, so that a machine that drifts is unfair to nobody
            for name, value in step().items():
                figures[name].append(value)
    return figures


def _first_call(place: Place, model: str, name: str) -> dict[str, float]:
    """A cold start for this call: it waits already when the process begins, as on Lambda."""
    with runtime_api.running() as api:
        invocation = api.invoke(place.post(model))
        with _gateway(place, api) as (process, started):
            _first_byte(invocation)
            first = time.perf_counter() - started
            invocation.body()
            api.waiting()
            found = {name: first, f"{name}-mb": _peak_mb(process)}
            if model != "ok":
                return found
    with runtime_api.running() as api, _gateway(place, api) as (_, started):
        api.waiting()
        return {"ready": time.perf_counter() - started, **found}


def _restored(place: Place, model: str) -> float:
    """From the restore of a snapshot to the first byte; what AWS itself needs to restore is not in it."""
    with runtime_api.running(snap_start=True) as api, _gateway(place, api):
        api.restoring()
        invocation = api.invoke(place.post(model))
        started = time.perf_counter()
        api.restore()
        _first_byte(invocation)
        seconds = time.perf_counter() - started
        invocation.body()
        api.waiting()
        return seconds


def _warm(place: Place, upstream: Upstream, calls: int) -> dict[str, float]:
    """Medians of invocations one after the other, from when the event is there to when the answer has ended."""
    health = _event("GET", "/health", None, {})
    found = {}
    source = str(ROOT / "src" / "lambda")
    with runtime_api.running() as api, _process(place, api, [sys.executable, str(EMPTY)], PYTHONPATH=source):
        found["empty-ms"] = _paced(api, health, calls)
    with runtime_api.running() as api, _gateway(place, api):
        found["health-ms"] = _paced(api, health, calls)
        found["echo-ms"] = _paced(api, place.post("echo", stream=False), calls)
        found["relayed-ms"] = _paced(api, place.post("ok", stream=False), calls)
    body = json.dumps({"model": "ok", "messages": _HI})
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", upstream.port)) as connection:
        found["provider-ms"] = statistics.median(_asked(connection, body) for _ in range(calls))
    return found


def _paced(api: RuntimeApi, event: Mapping[str, Any], calls: int) -> float:
    times = []
    for _ in range(calls):
        api.waiting()
        started = time.perf_counter()
        api.invoke(event).body()
        times.append((time.perf_counter() - started) * 1000)
    api.waiting()
    return statistics.median(times[len(times) // 10 :])  # without the first ones, which import and connect


def _asked(connection: http.client.HTTPConnection, body: str) -> float:
    started = time.perf_counter()
    connection.request("POST", "/v1/chat/completions", body)
    connection.getresponse().read()
    return (time.perf_counter() - started) * 1000


def _litellm(place: Place, upstream: Upstream) -> dict[str, float]:
    """LiteLLM's proxy, asked again and again until it answers a call."""
    folder = pathlib.Path(tempfile.mkdtemp(dir=place.folder))
    models = [{"model_name": "ok", "litellm_params": {"model": "openai/ok", "api_base": upstream.base, "api_key": "x"}}]
    config = folder / "litellm.yaml"
    config.write_text(json.dumps({"model_list": models, "general_settings": {"master_key": "sk-bench"}}))
    port = servers.free_port()
    command = [str(servers.litellm_environment() / "bin" / "litellm"), "--config", str(config), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--num_workers", "1", "--telemetry", "False"]
    settings = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION"}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("STILE_", "LITELLM_"))}
    with _started(place, folder / "litellm.out", command, {**inherited, **settings}) as (process, started):
        while not _answers(port):
            assert process.poll() is None, (folder / "litellm.out").read_text()[-2000:]
            assert time.perf_counter() - started < _START_SECONDS
            time.sleep(0.005)
        return {"litellm": time.perf_counter() - started, "litellm-mb": _peak_mb(process)}


def _answers(port: int) -> bool:
    body = json.dumps({"model": "ok", "messages": _HI})
    headers = {"authorization": "Bearer sk-bench", "content-type": "application/json"}
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=_START_SECONDS)) as connection:
        try:
            connection.request("POST", "/v1/chat/completions", body, headers)
            return connection.getresponse().status == 200
        except OSError:
            return False


def _first_byte(invocation: Invocation) -> None:
    assert invocation.head().status == 200
    assert invocation.next_chunk()


@contextlib.contextmanager
def _gateway(place: Place, api: RuntimeApi) -> Iterator[tuple["subprocess.Popen[bytes]", float]]:
    bare = pathlib.Path(sys.base_prefix) / "bin"
    settings = {
        "PATH": f"{bare}:{os.environ['PATH']}",
        "STILE_HOME": str(place.home),
        "STILE_CONFIG": str(place.config),
    }
    with _process(place, api, [str(ARTIFACT / "bootstrap")], **settings) as running:
        yield running


@contextlib.contextmanager
def _process(
    place: Place, api: RuntimeApi, command: list[str], **settings: str
) -> Iterator[tuple["subprocess.Popen[bytes]", float]]:
    folder = pathlib.Path(tempfile.mkdtemp(dir=place.folder))
    env = lambda_environment(api, ARTIFACT, **settings)
    with _started(place, folder / "function.out", command, env) as (process, started):
        api.follow(lambda: None if process.poll() is None else f"it ended: {(folder / 'function.out').read_text()}")
        yield process, started


@contextlib.contextmanager
def _started(
    place: Place, output: pathlib.Path, command: list[str], env: Mapping[str, str]
) -> Iterator[tuple["subprocess.Popen[bytes]", float]]:
    """A process on the measured core, and when it began; it ends when the block does."""
    pin = [shutil.which("taskset") or "taskset", "-c", str(place.core)]
    with output.open("wb") as out:
        started = time.perf_counter()
        process = subprocess.Popen(
            [*pin, *command], cwd=output.parent, env=dict(env), stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    try:
        yield process, started
    finally:
        process.kill()
        process.wait()


def _peak_mb(process: "subprocess.Popen[bytes]") -> float:
    for line in pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise LookupError("VmHWM")


def _event(method: str, path: str, body: str | None, headers: Mapping[str, str]) -> dict[str, Any]:
    context = {"requestId": "bench", "identity": {"sourceIp": "192.0.2.1"}}
    return {"httpMethod": method, "path": path, "headers": dict(headers), "requestContext": context, "body": body}


def _table(figures: Figures) -> str:
    machine = description()
    lines = [
        f"{machine['date']}, {machine['cpu']}, {machine['cores']} cores, Python {machine['python']}; one core each, "
        f"medians of {len(figures['relayed'])} rounds.",
        "",
        "| | median | least | most |",
        "|---|---:|---:|---:|",
    ]
    for name, (title, form) in SHOWN.items():
        values = figures[name]
        shown = (statistics.median(values), min(values), max(values))
        lines.append(f"| {title} | {' | '.join(format(value, form) for value in shown)} |")
    lines.append("")
    for text, one, other, limit in AIMS:
        ratio = statistics.median(figures[one]) / statistics.median(figures[other])
        lines.append(f"Aim: {text}: 1/{1 / ratio:.1f}, {'met' if ratio <= limit else 'NOT met'}.")
    added = statistics.median(figures["health-ms"]) - statistics.median(figures["empty-ms"])
    verdict = "met" if added <= WARM_AIM_MS else "NOT met"
    lines.append(f"Aim: ≤ {WARM_AIM_MS} ms added to a warm invocation of an empty app: {added:.2f} ms, {verdict}.")
    checked = statistics.median(figures["echo-ms"]) - statistics.median(figures["empty-ms"])
    lines.append(f"      with a key checked and a model called (`echo`): {checked:.2f} ms.")
    return "\n".join(lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-cold", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", type=pathlib.Path, help="where all rounds go")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
