"""A Lambda function's process: started with Lambda's environment, frozen and thawed as Lambda does it, and ended.

It knows nothing of what runs in it: the command may be the gateway's entry, its bootstrap, or any other runtime.
"""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.mocks.runtime_api import RuntimeApi

ROOT = Path(__file__).parent.parent / "src" / "lambda"
WAIT = 30


@dataclass
class Function:
    """A function that runs. `out` and `err` are the files that it writes to."""

    process: "subprocess.Popen[bytes]"
    out: Path
    err: Path

    def freeze(self) -> None:
        """Stop the process where it is, as Lambda does between two invocations."""
        self.process.send_signal(signal.SIGSTOP)
        _, status = os.waitpid(self.process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), "the process had ended"

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def terminate(self) -> int:
        """Ask the process to end, as Lambda does before it takes an environment down; answers its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.ended()

    def ended(self) -> int:
        """Wait for the end of the process; answers its exit code."""
        return self.process.wait(WAIT)


def environment(api: RuntimeApi, task_root: Path, **settings: str) -> dict[str, str]:
    """What Lambda sets ("Using Lambda environment variables" in its developer guide), and nothing of this machine."""
    kept = {name: os.environ[name] for name in ("PATH", "COVERAGE_PROCESS_CONFIG") if name in os.environ}
    given = {
        "AWS_ACCESS_KEY_ID": "ASIAEXAMPLE",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
        "AWS_LAMBDA_FUNCTION_NAME": "gateway",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_FORMAT": "JSON",
        "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/gateway",
        "AWS_LAMBDA_LOG_LEVEL": "INFO",
        "AWS_LAMBDA_LOG_STREAM_NAME": "2026/11/23/[$LATEST]0123456789abcdef0123456789abcdef",
        "AWS_LAMBDA_RUNTIME_API": api.address,
        "AWS_REGION": "eu-central-1",
        "AWS_SECRET_ACCESS_KEY": "example",
        "AWS_SESSION_TOKEN": "example",
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
        "LAMBDA_TASK_ROOT": str(task_root),
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
        "_HANDLER": "app.handler",
    }
    if api.snap_start:
        # With SnapStart credentials come from an endpoint, and a snapshot has no log of its own.
        given |= {"AWS_LAMBDA_FUNCTION_VERSION": "1", "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}
        for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN"):
            del given[f"AWS_{name}"]
        for name in ("GROUP", "STREAM"):
            del given[f"AWS_LAMBDA_LOG_{name}_NAME"]
    return {**kept, **given, **settings}


@contextlib.contextmanager
def running(
    folder: Path, api: RuntimeApi, command: Sequence[str | Path], *, task_root: Path = ROOT, **settings: str
) -> Iterator[Function]:
    """A function until the block ends. Its output goes to files in `folder`; `settings` are set besides Lambda's."""
    folder.mkdir(parents=True, exist_ok=True)
    number = len(list(folder.glob("*.out")))
    out, err = folder / f"{number}.out", folder / f"{number}.err"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen(
            command,
            cwd=task_root,
            env=environment(api, task_root, **settings),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
        )

    def ended() -> str | None:
        code = process.poll()
        return None if code is None else f"the process had ended with {code}: {err.read_text(errors='replace')[-4000:]}"

    api.follow(ended)
    try:
        yield Function(process, out, err)
    finally:
        if process.poll() is None:
            process.kill()  # ends a frozen process, too
            process.wait()
