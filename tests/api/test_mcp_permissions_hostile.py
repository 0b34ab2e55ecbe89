"""Who tries to get by /mcp what a key, a user or an origin may not have, by whatever way leads to it."""

import json
import secrets
from collections.abc import Callable
from typing import Any

import pytest
from tests.program import Program, wait_for
from tests.rpc import MODERN, Client
from tests.stage import Stage

ERAS = ("2025-11-25", MODERN)
Json = dict[str, Any]


@pytest.fixture(params=ERAS)
def admin(request: pytest.FixtureRequest, stage: Stage) -> Client:
    return Client(stage.gateway, request.param)


def user(gateway: Program, **fields: Any) -> str:
    """A new user's id."""
    answer = gateway.ask("POST", "/api/users", {"email": f"{secrets.token_hex(8)}@example.com", **fields})
    assert answer.status == 201, answer.body
    return str(answer.json["id"])


def new_key(gateway: Program, user_id: str, **fields: Any) -> Json:
    """A new key of that user, with its secret."""
    answer = gateway.ask("POST", f"/api/users/{user_id}/keys", {"name": "mcp", **fields})
    assert answer.status == 201, answer.body
    made: Json = answer.json
    return made


def member(admin: Client, policy: Json | None = None, **fields: Any) -> tuple[Client, Json]:
    """A client with a new key of a new user, and that key."""
    made = new_key(admin.gateway, user(admin.gateway, policy=policy), **fields)
    return admin.with_key(made["key"]), made


def keys_of(gateway: Program, user_id: str) -> dict[str, str]:
    """The ids of a user's keys, and how they are."""
    listed = gateway.ask("GET", f"/api/users/{user_id}/keys").json["data"]
    return {each["id"]: each["status"] for each in listed}


def refused(client: Client, tool: str, **arguments: Any) -> str:
    """Why a tool has failed; it must have."""
    found = client.call(tool, **arguments)
    assert found["isError"] is True, found
    assert "structuredContent" not in found
    return str(found["content"][0]["text"])


# Keys that make keys


@pytest.mark.parametrize(
    "more",
    [
        {"scopes": ["admin"]},
        {"scopes": ["mcp", "admin"]},
        {"scopes": ["inference"]},
        {"tools": None},
        {"tools": ["*"]},
        {"tools": ["create_key", "chat"]},
        {"tools": ["create*"]},
        {"models": None},
        {"models": ["*"]},
        {"models": ["relayed"]},
        {"models": ["echo*"]},
        {"expires_at": None},
        {"expires_in": "2h"},
        {"expires_at": 253402300799},
    ],
    ids=str,
)
def test_a_confined_key_makes_none_that_is_less_confined(admin: Client, more: Json) -> None:
    gateway = admin.gateway
    bounds: Json = {"scopes": ["mcp", "keys"], "tools": ["create_key"], "models": ["echo"], "expires_in": "1h"}
    client, own = member(admin, **bounds)
    before = keys_of(gateway, own["user_id"])
    assert refused(client, "create_key", name="more", **more)
    assert gateway.ask("POST", "/api/keys", {"name": "more", **more}, key=own["key"]).status == 403
    assert keys_of(gateway, own["user_id"]) == before


def test_a_confined_keys_key_is_as_confined_without_a_word(admin: Client) -> None:
    bounds: Json = {"scopes": ["mcp", "keys"], "tools": ["create_key"], "models": ["echo"], "expires_in": "1h"}
    client, own = member(admin, **bounds)
    made = client.call("create_key", name="same")["structuredContent"]
    names = ("user_id", "scopes", "tools", "models", "expires_at")
    assert {name: made[name] for name in names} == {name: own[name] for name in names}
    assert admin.with_key(made["key"]).tools() == ["create_key"]


def test_a_member_makes_keys_for_nobody_else(admin: Client) -> None:
    gateway = admin.gateway
    client, _ = member(admin)
    for other in (user(gateway), str(gateway.ask("GET", "/api/me").json["user"]["id"])):
        before = keys_of(gateway, other)
        assert "Only an admin" in refused(client, "create_key", name="x", user_id=other)
        assert keys_of(gateway, other) == before
    assert "Only an admin" in refused(client, "create_key", name="x", user_id="nobody")


