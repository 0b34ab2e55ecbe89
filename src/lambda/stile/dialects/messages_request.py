"""A request of Anthropic's Messages API as a chat (API reference, "Create a Message", as of November 2026).

Tools that Anthropic's own servers run, or that only its models know by name, are refused; what an earlier answer of its
servers left in a conversation is not.
"""

from typing import Any

import msgspec

from stile.core.body import Fields
from stile.dialects.translation import (
    Chat,
    Json,
    Names,
    decoded,
    invalid,
    list_of,
    object_of,
    objects_of,
    refuse_rest,
    text_of,
    unsupported,
)

_SAME = {"model", "stream", "max_tokens", "temperature", "top_p"}
# Hints to Anthropic's platform, and what only shapes how it keeps a long conversation short.
_HINTS = {"metadata", "service_tier", "context_management", "inference_geo", "diagnostics", "speed", "cache_control"}
_READ = {"messages", "system", "tools", "tool_choice", "stop_sequences", "thinking", "output_config", "container"}
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
_THOUGHTS = {"thinking": ("thinking", "signature"), "redacted_thinking": ("data",)}
# Results of Anthropic's own tools, in a conversation that another model goes on with.
_FOREIGN_BLOCKS = ("server_tool_use", "mcp_tool_use")
_PDF = "application/pdf"


def read(fields: Fields, *, drop: bool, thinks: bool) -> Chat:
    """The chat. Raises BadRequest. `drop`: parameters that no chat has are left out; `thinks`: the target may take
    Anthropic's own parameter for thinking."""
    said = decoded(fields)
    dropped = sorted(said.keys() & _HINTS)
    refuse_rest(list(said.keys() - _SAME - _HINTS - _READ), dropped, drop=drop)
    if said.get("container"):
        raise unsupported("container", "container (there is no server that keeps one)")
    chat: Json = {name: said[name] for name in said.keys() & _SAME}
    if said.get("stop_sequences"):
        chat["stop"] = said["stop_sequences"]
    _thinking(said, chat, dropped, thinks=thinks)
    _output_config(object_of(said.get("output_config", {}), "output_config"), chat, dropped)
    if "tools" in said:
        _tools(said["tools"], chat, dropped)
    if "tool_choice" in said and "tools" in chat:
        _tool_choice(object_of(said["tool_choice"], "tool_choice"), chat)
    conversation = _Conversation(dropped)
    if "system" in said:
        conversation.system(said["system"], "system")
    for where, message in objects_of(said.get("messages"), "messages"):
        conversation.add(message, where)
    chat["messages"] = conversation.close()
    if not chat["messages"]:
        raise invalid("messages", "must hold at least one message")
    return Chat(chat, dropped, Names())


def _thinking(said: Json, chat: Json, dropped: list[str], *, thinks: bool) -> None:
    thinking = object_of(said.get("thinking", {}), "thinking")
    if thinking.get("type") in (None, "disabled"):
        return
    if thinks and thinking.get("type") == "enabled":
        chat["thinking"] = {name: thinking[name] for name in ("type", "budget_tokens") if name in thinking}
    else:
        dropped.append("thinking")


