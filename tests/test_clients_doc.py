"""doc/clients.md: every block can be read by its language, and names addresses that the gateway answers at.

That the clients run with these blocks is tests/e2e/test_clients.py's to show. VS Code and Cursor cannot run in a test,
so what is documented of the requests that they make of such settings is sent here.
"""

import ast
import json
import re
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests import program
from tests.e2e import test_clients
from tests.e2e.clients import catalog
from tests.program import Program

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "doc" / "clients.md").read_text()
CATALOG = Path(catalog.__file__).read_text()
BASE, KEY, MODEL = "http://127.0.0.1:4000", "sk-stile-YOUR-KEY", "echo"

SECTIONS: dict[str, str] = {
    heading: text for heading, _, text in (part.partition("\n") for part in PAGE.split("\n## ")[1:])
}
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_URL = re.compile(r"https?://[^\s\"'`,)]+")
_ROW = re.compile(r"^\| (\[.*?) \| (.*?) \| (.*?) \|$", re.MULTILINE)

# What a client of each dialect puts behind its base URL, and the least that it sends there.
PATHS = {"Chat": "/chat/completions", "Responses": "/responses", "Messages": "/v1/messages"}
_SAID = [{"role": "user", "content": "Hello"}]
BODIES: dict[str, dict[str, Any]] = {
    "Chat": {"messages": _SAID},
    "Responses": {"input": "Hello"},
    "Messages": {"messages": _SAID, "max_tokens": 100},
}
API_TYPES = {"chat-completions": "Chat", "responses": "Responses", "messages": "Messages"}  # VS Code's names


def _shell(text: str) -> None:
    subprocess.run(["sh", "-n"], input=text, text=True, check=True, timeout=program.WAIT)


# JavaScript is not among them: this needs no Node. `make e2e` runs those blocks.
READERS: dict[str, Callable[[str], object]] = {
    "json": json.loads,
    "python": ast.parse,
    "sh": _shell,
    "toml": tomllib.loads,
    "yaml": yaml.safe_load,
}


# Every block: its section, its language, its text.
BLOCKS: list[tuple[str, str, str]] = [
    (heading, language, block) for heading, text in SECTIONS.items() for language, block in _BLOCK.findall(text)
]


def addresses(heading: str) -> list[str]:
    """The URLs in a section's blocks; the name of a JSON schema is none."""
    found = [url for section, _, block in BLOCKS if section == heading for url in _URL.findall(block)]
    return [url for url in found if not url.endswith(".json")]


def rows() -> dict[str, tuple[str, str]]:
    """What the table says of each section: which dialects the client speaks, and how this is checked."""
    names = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-"): heading for heading in SECTIONS}
    return {
        names[anchor]: (speaks, checked)
        for cell, speaks, checked in _ROW.findall(PAGE)
        for anchor in re.findall(r"\(#([\w-]+)\)", cell)
    }


@pytest.fixture(scope="module")
def echo(output: Path) -> Iterator[Program]:
    with program.running(output / "clients-doc") as running:
        yield running


def ask(gateway: Program, path: str, dialect: str, **more: object) -> program.Answer:
    """A request as this dialect's clients send it."""
    headers = {"x-api-key": gateway.key, "anthropic-version": "2023-06-01"} if dialect == "Messages" else {}
    key = None if headers else gateway.key
    return gateway.ask("POST", path, {"model": MODEL, **BODIES[dialect], **more}, key=key, headers=headers)


def test_the_table_and_the_sections_are_the_same_clients_each_with_a_block() -> None:
    assert rows().keys() == SECTIONS.keys() == {heading for heading, _, _ in BLOCKS}


@pytest.mark.parametrize(("heading", "language", "block"), BLOCKS, ids=[heading for heading, _, _ in BLOCKS])
def test_a_block_can_be_read(heading: str, language: str, block: str) -> None:
    assert language in {*READERS, "js"}, heading
    if language != "js":
        READERS[language](block)


def test_blocks_name_no_other_address_or_key_than_those_that_stand_for_the_readers() -> None:
    for heading, _, block in BLOCKS:
        assert all(re.fullmatch(rf"{re.escape(BASE)}(/.*)?", url) for url in addresses(heading)), heading
        assert set(re.findall(r"\bsk-[\w-]+", block)) <= {KEY}, heading


@pytest.mark.parametrize("heading", SECTIONS)
def test_an_address_in_a_block_is_answered_in_the_clients_dialect(heading: str, echo: Program) -> None:
    first = re.split(r"\W", rows()[heading][0])[0]
    for url in addresses(heading):
        path = url.removeprefix(BASE)
        if any(path.endswith(end) for end in PATHS.values()):  # a whole address
            dialect = next(name for name, end in PATHS.items() if path.endswith(end))
        else:
            path, dialect = f"{path}{PATHS[first]}", first
        answer = ask(echo, path, dialect)
        assert answer.status == 200, (path, answer.body)
    assert addresses(heading), f"{heading} names no address"


def sections_used() -> set[str]:
    """The sections whose blocks the catalogue of clients puts to use: by the calls in it."""
    calls = [node for node in ast.walk(ast.parse(CATALOG)) if isinstance(node, ast.Call)]
    naming = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "Client"]
    firsts = [call.args[0] for call in calls if call.args and call not in naming]
    return {str(first.value) for first in firsts if isinstance(first, ast.Constant)}


def test_a_client_said_to_run_is_run_with_its_block_and_no_other_is() -> None:
    used = sections_used()
    for heading, (_, checked) in rows().items():
        assert ("`make e2e`" in checked) == (heading in used), heading
        assert "`make e2e`" in checked or re.match(r"(\*\*)?not run", checked), heading
    assert {client for client, _ in test_clients.RUNS} == {client.name for client in catalog.CLIENTS}


@pytest.mark.parametrize("api_type", API_TYPES)
def test_vs_codes_settings_lead_to_streams_in_each_of_its_api_types(api_type: str, echo: Program) -> None:
    """VS Code takes an address that ends in its dialect's path as it is, and sends Messages with `x-api-key`."""
    ((vendor,),) = (json.loads(block) for _, block in _BLOCK.findall(SECTIONS["VS Code"]))
    (model,) = vendor["models"]
    assert vendor["vendor"] == "customendpoint"
    assert model["toolCalling"] is True, "without it agents do not show the model"
    assert {"id", "name", "url", "maxInputTokens", "maxOutputTokens"} <= model.keys()
    own = model.get("apiType") or vendor["apiType"]
    dialect = API_TYPES[api_type]
    path = f"/v1{PATHS[dialect].removeprefix('/v1')}"
    assert model["url"] == BASE + path if own == api_type else f"{path}`" in SECTIONS["VS Code"]
    answer = ask(echo, path, dialect, stream=True)
    assert (answer.status, answer.headers["content-type"].split(";")[0]) == (200, "text/event-stream")


def test_cursors_settings_lead_to_a_chat_for_the_body_of_a_response(echo: Program) -> None:
    (fields,) = (json.loads(block) for _, block in _BLOCK.findall(SECTIONS["Cursor"]))
    base = fields["Override OpenAI Base URL"].removeprefix(BASE)
    body = {"model": MODEL, "input": _SAID, "stream": True, "store": False, "include": ["reasoning.encrypted_content"]}
    answer = echo.ask("POST", f"{base}/chat/completions", body)
    assert answer.status == 200, answer.body
    first = json.loads(answer.body.split(b"\n\n")[0].removeprefix(b"data: "))
    assert first["object"] == "chat.completion.chunk"
    assert answer.body.endswith(b"data: [DONE]\n\n")
