"""The clients of /mcp: how each one is configured, by its blocks in doc/mcp.md, beside what it needs for its model."""

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.clients import catalog
from tests.e2e.clients.catalog import Place, Run

DOC = Path(__file__).parent.parent.parent.parent / "doc" / "mcp.md"
BASE, KEY = "http://127.0.0.1:4000", "sk-stile-YOUR-KEY"
VARIABLE, OTHER_VARIABLE = "STILE_API_KEY", "STILE_OTHER_KEY"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_PROMPT = "What models are there, and which word does the last of them tell?"


@dataclass
class Client:
    """One way to configure one program. `block`: section and language of its block. `shown`: by which command it tells
    of a refused key, and in which words; no command is the run itself, no words: it does not tell."""

    name: str
    program: str
    block: tuple[str, str]
    prepare: Callable[[Place, str], Run]
    shown: tuple[str, str]


def part() -> str:
    """What the document says of clients."""
    return f"\n{DOC.read_text()}".split("\n## Clients\n")[1].split("\n## ")[0]


def blocks() -> dict[tuple[str, str], str]:
    """All blocks of the document's clients, by section and language."""
    sections = (section.partition("\n") for section in part().split("\n### ")[1:])
    return {(heading, language): block for heading, _, text in sections for language, block in _BLOCK.findall(text)}


def prepare(client: Client, place: Place, key: str) -> Run:
    """The client's command in this place, with `key` for /mcp; for models it has the place's own."""
    text = blocks()[client.block].replace(BASE, place.base).replace(KEY, key)
    if key != place.key:  # some have one variable for both
        text = text.replace(VARIABLE, OTHER_VARIABLE)
    run = client.prepare(place, text)
    run.env = {VARIABLE: place.key, OTHER_VARIABLE: key, **run.env}
    return run


def _model(client: str, place: Place) -> Run:
    known = next(known for known in catalog.CLIENTS if known.name == client)
    return known.prepare(place, _PROMPT)


def _claude(place: Place) -> Run:
    run = _model("Claude Code", place)
    return Run([*run.command[:-1], "mcp__stile"], run.env)


def _claude_by_command(place: Place, block: str) -> Run:
    run = _claude(place)
    run.before = shlex.split(block)
    return run


def _claude_by_file(place: Place, block: str) -> Run:
    (place.work / ".mcp.json").write_text(block)
    return _claude(place)


def _codex(place: Place, block: str) -> Run:
    run = _model("Codex", place)
    with (place.home / ".codex/config.toml").open("a") as config:
        config.write(f"\n{block}")
    return run


def _copilot(place: Place, block: str) -> Run:
    config = place.home / ".copilot/mcp-config.json"
    config.parent.mkdir()
    config.write_text(block)
    return _model("Copilot CLI (chat)", place)


def _opencode(place: Place, block: str) -> Run:
    run = _model("opencode", place)
    config = place.home / ".config/opencode/opencode.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **json.loads(block)}))
    return run


CLIENTS = (
    Client(
        "Claude Code, by command",
        "claude",
        ("Claude Code", "sh"),
        _claude_by_command,
        ("claude mcp list", "Server rejected the configured Authorization header (HTTP 401)"),
    ),
    Client("Claude Code, by file", "claude", ("Claude Code", "json"), _claude_by_file, ("", "")),
    Client("Codex", "codex", ("Codex", "toml"), _codex, ("", "AuthRequired")),
    Client("Copilot CLI", "copilot", ("Copilot CLI", "json"), _copilot, ("", "")),
    Client("opencode", "opencode", ("opencode", "json"), _opencode, ("opencode mcp list", "failed")),
)
