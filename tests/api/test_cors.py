"""Pages in a browser, of whatever origin, may call."""

from pathlib import Path

import pytest
from tests import program
from tests.program import Program

PAGE = {"origin": "https://page.example"}


def test_a_preflight_is_answered_without_a_key_and_allows_what_it_asks_for(gateway: Program) -> None:
    wanted = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,x-stainless-os"}
    answer = gateway.ask("OPTIONS", "/v1/chat/completions", key=None, headers=PAGE | wanted)
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-allow-headers"] == "authorization,x-stainless-os"
    assert "POST" in answer.headers["access-control-allow-methods"].split(", ")


def test_a_preflight_asks_for_any_path(gateway: Program) -> None:
    assert gateway.ask("OPTIONS", "/no/such/path", key=None, headers=PAGE).status == 200


@pytest.mark.parametrize("key", ["", "sk-wrong"])
def test_a_page_may_read_answers_and_errors(gateway: Program, key: str) -> None:
    body = {"model": "echo", "messages": [{"role": "user", "content": "hi"}]}
    answer = gateway.ask("POST", "/v1/chat/completions", body, key=key, headers=PAGE)
    assert answer.status == (401 if key else 200)
    assert answer.headers["access-control-allow-origin"] == answer.headers["access-control-expose-headers"] == "*"


def test_who_names_no_origin_is_told_nothing_of_it(gateway: Program) -> None:
    assert not [name for name in gateway.ask("GET", "/health").headers if name.startswith("access-control")]


def test_pages_can_be_confined_to_origins(folder: Path) -> None:
    with program.running(folder, STILE_CORS_ORIGINS="https://one.example, https://two.example") as gateway:
        one = gateway.ask("GET", "/v1/models", headers={"origin": "https://one.example"})
        assert (one.headers["access-control-allow-origin"], one.headers["vary"]) == ("https://one.example", "origin")
        other = gateway.ask("GET", "/v1/models", headers={"origin": "https://evil.example"})
        assert other.status == 200
        assert not [name for name in other.headers if name.startswith("access-control")]
        asked = {"origin": "https://evil.example", "access-control-request-headers": "authorization"}
        refused = gateway.ask("OPTIONS", "/v1/models", key=None, headers=asked)
        assert "access-control-allow-origin" not in refused.headers
        allowed = gateway.ask("OPTIONS", "/v1/models", key=None, headers={**asked, "origin": "https://two.example"})
        assert allowed.headers["access-control-allow-origin"] == "https://two.example"


def test_what_is_no_origin_stops_the_start(folder: Path) -> None:
    done = program.run(env=program.environment(folder, STILE_CORS_ORIGINS="one.example"))
    assert done.returncode == 1
    assert "STILE_CORS_ORIGINS: must be origins" in done.stderr
