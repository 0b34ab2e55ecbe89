"""What runs of the client programs have shown, as tables."""

from collections.abc import Sequence

import pytest

TABLES: dict[str, tuple[str, Sequence[str]]] = {
    "test_clients.py": ("clients", ("answers", "streams", "calls a tool")),
    "test_mcp_clients.py": ("clients of /mcp", ("version", "revision", "calls tools", "wrong key")),
}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for file, (title, columns) in TABLES.items():
        rows = _rows(terminalreporter, file)
        if not rows:
            continue
        terminalreporter.section(title)
        terminalreporter.write_line(f"{'':36}" + "".join(f"{column:14}" for column in columns))
        for name, seen in sorted(rows.items()):
            cells = [_cell(seen.get(column)) for column in columns]
            terminalreporter.write_line(f"{name:36}" + "".join(f"{cell:14}" for cell in cells))


def _cell(value: object) -> str:
    if value is None:
        return "NOT RUN"
    return value if isinstance(value, str) else ("yes" if value else "NO")


def _rows(terminalreporter: pytest.TerminalReporter, file: str) -> dict[str, dict[str, object]]:
    """What each client's tests have recorded, by the name in brackets."""
    found: dict[str, dict[str, object]] = {}
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            if f"/{file}::" in report.nodeid and "[" in report.nodeid and report.when in ("call", "setup"):
                row = found.setdefault(report.nodeid.partition("[")[2].removesuffix("]"), {})
                row.update(report.user_properties)
    return found
