"""Runs of the official conformance suite of MCP against a gateway, and their table in doc/mcp.md."""

import json
import platform
import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.e2e import npm
from tests.e2e.mcp import relay
from tests.program import Program

HERE = Path(__file__).parent
REVISIONS = ("2025-11-25", "2026-07-28")
LIMIT = 240  # seconds for one run, which takes five

ASKS = (
    "asks the client something back (elicitation, sampling, roots): no tool here does, and nobody waits for an answer"
)
LOGS = "log messages to the client, deprecated in 2026-07-28: the gateway's log is for its operator"
SUBSCRIBES = "subscriptions need a stream that is held open: the gateway keeps nothing between two messages"
TASKS = "an extension of the protocol, not scored: no tool here runs longer than a call"
# With the suite's own tools, what fails, and why it may.
EXPECTED: Mapping[str, str] = {
    "elicitation-sep1034-defaults": ASKS,
    "elicitation-sep1330-enums": ASKS,
    "tools-call-elicitation": ASKS,
    "tools-call-sampling": ASKS,
    "input-required-result-basic-elicitation": ASKS,
    "input-required-result-basic-list-roots": ASKS,
    "input-required-result-basic-sampling": ASKS,
    "input-required-result-capability-check": ASKS,
    "input-required-result-multi-round": ASKS,
    "input-required-result-multiple-input-requests": ASKS,
    "input-required-result-non-tool-request": ASKS,
    "input-required-result-request-state": ASKS,
    "input-required-result-result-type": ASKS,
    "input-required-result-tampered-state": ASKS,
    "server-stateless": ASKS,
    "logging-set-level": LOGS,
    "tools-call-with-logging": LOGS,
    "resources-subscribe": SUBSCRIBES,
    "resources-unsubscribe": SUBSCRIBES,
    "tasks-lifecycle": TASKS,
    "tasks-capability-negotiation": TASKS,
    "tasks-wire-fields": TASKS,
    "tasks-request-state-removal": TASKS,
    "tasks-mrtr-input": TASKS,
    "tasks-request-headers": TASKS,
    "tasks-dispatch-and-envelope": TASKS,
    "tasks-required-task-error": TASKS,
    "tasks-mrtr-composition": TASKS,
}
# Of the gateway as it is served fail, besides, those that call the suite's own tools, prompts and resources by name.
NEED_ITS_OWN = frozenset(
    {
        "tools-call-simple-text",
        "tools-call-image",
        "tools-call-audio",
        "tools-call-embedded-resource",
        "tools-call-mixed-content",
        "tools-call-error",
        "tools-call-with-progress",
        "resources-read-text",
        "resources-read-binary",
        "resources-templates-read",
        "prompts-get-simple",
        "prompts-get-with-args",
        "prompts-get-embedded-resource",
        "prompts-get-with-image",
        "json-schema-2020-12",
        "http-custom-header-server-validation",
    }
)

Result = dict[str, tuple[int, int]]  # scenario → checks that passed, and that failed


def node() -> Path:
    """The Node that came with the packages."""
    machine = {"x86_64": "x64", "aarch64": "arm64"}[platform.machine()]
    return npm.installed(HERE) / "node_modules" / f"node-linux-{machine}" / "bin" / "node"


def run(gateway: Program, revision: str) -> Result:
    """One run of all that a revision requires."""
    script = npm.installed(HERE) / "node_modules" / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
    with tempfile.TemporaryDirectory() as out, relay.running(gateway.address, gateway.key) as url:
        command = [str(node()), str(script), "server", "--url", f"{url}/mcp", "--requirements", revision, "-o", out]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
        folders = sorted(Path(out).glob("server-*"))
        assert folders, ended.stdout + ended.stderr
        return {_scenario(folder): _counted(folder) for folder in folders}


def failing(result: Result) -> set[str]:
    return {name for name, (_, failed) in result.items() if failed}


def table(results: Mapping[tuple[str, str], Result]) -> str:
    """The table of all runs: by revision, with the suite's tools and as served."""
    columns = [(revision, subject) for revision in REVISIONS for subject in ("suite", "served")]
    names = sorted({name for result in results.values() for name in result})
    reasons = list(dict.fromkeys(EXPECTED.values()))
    lines = ["| scenario | 2025-11-25 | as served | 2026-07-28 | as served | |", "|---|---|---|---|---|---|"]
    for name in names:
        cells = [_cell(results[column].get(name)) for column in columns]
        note = f"({'abcdefgh'[reasons.index(EXPECTED[name])]})" if name in EXPECTED else ""
        note = "(own)" if name in NEED_ITS_OWN else note
        lines.append(f"| `{name}` | {' | '.join(cells)} | {note} |")
    totals = [_cell(_total(results[column])) for column in columns]
    lines.append(f"| all | {' | '.join(totals)} | |")
    notes = [f"- ({'abcdefgh'[number]}) {reason}." for number, reason in enumerate(reasons)]
    own = "- (own) calls the suite's own tools, prompts or resources by name, which a gateway does not have."
    return "\n".join([*lines, "", *notes, own, ""])


def _total(result: Result) -> tuple[int, int]:
    return sum(passed for passed, _ in result.values()), sum(failed for _, failed in result.values())


def _cell(counted: tuple[int, int] | None) -> str:
    if counted is None:
        return ""
    passed, failed = counted
    return f"{passed}" if not failed else f"{passed}, {failed} fail"


def _scenario(folder: Path) -> str:
    return re.sub(r"-\d{4}-\d\d-\d\dT.*", "", folder.name.removeprefix("server-"))  # without the time of the run


def _counted(folder: Path) -> tuple[int, int]:
    said = [check["status"] for check in json.loads((folder / "checks.json").read_text())]
    return said.count("SUCCESS"), said.count("FAILURE")
