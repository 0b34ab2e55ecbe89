"""One JSON line per call and per change of a user or key, and the program's own log lines in the same form.

Nothing that is not a declared field of CallRecord can be logged of a call: no header, no body, no key has a field here.
Free text (warnings, traces) passes a filter that blots out anything shaped like a key.
"""

import asyncio
import contextlib
import logging
import os
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from stile.errors import ConfigError

_KEY_SHAPED = re.compile(r"(sk-[A-Za-z0-9_-]{4})[A-Za-z0-9_-]{12,}")
MAX_SHOWN = 512
_STANDARD_OUTPUT = 1
_LEVELS = {"WARNING": "warning", "ERROR": "error", "CRITICAL": "error"}

T = TypeVar("T")


class CallRecord(msgspec.Struct):
    """One call's line, filled in as the call goes on. Times in milliseconds from when its head had come.

    `upstream_ms`: until the first event of a stream or a whole answer, spent on attempts and on pauses between them.
    `failed_attempts`: target and kind of failure of each, there only when there were any. `refused`: why a key was not
    taken, there only when it was not. `mcp_method`, `mcp_name` (of a tool, a prompt, a resource) and `mcp_version`: a
    message of MCP, there for those only. The last three are there on Lambda only: Lambda's id of the invocation,
    API Gateway's of the request, X-Ray's trace.
    """

    request_id: str
    method: str
    path: str | None
    time: str = ""
    event: Literal["call"] = "call"
    user_id: str | None = None
    key_id: str | None = None
    model: str | None = None
    target: str | None = None
    target_id: str | None = None
    attempts: int = 0
    failed_attempts: list[str] | msgspec.UnsetType = msgspec.UNSET
    status: int = 0
    stream: bool = False
    input_tokens: int | None = None
    output_tokens: int | None = None
    usage_estimated: bool = False
    ttfb_ms: float | None = None
    upstream_ms: float = 0
    total_ms: float = 0
    bytes_out: int = 0
    error: str | None = None
    refused: str | msgspec.UnsetType = msgspec.UNSET
    mcp_method: str | msgspec.UnsetType = msgspec.UNSET
    mcp_name: str | msgspec.UnsetType = msgspec.UNSET
    mcp_version: str | msgspec.UnsetType | None = msgspec.UNSET
    aws_request_id: str | msgspec.UnsetType = msgspec.UNSET
    api_request_id: str | msgspec.UnsetType = msgspec.UNSET
    trace_id: str | msgspec.UnsetType = msgspec.UNSET


class AuditRecord(msgspec.Struct):
    """One change of a user or a key. `before` and `after` are what the API shows of it, which has no secret.

    `by_user_id` and `by_key_id` are null for what the program did itself: a first start, a bootstrap.
    """

    action: str
    user_id: str
    key_id: str | None = None
    by_user_id: str | None = None
    by_key_id: str | None = None
    request_id: str | None = None
    outcome: Literal["done", "unknown"] = "done"
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    time: str = ""
    event: Literal["audit"] = "audit"


class Telemetry:
    """Writes lines to `path`, or to standard output: inside an event loop all lines of one turn at once.

    `otherwise`: the descriptor of another place than standard output. Raises ConfigError when `path` cannot be written.
    """

    def __init__(self, path: Path | None, *, otherwise: int = _STANDARD_OUTPUT) -> None:
        self._out = _open(path) if path else otherwise
        self._opened = path is not None
        self._held = False
        self._encoder = msgspec.json.Encoder()
        self._waiting: list[bytes] = []
        self._second = 0
        self._second_text = ""

    def call(self, record: CallRecord) -> None:
        """Write one call's line."""
        record.time = self._now()
        record.path, record.model, record.target = _shown(record.path), _shown(record.model), _shown(record.target)
        if record.mcp_method is not msgspec.UNSET:
            record.mcp_method, record.mcp_name = _shown(record.mcp_method), _shown(record.mcp_name)
            record.mcp_version = _shown(record.mcp_version)
        record.upstream_ms = int(record.upstream_ms * 100) / 100
        if record.failed_attempts:
            record.failed_attempts = [str(_shown(attempt)) for attempt in record.failed_attempts]
        self._write(self._encoder.encode(record))

    def audit(self, record: AuditRecord) -> None:
        """Write the line of one change, with anything shaped like a key blotted out of its texts."""
        record.time = self._now()
        self._write(redact(self._encoder.encode(record).decode()).encode())

    def capture_logging(self) -> None:
        """Send what the program and its libraries log, from warnings up, to the same place."""
        root = logging.getLogger()
        root.handlers = [_Handler(self)]
        root.setLevel(logging.WARNING)
        logging.captureWarnings(capture=True)

    def text(self, level: str, logger: str, message: str, trace: str | None = None) -> None:
        """Write one line of free text, with anything shaped like a key blotted out."""
        line = {"time": self._now(), "event": "log", "level": level, "logger": logger, "message": redact(message)}
        if trace:
            line["trace"] = redact(trace)
        self._write(self._encoder.encode(line))

    def flush(self) -> None:
        """Write what waits."""
        lines, self._waiting = self._waiting, []
        rest = memoryview(b"".join(lines))
        with contextlib.suppress(OSError):  # a reader that has gone, a full disk: a call must not fail for its line
            while rest:
                rest = rest[os.write(self._out, rest) :]

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep lines back until the block ends."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
            self.flush()

    def close(self) -> None:
        self.flush()
        if self._opened:
            os.close(self._out)

    def _write(self, line: bytes) -> None:
        self._waiting.append(line + b"\n")
        if len(self._waiting) == 1 and not self._held:
            try:
                asyncio.get_running_loop().call_soon(self.flush)
            except RuntimeError:  # no loop runs: nothing to wait for
                self.flush()

    def _now(self) -> str:
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second_text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
            self._second = second
        return f"{self._second_text}.{int((now - second) * 1000):03d}Z"


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    except OSError as fault:
        raise ConfigError([f"STILE_LOG_FILE: {path} cannot be written ({fault.strerror})"]) from None


def _shown(text: T) -> T | str:
    """What a caller chose (a path, a model's name), bounded and without a key that was put in the wrong place."""
    if not isinstance(text, str) or (len(text) <= MAX_SHOWN and "sk-" not in text):
        return text
    return redact(text[:MAX_SHOWN])


def redact(text: str) -> str:
    """`text` without anything shaped like an API key, whosever it is."""
    return _KEY_SHAPED.sub(r"\1***", text)


class _Handler(logging.Handler):
    def __init__(self, telemetry: Telemetry) -> None:
        super().__init__()
        self._telemetry = telemetry
        self._traces = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        trace = self._traces.formatException(record.exc_info) if record.exc_info else None
        level = _LEVELS.get(record.levelname, "info")
        self._telemetry.text(level, record.name, record.getMessage(), trace)
