"""One client's run in a network apart: a scripted model, the gateway before it, and the client, which has the gateway's
tools by /mcp. The model has it list the gateway's models, and ask one of them, whose name the list alone tells, for a
word that this one alone knows. Prints what was seen, as JSON.

    python -m tests.e2e.clients.mcp_run CLIENT right|wrong FOLDER PROGRAMS
"""

import json
import re
import secrets
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import leaks, program, stage
from tests.e2e.clients import catalog, mcp_catalog, network
from tests.e2e.clients.catalog import Place
from tests.e2e.clients.mcp_catalog import Client
from tests.mocks import provider
from tests.mocks.provider import Exchange
from tests.program import Program

SECONDS = 120
MOST_CALLS = 6  # of tools in one conversation: a model that gets nowhere gives up
QUESTION = "Which word do you know?"
GREETING = "Hello from the scripted model."
_WRONG_KEY = f"sk-stile-{'0' * 48}-{'0' * 59}"


class Model:
    """A model that calls tools, and one that is asked by a tool. `named`: what the gateway calls this one; `word`: what
    it alone knows."""

    def __init__(self) -> None:
        self.named = f"told-{secrets.token_hex(6)}"
        self.word = f"word{secrets.token_hex(6)}"
        self.offered: set[str] = set()  # tools of the gateway, by the client's names for them
        self.told: list[str] = []  # what tools have answered

    async def answer(self, exchange: Exchange) -> None:
        asked = exchange.call.json
        step = self._word(asked) if asked["model"] == "told" else self._step(asked)
        if isinstance(step, str):
            message: dict[str, Any] = {"content": step}
            deltas, finish = [message], "stop"
        else:
            name, arguments = step[0], json.dumps(step[1])
            call_id = f"call_{secrets.token_hex(4)}"
            function = {"name": name, "arguments": arguments}
            deltas = stage.call_deltas((call_id, name, (arguments[:1], arguments[1:])))
            message = {"tool_calls": [{"id": call_id, "type": "function", "function": function}]}
            finish = "tool_calls"
        if not asked.get("stream"):
            await exchange.answer(200, json.dumps(stage.whole_chat(message, finish=finish)).encode())
            return
        await exchange.start("text/event-stream")
        for chunk in stage.chat(*deltas, finish=finish):
            await exchange.chunk(chunk)
        await exchange.end()

    def _word(self, asked: dict[str, Any]) -> str:
        return f"It is {self.word}." if QUESTION in json.dumps(asked["messages"]) else "I was asked nothing."

    def _step(self, asked: dict[str, Any]) -> str | tuple[str, dict[str, Any]]:
        """What to say, or the tool to call."""
        names = [tool["function"]["name"] for tool in asked.get("tools") or ()]
        self.offered |= {name for name in names if "stile" in name}
        self.told = [json.dumps(each["content"]) for each in asked["messages"] if each["role"] == "tool"]
        said = "".join(self.told)
        if self.word in said:
            return f"The word is {self.word}."
        if len(self.told) >= MOST_CALLS:
            return "The tools have not told me."
        if self.named in said:
            return self._call("chat", {"model": self.named, "prompt": QUESTION}, names, asked)
        return self._call("list_models", {}, names, asked)

    def _call(
        self, tool: str, arguments: dict[str, Any], names: list[str], asked: dict[str, Any]
    ) -> str | tuple[str, dict[str, Any]]:
        """A call of this tool by the client's name for it; first of all a search for it, where the client keeps its
        definition back (Claude Code)."""
        wanted = re.compile(rf"\b\w*stile[_-]+{tool}\b")
        found = next((name for name in names if wanted.fullmatch(name)), None)
        if found is not None:
            return found, arguments
        kept_back = wanted.search(json.dumps(asked["messages"]).replace("\\n", " "))
        if kept_back is not None and "ToolSearch" in names:
            return "ToolSearch", {"query": f"select:{kept_back[0]}", "max_results": 5}
        return GREETING


def main(name: str, which: str, folder: Path, programs: Path) -> None:
    network.raise_loopback()
    client = next(client for client in mcp_catalog.CLIENTS if client.name == name)
    model = Model()
    work, config = folder / "work", folder / "config.yaml"
    work.mkdir(parents=True)
    with provider.on_a_thread(model.answer) as upstream:
        config.write_text(_model_file(upstream.url, {catalog.MODEL: "scripted", model.named: "told"}))
        with program.running(folder / "gateway", STILE_CONFIG=str(config)) as gateway:
            made = gateway.ask("POST", "/api/keys", {"name": "editor", "scopes": ["inference", "mcp"]})
            assert made.status == 201, made.body
            place = Place(folder / "home", work, gateway.base, made.json["key"])
            place.home.mkdir()
            _warm_up(gateway)
            said = _ask(client, place, place.key if which == "right" else _WRONG_KEY, programs)
            seen = _seen(model, gateway, made.json["id"], said)
    sys.stdout.write(json.dumps(seen))


def _warm_up(gateway: Program) -> None:
    """Send the first message, which takes longer than some clients wait (Codex: a second)."""
    accepted = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    assert gateway.ask("POST", "/mcp", body, headers=accepted).status == 200


def _model_file(url: str, models: dict[str, str]) -> str:
    entries = [
        {
            "model_name": name,
            "litellm_params": {"model": f"openai/{model}", "api_base": f"{url}/v1", "api_key": leaks.PROVIDER_KEY},
            "model_info": {"supported_endpoints": ["/v1/chat/completions"]},
        }
        for name, model in models.items()
    ]
    return json.dumps({"model_list": entries})  # YAML is more than JSON


@dataclass
class Said:
    """What a client has printed. `shown`: by the command that tells of refused keys."""

    version: str
    status: int
    text: str
    shown: str


def _ask(client: Client, place: Place, key: str, programs: Path) -> Said:
    run = mcp_catalog.prepare(client, place, key)
    env = {**catalog.environment(place, [programs]), **run.env}

    def start(command: list[str]) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command,
            cwd=place.work,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    version = re.search(r"\d+\.\d+\.\d+", start([client.program, "--version"]).stdout)
    assert version is not None, client.program
    if run.before:
        before = start(run.before)
        assert before.returncode == 0, before
    done = start(run.command)
    shown = start(client.shown[0].split()).stdout if client.shown[0] else done.stdout
    return Said(version[0], done.returncode, done.stdout, shown)


def _seen(model: Model, gateway: Program, key_id: str, said: Said) -> dict[str, Any]:
    _, *messages = (line for line in gateway.calls() if (line["method"], line["path"]) == ("POST", "/mcp"))
    called = [line for line in messages if line.get("mcp_method") == "tools/call"]
    return {
        "version": said.version,
        "revisions": sorted({line["mcp_version"] for line in messages if line.get("mcp_version")}),
        "statuses": sorted({line["status"] for line in messages}),
        "offered": sorted(model.offered),
        "called": [line["mcp_name"] for line in called if line["status"] == 200 and line["key_id"] == key_id],
        "told": model.told,
        "the tool told the word": any(model.word in each for each in model.told),
        "the model told the word": said.status == 0 and f"The word is {model.word}." in said.text,
        "the model greeted": said.status == 0 and GREETING in said.text,
        "messages": [
            f"{line['time']} {line.get('mcp_method')} {line.get('mcp_name')} {line['status']} {line['error']}"
            f" {line['total_ms']} ms"
            for line in messages
        ],
        "output": said.text[-6000:],
        "shown": said.shown,
        "errors": gateway.err.read_text(),
    }


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
