"""Every command against the real gateway, by what a person or a script sees of it."""

import os
import secrets
import stat
from pathlib import Path

import pytest
from tests.cli.conftest import Place
from tests.cli.terminal import Terminal
from tests.program import KEY


def address() -> str:
    return f"{secrets.token_hex(6)}@example.com"


def test_a_newcomer_with_a_token_can_do_it_all(admin: Terminal, place: Place, tmp_path: Path) -> None:
    """Admin by token (the fixture), a colleague, a key of two models and ninety days, chat, rotate, revoke."""
    email = address()
    user = admin.record("users", "create", email)
    assert (user["email"], user["role"]) == (email, "member")
    made = admin.record(
        "keys", "create", "--user", email, "--name", "laptop", "--models", "echo,gpt-5", "--expires", "90d"
    )
    assert made["models"] == ["echo", "gpt-5"]
    assert made["expires_at"] - made["created_at"] == 90 * 86_400
    colleague = Terminal(tmp_path)
    colleague.ok("login", f"{place.gateway.base}/v1", stdin=made["key"])
    assert colleague.record("whoami")["role"] == "member"
    assert colleague.ok("chat", "Hello", "--model", "echo").out.endswith("You said: Hello\n")
    rotated = colleague.record("keys", "rotate", "laptop", "--grace", "0s", "--yes")
    assert rotated["key"] != made["key"]
    assert colleague.record("whoami")["key"]["id"] == made["id"], "the profile has the new text"
    old = Terminal(tmp_path, {"STILE_API_KEY": made["key"], "STILE_URL": place.gateway.base})
    assert admin.record("keys", "revoke", made["id"], "--yes")["status"] == "revoked"
    refused = colleague.run("chat", "Hello", "--model", "echo")
    assert (refused.code, refused.out) == (3, "")
    assert old.run("whoami").code == 3


def test_users_are_made_shown_changed_and_deleted(admin: Terminal) -> None:
    email = address()
    user = admin.record("users", "create", email, "--models", "echo")
    assert user["policy"]["models"] == ["echo"]
    assert admin.record("users", "show", email) == admin.record("users", "show", user["id"]) == user
    assert email in [found["email"] for found in admin.record("users", "list")["data"]]
    assert admin.record("users", "update", email, "--models", "all", "--role", "admin")["role"] == "admin"
    assert admin.record("users", "disable", email, "--yes")["enabled"] is False
    assert admin.record("users", "enable", email)["enabled"] is True
    assert admin.record("users", "delete", email, "--yes") == {"id": user["id"], "deleted": True}
    assert admin.run("users", "show", email).code == 4


def test_keys_are_made_shown_changed_and_deleted(admin: Terminal) -> None:
    name = secrets.token_hex(4)
    made = admin.record("keys", "create", "--name", name, "--scopes", "inference", "--expires", "2030-01-31T12:00:00Z")
    assert KEY.fullmatch(made["key"])
    shown = admin.record("keys", "show", name)
    assert "key" not in shown
    assert shown["expires_at"] == 1896091200
    assert admin.record("keys", "update", name, "--expires", "never", "--models", "echo")["expires_at"] is None
    assert admin.record("keys", "suspend", name)["status"] == "suspended"
    assert admin.record("keys", "resume", name)["status"] == "active"
    assert made["id"] in [key["id"] for key in admin.record("keys", "list")["data"]]
    assert admin.record("keys", "delete", name, "--yes")["deleted"] is True
    assert admin.run("keys", "show", made["id"]).code == 4


def test_a_new_keys_text_is_alone_on_standard_output(admin: Terminal) -> None:
    name = secrets.token_hex(4)
    said = admin.ok("keys", "create", "--name", name)
    assert KEY.fullmatch(said.out.strip())
    assert KEY.search(said.err) is None
    admin.ok("keys", "delete", name, "--yes")


def test_models_are_listed_and_tested(admin: Terminal) -> None:
    assert "echo" in [model["id"] for model in admin.record("models", "list")["data"]]
    assert admin.ok("models", "test", "echo").out.startswith("echo answers in ")
    assert admin.record("models", "test", "echo")["object"] == "chat.completion"
    assert admin.run("models", "test", "nope").code == 4


def test_tools_of_mcp_are_listed_and_called(admin: Terminal) -> None:
    assert {"chat", "list_models"} <= {tool["name"] for tool in admin.record("mcp", "tools")["tools"]}
    said = admin.ok("mcp", "call", "chat", "model=echo", "prompt=Hello").out
    assert said.endswith("You said: Hello\n")
    assert admin.record("mcp", "call", "list_models")["isError"] is False
    assert admin.run("mcp", "call", "nope").code == 4
    assert admin.run("mcp", "call", "chat", "model=nope", "prompt=Hello").code == 1
    assert admin.run("mcp", "call", "chat", "model").code == 2
    name = secrets.token_hex(4)
    made = admin.record("keys", "create", "--name", name, "--scopes", "inference")
    bound = Terminal(admin.home, {**admin.env, "STILE_API_KEY": made["key"]})
    assert bound.run("mcp", "tools").code == 3
    admin.ok("keys", "delete", name, "--yes")
    assert bound.run("mcp", "tools").code == 3


def test_what_is_piped_in_and_files_are_asked_along(admin: Terminal, tmp_path: Path) -> None:
    note = tmp_path / "note.txt"
    note.write_text("written down")
    said = admin.ok("chat", "and asked", "-f", str(note), "-m", "echo", stdin="piped in\n").out
    places = [said.index(part) for part in ("written down", "piped in", "and asked")]
    assert places == sorted(places)
    assert admin.record("chat", "Hello", "-m", "echo")["choices"][0]["message"]["content"].endswith("Hello")


def test_the_files_key_is_its_owners_alone_and_goes_to_no_other_url(
    place: Place, admin: Terminal, tmp_path: Path
) -> None:
    key = admin.env["STILE_API_KEY"]
    person = Terminal(tmp_path)
    person.ok("login", place.gateway.base, "--model", "echo", stdin=key)
    assert stat.S_IMODE(os.stat(person.profiles()).st_mode) == 0o600
    assert person.ok("chat", "Hi").out.endswith("Hi\n")
    person.env = {"STILE_URL": "http://127.0.0.1:9"}
    assert "No key is known" in person.run("whoami").err
    person.env = {}
    person.ok("logout")
    assert person.run("whoami").code == 2
    assert key not in person.profiles().read_text()


@pytest.mark.parametrize(
    "command", [("users", "delete"), ("users", "disable"), ("keys", "revoke"), ("keys", "delete"), ("keys", "rotate")]
)
def test_what_destroys_asks(command: tuple[str, str], admin: Terminal) -> None:
    """And nobody is here to answer."""
    me = admin.record("whoami")
    said = admin.run(*command, me["user" if command[0] == "users" else "key"]["id"])
    assert said.code == 2
    assert "--yes" in said.err
    assert admin.record("whoami")["key"]["status"] == "active"
