"""Pages in a browser, of whatever origin, may call."""

import pytest
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
