"""One client's run in a network apart: a scripted model, the gateway before it, and the client, which is asked for the
word in a file. Prints what was seen, as JSON.

    python -m tests.e2e.clients.run CLIENT WAY FOLDER PROGRAMS…
"""

import json
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests import leaks, program
from tests.e2e.clients import catalog, network
from tests.e2e.clients.catalog import CLIENTS, Client, Place
from tests.mocks import agent, provider
from tests.program import Program

SECONDS = 120
_MODELS = {"openai": "scripted", "anthropic": "claude-sonnet-4-5"}  # one that LiteLLM knows, with all it can do
_WAYS: dict[str, dict[str, tuple[str, str, list[str] | None]]] = {
    "relayed": {
        "completions": ("openai", "/v1", ["/v1/chat/completions"]),
        "responses": ("openai", "/v1", ["/v1/chat/completions", "/v1/responses"]),
        "messages": ("anthropic", "", None),
    },
    "by chat": dict.fromkeys(("completions", "responses", "messages"), ("openai", "/v1", ["/v1/chat/completions"])),
    "by LiteLLM": dict.fromkeys(("completions", "responses"), ("anthropic", "", None)),
}


def main(name: str, way: str, folder: Path, programs: list[Path]) -> None:
    network.raise_loopback()
    client = next(client for client in CLIENTS if client.name == name)
    secret = f"word{secrets.token_hex(6)}"
    work = folder / "work"
    work.mkdir(parents=True)
    file = work / "secret.txt"
    file.write_text(f"{secret}\n")
    tools = json.loads(json.dumps(client.tools).replace(catalog.FILE, str(file)))
    found = f"The word is {secret}."
    if client.edits:
        found += f"\n\nanswer.txt\n```\n{secret}\n```\n"
    with provider.on_a_thread(agent.script(secret, tools, found)) as model:
        config = folder / "config.yaml"
        config.write_text(_model_file(way, client, model.url))
        with program.running(folder / "gateway", STILE_CONFIG=str(config)) as gateway:
            place = Place(folder / "home", work, gateway.base, gateway.key)
            place.home.mkdir()
            done = _ask(client, place, programs, file)
            seen = _seen(client, gateway, done, secret, [call.path for call in model.calls])
            seen["calls a tool"] = any(secret.encode() in call.body for call in model.calls)
    if client.edits:  # which is what it has in place of tools
        edited = work / "answer.txt"
        seen["calls a tool"] = edited.exists() and edited.read_text() == f"{secret}\n"
    sys.stdout.write(json.dumps(seen))


def _model_file(way: str, client: Client, url: str) -> str:
    dialect, path, endpoints = _WAYS[way][client.speaks]
    entry: dict[str, Any] = {
        "model_name": catalog.MODEL,
        "litellm_params": {
            "model": f"{dialect}/{_MODELS[dialect]}",
            "api_base": f"{url}{path}",
            "api_key": leaks.PROVIDER_KEY,
        },
    }
    if endpoints:
        entry["model_info"] = {"supported_endpoints": endpoints}
    return json.dumps({"model_list": [entry]})  # YAML is more than JSON


def _ask(client: Client, place: Place, programs: list[Path], file: Path) -> "subprocess.CompletedProcess[str]":
    prompt = f"Read the file {file} and tell me the word that is in it."
    if client.edits:
        prompt = f"Put the word {file.read_text().strip()} into answer.txt."
    run = client.prepare(place, prompt)
    env = {**catalog.environment(place, programs), **run.env}
    if run.before:
        subprocess.run(run.before, cwd=place.work, env=env, check=True, capture_output=True, timeout=SECONDS)
    return subprocess.run(
        run.command,
        cwd=place.work,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def _seen(
    client: Client, gateway: Program, done: "subprocess.CompletedProcess[str]", secret: str, paths: list[str]
) -> dict[str, Any]:
    said = f"{done.stdout}{done.stderr}"
    if client.needs or client.program == "node":  # client libraries: their scripts also call a model that is not there
        assert "refused as it should be" in said, said
    made = [call for call in gateway.calls() if call["model"] != "nope"]
    calls = [call for call in made if call["method"] == "POST" and call["path"].endswith(client.speaks)]
    return {
        "answers": done.returncode == 0 and f"The word is {secret}." in said,
        "streams": bool(calls) and all(call["stream"] for call in calls if call["model"]),
        "failed": [call for call in made if call["status"] != 200],
        "calls": [f"{call['path']} {call['status']} {'stream' if call['stream'] else 'whole'}" for call in calls],
        "asked": paths,
        "output": f"{done.returncode}\n{done.stdout}\n{done.stderr}"[-6000:],
        "errors": gateway.err.read_text(),
    }


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), [Path(folder) for folder in sys.argv[4:]])
