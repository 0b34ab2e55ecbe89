"""The first admin, by a one-time token."""

import concurrent.futures
import hashlib
import secrets
from pathlib import Path
from typing import Any

import pytest
from tests import program
from tests.program import Answer, Program


def opened(token: str, directory: dict[str, str]) -> dict[str, str]:
    """The settings of a gateway whose bootstrap is open for the token."""
    return {**directory, "STILE_BOOTSTRAP_SHA256": hashlib.sha256(token.encode()).hexdigest()}


def ask(gateway: Program, token: Any, email: str = "first@example.com") -> Answer:
    return gateway.ask("POST", "/api/bootstrap", {"token": token, "email": email}, key=None)


def test_a_token_makes_the_first_admin_and_works_once(folder: Path, directory: dict[str, str]) -> None:
    token, email = secrets.token_hex(32), f"first-{secrets.token_hex(4)}@example.com"
    with program.running(folder, **opened(token, directory)) as gateway:
        wrong = ask(gateway, secrets.token_hex(32), email)
        assert (wrong.status, wrong.error["code"]) == (403, "wrong_token")
        made = ask(gateway, token, email.upper())
        assert (made.status, made.headers["cache-control"]) == (201, "no-store")
        assert made.json["user"]["email"] == email
        assert (made.json["user"]["role"], made.json["user"]["enabled"]) == ("admin", True)
        assert made.json["scopes"] == ["inference", "mcp", "keys", "admin"]
        gateway.key = made.json["key"]
        assert gateway.ask("GET", "/api/me").json["key"]["id"] == made.json["id"]
        assert gateway.ask("POST", "/api/users", {"email": f"x{email}"}).status == 201
        for address in (email, f"second-{email}"):
            used = ask(gateway, token, address)
            assert (used.status, used.error["code"]) == (409, "bootstrap_used")
        assert gateway.ask("GET", f"/api/users?email=second-{email}").json["data"] == []
        lines = [line for line in gateway.lines() if line["event"] == "audit"]
        assert "user.bootstrap" in {line["action"] for line in lines}
        assert token not in gateway.out.read_text()


def test_another_hash_is_the_way_back_for_who_lost_the_key(folder: Path, directory: dict[str, str]) -> None:
    email = f"lost-{secrets.token_hex(4)}@example.com"
    one, other = secrets.token_hex(32), secrets.token_hex(32)
    with program.running(folder, **opened(one, directory)) as gateway:
        first = ask(gateway, one, email).json
        gateway.key = first["key"]
        gateway.ask("PATCH", f"/api/users/{first['user']['id']}", {"role": "member", "enabled": False})
    with program.running(folder, **opened(other, directory)) as gateway:
        assert ask(gateway, one, email).status == 403, "the old hash is no longer deployed"
        again = ask(gateway, other, email).json
        assert again["user"] == first["user"]
        assert gateway.ask("GET", "/api/users?limit=1", key=again["key"]).status == 200
        assert ask(gateway, other, email).status == 409
    with program.running(folder, **opened(one, directory)) as gateway:
        assert ask(gateway, one, email).status == 409, "each hash works once, whatever came between"


def test_of_many_who_come_at_once_one_gets_it(folder: Path, directory: dict[str, str]) -> None:
    token, email = secrets.token_hex(32), f"race-{secrets.token_hex(4)}@example.com"
    with (
        program.running(folder, **opened(token, directory)) as gateway,
        concurrent.futures.ThreadPoolExecutor(6) as pool,
    ):
        answers = list(pool.map(lambda _: ask(gateway, token, email), range(6)))
    assert sorted(answer.status for answer in answers) == [201, 409, 409, 409, 409, 409]


def test_a_user_with_twenty_keys_does_not_use_the_token_up(folder: Path, directory: dict[str, str]) -> None:
    one, other = secrets.token_hex(32), secrets.token_hex(32)
    email = f"full-{secrets.token_hex(4)}@example.com"
    with program.running(folder, **opened(one, directory)) as gateway:
        first = ask(gateway, one, email).json
        gateway.key = first["key"]
        path = f"/api/users/{first['user']['id']}/keys"
        with concurrent.futures.ThreadPoolExecutor(5) as pool:
            made = list(pool.map(lambda _: gateway.ask("POST", path, {"name": "k"}).json["id"], range(19)))
    with program.running(folder, **opened(other, directory)) as gateway:
        full = ask(gateway, other, email)
        assert (full.status, full.error["code"]) == (409, "too_many_keys")
        assert gateway.ask("DELETE", f"/api/keys/{made[0]}", key=first["key"]).status == 200
        assert ask(gateway, other, email).status == 201


@pytest.mark.parametrize("token", ["", "a" * 63, "g" * 64, 5, None])
def test_a_token_that_is_none_is_a_422(gateway: Program, token: Any) -> None:
    answer = ask(gateway, token)
    assert (answer.status, answer.error["param"]) == (422, "token")


def test_without_a_hash_the_bootstrap_is_closed(folder: Path, directory: dict[str, str]) -> None:
    with program.running(folder, **directory) as gateway:
        answer = ask(gateway, secrets.token_hex(32))
        assert (answer.status, answer.error["code"]) == (403, "bootstrap_closed")


def test_a_large_body_is_not_taken_from_somebody_without_a_key(gateway: Program) -> None:
    answer = gateway.ask("POST", "/api/bootstrap", b"x" * 70_000, key=None)
    assert (answer.status, answer.error["code"]) == (413, "request_too_large")
