"""Real client programs call the gateway's tools by /mcp, as doc/mcp.md tells their users to set them up. What came of
it is shown as a table at the end of the run.

VS Code and Cursor cannot run in a test: their blocks are read, checked against what their references say, and the
address in them is called with the header in them.
"""

import json
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import program
from tests.e2e.clients import mcp_catalog, network, programs
from tests.e2e.clients.mcp_catalog import BASE, CLIENTS, KEY, VARIABLE, Client
from tests.program import Program

SECONDS = 300
_ROW = re.compile(r"^\| \[(.*?)\]\(#(.*?)\) \| (.*?) \| (.*?) \| (.*?) \|$", re.MULTILINE)
# By the table: what each client speaks, and how this is checked.
ROWS = {name: (speaks, checked) for name, _, speaks, checked, _ in _ROW.findall(mcp_catalog.part())}
NOT_RUN = ("VS Code", "Cursor")

Record = Callable[[str, object], None]


def run(client: Client, key: str, output: Path) -> dict[str, Any]:
    folder = tempfile.mkdtemp(dir=output)
    program = str(programs.folder(client.program))
    printed = network.enter("tests.e2e.clients.mcp_run", client.name, key, folder, program, timeout=SECONDS)
    seen: dict[str, Any] = json.loads(printed)
    assert seen["errors"] == "", seen
    return seen


@pytest.mark.parametrize("client", CLIENTS, ids=[client.name for client in CLIENTS])
def test_a_client_finds_tools_and_calls_them_and_its_model_reads_what_they_say(
    client: Client, output: Path, record_property: Record
) -> None:
    seen = run(client, "right", output)
    record_property("version", seen["version"])
    record_property("revision", ", ".join(seen["revisions"]))
    record_property("calls tools", seen["the tool told the word"])
    assert seen["called"] == ["list_models", "chat"], seen
    assert seen["the tool told the word"], seen
    assert seen["the model told the word"], seen
    assert set(seen["statuses"]) <= {200, 202}, seen
    assert seen["revisions"] == [ROWS[client.block[0]][0]], seen


@pytest.mark.parametrize("client", CLIENTS, ids=[client.name for client in CLIENTS])
def test_a_client_with_a_wrong_key_goes_on_without_the_tools(
    client: Client, output: Path, record_property: Record
) -> None:
    seen = run(client, "wrong", output)
    record_property("wrong key", "told" if client.shown[1] else "silent")
    assert seen["statuses"] == [401], seen
    assert (seen["offered"], seen["told"]) == ([], []), seen
    assert seen["the model greeted"], seen
    assert client.shown[1] in seen["shown"], seen


def test_a_client_said_to_run_is_run_with_each_of_its_blocks_and_no_other_is() -> None:
    ran = {client.block for client in CLIENTS}
    assert {block for block in mcp_catalog.blocks() if block[0] not in NOT_RUN} == ran
    assert {heading for heading, _ in mcp_catalog.blocks()} == ROWS.keys()
    for heading, (_, checked) in ROWS.items():
        assert checked.startswith("not run" if heading in NOT_RUN else "runs in `make e2e`"), heading


def test_blocks_name_no_other_address_or_key_than_those_that_stand_for_the_readers() -> None:
    for where, block in mcp_catalog.blocks().items():
        urls = [url for url in re.findall(r"https?://[^\s\"]+", block) if not url.endswith(".json")]
        assert urls == [f"{BASE}/mcp"], where
        assert set(re.findall(r"\bsk-[\w-]+", block)) <= {KEY}, where


@pytest.fixture(scope="module")
def gateway(output: Path) -> Iterator[Program]:
    with program.running(Path(tempfile.mkdtemp(dir=output))) as running:
        yield running


def test_vs_codes_block_asks_for_the_key_and_leads_to_the_tools(gateway: Program) -> None:
    """Fields: "MCP configuration reference" of VS Code."""
    block = json.loads(mcp_catalog.blocks()["VS Code", "json"])
    (asked,) = block.pop("inputs")
    assert asked.keys() == {"type", "id", "description", "password"}
    assert (asked["type"], asked["password"]) == ("promptString", True)
    ((name, server),) = block.pop("servers").items()
    assert (block, name) == ({}, "stile")
    assert server.pop("type") == "http"
    leads_to_the_tools(server, f"${{input:{asked['id']}}}", gateway)


def test_cursors_block_names_the_variable_and_leads_to_the_tools(gateway: Program) -> None:
    block = json.loads(mcp_catalog.blocks()["Cursor", "json"])
    ((name, server),) = block.pop("mcpServers").items()
    assert (block, name) == ({}, "stile")
    leads_to_the_tools(server, f"${{env:{VARIABLE}}}", gateway)


def leads_to_the_tools(server: dict[str, Any], stands_for_key: str, gateway: Program) -> None:
    """A server's address and headers, with a key in the place that stands for one, are those of our tools."""
    assert server.keys() == {"url", "headers"}
    headers = {name: text.replace(stands_for_key, gateway.key) for name, text in server["headers"].items()}
    assert headers != server["headers"]
    accepted = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
    path = server["url"].removeprefix(BASE)
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    answer = gateway.ask("POST", path, body, key=None, headers={**accepted, **headers})
    assert answer.status == 200, answer.body
    assert "chat" in {tool["name"] for tool in answer.json["result"]["tools"]}
    assert gateway.ask("POST", path, body, key=None, headers={**accepted, **server["headers"]}).status == 401
