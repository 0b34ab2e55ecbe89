"""What a key and its user may do by MCP, down to the tool: what is not allowed is neither listed nor done."""

import json
import secrets
from typing import Any

import pytest
from tests.program import Program
from tests.rpc import REVISIONS, Client

EVERY_TOOL = ["chat", "embed", "list_models", "list_keys", "create_key", "revoke_key"]


def member(gateway: Program, policy: dict[str, Any] | None = None) -> str:
    """A new user's id."""
    email = f"mcp-{secrets.token_hex(8)}@example.com"
    answer = gateway.ask("POST", "/api/users", {"email": email, "policy": policy})
    assert answer.status == 201, answer.body
    return str(answer.json["id"])


def key(gateway: Program, user_id: str, **fields: Any) -> str:
    """A new key of that user."""
    answer = gateway.ask("POST", f"/api/users/{user_id}/keys", {"name": "mcp", **fields})
    assert answer.status == 201, answer.body
    return str(answer.json["key"])


@pytest.fixture(params=REVISIONS)
def admin(request: pytest.FixtureRequest, gateway: Program) -> Client:
    return Client(gateway, request.param)


def unknown(client: Client, tool: str, **arguments: Any) -> bool:
    """Whether a call of this tool is refused as a call of one that there is not is; the log knows better."""
    answer = client.ask("tools/call", {"name": tool, "arguments": arguments})
    error = answer.json["error"]
    assert (answer.status, error["code"]) == (400 if client.is_modern else 200, -32602)
    assert error["message"].startswith(f"Unknown tool: '{tool}'")
    line = client.gateway.line_of(answer.headers["x-request-id"])
    assert (line["mcp_name"], line["error"]) == (tool, "tool_not_allowed")
    return True


@pytest.mark.parametrize("bound", ["key", "user"])
def test_one_tool_is_allowed_and_another_is_not(admin: Client, bound: str) -> None:
    gateway = admin.gateway
    tools = {"tools": ["chat", "list_k*"]}
    user = member(gateway, tools if bound == "user" else None)
    client = admin.with_key(key(gateway, user, **(tools if bound == "key" else {})))
    assert client.tools() == ["chat", "list_keys"]
    assert client.call("chat", model="echo", prompt="Hi")["isError"] is False
    assert client.call("list_keys")["isError"] is False
    assert unknown(client, "list_models")
    assert unknown(client, "embed", model="ok", input="x")
    assert unknown(client, "create_key", name="x")
    assert client.result("resources/list")["resources"] == []
    assert client.error("resources/read", {"uri": "stile://models"})[1] in (-32602, -32002)


def test_both_key_and_user_must_allow_a_tool(admin: Client) -> None:
    user = member(admin.gateway, {"tools": ["chat", "embed"]})
    client = admin.with_key(key(admin.gateway, user, tools=["embed", "list_models"]))
    assert client.tools() == ["embed"]
    assert client.result("prompts/list")["prompts"] == []
    assert client.error("prompts/get", {"name": "second_opinion", "arguments": {"matter": "x"}})[1] == -32602


def test_scopes_decide_first(admin: Client) -> None:
    user = member(admin.gateway)
    without = admin.with_key(key(admin.gateway, user, scopes=["inference", "keys"]))
    answer = without.ask("tools/list")
    assert (answer.status, answer.json["error"]["data"]["code"]) == (403, "missing_scope")
    alone = admin.with_key(key(admin.gateway, user, scopes=["mcp"]))
    assert alone.tools() == []
    assert unknown(alone, "chat", model="echo", prompt="x")
    models = admin.with_key(key(admin.gateway, user, scopes=["mcp", "inference"]))
    assert models.tools() == EVERY_TOOL[:3]
    keys = admin.with_key(key(admin.gateway, user, scopes=["mcp", "keys"]))
    assert keys.tools() == EVERY_TOOL[3:]
    assert unknown(keys, "list_models")


def test_models_are_those_of_the_key(admin: Client) -> None:
    client = admin.with_key(key(admin.gateway, member(admin.gateway), models=["echo"]))
    assert client.call("list_models")["structuredContent"] == {"models": [{"id": "echo", "provider": "echo"}]}
    assert [each["name"] for each in client.result("resources/list")["resources"]] == ["models", "echo"]
    assert client.error("resources/read", {"uri": "stile://models/ok"})[1] in (-32602, -32002)
    refused = client.call("chat", model="ok", prompt="x")
    assert refused["isError"] is True
    assert "may not use the model 'ok'" in refused["content"][0]["text"]


def test_a_member_manages_the_own_keys_and_hands_on_no_more_than_it_has(admin: Client) -> None:
    gateway = admin.gateway
    user, other = member(gateway), member(gateway)
    client = admin.with_key(key(gateway, user, scopes=["mcp", "keys"], tools=EVERY_TOOL[3:]))
    made = client.call("create_key", name="mine")["structuredContent"]
    assert (made["user_id"], made["scopes"], made["tools"]) == (user, ["mcp", "keys"], EVERY_TOOL[3:])
    for more, told in (
        ({"scopes": ["inference"]}, "scope 'inference'"),
        ({"tools": None}, "tool '*'"),
        ({"tools": ["chat"]}, "tool 'chat'"),
        ({"user_id": other}, "Only an admin"),
    ):
        refused = client.call("create_key", name="more", **more)
        assert refused["isError"] is True, more
        assert told in refused["content"][0]["text"], more
    assert client.call("list_keys", user_id=other)["isError"] is True
    foreign = json.loads(admin.call("create_key", name="x", user_id=other)["content"][0]["text"])
    assert client.call("revoke_key", id=foreign["id"])["isError"] is True
    revoked = client.call("revoke_key", id=made["id"])["structuredContent"]
    assert (revoked["id"], revoked["status"]) == (made["id"], "revoked")
    listed = client.call("list_keys")["structuredContent"]["keys"]
    assert [each["status"] for each in listed if each["id"] == made["id"]] == ["revoked"]


def test_a_change_of_rights_holds_for_the_management_of_keys_at_once(admin: Client) -> None:
    gateway = admin.gateway
    user = member(gateway)
    client = admin.with_key(key(gateway, user))
    assert client.tools() == EVERY_TOOL
    answer = gateway.ask("PATCH", f"/api/users/{user}", {"policy": {"tools": ["chat"]}})
    assert answer.json["policy"] == {"models": None, "tools": ["chat"]}
    assert unknown(client, "list_keys")
    assert gateway.ask("PATCH", f"/api/users/{user}", {"enabled": False}).status == 200
    refused = client.ask("tools/list")
    assert (refused.status, refused.json["error"]["data"]["code"]) == (403, "user_disabled")


@pytest.mark.parametrize("tools", [[], [""], ["a b"], ["*chat"], "chat", [1]])
def test_tools_of_a_key_are_names_or_patterns(gateway: Program, tools: object) -> None:
    answer = gateway.ask("POST", "/api/keys", {"name": "x", "tools": tools})
    assert answer.status == 422
    assert answer.error["param"].startswith("tools")
