"""The official Inspector's command line, against the program."""

import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import program
from tests.e2e import npm
from tests.e2e.mcp import suite
from tests.program import Program

LIMIT = 60


@pytest.fixture(scope="module")
def served(output: Path) -> Iterator[Program]:
    with program.running(Path(tempfile.mkdtemp(dir=output))) as gateway:
        yield gateway


def inspect(gateway: Program, *arguments: str, key: str = "") -> "subprocess.CompletedProcess[str]":
    script = npm.installed(suite.HERE) / "node_modules" / ".bin" / "mcp-inspector"
    header = f"Authorization: Bearer {key or gateway.key}"
    where = ["--cli", f"{gateway.base}/mcp", "--transport", "http", "--header", header]
    return subprocess.run(
        [suite.node(), script, *where, *arguments], capture_output=True, text=True, timeout=LIMIT, check=False
    )


def shown(gateway: Program, *arguments: str) -> Any:
    ended = inspect(gateway, *arguments)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def test_it_lists_and_uses_what_there_is(served: Program) -> None:
    assert "chat" in [tool["name"] for tool in shown(served, "--method", "tools/list")["tools"]]
    asked = ("--tool-name", "chat", "--tool-arg", "model=echo", "--tool-arg", "prompt=Hello")
    assert "You said: Hello" in shown(served, "--method", "tools/call", *asked)["content"][0]["text"]
    assert shown(served, "--method", "resources/list")["resources"]
    assert shown(served, "--method", "prompts/list")["prompts"]


def test_a_wrong_key_and_an_unknown_tool_have_exit_codes_of_their_own(served: Program) -> None:
    assert inspect(served, "--method", "tools/list", key="wrong").returncode == 3
    assert inspect(served, "--method", "tools/call", "--tool-name", "nobody").returncode == 5
