"""`python -m bench [--peers litellm] [--quick] [--json FILE]`: measure the gateway, print a table, keep it as JSON.

Without wrk, nginx or a second core only the CPU per call and per chunk is measured: rates would show the load, not
the server. doc/benchmark.md says how it works and what it does not show.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from typing import Any

from bench import plan as plans
from bench import servers, table
from bench.load import PACE, Load, Round, wrk, wrk_program
from bench.machine import Cores, cores, description, rss
from bench.streams import Bed, StreamError, Target

RESULTS = pathlib.Path(__file__).parent / "results"
PEERS = {"litellm": servers.litellm}


@dataclasses.dataclass(frozen=True)
class Plan:
    """How much is measured: `rounds` of `seconds` for each server and scenario; many and short, because machines drift.

    A slow server takes part in every third round, with `slow_seconds`.
    """

    rounds: int
    seconds: int
    slow_seconds: int
    scenarios: tuple[str, ...]


FULL = Plan(9, 1, 4, ("calls-1", "calls-16", "calls-64", "chunks", "paced"))
QUICK = Plan(2, 1, 3, ("calls-1", "calls-16", "calls-64", "chunks"))


@dataclasses.dataclass
class Results:
    """Rounds by server and scenario, those of the provider alone, and what is known of each server."""

    rounds: dict[str, dict[str, list[Round]]] = dataclasses.field(default_factory=dict)
    direct: list[Round] = dataclasses.field(default_factory=list)
    facts: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)


def lacking(two: Cores) -> list[str]:
    """Why rates cannot be measured here, if they cannot."""
    reasons = []
    packages = [
        package
        for package, program in (("wrk", wrk_program()), ("nginx-light", servers.nginx_program()))
        if not program
    ]
    if packages:
        reasons.append(f"Not installed: {', '.join(packages)} (Debian: apt-get install wrk nginx-light).")
    if not two.apart:
        reasons.append("There is one core only: load and server would share it.")
    return reasons


def measure(plan: Plan, peers: Iterable[str], two: Cores, cpu_only: bool) -> Results:
    """Start everything, run the rounds interleaved, stop everything."""
    if "litellm" in peers:
        servers.litellm_environment()
    results = Results()
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stile-bench-")))
        streams_port = servers.free_port()
        bed = stack.enter_context(Bed(streams_port))
        calls_port = streams_port if cpu_only else servers.free_port()
        place = servers.Place(folder, two.server, calls_port, streams_port, bed)
        helpers = [] if cpu_only else [stack.enter_context(servers.nginx(folder, calls_port, two.load)).pid]
        bare, stile = (stack.enter_context(maker(place)) for maker in (servers.bare, servers.gateway))
        others = [stack.enter_context(PEERS[peer](place)) for peer in peers]
        tested = [bare, stile, servers.routed(stile), *others]
        load = Load(two, bed, tuple(helpers), cpu_only)
        scenarios = ("python-calls", "chunks") if cpu_only else plan.scenarios
        for server in tested:
            results.rounds[server.name] = {scenario: [] for scenario in scenarios}
            one_round(load, server, "python-calls", 0.5)  # to warm up
            one_round(load, server, "chunks", 0.5)
        for number in range(plan.rounds):
            print(f"Round {number + 1} of {plan.rounds} …", file=sys.stderr, flush=True)
            if not cpu_only:
                results.direct.append(direct(calls_port, plan.seconds))
            for scenario in scenarios:
                for server in tested:
                    if server.slow and number % 3:
                        continue
                    seconds = plan.slow_seconds if server.slow else plan.seconds
                    results.rounds[server.name][scenario].append(one_round(load, server, scenario, seconds))
        for server in tested:
            results.facts[server.name] = {
                "start_seconds": server.start_seconds,
                "idle_mb": server.idle_mb,
                "loaded_mb": rss(server.pid),
            }
    return results


def one_round(load: Load, server: servers.Server, scenario: str, seconds: float) -> Round:
    if scenario == "python-calls":
        return load.python_calls(server, 16, seconds)
    if scenario == "chunks":
        return load.chunks(server, seconds)
    if scenario == "paced":
        return load.chunks(server, seconds, PACE)
    return load.wrk(server, int(scenario.removeprefix("calls-")), int(seconds))


def direct(port: int, seconds: int) -> Round:
    """The provider with nothing before it, at one connection."""
    result = wrk(Target(port, "/v1/chat/completions", "none", "bench"), 1, seconds)
    return Round(result["calls"] / result["seconds"], 0, result["p50"], result["p99"])


def report(results: Results, machine: Mapping[str, Any], reasons: list[str]) -> str:
    memory = f"{machine['memory_gb']} GB"
    lines = [
        f"{machine['date']}, {machine['cpu']}, {machine['cores']} cores, {memory}, "
        f"Python {machine['python']}, Linux {machine['kernel']}; one worker on one core each.",
        "",
        *table.render(table.rows(results.rounds, results.direct, results.facts, bool(reasons)), list(results.rounds)),
        "",
        *table.aims(results.rounds if not reasons else {}),
        plans.report(),
        *table.line(results.rounds),
        *table.faults(results.rounds),
    ]
    return "\n".join(lines)


def interrupted(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").partition("\n\n")[2])
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=[], help="measure these as well")
    parser.add_argument("--quick", action="store_true", help="under half a minute, for a rough idea")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="where the results go (bench/results/…)")
    options = parser.parse_args()
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, interrupted)

    two = cores()
    os.sched_setaffinity(0, {two.load})
    machine = description()
    reasons = lacking(two)
    for reason in reasons:
        print(f"{reason} Only CPU per call and per chunk is measured.", flush=True)
    plan = QUICK if options.quick else FULL
    try:
        results = measure(plan, options.peers, two, bool(reasons))
    except (servers.StartError, StreamError, subprocess.SubprocessError) as failure:
        print(f"The benchmark failed: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted; everything is stopped.", file=sys.stderr)
        return 130
    print(report(results, machine, reasons))
    file = options.json or RESULTS / f"{machine['date'][:16].replace(' ', 'T').replace(':', '')}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {"machine": machine, "plan": dataclasses.asdict(plan), **dataclasses.asdict(results)}
    file.write_text(json.dumps(content, indent=2) + "\n")
    print(f"\nAll rounds: {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
