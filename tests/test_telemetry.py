"""What is seen of calls: kinds of errors, where they went, what they cost; ten series whoever calls; the same numbers
at /metrics; lines for people on a terminal."""

import contextlib
import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import leaks, program
from tests.emf import Metrics, check
from tests.mocks.openai import USAGE, Upstream
from tests.program import Program
from tests.rpc import MODERN, Client

from stile.telemetry.metrics import OF_MODELS, SERIES, kind_of

HI = [{"role": "user", "content": "hi"}]
CHAT = "/v1/chat/completions"
ESCAPE = re.compile(r"\x1b\[\d*m")


@pytest.fixture
def config(folder: Path, upstream: Upstream) -> Path:
    """`own` has a price of its own; any `any-…` is served; `bäcker` is no dimension that CloudWatch takes."""
    file = folder / "config.yaml"
    params = f"api_base: '{upstream.base}', api_key: {leaks.PROVIDER_KEY}"
    file.write_text(
        f"""model_list:
  - model_name: own
    litellm_params: {{model: openai/ok, {params}}}
    model_info: {{input_cost_per_token: 0.001, output_cost_per_token: 0.01}}
  - {{model_name: any-*, litellm_params: {{model: openai/*, {params}}}}}
  - {{model_name: "500", litellm_params: {{model: openai/500, {params}}}}}
  - {{model_name: "429", litellm_params: {{model: openai/429, {params}}}}}
  - {{model_name: bäcker, litellm_params: {{model: openai/ok, {params}}}}}
"""
    )
    return file


def ask(gateway: Program, model: str, **more: Any) -> dict[str, Any]:
    """The line of one chat."""
    answer = gateway.ask("POST", CHAT, {"model": model, "messages": HI, **more})
    return gateway.line_of(answer.headers["x-request-id"])


def test_a_line_tells_what_was_asked_of_whom_and_what_it_cost(folder: Path, config: Path) -> None:
    with program.running(folder, STILE_CONFIG=str(config), STILE_STAGE="team/test") as gateway:
        agent = {"user-agent": "claude-cli/2.1.0 (external, cli)"}
        answer = gateway.ask("POST", CHAT, {"model": "own", "messages": HI}, headers=agent)
        line = gateway.line_of(answer.headers["x-request-id"])
        assert line["cost_usd"] == pytest.approx(11 * 0.001 + 7 * 0.01)
        assert (line["model"], line["model_served"], line["target"]) == ("own", "m", "openai/ok")
        assert (line["route"], line["dialect"], line["stage"]) == (CHAT, "openai", "team/test")
        assert (line["client"], line["cold_start"]) == ("claude-cli/2.1.0", False)
        assert line["tokens"] == line["input_tokens"] + line["output_tokens"] == USAGE["total_tokens"]
        assert line["bytes_in"] == len(json.dumps({"model": "own", "messages": HI}))
        assert 0 <= line["overhead_ms"] <= line["ttfb_ms"] <= line["total_ms"]
        assert "cost_usd" not in ask(gateway, "any-ok")


def test_a_route_is_the_tables_path_whatever_the_base(folder: Path, config: Path) -> None:
    with program.running(folder, STILE_CONFIG=str(config)) as gateway:
        asked = {
            "/chat/completions": (CHAT, "openai"),
            "/openai/v1/chat/completions": (CHAT, "openai"),
            "/openai/deployments/own/chat/completions": (CHAT, "openai"),
            "/v1/messages": ("/v1/messages", "anthropic"),
            "/nothing": ("unknown", None),
            "/api/keys/x/rotate": ("/api/keys/{id}/rotate", "stile"),
        }
        for path, expected in asked.items():
            answer = gateway.ask("POST", path, {"model": "own", "messages": HI, "max_tokens": 5})
            line = gateway.line_of(answer.headers["x-request-id"])
            assert (line["route"], line["dialect"]) == expected
        answer = Client(gateway, MODERN).ask("tools/list")
        assert gateway.line_of(answer.headers["x-request-id"])["dialect"] == "mcp"


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (None, 200, None),
        (None, 404, "request"),
        ("invalid_json", 400, "request"),
        ("model_not_found", 404, "request"),
        ("invalid_api_key", 401, "authentication"),
        ("model_not_allowed", 403, "permission"),
        ("rate_limit_exceeded", 429, "throttled"),
        ("directory_unavailable", 503, "directory"),
        ("change_unconfirmed", 503, "directory"),
        ("internal_error", 500, "gateway"),
        ("gateway_stopping", 500, "gateway"),
        ("upstream_unreachable", 502, "provider"),
        ("upstream_timeout", 504, "provider"),
        ("upstream_broken", 200, "provider"),
        ("upstream_error", 500, "provider"),
        ("upstream_error", 401, "provider"),
        ("upstream_error", 200, "provider"),
        ("upstream_error", 429, "throttled"),
        ("upstream_error", 400, "request"),
        ("client_gone", 499, "client_gone"),
        ("something_new", 500, "gateway"),
        ("something_new", 418, "request"),
    ],
)
def test_every_error_has_a_kind(error: str | None, status: int, kind: str | None) -> None:
    assert kind_of(error, status) == kind


