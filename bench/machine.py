"""The machine under the benchmark: its cores, what they did, what a process used. Linux only, read from /proc."""

import datetime
import os
import pathlib
import platform
from dataclasses import dataclass
from typing import Any

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Cores:
    """Two cores: `server` runs the one under test, `load` everything else. They are the same on a one-core machine."""

    server: int
    load: int

    @property
    def apart(self) -> bool:
        return self.server != self.load


def cores() -> Cores:
    """Two cores that this process may use, on different physical cores where there is a choice."""
    usable = sorted(os.sched_getaffinity(0))
    server = usable[-1]
    siblings = _siblings(server)
    others = [core for core in usable if core not in siblings] or [core for core in usable if core != server]
    return Cores(server, others[0] if others else server)


def _siblings(core: int) -> set[int]:
    listed = pathlib.Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
    if not listed.exists():
        return {core}
    found: set[int] = set()
    for part in listed.read_text().strip().split(","):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def busy(core: int) -> float:
    """Seconds that this core has worked since boot, interrupts included."""
    for line in pathlib.Path("/proc/stat").read_text().splitlines():
        name, *numbers = line.split()
        if name == f"cpu{core}":
            user, nice, system, _idle, _iowait, irq, softirq, *_ = map(int, numbers)
            return (user + nice + system + irq + softirq) / TICKS
    raise LookupError(f"/proc/stat does not know core {core}")


def cpu(pid: int) -> float:
    """Seconds of CPU that a process has used, all its threads together."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss(pid: int) -> float:
    """Resident memory of a process in MB (10^6 bytes)."""
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE / 1e6


def description() -> dict[str, Any]:
    """Date, cores, CPU, memory and versions, for the head of the table."""
    information = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in information if line.startswith("model name")), "unknown")
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cores": os.cpu_count() or 1,
        "cpu": model,
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * PAGE / 1e9, 1),
        "python": platform.python_version(),
        "kernel": platform.release(),
    }