@pytest.mark.parametrize("change", [{"tools": None}, {"tools": ["*"]}, {"tools": ["chat", "embed"]}], ids=str)
def test_a_confined_key_cannot_widen_itself_over_rest(admin: Client, change: Json) -> None:
    client, own = member(admin, tools=["chat"])
    for method, path, body in (
        ("PATCH", f"/api/keys/{own['id']}", change),
        ("POST", "/api/keys", {"name": "x", **change}),
        ("POST", f"/api/users/{own['user_id']}/keys", {"name": "x", **change}),
        ("PATCH", f"/api/users/{own['user_id']}", {"policy": change}),
    ):
        answer = admin.gateway.ask(method, path, body, key=own["key"])
        assert answer.status == 403, (method, path)
    assert client.tools() == ["chat"]


def test_a_users_bounds_hold_for_all_keys_that_it_makes(admin: Client) -> None:
    client, own = member(admin, {"tools": ["chat", "create_key"], "models": ["echo"]})
    made = client.call("create_key", name="x")["structuredContent"]
    assert admin.with_key(made["key"]).tools() == ["chat", "create_key"]
    assert "tool 'embed'" in refused(client, "create_key", name="x", tools=["embed"])
    beyond = new_key(admin.gateway, own["user_id"], tools=["embed", "chat"])
    assert admin.with_key(beyond["key"]).tools() == ["chat"]


# Keys of others


def test_nobody_revokes_or_sees_what_is_anothers(admin: Client) -> None:
    gateway = admin.gateway
    client, own = member(admin)
    _, others = member(admin)
    first = gateway.ask("GET", "/api/me").json["key"]["id"]
    for key_id in (others["id"], first):
        assert "Only an admin" in refused(client, "revoke_key", id=key_id)
    for unknown in ("x", "0" * 48, own["id"].upper(), f"{own['id']} ", f"{own['id'][:-1]}g"):
        assert "No key" in refused(client, "revoke_key", id=unknown)
    assert "Only an admin" in refused(client, "list_keys", user_id=others["user_id"])
    assert set(keys_of(gateway, others["user_id"]).values()) == {"active"}
    assert keys_of(gateway, own["user_id"]) == {own["id"]: "active"}


def test_a_secret_in_the_place_of_an_id_is_said_back_by_nobody(admin: Client) -> None:
    client, own = member(admin)
    for tool, arguments in (
        ("revoke_key", {"id": own["key"]}),
        ("chat", {"model": own["key"], "prompt": "x"}),
        (own["key"], {}),
        ("list_keys", {"user_id": own["key"]}),
    ):
        answer = client.ask("tools/call", {"name": tool, "arguments": arguments})
        assert own["key"] not in answer.body.decode()
    answer = client.ask("resources/read", {"uri": f"stile://models/{own['key']}"})
    assert own["key"] not in answer.body.decode()
    assert own["key"] not in admin.gateway.out.read_text()


def test_a_key_may_end_itself_twice_and_then_no_more(admin: Client) -> None:
    client, own = member(admin)
    assert admin.call("revoke_key", id=own["id"])["structuredContent"]["status"] == "revoked"
    assert admin.call("revoke_key", id=own["id"])["structuredContent"]["status"] == "revoked"
    answer = client.ask("tools/list")
    assert (answer.status, answer.json["error"]["data"]["code"]) == (401, "invalid_api_key")


# Models


def test_a_model_beyond_the_keys_is_reached_by_no_way(stage: Stage, admin: Client) -> None:
    client, _ = member(admin, models=["echo", "clau*"])
    asked = len(stage.provider.calls)
    for model in ("relayed", "two", "chat"):
        assert f"may not use the model '{model}'" in refused(client, "chat", model=model, prompt="x")
        assert f"may not use the model '{model}'" in refused(client, "embed", model=model, input="x")
    for model in ("*", "ech*", "ECHO", "echo ", " echo", "relayed/../echo", "openai/scripted"):
        assert "does not exist" in refused(client, "chat", model=model, prompt="x")
    assert len(stage.provider.calls) == asked
    assert [each["id"] for each in client.call("list_models")["structuredContent"]["models"]] == ["echo", "claude"]