def _output_config(config: Json, chat: Json, dropped: list[str]) -> None:
    form = object_of(config.get("format") or {}, "output_config.format")
    if form.get("type") == "json_schema":
        schema = {"name": "answer", "schema": form.get("schema"), "strict": True}
        chat["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif form:
        raise unsupported("output_config.format", f"a format of type {form.get('type')!r}")
    dropped.extend(f"output_config.{name}" for name in sorted(config.keys() - {"format"}))


def _tools(tools: Any, chat: Json, dropped: list[str]) -> None:
    functions = []
    for where, tool in objects_of(tools, "tools"):
        kind = tool.get("type", "custom")
        if isinstance(kind, str) and kind.startswith("tool_search_tool"):
            dropped.append(f"tools.{kind}")  # all tools are there already
            continue
        if kind != "custom":
            raise unsupported(where, f"the tool {kind!r}, which only Anthropic's own API has")
        function: Json = {"name": text_of(tool.get("name"), f"{where}.name")}
        if tool.get("description"):
            function["description"] = tool["description"]
        function["parameters"] = tool.get("input_schema") or {"type": "object", "properties": {}}
        functions.append(_cached(tool, {"type": "function", "function": function}))
    if functions:
        chat["tools"] = functions


def _tool_choice(choice: Json, chat: Json) -> None:
    kind = choice.get("type")
    if kind == "tool":
        name = text_of(choice.get("name"), "tool_choice.name")
        chat["tool_choice"] = {"type": "function", "function": {"name": name}}
    elif isinstance(kind, str) and kind in _CHOICES:
        chat["tool_choice"] = _CHOICES[kind]
    else:
        raise invalid("tool_choice.type", "must be auto, any, tool or none")
    if choice.get("disable_parallel_tool_use"):
        chat["parallel_tool_calls"] = False


class _Conversation:
    """Messages of blocks as messages of a chat, where a tool's result is a message of its own."""

    def __init__(self, dropped: list[str]) -> None:
        self.messages: list[Json] = []
        self._waiting: list[Json] = []
        self._dropped = dropped

    def close(self) -> list[Json]:
        """All messages."""
        self.messages += self._waiting
        return self.messages

    def _put(self, message: Json) -> None:
        """Nothing may stand between calls and their results: what the system says there waits for them."""
        last = self.messages[-1] if self.messages else {}
        if message["role"] == "system" and ("tool_calls" in last or self._waiting):
            self._waiting.append(message)
            return
        if message["role"] != "tool":
            self.messages += self._waiting
            self._waiting = []
        self.messages.append(message)

    def system(self, content: Any, where: str) -> None:
        parts = self._parts(content, where)
        if parts:
            self._put({"role": "system", "content": _plain(parts)})

    def add(self, message: Json, where: str) -> None:
        role, content = message.get("role"), message.get("content", "")
        if role == "system":
            self.system(content, f"{where}.content")
        elif role == "assistant":
            self._assistant(content, f"{where}.content")
        elif role == "user":
            self._user(content, f"{where}.content")
        else:
            raise invalid(f"{where}.role", "must be user, assistant or system")

    def _user(self, content: Any, where: str) -> None:
        blocks = content if isinstance(content, list) else []
        shown: list[Json] = []  # media of results: a chat's tools answer with text alone
        for block_where, block in objects_of(blocks, where):
            if block.get("type") == "tool_result":
                self._result(block, block_where, shown)
            elif block.get("type") in ("tool_use", *_THOUGHTS):
                raise invalid(block_where, "is an assistant's to say")
        parts = shown + self._parts(content, where)
        if parts or not blocks:
            self._put({"role": "user", "content": _plain(parts)})

    def _result(self, block: Json, where: str, shown: list[Json]) -> None:
        parts = self._parts(block.get("content", ""), f"{where}.content")
        texts = [part for part in parts if part["type"] == "text"]
        media = [part for part in parts if part["type"] != "text"]
        if block.get("is_error"):
            texts.insert(0, {"type": "text", "text": "Error:"})
        if media and not texts:
            texts = [{"type": "text", "text": "(see the next message)"}]
        shown += media
        call_id = text_of(block.get("tool_use_id"), f"{where}.tool_use_id")
        message = {"role": "tool", "tool_call_id": call_id, "content": _plain(texts)}
        self._put(_cached(block, message))

    def _assistant(self, content: Any, where: str) -> None:
        message: Json = {"role": "assistant", "content": None}
        blocks = content if isinstance(content, list) else []
        for block_where, block in objects_of(blocks, where):
            kind = str(block.get("type"))
            if kind == "tool_result":
                raise invalid(block_where, "is a user's to say")
            if kind == "tool_use":
                message.setdefault("tool_calls", []).append(_call(block, block_where))
            elif kind in _THOUGHTS:
                names = ("type", *_THOUGHTS[kind])
                message.setdefault("thinking_blocks", []).append({name: block.get(name, "") for name in names})
        parts = self._parts(content, where)
        if parts:
            message["content"] = _plain(parts)
        if parts or "tool_calls" in message:
            self._put(message)

    def _parts(self, content: Any, where: str) -> list[Json]:
        """What is said and shown; tools' calls and results, and thoughts, have places of their own."""
        if isinstance(content, str):
            return [{"type": "text", "text": content}] if content else []
        parts = []
        for block_where, block in objects_of(content, where):
            kind = str(block.get("type"))
            if kind in _FOREIGN_BLOCKS or (kind.endswith("_tool_result") and kind != "tool_result"):
                self._dropped.append(f"messages.{kind}")
            elif kind not in ("tool_use", "tool_result", *_THOUGHTS):
                parts.append(_cached(block, _part(block, kind, block_where)))
        return parts


def _plain(parts: list[Json]) -> str | list[Json]:
    """Parts as a chat has them: a lone text as a string, which every server takes."""
    if not parts:
        return ""
    if len(parts) == 1 and parts[0].keys() == {"type", "text"}:
        text: str = parts[0]["text"]
        return text
    return parts


def _part(block: Json, kind: str, where: str) -> Json:
    if kind == "text":
        return {"type": "text", "text": text_of(block.get("text"), f"{where}.text")}
    if kind == "image":
        url = _url(object_of(block.get("source"), f"{where}.source"), f"{where}.source")
        return {"type": "image_url", "image_url": {"url": url}}
    if kind == "document":
        return _document(block, object_of(block.get("source"), f"{where}.source"), where)
    if kind == "tool_reference":  # all tools are there already
        return {"type": "text", "text": f"The tool {block.get('tool_name', '')} is available."}
    if kind == "compaction":
        return {"type": "text", "text": text_of(block.get("content"), f"{where}.content")}
    if kind == "search_result":
        texts = [str(part.get("text", "")) for part in list_of(block.get("content"), where) if isinstance(part, dict)]
        return {"type": "text", "text": "\n".join([str(block.get("title", "")), str(block.get("source", "")), *texts])}
    raise unsupported(where, f"content of type {kind!r}")


def _document(block: Json, source: Json, where: str) -> Json:
    title = block.get("title")
    if source.get("type") == "text":
        text = text_of(source.get("data"), f"{where}.source.data")
        return {"type": "text", "text": f"{title}\n\n{text}" if title else text}
    if source.get("type") == "base64":
        data = text_of(source.get("data"), f"{where}.source.data")
        file = {"filename": str(title or "document.pdf"), "file_data": f"data:{_PDF};base64,{data}"}
        return {"type": "file", "file": file}
    raise unsupported(f"{where}.source", f"a document of type {source.get('type')!r}")


def _url(source: Json, where: str) -> str:
    if source.get("type") == "base64":
        kind = text_of(source.get("media_type"), f"{where}.media_type")
        return f"data:{kind};base64,{text_of(source.get('data'), f'{where}.data')}"
    if source.get("type") == "url":
        return text_of(source.get("url"), f"{where}.url")
    raise unsupported(where, f"an image of type {source.get('type')!r}")


def _call(block: Json, where: str) -> Json:
    arguments = msgspec.json.encode(block.get("input") or {}).decode()
    function = {"name": text_of(block.get("name"), f"{where}.name"), "arguments": arguments}
    return {"id": text_of(block.get("id"), f"{where}.id"), "type": "function", "function": function}


def _cached(block: Json, made: Json) -> Json:
    """What was made of a block, with the mark that it may be cached up to here."""
    if isinstance(block.get("cache_control"), dict):
        made["cache_control"] = block["cache_control"]
    return made