@pytest.mark.parametrize("by_model", ["0", "1"])
def test_callers_cannot_make_series(folder: Path, config: Path, by_model: str) -> None:
    with program.running(folder, STILE_CONFIG=str(config), STILE_METRICS_BY_MODEL=by_model) as gateway:
        for number in range(50):
            ask(gateway, f"any-made-up-{number}", stream=bool(number % 2))
        for model in ("own", "500", "429", "bäcker", "nobody-has-this", "x" * 300):
            ask(gateway, model)
        gateway.line_of(gateway.ask("GET", "/v1/models", key="sk-wrong").headers["x-request-id"])
        lines = gateway.calls()
    assert [fault for line in lines for fault in check(line)] == []
    found = Metrics(lines).series
    plain = {series for series in found if len(series[2]) == 1}
    assert {name for _, name, _ in plain} == SERIES.keys() - {"cold_starts"}  # which are a function's
    assert {dimensions for *_, dimensions in plain} == {(("stage", "local"),)}
    named = {dict(dimensions)["model_name"] for *_, dimensions in found - plain}
    assert named == ({"own", "any-*", "500", "429"} if by_model == "1" else set())
    assert {name for _, name, _ in found - plain} <= set(OF_MODELS)


def test_the_numbers_for_prometheus_are_those_of_the_lines(folder: Path, config: Path) -> None:
    with program.running(folder, STILE_CONFIG=str(config)) as gateway:
        for model in ("own", "own", "any-ok", "500", "nobody-has-this"):
            ask(gateway, model)
        answer = gateway.ask("GET", "/metrics")
        lines = gateway.calls()
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = {}
    for line in answer.body.decode().splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            found[name] = float(value)
    assert found["stile_calls_total"] == len(lines) == 5
    assert found['stile_call_errors_total{kind="provider"}'] == found['stile_call_errors_total{kind="request"}'] == 1
    assert found['stile_tokens_total{direction="input"}'] == sum(line["input_tokens"] or 0 for line in lines)
    assert found["stile_cost_usd_total"] == pytest.approx(2 * (11 * 0.001 + 7 * 0.01))
    reached = [line for line in lines if line["attempts"]]
    assert found["stile_call_seconds_count"] == found['stile_call_seconds_bucket{le="+Inf"}'] == len(reached) == 4
    assert found["stile_call_seconds_sum"] == pytest.approx(sum(line["total_ms"] for line in reached) / 1000)
    buckets = [value for name, value in found.items() if name.startswith("stile_overhead_seconds_bucket")]
    assert buckets == sorted(buckets)


def test_the_numbers_are_for_admins(folder: Path) -> None:
    with program.running(folder) as gateway:
        me = gateway.ask("GET", "/api/me").json["user"]["id"]
        key = gateway.ask("POST", f"/api/users/{me}/keys", {"name": "no admin", "scopes": ["inference"]}).json["key"]
        assert gateway.ask("GET", "/metrics", key=None).status == 401
        assert gateway.ask("GET", "/metrics", key=key).status == 403
        assert gateway.ask("HEAD", "/metrics").status == 200


