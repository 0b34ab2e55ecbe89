"""`make run` and `make key` as a person meets them: the real program, started and stopped."""

import json
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import openai
import pytest
from tests import leaks, program
from tests.mocks import openai as mock
from tests.mocks.openai import Upstream
from tests.program import KEY, environment

HELLO: Any = [{"role": "user", "content": "Hello"}]
FAULT = re.compile(r"stile: .+\n")


def test_the_first_start_prints_a_key_twice_and_a_curl_line_that_works(folder: Path) -> None:
    with program.running(folder) as gateway:
        banner = gateway.out.read_text()
        assert banner.count(gateway.key) == 2
        assert f"{gateway.base}/v1" in banner
        line = next(line for line in banner.splitlines() if line.startswith("curl "))
        shown = subprocess.run(["sh", "-c", f"{line} -sS"], capture_output=True, text=True, check=True)
        assert json.loads(shown.stdout)["choices"][0]["message"]["content"].endswith("Hello")


def test_a_second_start_prints_no_key_and_the_first_one_still_works(folder: Path) -> None:
    with program.running(folder) as first:
        assert first.stop() == 0
    with program.running(folder) as second:
        assert not KEY.search(second.out.read_text())
        assert second.ask("GET", "/v1/models", key=first.key).status == 200


def test_make_key_prints_a_new_admin_key_that_works_in_the_running_gateway(folder: Path) -> None:
    with program.running(folder) as gateway:
        made = program.run("key", env=environment(gateway.home))
        assert KEY.fullmatch(made.stdout.strip())
        assert made.stdout.strip() != gateway.key
        assert "directory" in gateway.ask("GET", "/health/ready", key=made.stdout.strip()).json


def test_state_is_for_its_owner_alone(folder: Path) -> None:
    with program.running(folder) as gateway:
        assert gateway.home.stat().st_mode & 0o777 == 0o700
        assert {path.stat().st_mode & 0o777 for path in gateway.home.iterdir()} == {0o600}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_without_calls_exits_with_0(folder: Path, number: signal.Signals) -> None:
    with program.running(folder) as gateway:
        assert gateway.stop(number) == 0
        assert gateway.err.read_text() == ""


def config(folder: Path, upstream: Upstream, *models: str) -> str:
    path = folder / "config.yaml"
    entries = "".join(
        f"  - model_name: {model}\n    litellm_params: {{model: openai/{model}, api_base: '{upstream.base}'}}\n"
        for model in models
    )
    path.write_text(f"model_list:\n{entries}")
    return str(path)


def test_a_stop_lets_streams_in_flight_end(folder: Path, upstream: Upstream) -> None:
    upstream.gate.clear()
    with program.running(folder, STILE_CONFIG=config(folder, upstream, "gated")) as gateway:
        with openai.OpenAI(base_url=f"{gateway.base}/v1", api_key=gateway.key, max_retries=0) as client:
            stream = iter(client.chat.completions.create(model="gated", messages=HELLO, stream=True))
            text = [next(stream), next(stream)]
            gateway.process.send_signal(signal.SIGINT)
            program.wait_for(lambda: refused(gateway.address), "the gateway to take no more calls")
            upstream.gate.set()
            text += list(stream)
            assert "".join(chunk.choices[0].delta.content or "" for chunk in text) == "".join(mock.TEXT)
        assert gateway.process.wait(program.WAIT) == 0


def refused(address: tuple[str, int]) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(address) != 0


def test_a_stream_that_does_not_end_in_time_ends_with_an_error_event(folder: Path, upstream: Upstream) -> None:
    with program.running(
        folder, STILE_CONFIG=config(folder, upstream, "never-ending"), STILE_DRAIN_SECONDS="1"
    ) as gateway:
        with openai.OpenAI(base_url=f"{gateway.base}/v1", api_key=gateway.key, max_retries=0) as client:
            stream = iter(client.chat.completions.create(model="never-ending", messages=HELLO, stream=True))
            next(stream)
            gateway.process.send_signal(signal.SIGINT)
            with pytest.raises(openai.APIError, match="stopping"):
                next(stream)
        assert gateway.process.wait(program.WAIT) == 0
        assert [line["error"] for line in gateway.calls()] == ["gateway_stopping"]


def test_a_time_out_is_a_504_before_the_first_byte_and_an_error_event_after(folder: Path, upstream: Upstream) -> None:
    settings = {"STILE_CONFIG": config(folder, upstream, "slow", "never-ending"), "STILE_TIMEOUT_SECONDS": "1"}
    with program.running(folder, **settings) as gateway:
        answer = gateway.ask("POST", "/v1/chat/completions", {"model": "slow", "messages": HELLO})
        assert (answer.status, answer.error["code"]) == (504, "upstream_timeout")
        answer = gateway.ask(
            "POST", "/v1/chat/completions", {"model": "never-ending", "messages": HELLO, "stream": True}
        )
        assert answer.status == 200
        assert json.loads(answer.body.split(b"data: ")[-1])["error"]["code"] == "upstream_timeout"


