"""When a function asks for its next invocation it may be frozen at once, and never thaw: every line is out by then."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.mocks.openai import Upstream
from tests.test_serverless import HI, Gateway, State, relayed, serving, state

__all__ = ["state"]  # a fixture

Make = Callable[[Gateway], Any]


def frozen_lines(gateway: Gateway) -> list[dict[str, Any]]:
    """What is out when the function is frozen as it waits for the next invocation."""
    gateway.api.waiting()
    gateway.running.freeze()
    try:
        text = gateway.running.out.read_text()
        assert text.endswith("\n")
        return [json.loads(line) for line in text.splitlines()]
    finally:
        gateway.running.thaw()


CALLS: dict[str, Make] = {
    "whole": lambda gateway: gateway.ask("ok", stream=False).body(),
    "streamed": lambda gateway: gateway.ask("ok").body(),
    "refused": lambda gateway: gateway.ask("nobody-has-this").body(),
    "failed by the provider": lambda gateway: gateway.ask("500").body(),
    "broken off by the provider": lambda gateway: gateway.ask("reset-mid").broken_off(),
    "out of time": lambda gateway: gateway.ask("never-ending", deadline_seconds=4).body(),
    "no JSON": lambda gateway: gateway.post("no object").body(),
    "a change": lambda gateway: gateway.manage("POST", "/api/keys", {"name": "laptop"}),
    "no request at all": lambda gateway: gateway.api.invoke({"Records": []}).body(),
}
# What is written for one that no call's line is written for.
OTHERS = {"no request at all": "not an HTTP request"}


@pytest.mark.parametrize("call", CALLS)
def test_every_line_is_out_before_the_function_can_freeze(
    folder: Path,
    state: State,
    upstream: Upstream,
    call: str,
) -> None:
    upstream.gate.set()
    names = ("ok", "500", "reset-mid", "never-ending")
    with serving(folder, state, *relayed(upstream, *names), STILE_LOG="debug") as gateway:
        for number in range(1, 4):  # lines that were left for the next turn would be one too few, every time
            CALLS[call](gateway)
            lines = frozen_lines(gateway)
            if call in OTHERS:
                assert len([line for line in lines if OTHERS[call] in line.get("message", "")]) == number
                continue
            assert len([line for line in lines if line["event"] == "call"]) == number
            if call == "a change":
                assert [line["action"] for line in lines if line["event"] == "audit"] == ["key.create"] * number


def test_a_call_whose_client_reads_slowly_is_in_the_log_when_its_last_byte_is_out(
    folder: Path,
    state: State,
    upstream: Upstream,
) -> None:
    upstream.gate.clear()
    with serving(folder, state, *relayed(upstream, "gated")) as gateway:
        invocation = gateway.post({"model": "gated", "messages": HI, "stream": True})
        assert invocation.next_chunk() is not None
        assert [line for line in gateway.running.out.read_text().splitlines() if '"event":"call"' in line] == []
        upstream.gate.set()
        invocation.body()
        (line,) = [line for line in frozen_lines(gateway) if line["event"] == "call"]
        assert (line["status"], line["cold_start"], line["cold_starts"]) == (200, True, 1)


def test_only_the_first_call_waited_for_the_start(folder: Path, state: State, upstream: Upstream) -> None:
    with serving(folder, state, *relayed(upstream, "ok")) as gateway:
        for _ in range(3):
            gateway.ask("ok").body()
        assert [line["cold_start"] for line in gateway.calls()] == [True, False, False]


def test_nobody_waited_for_a_start_that_was_paid_for_beforehand(
    folder: Path,
    state: State,
    upstream: Upstream,
) -> None:
    way = "provisioned-concurrency"
    with serving(folder, state, *relayed(upstream, "ok"), AWS_LAMBDA_INITIALIZATION_TYPE=way) as gateway:
        gateway.ask("ok").body()
        (line,) = gateway.calls()
        assert line["cold_start"] is False
        assert "cold_starts" not in line
