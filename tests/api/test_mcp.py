"""/mcp in each revision, by raw messages and by the official SDK's client over a socket."""

import asyncio
import json
from typing import Any

import httpx2
import jsonschema
import pytest
from mcp.client import Client as SdkClient
from mcp.client.streamable_http import streamable_http_client
from tests import program, rpc
from tests.program import Program
from tests.rpc import MODERN, REVISIONS, Client

MODEL_TOOLS = ["chat", "embed", "list_models"]
KEY_TOOLS = ["list_keys", "create_key", "revoke_key"]
ECHO = "This is Stile's echo, not a language model. You said: "


@pytest.fixture(scope="session", params=REVISIONS)
def client(request: pytest.FixtureRequest, gateway: Program) -> Client:
    return Client(gateway, request.param)


@pytest.fixture
def clients(gateway: Program) -> list[Client]:
    return [Client(gateway, revision) for revision in REVISIONS]


def test_a_client_says_hello_in_the_way_of_its_revision(client: Client) -> None:
    if client.is_modern:
        found = client.result("server/discover")
        assert found["supportedVersions"] == [MODERN]
    else:
        hello = {"protocolVersion": client.revision, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        found = client.result("initialize", hello)
        assert found["protocolVersion"] == client.revision
        assert found["serverInfo"]["name"] == "stile"
        note = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        headers = client.headers("notifications/initialized")
        assert client.gateway.ask("POST", "/mcp", note, headers=headers).status == 202
    assert found["capabilities"].keys() == {"tools", "resources", "prompts", "completions"}
    assert "list_models" in found["instructions"]


def test_there_is_no_session_to_come_back_to(client: Client) -> None:
    answer = client.ask("tools/list", mcp_session_id="1234")
    assert answer.status == 200
    assert "mcp-session-id" not in answer.headers


def test_every_tool_says_what_it_takes_and_gives_and_does(client: Client) -> None:
    tools = {tool["name"]: tool for tool in client.result("tools/list")["tools"]}
    assert list(tools) == [*MODEL_TOOLS, *KEY_TOOLS]
    for tool in tools.values():
        for schema in (tool["inputSchema"], tool["outputSchema"]):
            jsonschema.Draft202012Validator.check_schema(schema)
            assert schema["type"] == "object"
            assert "$ref" not in json.dumps(schema), "many clients follow no references"
        assert tool["inputSchema"]["additionalProperties"] is False
        assert tool["title"] != tool["name"]
        assert tool["annotations"].keys() == {"readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"}
    changing = [name for name, tool in tools.items() if not tool["annotations"]["readOnlyHint"]]
    assert changing == ["create_key", "revoke_key"]
    assert [name for name, tool in tools.items() if tool["annotations"]["destructiveHint"]] == ["revoke_key"]


def test_what_may_be_kept_is_kept_by_the_key_that_asked_alone(clients: list[Client]) -> None:
    *_, modern = clients
    for method in ("tools/list", "resources/list", "resources/templates/list", "prompts/list", "server/discover"):
        found = modern.result(method)
        assert (found["cacheScope"], found["ttlMs"]) == ("private", 60_000), method


def test_chat_answers_as_text_and_as_data(client: Client) -> None:
    found = client.call("chat", model="echo", prompt="How are you?")
    assert found["content"] == [{"type": "text", "text": f"{ECHO}How are you?"}]
    assert found["isError"] is False
    usage = {"input_tokens": 3, "output_tokens": 13, "estimated": False}
    assert found["structuredContent"] == {
        "model": "echo",
        "text": f"{ECHO}How are you?",
        "finish_reason": "stop",
        "usage": usage,
    }


def test_what_tools_give_is_what_their_schemas_say(client: Client) -> None:
    tools = {tool["name"]: tool for tool in client.result("tools/list")["tools"]}
    made = client.call("create_key", name="for a test", expires_in="1h", tools=["chat"])["structuredContent"]
    for name, arguments in {
        "chat": {"model": "echo", "messages": [{"role": "user", "content": "x"}], "system": "y"},
        "list_models": {},
        "list_keys": {},
        "revoke_key": {"id": made["id"]},
    }.items():
        found = client.call(name, **arguments)
        jsonschema.validate(found["structuredContent"], tools[name]["outputSchema"])
        if name != "chat":
            assert json.loads(found["content"][0]["text"]) == found["structuredContent"]
    jsonschema.validate(made, tools["create_key"]["outputSchema"])
    assert made["tools"] == ["chat"]
    assert program.KEY.fullmatch(made["key"])
    refused = client.with_key(made["key"]).ask("tools/list")
    assert (refused.status, refused.json["error"]["data"]["code"]) == (401, "invalid_api_key")


def test_progress_is_told_in_pieces_that_are_the_text(client: Client) -> None:
    asked = {"name": "chat", "arguments": {"model": "echo", "prompt": "one two three"}, "_meta": {"progressToken": "t"}}
    *notes, last = rpc.events(client.ask("tools/call", asked))
    assert last["id"] == 7
    assert last["result"]["structuredContent"]["text"] == f"{ECHO}one two three"
    assert "".join(note["params"]["message"] for note in notes) == f"{ECHO}one two three"
    assert {note["method"] for note in notes} == {"notifications/progress"}
    assert {note["params"]["progressToken"] for note in notes} == {"t"}
    done = [note["params"]["progress"] for note in notes]
    assert done == sorted(set(done))
    assert done[-1] == len(f"{ECHO}one two three")


@pytest.mark.parametrize("token", [0, 7, "", "0"])
def test_a_progress_token_comes_back_as_it_was(clients: list[Client], token: object) -> None:
    asked = {"name": "chat", "arguments": {"model": "echo", "prompt": "x"}, "_meta": {"progressToken": token}}
    for client in clients:
        first, *_ = rpc.events(client.ask("tools/call", asked))
        assert first["params"]["progressToken"] == token


def test_who_takes_no_events_is_answered_whole(client: Client) -> None:
    asked = {"name": "chat", "arguments": {"model": "echo", "prompt": "x"}, "_meta": {"progressToken": 1}}
    answer = client.ask("tools/call", asked, accept="application/json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json["result"]["structuredContent"]["text"] == f"{ECHO}x"


def test_the_models_are_resources(client: Client) -> None:
    listed = client.result("resources/list")["resources"]
    assert [each["uri"] for each in listed[:2]] == ["stile://models", "stile://models/echo"]
    (template,) = client.result("resources/templates/list")["resourceTemplates"]
    assert template["uriTemplate"] == "stile://models/{id}"
    (every,) = client.result("resources/read", {"uri": "stile://models"})["contents"]
    models = json.loads(every["text"])["models"]
    assert len(models) == len(listed) - 1
    (echo,) = client.result("resources/read", {"uri": "stile://models/echo"})["contents"]
    assert json.loads(echo["text"]) == {"id": "echo", "provider": "echo"}
    assert echo["mimeType"] == "application/json"


@pytest.mark.parametrize(
    "uri", ["stile://models/nobody", "stile://models/", "stile://other", "file:///etc/passwd", "x"]
)
def test_what_is_no_resource_has_the_error_of_its_revision(clients: list[Client], uri: str) -> None:
    for client in clients:
        wanted = (400, -32602) if client.is_modern else (200, -32002)
        assert client.error("resources/read", {"uri": uri}) == wanted


def test_prompts_are_written_out(client: Client) -> None:
    listed = client.result("prompts/list")["prompts"]
    assert [prompt["name"] for prompt in listed] == ["second_opinion", "compare_models"]
    asked = {"name": "second_opinion", "arguments": {"matter": "Is 7 prime?", "model": "gpt-x"}}
    (message,) = client.result("prompts/get", asked)["messages"]
    assert message["role"] == "user"
    assert "`gpt-x`" in message["content"]["text"]
    assert message["content"]["text"].endswith("Is 7 prime?")
    asked = {"name": "compare_models", "arguments": {"question": "Why?", "models": "one, two,"}}
    (message,) = client.result("prompts/get", asked)["messages"]
    assert "`one`, `two`" in message["content"]["text"]
    assert client.error("prompts/get", {"name": "second_opinion"})[1] == -32602
    assert client.error("prompts/get", {"name": "nobody"})[1] == -32602


def test_the_log_has_a_line_for_each_call_of_a_tool(client: Client) -> None:
    answer = client.ask("tools/call", {"name": "chat", "arguments": {"model": "echo", "prompt": "quite confidential"}})
    line = client.gateway.line_of(answer.headers["x-request-id"])
    assert (line["mcp_method"], line["mcp_name"], line["mcp_version"]) == ("tools/call", "chat", client.revision)
    assert (line["model"], line["target"], line["status"], line["error"]) == ("echo", "echo", 200, None)
    assert (line["input_tokens"], line["output_tokens"]) == (2, 12)
    assert line["key_id"]
    assert "confidential" not in client.gateway.out.read_text()


@pytest.mark.parametrize("mode", ["legacy", MODERN])
def test_the_official_client_uses_everything(gateway: Program, mode: str) -> None:
    async def use() -> None:
        told: list[str] = []

        async def progress(progress: float, total: float | None, message: str | None) -> None:  # noqa: ARG001
            told.append(message or "")

        http = httpx2.AsyncClient(headers={"authorization": f"Bearer {gateway.key}"}, timeout=30)
        transport = streamable_http_client(f"{gateway.base}/mcp", http_client=http)
        async with http, SdkClient(transport, mode=mode) as client:
            tools = await client.list_tools()
            assert [tool.name for tool in tools.tools] == [*MODEL_TOOLS, *KEY_TOOLS]
            arguments: dict[str, Any] = {"model": "echo", "prompt": "Hello"}
            found = await client.call_tool("chat", arguments, progress_callback=progress)
            assert found.structured_content is not None
            assert found.structured_content["text"] == f"{ECHO}Hello"
            assert "".join(told) == f"{ECHO}Hello"
            failed = await client.call_tool("chat", {"model": "nobody", "prompt": "x"})
            assert failed.is_error
            resources = await client.list_resources()
            assert resources.resources
            assert (await client.read_resource("stile://models/echo")).contents
            assert (await client.get_prompt("second_opinion", {"matter": "x"})).messages

    asyncio.run(use())


def test_arguments_that_name_models_are_completed(client: Client) -> None:
    def completed(argument: str, begun: str) -> list[str]:
        asked = {"ref": {"type": "ref/prompt", "name": "x"}, "argument": {"name": argument, "value": begun}}
        values: list[str] = client.result("completion/complete", asked)["completion"]["values"]
        return values

    assert completed("model", "ech") == ["echo"]
    assert completed("models", "gpt, ech") == ["gpt,echo"]
    assert completed("matter", "ech") == []
