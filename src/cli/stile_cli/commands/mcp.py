"""`stile mcp`: the gateway's tools as editors have them, by the Model Context Protocol 2026-07-28."""

import json
from typing import Any

import click

from stile_cli import __version__, output
from stile_cli.failures import Failure, NotAllowed, NotFound, WrongUse
from stile_cli.session import Record, Session, common, pass_session

_REVISION = "2026-07-28"
_META = "io.modelcontextprotocol/"
_INVALID_PARAMS = -32602


@click.group()
def mcp() -> None:
    """The tools that editors have of this gateway."""


@mcp.command()
@common
@pass_session
def tools(session: Session) -> None:
    """List the tools that the key may use."""
    answer = _ask(session, "tools/list", {})
    if session.json:
        output.put_json(answer)
        return
    rows = [[tool["name"], " ".join(tool.get("description", "").split())] for tool in answer["tools"]]
    output.table(("tool", "what it does"), rows, "This key may use no tool.")


@mcp.command()
@click.argument("tool")
@click.argument("arguments", nargs=-1, metavar="[NAME=VALUE]...")
@common
@pass_session
def call(session: Session, tool: str, arguments: tuple[str, ...]) -> None:
    """Call a tool. A value is JSON if it can be read as JSON, else text.

    \b
    stile mcp call list_models
    stile mcp call chat model=echo prompt="Hello"
    """
    from stile_cli.rest import in_header  # brings the HTTP client

    if not in_header(tool):
        raise NotFound(f"There is no tool {tool!r}.", "'stile mcp tools' shows what there is.")
    answer = _ask(session, "tools/call", {"name": tool, "arguments": dict(_argument(text) for text in arguments)})
    if session.json:
        output.put_json(answer)
    said = "\n".join(part.get("text", "") for part in answer.get("content", []))
    if answer.get("isError"):
        raise Failure(said or f"{tool} has failed.")
    if not session.json:
        output.put(said)


def _ask(session: Session, method: str, params: Record) -> Record:
    """The result of a request. Raises Failure for an error of the protocol."""
    meta = {
        f"{_META}protocolVersion": _REVISION,
        f"{_META}clientCapabilities": {},
        f"{_META}clientInfo": {"name": "stile-cli", "version": __version__},
    }
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}
    headers = {"accept": "application/json, text/event-stream", "mcp-protocol-version": _REVISION, "mcp-method": method}
    if "name" in params:
        headers["mcp-name"] = params["name"]
    answer = session.gateway.message("/mcp", message, headers)
    error = answer.get("error")
    if error is None:
        result: Record = answer["result"]
        return result
    known = error.get("data") or {}
    if known.get("code") == "missing_scope":
        raise NotAllowed(str(error["message"]), "Make a key with the scope 'mcp'.")
    if error.get("code") == _INVALID_PARAMS and method == "tools/call":
        raise NotFound(str(error["message"]), "'stile mcp tools' shows what there is.")
    raise Failure(str(error["message"]))


def _argument(text: str) -> tuple[str, Any]:
    name, found, value = text.partition("=")
    if not found or not name:
        raise WrongUse(f"{text!r} is no argument.", "Write NAME=VALUE, as in model=echo.")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
