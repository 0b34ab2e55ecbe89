"""The Lambda host with apps that keep and break the rules, against an emulator of the Runtime API."""

import contextlib
import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import function
from tests.function import ROOT, Function
from tests.mocks import runtime_api
from tests.mocks.runtime_api import RuntimeApi

APPS = Path(__file__).with_name("lambda_apps.py")


def get(path: str, body: str | None = None) -> dict[str, Any]:
    return {
        "httpMethod": "GET",
        "path": path,
        "requestContext": {"requestId": "r", "identity": {"sourceIp": "192.0.2.7"}},
        "body": body,
    }


@contextlib.contextmanager
def serving(
    folder: Path, name: str, *, snap_start: bool = False, **settings: str
) -> Iterator[tuple[RuntimeApi, Function]]:
    command = [sys.executable, str(APPS), name]
    with (
        runtime_api.running(snap_start=snap_start) as api,
        function.running(folder, api, command, task_root=ROOT, PYTHONPATH=str(ROOT), **settings) as running,
    ):
        yield api, running


def is_served(api: RuntimeApi) -> bool:
    invocation = api.invoke(get("/"))
    return invocation.head().status == 200 and invocation.broken_off() is None


def lines(running: Function) -> list[str]:
    return running.out.read_text().splitlines()


def test_an_event_becomes_a_request_and_the_apps_answer_a_stream(folder: Path) -> None:
    with serving(folder, "told") as (api, _):
        invocation = api.invoke(get("/hello", "body"))
        assert invocation.head().status == 200
        assert invocation.head().multi_value_headers == {"set-cookie": ["a=1", "b=2"]}
        assert json.loads(invocation.body()) == {
            "body": "body",
            "method": "GET",
            "path": "/hello",
            "query_string": "b''",
            "client": "('192.0.2.7', 0)",
        }
        assert invocation.broken_off() is None


def test_the_app_lives_once_and_what_it_does_after_its_answer_is_done_before_the_next_invocation(folder: Path) -> None:
    with serving(folder, "told") as (api, running):
        for path in ("/", "/after", "/"):
            api.invoke(get(path)).body()
        api.waiting()
        assert lines(running) == ["began", "settled", "settled", "worked on", "settled", "settled"]


def test_the_invocation_id_is_echoed_when_there_is_one(folder: Path) -> None:
    with serving(folder, "fails_early") as (api, _):  # the emulator checks the echo
        assert api.invoke(get("/"), invocation_id="one").body()
        assert api.invoke(get("/fails"), invocation_id="two").error().kind == "Runtime.ValueError"


def test_an_event_may_come_in_pieces(folder: Path) -> None:
    with serving(folder, "told") as (api, _):
        text = "long " * 100_000
        for chunked, slowly in itertools.product((False, True), repeat=2):
            assert len(api.invoke(get("/", text), chunked=chunked, slowly=slowly).body()) > len(text)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("fails_early", "Runtime.ValueError"),
        ("says_nothing", "Runtime.NoAnswer"),
        ("large_head", "Runtime.HeadTooLarge"),
    ],
)
def test_a_failure_before_the_first_byte_is_reported_and_the_next_call_is_served(
    folder: Path, name: str, kind: str
) -> None:
    with serving(folder, name) as (api, _):
        assert api.invoke(get("/fails")).error().kind == kind
        assert is_served(api)


def test_a_failure_in_mid_stream_is_told_in_trailers_and_the_next_call_is_served(folder: Path) -> None:
    with serving(folder, "fails_late") as (api, running):
        invocation = api.invoke(get("/fails"))
        failure = invocation.broken_off()
        assert (invocation.body(), failure and failure.kind) == (b"half", "Runtime.ValueError")
        assert is_served(api)
    assert "in mid-stream" in running.err.read_text()


def test_an_app_that_does_not_end_in_time_is_ended_before_lambda_ends_the_process(folder: Path) -> None:
    with serving(folder, "never_ends") as (api, _):
        invocation = api.invoke(get("/fails"), deadline_seconds=2)
        failure = invocation.broken_off()
        assert failure is not None
        assert failure.kind == "Runtime.Late"
        assert invocation.seconds_left() > 0
        assert is_served(api)


def test_what_an_app_says_after_its_end_is_not_heard_and_disturbs_no_other_call(folder: Path) -> None:
    with serving(folder, "speaks_after_its_end") as (api, _):
        assert api.invoke(get("/fails"), deadline_seconds=2).error().kind == "Runtime.Late"
        assert is_served(api)
        assert is_served(api)


def test_what_is_no_http_request_gets_a_400_and_a_log_line(folder: Path) -> None:
    with serving(folder, "told") as (api, running):
        events: list[object] = [b"{", b"[]", {"Records": []}]
        for event in events:
            invocation = api.invoke(event)
            assert (invocation.head().status, invocation.broken_off()) == (400, None)
        assert is_served(api)
    assert running.err.read_text().count("not an HTTP request") == 3


def test_a_start_that_fails_tells_the_platform_and_ends(folder: Path) -> None:
    with serving(folder, "cannot_start") as (api, running):
        failure = api.init_error()
        assert (failure.kind, failure.message) == ("Runtime.StartupFailed", "first fault\nsecond fault")
        assert running.ended() == 1
    assert "second fault" in running.err.read_text()


def test_a_start_that_breaks_tells_the_platform_too(folder: Path) -> None:
    with serving(folder, "breaks_at_start") as (api, running):
        assert api.init_error().kind == "Runtime.KeyError"
        assert running.ended() == 1
    assert "nobody expected this" in running.err.read_text()


def test_it_ends_when_it_is_told_to(folder: Path) -> None:
    with serving(folder, "told") as (api, running):
        api.waiting()
        assert running.terminate() == 0
        assert lines(running) == ["began", "settled", "ended", "settled"]


def test_it_ends_by_itself_when_the_runtime_api_is_gone(folder: Path) -> None:
    with serving(folder, "told") as (api, running):
        api.waiting()
        api.vanish()
        assert running.ended() == 0


def test_a_lost_connection_to_the_runtime_api_is_made_anew(folder: Path) -> None:
    with serving(folder, "told") as (api, _):
        api.waiting()
        api.drop_connections()
        assert is_served(api)


def test_with_snapstart_the_hooks_stand_around_the_snapshot(folder: Path) -> None:
    with serving(folder, "told", snap_start=True) as (api, running):
        api.restoring()
        assert lines(running) == ["began", "before the snapshot"]
        api.restore()
        assert is_served(api)
        assert lines(running)[2] == "after the restore"


def test_a_restore_that_fails_is_reported(folder: Path) -> None:
    with serving(folder, "told", snap_start=True, FAILS="1") as (api, running):
        api.restore()
        assert api.restore_error().kind == "Runtime.ValueError"
        assert running.ended() == 1
