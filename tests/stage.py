"""A gateway and one provider before which it stands, whose next answer each test sets. Its models:

`relayed`, an OpenAI that takes Responses; `claude`, an Anthropic; `chat`, a server that only chats; `loose`, the same
with `drop_params`; `thinks`, one that wants thoughts back; `translated`, an Anthropic for LiteLLM; `lenient`, the same
with `drop_params`; `two`, which only chats and falls back to `relayed`; `responds`, an OpenAI that takes Responses and
no chat.
"""

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import leaks, program, strict
from tests.mocks import agent, anthropic, provider
from tests.mocks.provider import Call, Exchange, Provider
from tests.program import Answer, Program

_TAKES = ["/v1/chat/completions", "/v1/responses", "/v1/audio/transcriptions"]
_EVENT_STREAM = {"content-type": "text/event-stream"}


@dataclass
class Stage:
    """The gateway and the provider."""

    gateway: Program
    provider: Provider

    def says(self, body: object, status: int = 200, **headers: str) -> None:
        """The next answers: JSON, or bytes as they are, or a list of bytes, which are a stream's chunks."""

        async def script(exchange: Exchange) -> None:
            if isinstance(body, list) and all(isinstance(chunk, bytes) for chunk in body):
                await exchange.start(headers.get("content-type", "text/event-stream"))
                for chunk in body:
                    await exchange.chunk(chunk)
                await exchange.end()
                return
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            await exchange.answer(status, data, named)

        self.provider.script = script

    def says_in_turn(self, *answers: tuple[int, object]) -> None:
        """One answer after the other: status and JSON."""
        waiting = list(answers)

        async def script(exchange: Exchange) -> None:
            status, body = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            await exchange.answer(status, json.dumps(body).encode())

        self.provider.script = script

    def ask(self, path: str, body: object, **headers: str) -> Answer:
        return self.gateway.ask("POST", path, body, headers={k.replace("_", "-"): v for k, v in headers.items()})

    def answered(self, path: str, kind: Any, body: dict[str, Any]) -> dict[str, Any]:
        """A whole answer, which is one and of this type."""
        answer = self.ask(path, body)
        assert answer.status == 200, answer.body
        found: dict[str, Any] = answer.json
        strict.check(found, kind)
        return found

    def chat_of(self, path: str, kind: Any, body: dict[str, Any]) -> dict[str, Any]:
        """The chat that a body becomes."""
        self.says(whole_chat())
        self.answered(path, kind, body)
        assert self.heard.path == "/v1/chat/completions"
        found: dict[str, Any] = self.heard.json
        return found

    @property
    def heard(self) -> Call:
        """What the provider was asked last."""
        return self.provider.last


def chat(*deltas: dict[str, Any], finish: str = "stop", usage: dict[str, Any] | None = None) -> list[bytes]:
    """A chat's stream that says this."""
    frame = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "scripted"}
    chunks: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas
    ]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    chunks.append({"choices": [], "usage": usage or USAGE})
    return [*(b"data: " + json.dumps({**frame, **chunk}).encode() + b"\n\n" for chunk in chunks), b"data: [DONE]\n\n"]


def whole_chat(
    message: dict[str, Any] | None = None, *, finish: str = "stop", usage: dict[str, Any] | None = None
) -> dict[str, Any]:
    """A chat's whole answer."""
    said = {"role": "assistant", "content": None, **(message or {"content": "Hello there"})}
    choice = {"index": 0, "message": said, "finish_reason": finish, "logprobs": None}
    frame = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "scripted"}
    return {**frame, "choices": [choice], "usage": usage or USAGE}


USAGE = {
    "prompt_tokens": 11,
    "completion_tokens": 7,
    "total_tokens": 18,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 3},
}


def call_deltas(*calls: tuple[str, str, Sequence[str]]) -> list[dict[str, Any]]:
    """Deltas that call functions: id, name, and the pieces of the arguments."""
    found = []
    for index, (call_id, name, pieces) in enumerate(calls):
        begun = {"index": index, "id": call_id, "type": "function", "function": {"name": name, "arguments": ""}}
        found.append({"tool_calls": [begun]})
        found += [{"tool_calls": [{"index": index, "function": {"arguments": piece}}]} for piece in pieces]
    return found


def events(body: bytes) -> list[dict[str, Any]]:
    """The events of a stream as JSON; each one's name is its type."""
    found = []
    for part in body.decode().split("\n\n"):
        lines = dict(line.partition(": ")[::2] for line in part.splitlines() if not line.startswith(":"))
        if lines:
            found.append(json.loads(lines["data"]))
            assert lines.get("event", found[-1].get("type")) == found[-1].get("type")
    return found


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Stage]:
    """Both, until the block ends."""
    with provider.on_a_thread(agent.script("", {}, "")) as upstream:
        models: dict[str, tuple[str, str, dict[str, Any], list[str] | None]] = {
            "relayed": ("openai/scripted", f"{upstream.url}/v1", {"extra_headers": {"x-own": "1"}}, _TAKES),
            "claude": (f"anthropic/{anthropic.MODEL}", upstream.url, {}, None),
            "chat": ("openai/scripted", f"{upstream.url}/v1", {}, None),
            "loose": ("openai/scripted", f"{upstream.url}/v1", {"drop_params": True}, None),
            "translated": (f"anthropic/{anthropic.MODEL}", upstream.url, {}, None),
            "lenient": (f"anthropic/{anthropic.MODEL}", upstream.url, {"drop_params": True}, None),
            "two": ("openai/scripted", f"{upstream.url}/v1", {}, None),
            "thinks": ("hosted_vllm/scripted", f"{upstream.url}/v1", {}, None),
            "responds": ("openai/responses/scripted", f"{upstream.url}/v1", {}, None),
        }
        entries = [
            {
                "model_name": name,
                "litellm_params": {"model": model, "api_base": base, "api_key": leaks.PROVIDER_KEY, **more},
                **({"model_info": {"supported_endpoints": takes}} if takes else {}),
            }
            for name, (model, base, more, takes) in models.items()
        ]
        router = {"num_retries": 0, "fallbacks": [{"two": ["relayed"]}], "allowed_fails": 10_000}
        config = folder / "config.yaml"
        config.write_text(json.dumps({"model_list": entries, "router_settings": router}))
        with program.running(folder / "gateway", STILE_CONFIG=str(config), STILE_TIMEOUT_SECONDS="20") as gateway:
            yield Stage(gateway, upstream)
            assert gateway.err.read_text() == ""
