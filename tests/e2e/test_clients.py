"""Real client programs call real models' stand-ins through the gateway, as doc/clients.md tells their users to set them
up. What came of it is shown as a table at the end of the run."""

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.e2e.clients import network, programs
from tests.e2e.clients.catalog import CLIENTS

SECONDS = 180
RUNS = [
    ("Codex", "relayed"),
    ("Codex", "by chat"),
    ("Codex", "by LiteLLM"),
    ("Claude Code", "relayed"),
    ("Claude Code", "by chat"),
    ("Copilot CLI (chat)", "relayed"),
    ("Copilot CLI (chat)", "by LiteLLM"),
    ("Copilot CLI (responses)", "relayed"),
    ("Copilot CLI (responses)", "by chat"),
    ("Copilot CLI (messages)", "relayed"),
    ("Copilot CLI (messages)", "by chat"),
    ("opencode", "relayed"),
    ("opencode", "by LiteLLM"),
    ("Continue", "relayed"),
    ("Continue", "by chat"),
    ("Cline", "relayed"),
    ("llm", "relayed"),
    ("LangChain", "relayed"),
    ("LangChain", "by LiteLLM"),
    ("openai", "relayed"),
    ("openai", "by chat"),
    ("openai, Node", "relayed"),
    ("anthropic 0.x", "relayed"),
    ("anthropic 0.x", "by chat"),
    ("anthropic 2.x", "relayed"),
    ("anthropic 2.x", "by chat"),
    ("AI SDK", "relayed"),
    ("AI SDK", "by chat"),
    ("aider", "relayed"),
]
SEEN = ("answers", "streams", "calls a tool")


@pytest.mark.parametrize(("client", "way"), RUNS, ids=[f"{client}, {way}" for client, way in RUNS])
def test_a_client_answers_streams_and_calls_a_tool(
    client: str, way: str, output: Path, record_property: Callable[[str, object], None]
) -> None:
    if client == "aider" and sys.version_info >= (3, 13):
        pytest.skip("NOT RUN: aider cannot be installed under Python 3.13")
    folder = Path(tempfile.mkdtemp(dir=output))
    known = next(known for known in CLIENTS if known.name == client)
    program = str(programs.folder(known.program, known.needs))
    printed = network.enter("tests.e2e.clients.run", client, way, str(folder), program, timeout=SECONDS)
    seen = json.loads(printed)
    for what in SEEN:
        record_property(what, seen[what])
    assert seen["failed"] == [], seen
    assert [what for what in SEEN if not seen[what]] == [], seen
    assert seen["errors"] == "", seen
