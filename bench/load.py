"""One round: load on one server for a few seconds, and what it did meanwhile.

Times are in seconds, CPU per call or chunk and latency in µs.
"""

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from bench.machine import Cores, busy, cpu
from bench.servers import Server
from bench.streams import CLIENTS, Bed, Target, request_body

PACE = 0.02

_SCRIPT = pathlib.Path(__file__).with_name("wrk.lua")
_WARM_SECONDS = 0.3
_WARM_SECONDS_SLOW = 1
_SETTLE_SECONDS = 5
_IDLE = 0.01
_FOREIGN = 0.1


@dataclass
class Round:
    """What one round showed: `rate` per second, `cpu` µs per call or chunk, `p50` and `p99` µs (None for streams).

    `faults` says why it does not count; nothing there means that it does.
    """

    rate: float
    cpu: float
    p50: float | None = None
    p99: float | None = None
    load_busy: float = 0
    server_busy: float = 0
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Load:
    """All that a round needs: the cores, the provider for streams, the process ids of the load other than our own.

    With `cpu_only` nobody looks at rates, so it does not matter how busy the load is.
    """

    cores: Cores
    bed: Bed
    helpers: tuple[int, ...]
    cpu_only: bool = False

    def wrk(self, server: Server, connections: int, seconds: int) -> Round:
        """Calls through wrk, each connection asking again as soon as it has its answer."""
        with self._watch(server) as watch:
            result = wrk(server.target(streams=False), connections, seconds)
        # wrk's own seconds: it needs a moment to start and to stop, in which the server has nothing to do
        shown = watch.round(result["calls"], result["seconds"])
        shown.p50, shown.p99 = result["p50"], result["p99"]
        if result["failed"]:
            shown.faults.append(f"{result['failed']:.0f} calls failed")
        self._settle(server)
        return shown

    def python_calls(self, server: Server, connections: int, seconds: float) -> Round:
        """Calls from Python, where there is no wrk: good for the CPU per call, not for the rate."""
        return self._from_bed(server, lambda: self.bed.answered, connections, seconds=seconds, streams=False)

    def chunks(self, server: Server, seconds: float, pace: float | None = None) -> Round:
        """Streams, each with one event on its way; with `pace`, one event each so many seconds."""
        return self._from_bed(server, lambda: self.bed.seen, CLIENTS, seconds=seconds, streams=True, pace=pace)

    def _from_bed(
        self,
        server: Server,
        count: Callable[[], int],
        clients: int,
        *,
        seconds: float,
        streams: bool,
        pace: float | None = None,
    ) -> Round:
        bed = self.bed
        bed.open(server.target(streams), clients, streams=streams, pace=pace)
        try:
            bed.drive(_WARM_SECONDS_SLOW if server.slow else _WARM_SECONDS)
            before = count()
            with self._watch(server) as watch:
                bed.drive(seconds)
            shown = watch.round(count() - before, watch.seconds)
        finally:
            bed.close()
        if pace is not None:
            shown.faults = [fault for fault in shown.faults if fault != Watch.LOAD_BUSIER]
        self._settle(server)
        return shown

    @contextlib.contextmanager
    def _watch(self, server: Server) -> Iterator["Watch"]:
        watch = Watch(server, self)
        yield watch
        watch.stop()

    def _settle(self, server: Server) -> None:
        """A slow server still works on calls that nobody waits for any more: not in the next one's round."""
        until = time.monotonic() + _SETTLE_SECONDS
        used = cpu(server.pid)
        time.sleep(0.1)
        while cpu(server.pid) - used > _IDLE and time.monotonic() < until:
            used = cpu(server.pid)
            time.sleep(0.1)

    def used(self) -> float:
        """Seconds of CPU of the load: this process, what it has waited for (wrk), and its helpers (nginx)."""
        times = os.times()
        own = times.user + times.system + times.children_user + times.children_system
        return own + sum(cpu(pid) for pid in self.helpers)


class Watch:
    """Both cores and both sides, from now until `stop`."""

    LOAD_BUSIER = "the load core was busier than the server's"

    def __init__(self, server: Server, load: Load) -> None:
        self._server = server
        self._load = load
        self._before = self._now()

    def _now(self) -> tuple[float, float, float, float, float]:
        cores = self._load.cores
        return time.perf_counter(), cpu(self._server.pid), busy(cores.server), self._load.used(), busy(cores.load)

    def stop(self) -> None:
        after = self._now()
        self.seconds, self.cpu, self.server_busy, self.load, self.load_busy = (
            end - start for start, end in zip(self._before, after, strict=True)
        )

    def round(self, count: float, seconds: float) -> Round:
        """The round of `count` calls or chunks in so many seconds of load."""
        if not count:
            return Round(0, 0, faults=["nothing came back"])
        faults = []
        if not self._load.cpu_only:
            if self.load_busy > self.server_busy:
                faults.append(self.LOAD_BUSIER)
            foreign = max(self.server_busy - self.cpu, self.load_busy - self.load) / self.seconds
            if foreign > _FOREIGN:
                faults.append(f"another process took more than {_FOREIGN:.0%} of a core")
        return Round(
            rate=count / seconds,
            cpu=self.cpu / count * 1e6,
            load_busy=self.load_busy / self.seconds,
            server_busy=self.server_busy / self.seconds,
            faults=faults,
        )


def wrk(target: Target, connections: int, seconds: int) -> dict[str, float]:
    """wrk's result: calls, seconds, p50 and p99 in µs, failed."""
    url = f"http://127.0.0.1:{target.port}{target.path}"
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(_SCRIPT), url]
    environment = {**os.environ, "BENCH_KEY": target.key, "BENCH_BODY": request_body(target.model).decode()}
    finished = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds + 30, check=True
    )
    result: dict[str, float] = json.loads(finished.stdout.strip().splitlines()[-1])
    return result


def wrk_program() -> str | None:
    return shutil.which("wrk")
