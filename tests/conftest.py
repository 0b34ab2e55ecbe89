"""What all tests share: a scripted provider and a gateway for each worker, and the search of all output for keys."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import leaks, program
from tests.mocks import cognito
from tests.mocks import openai as mock
from tests.program import Program

MODELS = [
    "ok",
    "split",
    "gated",
    "slow",
    "never-ending",
    "reset-before",
    "reset-in-head",
    "reset-mid",
    "short",
    "unframed",
    "unframed-cut",
    "refuses-usage",
    "groq",
    "mistral",
    "tool-call",
    "429",
    "500",
    "401",
    "redirect",
]

_reported: list[str] = []


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        os.environ[leaks.FOLDER] = tempfile.mkdtemp(prefix="stile-tests-")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    shown = [report.longreprtext, *(content for _, content in report.sections)]
    _reported.extend(f"{report.nodeid}: {leak}" for text in shown for leak in leaks.find(text))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Once, when all workers are done: no output of the whole run may hold key material."""
    if hasattr(session.config, "workerinput"):
        return
    found = [*_reported, *leaks.in_folder(leaks.folder())]
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if found:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if reporter is not None:
            reporter.write_line("\nKEY MATERIAL IN THE OUTPUT OF THIS RUN:\n" + "\n".join(found), red=True)
        return
    shutil.rmtree(leaks.folder())


@pytest.fixture(scope="session")
def output() -> Path:
    """A folder of this worker's own, searched for key material at the end."""
    return Path(tempfile.mkdtemp(dir=leaks.folder()))


@pytest.fixture
def folder(output: Path) -> Path:
    """A folder for one test, below the one that is searched."""
    return Path(tempfile.mkdtemp(dir=output))


@pytest.fixture(scope="session")
def upstream() -> Iterator[mock.Upstream]:
    with mock.running() as running:
        yield running


@pytest.fixture(scope="session", params=["sqlite", "cognito"])
def directory(request: pytest.FixtureRequest, output: Path) -> Iterator[dict[str, str]]:
    """What a gateway's environment says of its directory: nothing, or all that Cognito needs."""
    if request.param == "sqlite":
        yield {}
        return
    with cognito.running(Path(tempfile.mkdtemp(dir=output))) as pool:
        yield pool.environment()


@pytest.fixture(scope="session")
def gateway(output: Path, upstream: mock.Upstream, directory: dict[str, str]) -> Iterator[Program]:
    """A gateway whose model file names every script of the provider, and a few places where nobody is."""
    folder = Path(tempfile.mkdtemp(dir=output))  # pytest may come back to a directory that it has left
    config = folder / "config.yaml"
    config.write_text(model_file(upstream))
    settings = {"STILE_CONFIG": str(config), "STILE_TIMEOUT_SECONDS": "20", **directory}
    with program.administered(folder / "gateway", **settings) as running:
        yield running


def model_file(upstream: mock.Upstream) -> str:
    entries = [
        f"  - model_name: {name}\n    litellm_params:\n      model: openai/{name}\n      api_base: {upstream.base}\n"
        f"      api_key: {leaks.PROVIDER_KEY}\n"
        for name in MODELS
    ]
    entries.append(
        "  - model_name: nowhere\n    litellm_params: {model: openai/x, api_base: http://127.0.0.1:9/v1, api_key: x}\n"
    )
    return "model_list:\n" + "".join(entries)
