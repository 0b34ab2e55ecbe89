"""Messages of MCP to a gateway, as a client of each revision sends them."""

import json
from dataclasses import dataclass, replace
from typing import Any

from tests.program import Answer, Program

REVISIONS = ("2025-06-18", "2025-11-25", "2026-07-28")
MODERN = "2026-07-28"
ACCEPTED = "application/json, text/event-stream"

_META = "io.modelcontextprotocol/"
_NAMED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}


@dataclass(frozen=True)
class Client:
    """A client of one revision, with one key."""

    gateway: Program
    revision: str
    key: str | None = ""

    def with_key(self, key: str) -> "Client":
        return replace(self, key=key)

    @property
    def is_modern(self) -> bool:
        return self.revision >= MODERN

    def message(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """A request."""
        params = dict(params or {})
        if self.is_modern:
            own = {f"{_META}protocolVersion": self.revision, f"{_META}clientCapabilities": {}}
            params["_meta"] = {**own, **params.get("_meta", {})}
        return {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}

    def headers(self, method: str, params: dict[str, Any] | None = None) -> dict[str, str]:
        found = {"accept": ACCEPTED, "content-type": "application/json", "mcp-protocol-version": self.revision}
        if self.is_modern:
            found["mcp-method"] = method
            if (named := (params or {}).get(_NAMED.get(method, ""))) is not None:
                found["mcp-name"] = str(named)
        return found

    def ask(self, method: str, params: dict[str, Any] | None = None, **headers: str) -> Answer:
        """One request over the socket."""
        sent = self.headers(method, params) | {name.replace("_", "-"): value for name, value in headers.items()}
        return self.gateway.ask("POST", "/mcp", self.message(method, params), key=self.key, headers=sent)

    def result(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """The result of a request that succeeds, without what only its revision has."""
        answer = self.ask(method, params)
        assert answer.status == 200, answer.body
        assert answer.headers["content-type"] == "application/json"
        assert answer.json.keys() == {"jsonrpc", "id", "result"}, answer.body
        assert answer.json["id"] == 7
        result: dict[str, Any] = answer.json["result"]
        if self.is_modern:
            assert result.pop("resultType") == "complete"
            assert result.pop("_meta")[f"{_META}serverInfo"]["name"] == "stile"
        return result

    def error(self, method: str, params: dict[str, Any] | None = None) -> tuple[int, int]:
        """HTTP's status and the code of a request that fails."""
        answer = self.ask(method, params)
        assert answer.json["id"] == 7, answer.body
        return answer.status, answer.json["error"]["code"]

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """What a tool answers."""
        return self.result("tools/call", {"name": tool, "arguments": arguments})

    def tools(self) -> list[str]:
        """The tools by name."""
        return [tool["name"] for tool in self.result("tools/list")["tools"]]


def events(answer: Answer) -> list[dict[str, Any]]:
    """The messages of an answer that streams."""
    assert answer.headers["content-type"] == "text/event-stream"
    found = []
    for part in answer.body.decode().split("\n\n")[:-1]:
        lines = dict(line.partition(": ")[::2] for line in part.splitlines() if not line.startswith(":"))
        if lines:
            assert lines["event"] == "message"
            found.append(json.loads(lines["data"]))
    return found