def test_a_resource_that_is_not_ones_own_looks_like_one_that_is_not_there(admin: Client) -> None:
    client, _ = member(admin, models=["echo"])
    (every,) = client.result("resources/read", {"uri": "stile://models"})["contents"]
    assert json.loads(every["text"]) == {"models": [{"id": "echo", "provider": "echo"}]}
    listed = [each["uri"] for each in client.result("resources/list")["resources"]]
    assert listed == ["stile://models", "stile://models/echo"]

    def told(name: str) -> tuple[int, int, str]:
        answer = client.ask("resources/read", {"uri": f"stile://models/{name}"})
        return answer.status, answer.json["error"]["code"], answer.json["error"]["message"]

    names = ("relayed", "%72elayed", "%2572elayed", "../models/relayed", "relayed?x", "echo/../relayed", "ECHO", "")
    assert {told(name) for name in names} == {told("nobody-knows")}
    for uri in ("file:///etc/passwd", "http://169.254.169.254/", "STILE://models", "stile://keys", "stile:models"):
        assert "error" in client.ask("resources/read", {"uri": uri}).json


# Tools


@pytest.mark.parametrize(
    "name", ["List_keys", "list_keys ", " list_keys", "chat/../list_keys", "*", "list_*", "ｌist_keys"]
)
def test_no_other_spelling_leads_to_a_tool(admin: Client, name: str) -> None:
    client, _ = member(admin, tools=["chat", "*", "list_*"])
    message = client.message("tools/call", {"name": name, "arguments": {}})
    headers = client.headers("tools/call", {"name": "chat"})
    answer = client.gateway.ask("POST", "/mcp", message, key=client.key, headers=headers)
    assert answer.json["error"]["code"] in (-32602, -32020)


def test_a_tool_that_was_taken_away_is_gone_at_once(admin: Client) -> None:
    client, own = member(admin)
    assert client.call("chat", model="echo", prompt="x")["isError"] is False
    admin.gateway.ask("PATCH", f"/api/keys/{own['id']}", {"tools": ["embed"]})
    assert client.tools() == ["embed"]
    assert client.error("tools/call", {"name": "chat", "arguments": {"model": "echo", "prompt": "x"}})[1] == -32602
    assert client.result("prompts/list")["prompts"] == []


def test_an_admin_who_is_none_any_more_manages_the_own_keys_alone(admin: Client) -> None:
    gateway = admin.gateway
    second = user(gateway, role="admin")
    made = new_key(gateway, second, scopes=["mcp", "keys", "admin"])
    client, other = admin.with_key(made["key"]), user(gateway)
    assert client.call("list_keys", user_id=other)["isError"] is False
    assert gateway.ask("PATCH", f"/api/users/{second}", {"role": "member"}).status == 200
    assert "Only an admin" in refused(client, "list_keys", user_id=other)
    assert "Only an admin" in refused(client, "create_key", name="x", user_id=other)
    assert refused(client, "create_key", name="x", scopes=["admin"])
    assert client.call("list_keys")["isError"] is False


def test_an_admins_key_is_held_to_its_scope_and_its_tools_too(admin: Client) -> None:
    me = admin.gateway.ask("GET", "/api/me").json["user"]["id"]
    confined = admin.with_key(new_key(admin.gateway, me, scopes=["mcp", "admin"], tools=["list_keys"])["key"])
    assert confined.tools() == ["list_keys"]
    assert confined.error("tools/call", {"name": "create_key", "arguments": {"name": "x"}})[1] == -32602
    without = admin.with_key(new_key(admin.gateway, me, scopes=["admin", "keys", "inference"])["key"])
    assert without.ask("tools/list").status == 403
    gone = {each["id"] for each in admin.gateway.ask("GET", "/api/keys").json["data"] if each["name"] == "mcp"}
    for key_id in gone:
        assert admin.gateway.ask("DELETE", f"/api/keys/{key_id}").status == 200


# Who comes in


def _suspend(gateway: Program, key: Json) -> None:
    assert gateway.ask("POST", f"/api/keys/{key['id']}/suspend").status == 200


def _revoke(gateway: Program, key: Json) -> None:
    assert gateway.ask("POST", f"/api/keys/{key['id']}/revoke").status == 200


def _delete(gateway: Program, key: Json) -> None:
    assert gateway.ask("DELETE", f"/api/keys/{key['id']}").status == 200


def _rotate(gateway: Program, key: Json) -> None:
    assert gateway.ask("POST", f"/api/keys/{key['id']}/rotate", {"grace_period": 0}).status == 200


def _disable(gateway: Program, key: Json) -> None:
    assert gateway.ask("PATCH", f"/api/users/{key['user_id']}", {"enabled": False}).status == 200


