"""The lines' fields, all of them: what is not declared here cannot be logged of a call or a change. No header, no body
and no key has a field."""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

ErrorKind = Literal[
    "request", "authentication", "permission", "throttled", "provider", "directory", "gateway", "client_gone"
]
Dialect = Literal["openai", "anthropic", "mcp", "stile"]


class Emf(msgspec.Struct, frozen=True, rename="pascal", gc=False):
    """The metadata of CloudWatch's embedded metric format: milliseconds since 1970, and an array of directives."""

    timestamp: int
    cloud_watch_metrics: msgspec.Raw


class CallRecord(msgspec.Struct, gc=False):  # it is in no circle, and there is one for each call
    """One call's line, filled in as the call goes on. Times in milliseconds from when its head had come, sizes in
    bytes, cost in USD. A field that is UNSET is not in the line.

    `route`: the URL table's own path. `model_served`: as the provider's answer names it. `model_name`: the configured
    name or pattern that `model` fell under. `upstream_ms`: until the first event of a stream or a whole answer, spent
    on attempts and on pauses between them; `overhead_ms`: the gateway's own part of the time until the head went out.
    `failed_attempts`: target and kind of failure of each, there only when there were any. `refused`: why a key was not
    taken, there only when it was not. `mcp_method`, `mcp_name` (of a tool, a prompt, a resource) and `mcp_version`: a
    message of MCP, there for those only. `aws_request_id`, `api_request_id` and `xray_trace_id` are there on Lambda
    only. `errors` and what follows are counted (see metrics).
    """

    request_id: str
    method: str
    path: str | None
    route: str = ""
    dialect: Dialect | None = None
    time: str = ""
    event: Literal["call"] = "call"
    stage: str = ""
    user_id: str | None = None
    key_id: str | None = None
    model: str | None = None
    model_name: str | UnsetType | None = UNSET
    model_served: str | None = None
    target: str | None = None
    target_id: str | None = None
    attempts: int = 0
    failed_attempts: list[str] | UnsetType = UNSET
    status: int = 0
    stream: bool = False
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    usage_estimated: bool = False
    cost_usd: float | UnsetType = UNSET
    ttfb_ms: float | None = None
    upstream_ms: float = 0
    overhead_ms: float | None = None
    total_ms: float = 0
    bytes_in: int = 0
    bytes_out: int = 0
    error: str | None = None
    error_kind: ErrorKind | None = None
    refused: str | UnsetType = UNSET
    client: str | None = None
    cold_start: bool = False
    trace_id: str = ""
    xray_trace_id: str | UnsetType = UNSET
    mcp_method: str | UnsetType = UNSET
    mcp_name: str | UnsetType = UNSET
    mcp_version: str | UnsetType | None = UNSET
    aws_request_id: str | UnsetType = UNSET
    api_request_id: str | UnsetType = UNSET
    errors: int = 0
    provider_errors: int | UnsetType = UNSET
    auth_failures: int | UnsetType = UNSET
    throttles: int | UnsetType = UNSET
    cold_starts: int | UnsetType = UNSET
    tokens: int | UnsetType = UNSET
    emf: Emf | UnsetType = msgspec.field(default=UNSET, name="_aws")


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


class TextRecord(msgspec.Struct):
    """One line of the program's own: a warning, a fault with its trace, what it does at `debug`."""

    time: str
    level: Literal["debug", "info", "warning", "error"]
    logger: str
    message: str
    trace: str | UnsetType = UNSET
    event: Literal["log"] = "log"
