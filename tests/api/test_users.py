"""Users over REST: what is answered, what is refused, and who may."""

import time
from typing import Any

import pytest
from tests.program import Program

from stile.core.records import slot_attribute

NOBODY = "00000000-0000-4000-8000-000000000000"


def address() -> str:
    return f"user-{time.time_ns()}@example.com"


def make(gateway: Program, **more: Any) -> Any:
    answer = gateway.ask("POST", "/api/users", {"email": address(), **more})
    assert answer.status == 201
    return answer.json


def key_of(gateway: Program, user: Any, **more: Any) -> Any:
    answer = gateway.ask("POST", f"/api/users/{user['id']}/keys", {"name": "test", **more})
    assert answer.status == 201
    return answer.json


def test_a_user_is_made_shown_listed_changed_and_deleted(gateway: Program) -> None:
    email = address()
    answer = gateway.ask("POST", "/api/users", {"email": email.upper(), "policy": {"models": ["echo", "gpt-*"]}})
    assert answer.status == 201
    assert answer.headers["cache-control"] == "no-store"
    user = answer.json
    assert user["created_at"] == pytest.approx(time.time(), abs=60)
    assert user == {
        "id": user["id"],
        "email": email,
        "role": "member",
        "enabled": True,
        "machine": False,
        "policy": {"models": ["echo", "gpt-*"], "tools": None},
        "created_at": user["created_at"],
    }
    path = f"/api/users/{user['id']}"
    assert gateway.ask("GET", path).json == user
    assert gateway.ask("GET", f"/api/users?email={email}").json == {"data": [user], "next_cursor": None}
    tools = gateway.ask("PATCH", path, {"policy": {"tools": ["chat"]}}).json
    assert tools["policy"] == {"models": ["echo", "gpt-*"], "tools": ["chat"]}
    models = gateway.ask("PATCH", path, {"policy": {"models": None}}).json
    assert models["policy"] == {"models": None, "tools": ["chat"]}
    changed = gateway.ask("PATCH", path, {"role": "admin", "policy": None, "enabled": False})
    assert changed.status == 200
    assert changed.json == {**user, "role": "admin", "policy": {"models": None, "tools": None}, "enabled": False}
    assert gateway.ask("GET", path).json == changed.json
    assert gateway.ask("PATCH", path, {}).json == changed.json
    assert gateway.ask("DELETE", path).json == {"id": user["id"], "deleted": True}
    for method in ("GET", "DELETE"):
        gone = gateway.ask(method, path)
        assert (gone.status, gone.error["code"]) == (404, "user_not_found")


def test_lists_come_in_pages_that_hold_everybody_once(gateway: Program) -> None:
    made = {make(gateway)["id"] for _ in range(3)}
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = gateway.ask("GET", f"/api/users?limit=2{f'&cursor={cursor}' if cursor else ''}").json
        assert len(page["data"]) <= 2
        seen += [user["id"] for user in page["data"]]
        cursor = page["next_cursor"]
    assert len(seen) == len(set(seen))
    assert made <= set(seen)


def test_a_machine_needs_no_mailbox(gateway: Program) -> None:
    made = gateway.ask("POST", "/api/users", {"email": f"ci-{time.time_ns()}@machine.invalid", "machine": True})
    assert (made.status, made.json["machine"]) == (201, True)
    refused = gateway.ask("POST", "/api/users", {"email": address(), "machine": True, "invite": True})
    assert (refused.status, refused.error["param"]) == (422, "invite")


def test_a_taken_address_is_a_409_whatever_its_case(gateway: Program) -> None:
    user = make(gateway)
    answer = gateway.ask("POST", "/api/users", {"email": user["email"].upper()})
    assert (answer.status, answer.error["code"], answer.error["param"]) == (409, "email_taken", "email")


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        (b"", 400, "invalid_json", None),
        (b"{", 400, "invalid_json", None),
        (b"\xff", 400, "invalid_json", None),
        (b"[" * 100_00, 400, "invalid_json", None),
        (b"[]", 422, "invalid_value", None),
        ({}, 422, "invalid_value", None),
        ({"email": 1}, 422, "invalid_value", "email"),
        ({"email": "nobody"}, 422, "invalid_value", "email"),
        ({"email": "a b@example.com"}, 422, "invalid_value", "email"),
        ({"email": 'a"b@example.com'}, 422, "invalid_value", "email"),
        ({"email": "a@" + "b" * 123 + ".com"}, 422, "invalid_value", "email"),
        ({"email": "a@example.com", "role": "owner"}, 422, "invalid_value", "role"),
        ({"email": "a@example.com", "rôle": "admin"}, 422, "unknown_parameter", "rôle"),
        ({"email": "a@example.com", "policy": {"models": []}}, 422, "invalid_value", "policy.models"),
        ({"email": "a@example.com", "policy": {"models": [""]}}, 422, "invalid_value", "policy.models[0]"),
        ({"email": "a@example.com", "policy": {"limits": {}}}, 422, "unknown_parameter", "limits"),
        ({"email": "a@example.com", "policy": {"models": ["m" * 200 + str(n) for n in range(20)]}}, 413, None, None),
        (b'{"email":"a@example.com","x":"' + b"y" * 70_000 + b'"}', 413, "request_too_large", None),
    ],
    ids=range(18),
)
def test_bad_input_gets_its_own_error_and_writes_nothing(
    gateway: Program, body: Any, status: int, code: str | None, param: str | None
) -> None:
    answer = gateway.ask("POST", "/api/users", body)
    assert answer.status == status
    assert answer.error["code"] == (code or "record_too_large")
    assert answer.error["param"] == param
    assert gateway.ask("GET", "/api/users?email=a@example.com").json["data"] == []


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=61", "limit=x", "limit=1&limit=2", "page=2", "cursor=nonsense", "email=x%22", "%ff=1"]
)
def test_a_query_that_cannot_be_meant_is_a_422(gateway: Program, query: str) -> None:
    assert gateway.ask("GET", f"/api/users?{query}").status == 422