@pytest.mark.parametrize(("level", "told"), [("debug", True), ("info", False), ("error", False)])
def test_calls_are_logged_at_every_level_and_details_at_debug(
    folder: Path, config: Path, level: str, told: bool
) -> None:
    with program.running(folder, STILE_CONFIG=str(config), STILE_LOG=level) as gateway:
        line = ask(gateway, "500")
        gateway.ask("GET", "/health")
        gateway.stop()
        texts = [line["message"] for line in gateway.lines() if line["event"] == "log"]
    assert line["status"] == 500
    assert any("attempt 1" in text and line["request_id"] in text for text in texts) == told
    assert any(text.startswith("GET /health: 200") for text in texts) == told
    assert len([line for line in gateway.calls() if line["path"] == "/health"]) == 0


class Terminal:
    """The program on a terminal, as a person starts it."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self._shown, inside = pty.openpty()
        env = program.environment(folder / "home", TERM="xterm", **settings)
        self.process = subprocess.Popen(
            [sys.executable, str(program.APP)], env=env, stdin=subprocess.DEVNULL, stdout=inside, stderr=inside
        )
        os.close(inside)
        self.text = ""

    def until(self, form: str) -> re.Match[str]:
        """Read until this is shown."""
        ends = time.monotonic() + program.WAIT
        while (found := re.search(form, self.text)) is None:
            assert time.monotonic() < ends, self.text
            if select.select([self._shown], [], [], 0.1)[0]:
                self.text += os.read(self._shown, 65536).decode()
        return found

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._shown)


@contextlib.contextmanager
def terminal(folder: Path, **settings: str) -> Iterator[tuple[Terminal, Program]]:
    shown = Terminal(folder, **settings)
    try:
        base = shown.until(r"Base URL  (http://\S+)/v1")[1]
        key = shown.until(f"({program.KEY.pattern}).*\\n.*shown only now")[1]
        shown.until(r"curl .*\r\n\r\n")
        yield shown, Program(shown.process, folder, folder, folder, base, key)
    finally:
        shown.close()


@pytest.mark.parametrize(("settings", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)], ids=["colour", "NO_COLOR"])
def test_lines_on_a_terminal_are_short_and_for_people(folder: Path, settings: dict[str, str], coloured: bool) -> None:
    with terminal(folder, **settings) as (shown, gateway):
        answer = gateway.ask("POST", CHAT, {"model": "echo", "messages": HI})
        line = shown.until(rf"([^\n]*){answer.headers['x-request-id']}")[0]
        assert (ESCAPE.search(line) is not None) == coloured
        plain = ESCAPE.sub("", line)
        assert re.fullmatch(rf"\d\d:\d\d:\d\d\.\d{{3}}  200  POST {CHAT}  echo  1\+11 tokens  \d+ ms  req_\w+", plain)


def test_nothing_that_a_caller_sends_moves_the_terminal(folder: Path) -> None:
    with terminal(folder, NO_COLOR="1") as (shown, gateway):
        answer = gateway.ask("POST", CHAT, {"model": "\x1b[2J\r\nfake 200\u202e\x9b", "messages": HI})
        line = shown.until(rf"([^\n]*){answer.headers['x-request-id']}")[0]
        assert r"\x1b[2J\r\nfake 200\u202e\x9b" in line
        assert all(letter.isprintable() for letter in line)


def test_json_on_a_terminal_where_it_is_asked_for(folder: Path) -> None:
    with terminal(folder, STILE_LOG_FORMAT="json") as (shown, gateway):
        answer = gateway.ask("GET", "/v1/models")
        line = shown.until(rf'\{{"request_id":"{answer.headers["x-request-id"]}".*\}}\r\n')[0]
        assert json.loads(line)["status"] == 200


def test_lines_for_people_in_a_file_where_they_are_asked_for(folder: Path) -> None:
    with program.running(folder, STILE_LOG_FORMAT="pretty") as gateway:
        answer = gateway.ask("GET", "/v1/models", key="sk-wrong")
        shown = program.wait_for(lambda: re.search(r".*req_\w+$", gateway.out.read_text(), re.MULTILINE), "the line")[0]
        assert re.search(rf"401  GET /v1/models  \d+ ms  invalid_api_key  {answer.headers['x-request-id']}$", shown)
        assert not ESCAPE.search(gateway.out.read_text())
        assert "key.create" in gateway.out.read_text()
