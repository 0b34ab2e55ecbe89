"""The client programs: how each one is configured, by its block in doc/clients.md, and how it is asked one thing."""

import os
import re
import shlex
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.clients import programs

SCRIPTS = Path(__file__).parent / "scripts"
DOC = Path(__file__).parent.parent.parent.parent / "doc" / "clients.md"
MODEL = "gpt-5"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_EXPORT = re.compile(r"^export (\w+)=(.*)$", re.MULTILINE)


@dataclass
class Place:
    """Where a client runs: a home and a working folder of its own, the gateway's address, and a key."""

    home: Path
    work: Path
    base: str
    key: str = field(repr=False)

    def block(self, client: str) -> str:
        """The client's settings as the document has them, for this gateway and key."""
        section = DOC.read_text().split(f"\n## {client}\n")[1].split("\n## ")[0]
        found = _BLOCK.search(section)
        assert found is not None, f"{client} has no block in {DOC.name}"
        return found[2].replace("http://127.0.0.1:4000", self.base).replace("sk-stile-YOUR-KEY", self.key)

    def exports(self, client: str) -> dict[str, str]:
        """The variables that the client's block exports."""
        return dict(_EXPORT.findall(self.block(client)))

    def write(self, client: str, path: str) -> None:
        """Put the client's block where the client reads it."""
        file = self.home / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(self.block(client))


@dataclass
class Run:
    """A client's command, and what its environment has beside the common."""

    command: list[str]
    env: Mapping[str, str] = field(default_factory=dict)
    before: list[str] = field(default_factory=list)  # a command that sets it up


@dataclass(frozen=True)
class Client:
    """One program. `speaks`: the last part of the paths that it calls. `tools`: those of its own that read a file, by
    name, with what they are called with; FILE stands for the file's path."""

    name: str
    speaks: str
    tools: Mapping[str, Mapping[str, object]]
    prepare: Callable[[Place, str], Run]
    program: str
    edits: bool = False
    needs: str = ""  # the lock of its Python packages, where that is not named for the program


FILE = "FILE"
_SHELL = {"command": f"cat {FILE}", "description": "show the file"}


def _codex(place: Place, prompt: str) -> Run:
    place.write("Codex", ".codex/config.toml")
    quiet = ["-c", "analytics.enabled=false", "-c", "check_for_update_on_startup=false"]
    command = ["codex", "exec", *quiet, "--skip-git-repo-check", "--sandbox", "danger-full-access", prompt]
    return Run(command, {"STILE_API_KEY": place.key})


def _claude(place: Place, prompt: str) -> Run:
    quiet = ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "DISABLE_TELEMETRY", "DISABLE_AUTOUPDATER")
    env = place.exports("Claude Code") | dict.fromkeys((*quiet, "DISABLE_ERROR_REPORTING"), "1")
    return Run(["claude", "-p", prompt, "--allowedTools", "Read"], env)


def _copilot(wire: str) -> Callable[[Place, str], Run]:
    def prepare(place: Place, prompt: str) -> Run:
        env = place.exports("Copilot CLI") | {"COPILOT_OFFLINE": "true", "COPILOT_AUTO_UPDATE": "false"}
        if wire == "responses":
            env["COPILOT_PROVIDER_WIRE_API"] = wire
        if wire == "messages":
            env |= {"COPILOT_PROVIDER_TYPE": "anthropic", "COPILOT_PROVIDER_BASE_URL": place.base}
        return Run(["copilot", "-p", prompt, "--allow-all-tools", "--disable-builtin-mcps"], env)

    return prepare


def _opencode(place: Place, prompt: str) -> Run:
    place.write("opencode", ".config/opencode/opencode.json")
    quiet = ("AUTOUPDATE", "MODELS_FETCH", "DEFAULT_PLUGINS", "LSP_DOWNLOAD")
    env = {f"OPENCODE_DISABLE_{name}": "1" for name in quiet}
    return Run(["opencode", "run", prompt], env)


def _llm(place: Place, prompt: str) -> Run:
    folder = ".config/io.datasette.llm"
    place.write("llm", f"{folder}/extra-openai-models.yaml")
    keys = place.home / folder / "keys.json"
    keys.write_text(f'{{"stile": "{place.key}"}}')
    keys.chmod(stat.S_IRUSR | stat.S_IWUSR)
    tool = "def read_file(path: str) -> str:\n    'What a file holds'\n    return open(path).read()\n"
    return Run(["llm", "-m", "gpt-5-by-stile", "--functions", tool, prompt])