@pytest.mark.parametrize("user_id", [NOBODY, "nonsense", 'x"', "%22%20or%20email%20^=%20%22", "a" * 3000])
def test_an_unknown_user_is_a_404(gateway: Program, user_id: str) -> None:
    for method, path, body in (
        ("GET", "", None),
        ("PATCH", "", {"role": "admin"}),
        ("DELETE", "", None),
        ("GET", "/keys", None),
        ("POST", "/keys", {"name": "x"}),
    ):
        answer = gateway.ask(method, f"/api/users/{user_id}{path}", body)
        assert (answer.status, answer.error["code"]) == (404, "user_not_found"), (method, path)


def test_members_manage_no_users(gateway: Program) -> None:
    user = make(gateway)
    key = key_of(gateway, user)["key"]
    for method, path, body in (
        ("GET", "/api/users", None),
        ("POST", "/api/users", {"email": address(), "role": "admin"}),
        ("GET", f"/api/users/{user['id']}", None),
        ("PATCH", f"/api/users/{user['id']}", {"role": "admin"}),
        ("DELETE", f"/api/users/{user['id']}", None),
    ):
        answer = gateway.ask(method, path, body, key=key)
        assert (answer.status, answer.error["type"]) == (403, "permission_error"), (method, path)
    assert gateway.ask("GET", f"/api/users/{user['id']}").json == user


def test_who_loses_the_role_loses_its_rights_at_once(gateway: Program) -> None:
    user = make(gateway, role="admin")
    key = key_of(gateway, user, scopes=["admin", "keys"])["key"]
    assert gateway.ask("GET", "/api/users?limit=1", key=key).status == 200
    gateway.ask("PATCH", f"/api/users/{user['id']}", {"role": "member"})
    assert gateway.ask("GET", "/api/users?limit=1", key=key).status == 403
    assert gateway.ask("GET", "/api/keys", key=key).status == 200


def test_the_policy_bounds_all_keys_of_a_user(gateway: Program) -> None:
    user = make(gateway)
    key = key_of(gateway, user)["key"]
    chat = {"model": "echo", "messages": [{"role": "user", "content": "hi"}]}
    assert gateway.ask("POST", "/v1/chat/completions", chat, key=key).status == 200
    gateway.ask("PATCH", f"/api/users/{user['id']}", {"policy": {"models": ["gpt-*"]}})
    assert gateway.ask("POST", "/v1/chat/completions", chat, key=key).error["code"] == "model_not_allowed"
    wider = gateway.ask("POST", "/api/keys", {"name": "wider", "models": ["echo"]}, key=key)
    assert (wider.status, wider.error["code"]) == (403, "model_not_allowed")


def test_everybody_sees_who_they_are(gateway: Program) -> None:
    user = make(gateway)
    made = key_of(gateway, user, scopes=["inference"])
    me = gateway.ask("GET", "/api/me", key=made["key"])
    assert me.status == 200
    assert me.json["user"] == user
    assert (me.json["role"], me.json["scopes"], me.json["key"]["id"]) == ("member", ["inference"], made["id"])
    assert "sk-stile" not in me.body.decode()


def test_changes_are_audited_with_the_request(gateway: Program) -> None:
    answer = gateway.ask("POST", "/api/users", {"email": address()})
    wanted = answer.headers["x-request-id"]
    gateway.line_of(wanted)
    (line,) = [line for line in gateway.lines() if line["event"] == "audit" and line["request_id"] == wanted]
    me = gateway.ask("GET", "/api/me").json
    assert line["action"] == "user.create"
    assert (line["by_user_id"], line["by_key_id"]) == (me["user"]["id"], me["key"]["id"])
    assert (line["user_id"], line["before"], line["after"]) == (answer.json["id"], None, answer.json)
    assert slot_attribute(1) not in str(line)
