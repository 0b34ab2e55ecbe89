"""`python -m bench.cold [--rounds N] [--json FILE]`: what a cold start costs, and what a warm invocation adds.

The built artifact is started as Lambda starts it and served by an emulator of the Runtime API; LiteLLM's proxy is
started beside it in each round. doc/benchmark.md says how to read the table.
"""

import argparse
import contextlib
import http.client
import json
import os
import pathlib
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping

from tests.mocks import anthropic, aws, openai, provider, runtime_api
from tests.mocks.runtime_api import RuntimeApi
from tests.mocks.runtime_invocation import Invocation

from bench import cold_table, functions, servers
from bench.cold_table import Figures
from bench.functions import Place
from bench.machine import busy, cores, description
from bench.streams import Bed

RESULTS = pathlib.Path(__file__).parent / "results"
ROUNDS = 7
TURNS = 11  # of each kind of warm invocation in each round; the first does not count: it connects …
IN_A_TURN = 6  # … nor does the first of a turn, when the core's caches are still another process's
HEALTH = functions.event("GET", "/health", {})


def measure(place: Place, provider_port: int, rounds: int) -> Figures:
    """All figures by name, one of each round. What is compared takes turns: a machine that drifts is fair to all."""
    steps: tuple[Callable[[], Mapping[str, float]], ...] = (
        lambda: ready(place),
        lambda: first_call(place, "relayed"),
        lambda: first_call(place, "translated"),
        lambda: in_cognito(place),
        lambda: restored(place, "relayed"),
        lambda: restored(place, "translated"),
        lambda: litellm(place, provider_port),
        lambda: warm(place, provider_port),
    )
    for step in steps:
        step()  # so that all files are in the machine's cache
    figures: Figures = {}
    for number in range(rounds):
        print(f"Round {number + 1} of {rounds} …", file=sys.stderr, flush=True)
        worked, own = busy(place.core), _children_cpu()
        for step in steps:
            for name, value in step().items():
                figures.setdefault(name, []).append(value)
        worked, own = busy(place.core) - worked, _children_cpu() - own
        figures.setdefault(cold_table.OTHERS, []).append(max(0, 1 - own / worked))
    return figures


def _children_cpu() -> float:
    """Seconds of CPU of all processes that have been started and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def ready(place: Place) -> dict[str, float]:
    """A start with nothing to do: until the function asks for its first invocation."""
    with runtime_api.running() as api, functions.gateway(place, api) as function:
        api.waiting()
        return {"ready": function.seconds()}


def first_call(place: Place, model: str) -> dict[str, float]:
    """A start for this call: it is there before the process is, as on Lambda."""
    with runtime_api.running() as api:
        invocation = api.invoke(place.embedded.call(model))
        with functions.gateway(place, api) as function:
            _first_byte(invocation)
            seconds = function.seconds()
            api.waiting()
            return {model: seconds, f"{model} MB": function.peak_mb()}


def in_cognito(place: Place) -> dict[str, float]:
    """The same for a relayed call whose key is in Cognito and whose pepper is in Secrets Manager."""
    with runtime_api.running() as api:
        invocation = api.invoke(place.in_cognito.call("relayed"))
        with functions.gateway(place, api, place.in_cognito) as function:
            _first_byte(invocation)
            seconds = function.seconds()
            api.waiting()
            return {"in cognito": seconds}


def restored(place: Place, model: str) -> dict[str, float]:
    """From the moment in which a restored process goes on; what the platform needs to get there is not in it."""
    with runtime_api.running(snap_start=True) as api, functions.gateway(place, api):
        api.restoring()
        invocation = api.invoke(place.embedded.call(model))
        started = time.perf_counter()
        api.restore()
        _first_byte(invocation)
        seconds = time.perf_counter() - started
        api.waiting()
        return {f"{model}, restored": seconds}


def litellm(place: Place, provider_port: int) -> dict[str, float]:
    """LiteLLM's proxy, asked until it answers a call."""
    with (
        tempfile.TemporaryDirectory(dir=place.folder) as folder,
        Bed(servers.free_port()) as client,
        servers.litellm(
            servers.Place(pathlib.Path(folder), place.core, provider_port, provider_port, client)
        ) as server,
    ):
        return {"litellm": server.start_seconds, "litellm MB": functions.peak_mb(server.pid)}


def warm(place: Place, provider_port: int) -> dict[str, float]:
    """Milliseconds from when an event is there to the end of its answer; medians of kinds that take turns."""
    connection = http.client.HTTPConnection("127.0.0.1", provider_port)
    with (
        contextlib.closing(connection),
        runtime_api.running() as empty_api,
        functions.empty(place, empty_api),
        runtime_api.running() as api,
        functions.gateway(place, api),
    ):
        kinds: dict[str, Callable[[], None]] = {
            "warm empty": _invoker(empty_api, HEALTH),
            "warm health": _invoker(api, HEALTH),
            "warm echo": _invoker(api, place.embedded.call("echo", stream=False)),
            "warm relayed": _invoker(api, place.embedded.call("relayed", stream=False)),
            "provider": lambda: _ask(connection),
        }
        times: Figures = {name: [] for name in kinds}
        for turn in range(TURNS):
            for name, invoke in kinds.items():
                for number in range(IN_A_TURN):
                    empty_api.waiting()
                    api.waiting()
                    started = time.perf_counter()
                    invoke()
                    if turn and number:
                        times[name].append((time.perf_counter() - started) * 1000)
        api.waiting()
    return {name: statistics.median(own) for name, own in times.items()}


def _invoker(api: RuntimeApi, event: Mapping[str, object]) -> Callable[[], None]:
    data = json.dumps(event).encode()

    def invoke() -> None:
        invocation = api.invoke(data)
        invocation.body()
        assert invocation.head().status == 200

    return invoke


def _ask(connection: http.client.HTTPConnection) -> None:
    connection.request("POST", "/v1/chat/completions", functions.call_body("relayed", stream=False))
    assert connection.getresponse().read()


def _first_byte(invocation: Invocation) -> None:
    assert invocation.next_chunk()
    assert invocation.head().status == 200


def interrupted(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.cold", description=(__doc__ or "").partition("\n\n")[2])
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="where the results go (bench/results/…)")
    options = parser.parse_args()
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, interrupted)
    if not (functions.ARTIFACT / "bootstrap").is_file():
        print("There is no artifact in build/lambda: `make bench-cold` builds it.", file=sys.stderr)
        return 1

    two = cores()
    os.sched_setaffinity(0, {two.load})  # before any thread is made: each inherits it
    machine = description()
    try:
        servers.litellm_environment()
        with (
            tempfile.TemporaryDirectory(prefix="stile-bench-cold-") as folder,
            openai.running() as upstream,
            provider.on_a_thread(anthropic.chat) as claude,
            aws.running(pathlib.Path(folder)) as cloud,
        ):
            place = functions.make_place(pathlib.Path(folder), two.server, upstream.base, claude.url, cloud)
            figures = measure(place, upstream.port, options.rounds)
    except (AssertionError, servers.StartError, subprocess.SubprocessError) as failure:
        print(f"The benchmark failed: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted; everything is stopped.", file=sys.stderr)
        return 130
    if not two.apart:
        print("There is one core only: the function shared it with its emulator and its provider.")
    print("\n".join(cold_table.report(figures, machine)))
    file = options.json or RESULTS / f"cold-{machine['date'][:16].replace(' ', 'T').replace(':', '')}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"machine": machine, "figures": figures}, indent=2) + "\n")
    print(f"\nAll rounds: {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