def _aider(place: Place, prompt: str) -> Run:
    env = place.exports("aider")
    quiet = ["--no-git", "--yes-always", "--analytics-disable", "--no-check-update", "--no-show-model-warnings"]
    more = ["--no-show-release-notes", "--no-pretty", "--edit-format", "whole", "--map-tokens", "0"]
    command = ["aider", "--model", f"openai/{MODEL}", *quiet, *more, "--message", prompt, "answer.txt"]
    return Run(command, env | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"})


def _continue(place: Place, prompt: str) -> Run:
    place.write("Continue", ".continue/config.yaml")
    config = str(place.home / ".continue/config.yaml")
    quiet = {"CONTINUE_TELEMETRY_ENABLED": "0", "CONTINUE_CLI_AUTO_UPDATED": "1"}
    return Run(["cn", "--config", config, "--auto", "-p", prompt], quiet)


def _cline(place: Place, prompt: str) -> Run:
    auth = shlex.split(place.block("Cline"))
    quiet = {"CLINE_TELEMETRY_DISABLED": "1", "CLINE_NO_AUTO_UPDATE": "1"}
    return Run(["cline", "-P", "openai", "-m", MODEL, "--json", prompt], quiet, auth)


def _library(section: str, script: str) -> Callable[[Place, str], Run]:
    """A script that uses a client library as its section of the document sets it up."""

    def prepare(place: Place, prompt: str) -> Run:
        whole = place.work / script
        whole.write_text(f"{place.block(section)}\n{(SCRIPTS / script).read_text()}")
        if script.endswith(".mjs"):
            (place.work / "node_modules").symlink_to(programs.modules())
        return Run(["node" if script.endswith(".mjs") else "python", str(whole), MODEL, prompt])

    return prepare


_LANGCHAIN = _library("LangChain", "langchain_chat.py")
_OPENAI = _library("OpenAI's library", "openai_python.py")
_OPENAI_NODE = _library("OpenAI's library for Node", "openai_node.mjs")
_ANTHROPIC = _library("Anthropic's library", "anthropic_messages.py")
_AI_SDK = _library("AI SDK", "ai_sdk.mjs")
_READ = {"read_file": {"path": FILE}}

CLIENTS = (
    Client(
        "Codex",
        "responses",
        {"exec_command": {"cmd": f"cat {FILE}"}, "shell": {"command": ["cat", FILE]}, "shell_command": _SHELL},
        _codex,
        "codex",
    ),
    Client("Claude Code", "messages", {"Read": {"file_path": FILE}}, _claude, "claude"),
    *(
        Client(f"Copilot CLI ({wire})", path, {"view": {"path": FILE}, "bash": _SHELL}, _copilot(wire), "copilot")
        for wire, path in (("chat", "completions"), ("responses", "responses"), ("messages", "messages"))
    ),
    Client("opencode", "completions", {"read": {"filePath": FILE}}, _opencode, "opencode"),
    Client("llm", "completions", {"read_file": {"path": FILE}}, _llm, "llm"),
    Client("Continue", "responses", {"Read": {"filepath": FILE}}, _continue, "cn"),
    Client("Cline", "completions", {"read_files": {"paths": [FILE]}}, _cline, "cline"),
    Client("LangChain", "completions", _READ, _LANGCHAIN, "python", needs="sdks"),
    Client("openai", "responses", _READ, _OPENAI, "python", needs="sdks"),
    Client("openai, Node", "completions", _READ, _OPENAI_NODE, "node"),
    Client("anthropic 0.x", "messages", _READ, _ANTHROPIC, "python", needs="sdks"),
    Client("anthropic 2.x", "messages", _READ, _ANTHROPIC, "python", needs="dev"),
    Client("AI SDK", "responses", _READ, _AI_SDK, "node"),
    Client("aider", "completions", {}, _aider, "aider", edits=True),
)


def environment(place: Place, programs: list[Path]) -> dict[str, str]:
    """What every client's environment has: nothing of this machine's but where programs are."""
    path = os.pathsep.join([*(str(folder) for folder in programs), os.environ["PATH"]])
    return {
        "PATH": path,
        "HOME": str(place.home),
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "CI": "1",
        "NO_COLOR": "1",
        "DO_NOT_TRACK": "1",
    }