def _remove(gateway: Program, key: Json) -> None:
    assert gateway.ask("DELETE", f"/api/users/{key['user_id']}").status == 200


@pytest.mark.parametrize(
    ("end", "status"),
    [(_suspend, 403), (_disable, 403), (_revoke, 401), (_delete, 401), (_rotate, 401), (_remove, 401)],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_key_that_has_ended_opens_nothing(admin: Client, end: Callable[[Program, Json], None], status: int) -> None:
    client, own = member(admin)
    assert client.call("chat", model="echo", prompt="x")["isError"] is False
    end(admin.gateway, own)
    for method in ("tools/list", "resources/list", "prompts/list", "tools/call"):
        params = {"name": "chat", "arguments": {"model": "echo", "prompt": "x"}} if method == "tools/call" else None
        answer = client.ask(method, params)
        assert answer.status == status, method
        assert ("www-authenticate" in answer.headers) is (status == 401)
        line = admin.gateway.line_of(answer.headers["x-request-id"])
        assert "mcp_method" not in line, "nobody without a key has their message read"


def test_an_expired_key_opens_nothing(admin: Client) -> None:
    client, _ = member(admin, expires_in=1)
    answer = wait_for(lambda: next((got for got in [client.ask("tools/list")] if got.status != 200), None), "its end")
    assert (answer.status, answer.json["error"]["data"]["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer "},
        {"authorization": "Basic KEY"},
        {"authorization": "KEY"},
        {"authorization": "Bearer KEY KEY"},
        {"authorization": "Bearer KEYx"},
        {"authorization": "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9."},
        {"authorization": "Bearer x", "x-api-key": "KEY"},
        {"cookie": "authorization=KEY; api_key=KEY"},
        {"mcp-session-id": "KEY"},
        {"x-forwarded-for": "127.0.0.1", "x-forwarded-user": "admin", "x-amzn-oidc-identity": "admin"},
    ],
    ids=str,
)
def test_what_is_no_key_is_told_where_there_is_one(admin: Client, headers: dict[str, str]) -> None:
    gateway = admin.gateway
    sent = {name: value.replace("KEY", gateway.key) for name, value in headers.items()}
    sent |= {"host": "evil.example", "x-forwarded-host": "evil.example", "forwarded": "host=evil.example"}
    sent |= admin.headers("tools/list")
    for path in ("/mcp", f"/mcp?api_key={gateway.key}&key={gateway.key}"):
        answer = gateway.ask("POST", path, admin.message("tools/list"), key=None, headers=sent)
        assert answer.status == 401
        where = f'Bearer resource_metadata="{gateway.base}/.well-known/oauth-protected-resource/mcp"'
        assert answer.headers["www-authenticate"] == where
        assert gateway.key not in answer.body.decode()


@pytest.mark.parametrize("name", ["x-api-key", "api-key", "X-API-KEY"])
def test_a_key_comes_in_by_its_other_headers(admin: Client, name: str) -> None:
    headers = admin.headers("tools/list") | {name: admin.gateway.key}
    answer = admin.gateway.ask("POST", "/mcp", admin.message("tools/list"), key=None, headers=headers)
    assert answer.status == 200


@pytest.mark.parametrize("path", ["/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp"])
def test_the_documents_name_the_gateway_and_not_what_a_client_calls_it(stage: Stage, path: str) -> None:
    headers = {"host": "evil.example", "x-forwarded-host": "evil.example", "x-forwarded-proto": "https"}
    answer = stage.gateway.ask("GET", path, key=None, headers=headers)
    assert answer.json["resource"] == f"{stage.gateway.base}/mcp"
    assert "evil" not in answer.body.decode()


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "http://evil.example#http://localhost",
        "http://evil.example/localhost",
        "http://localhost.evil.example",
        "http://localhost@evil.example",
        "http://0.0.0.0",
        "file://",
        "vscode-webview://x",
    ],
)
def test_a_page_that_only_looks_like_a_near_one_stays_out(admin: Client, origin: str) -> None:
    assert admin.ask("tools/list", origin=origin).status == 403


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_page_of_a_foreign_origin_is_told_so_whatever_it_asks(stage: Stage, method: str) -> None:
    assert stage.gateway.ask(method, "/mcp", headers={"origin": "http://evil.example"}).status == 403