def test_a_busy_port_is_one_line_and_makes_no_state(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        env = environment(folder / "home", STILE_PORT=str(taken.getsockname()[1]))
        ended = program.run(env=env)
    assert ended.returncode == 1
    assert FAULT.fullmatch(ended.stderr)
    assert "in use" in ended.stderr
    assert ended.stdout == ""
    assert not (folder / "home").exists()


def test_a_config_that_cannot_be_read_is_one_line(folder: Path) -> None:
    ended = program.run(env=environment(folder / "home", STILE_CONFIG=str(folder / "none.yaml")))
    assert ended.returncode == 1
    assert FAULT.fullmatch(ended.stderr)
    assert not (folder / "home").exists()


def test_wrong_settings_are_told_all_at_once(folder: Path) -> None:
    ended = program.run(env=environment(folder / "home", STILE_PORT="x", STILE_CONFG="y"))
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 2


@pytest.mark.parametrize(
    "damage", ["garbage", "truncated", "empty", "another program", "no pepper", "bad pepper", "page"]
)
def test_state_that_is_damaged_is_one_line_and_stays_as_it_is(folder: Path, damage: str) -> None:
    home = folder / "home"
    program.run("key", env=environment(home))
    database, pepper = home / "stile.db", home / "pepper.json"
    whole = database.read_bytes()
    if damage == "garbage":
        database.write_bytes(b"not a database" * 1000)
    elif damage == "truncated":
        database.write_bytes(whole[:5000])
    elif damage == "empty":
        database.write_bytes(b"")
    elif damage == "page":
        database.write_bytes(whole[:4096] + b"\xff" * 4096 + whole[8192:])
    elif damage == "another program":
        database.unlink()
        with sqlite3.connect(database) as other:
            other.execute("CREATE TABLE theirs (a)")
        other.close()
    elif damage == "no pepper":
        pepper.unlink()
    elif damage == "bad pepper":
        pepper.write_text('{"1": "00"}')
    before = {path.name: path.read_bytes() for path in home.iterdir()}
    for arguments in ((), ("key",)):
        ended = program.run(*arguments, env=environment(home))
        assert ended.returncode == 1, ended
        assert FAULT.fullmatch(ended.stderr), ended.stderr
        assert ended.stdout == ""
    assert {path.name: path.read_bytes() for path in home.iterdir()} == before
    shutil.rmtree(home)  # what is planted here is not to be searched


def test_unknown_arguments_are_told_the_usage(folder: Path) -> None:
    ended = program.run("serve", env=environment(folder / "home"))
    assert ended.returncode == 2
    assert "usage" in ended.stderr


def test_log_lines_go_to_a_file_when_one_is_named(folder: Path) -> None:
    log = folder / "calls.log"
    with program.running(folder, STILE_LOG_FILE=str(log)) as gateway:
        answer = gateway.ask("GET", "/v1/models")
        wanted = answer.headers["x-request-id"]
        text = program.wait_for(lambda: log.read_text() if wanted in log.read_text() else None, "the line of the call")
        events = [json.loads(line)["event"] for line in text.splitlines()]
        assert events == ["audit", "audit", "call"], "the first admin, its key, the call"
        assert gateway.lines() == []


def test_the_log_line_has_its_fields_and_no_content(folder: Path) -> None:
    with program.running(folder) as gateway:
        body = {"model": "echo", "messages": [{"role": "user", "content": "planted-prompt"}], "stream": True}
        answer = gateway.ask("POST", "/v1/chat/completions", body)
        line = gateway.line_of(answer.headers["x-request-id"])
        wanted = (
            "request_id user_id key_id model target status stream input_tokens output_tokens ttfb_ms total_ms bytes_out"
        )
        assert set(wanted.split()) <= line.keys()
        assert (line["model"], line["target"], line["status"], line["stream"]) == ("echo", "echo", 200, True)
        assert line["bytes_out"] == len(answer.body)
        assert 0 < line["ttfb_ms"] <= line["total_ms"]
        assert "planted-prompt" not in gateway.out.read_text()


def test_found_providers_are_named_with_the_number_of_their_models_and_served(folder: Path, upstream: Upstream) -> None:
    settings = {"OPENAI_API_KEY": leaks.PROVIDER_KEY, "OPENAI_BASE_URL": upstream.base}
    with program.running(folder, **settings) as gateway:
        assert "openai: 2 models" in gateway.out.read_text()
        listed = [model["id"] for model in gateway.ask("GET", "/v1/models").json["data"]]
        assert listed == ["echo", "openai/one", "openai/two"]
        assert gateway.ask("GET", "/v1/models/openai/one").json["owned_by"] == "openai"
        answer = gateway.ask("POST", "/v1/chat/completions", {"model": "openai/ok", "messages": HELLO})
        assert answer.status == 200


def test_a_local_ollama_is_found_by_asking(folder: Path, upstream: Upstream) -> None:
    with program.running(folder, OLLAMA_HOST=f"127.0.0.1:{upstream.port}") as gateway:
        assert "ollama: 2 models" in gateway.out.read_text()


def test_a_list_that_never_comes_does_not_hold_up_the_start(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        base = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        with program.running(folder, OPENAI_API_KEY="x", OPENAI_BASE_URL=base) as gateway:
            assert "openai: any of its models" in gateway.out.read_text()
            assert gateway.ask("GET", "/v1/models").status == 200
