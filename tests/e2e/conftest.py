"""What a run of the client programs has shown, as a table."""

import pytest

COLUMNS = ("answers", "streams", "calls a tool")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [
        report
        for outcome in ("passed", "failed", "error", "skipped")
        for report in terminalreporter.stats.get(outcome, [])
        if "test_clients.py::" in report.nodeid and report.when in ("call", "setup")
    ]
    if not reports:
        return
    terminalreporter.section("clients")
    terminalreporter.write_line(f"{'':36}" + "".join(f"{column:14}" for column in COLUMNS))
    for report in sorted(reports, key=lambda report: report.nodeid):
        name = report.nodeid.partition("[")[2].removesuffix("]")
        seen = dict(report.user_properties)
        cells = [{True: "yes", False: "NO", None: "NOT RUN"}[seen.get(column)] for column in COLUMNS]
        terminalreporter.write_line(f"{name:36}" + "".join(f"{cell:14}" for cell in cells))
