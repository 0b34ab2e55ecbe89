"""A request of OpenAI's Responses API as a chat (API reference, "Create a model response", as of November 2026).

Nothing is kept between calls, so everything that names what an earlier call left behind is refused. Hosted tools that
a client offers by default are left out and named; those that a client counts on are refused.
"""

from typing import Any

import msgspec

from stile.core.body import Fields
from stile.dialects import thoughts
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

# Same name, same meaning.
_SAME = {"model", "stream", "temperature", "top_p", "parallel_tool_calls", "top_logprobs"}
# Hints to OpenAI's own platform, and what has its say elsewhere.
_HINTS = {
    "client_metadata",
    "include",
    "max_tool_calls",
    "metadata",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "store",
    "stream_options",
    "truncation",
    "user",
}
_QUIET_HINTS = {"include", "stream_options"}  # nothing is lost with them
_KEPT_STATE = {
    "previous_response_id": "previous_response_id (the gateway keeps no answers: send the conversation whole)",
    "conversation": "conversation (the gateway keeps none: send it whole)",
    "prompt": "prompt (stored prompts are the provider's)",
}
_READ = {"input", "instructions", "tools", "tool_choice", "text", "reasoning", "max_output_tokens", "background"}
_LEFT_OUT_TOOLS = ("web_search", "image_generation", "tool_search")  # offered by default by Codex and others
_INPUT_PARAMETER = "input"
_FREE_TEXT = {
    "type": "object",
    "properties": {_INPUT_PARAMETER: {"type": "string"}},
    "required": [_INPUT_PARAMETER],
    "additionalProperties": False,
}
_ROLES = {"developer": "system", "system": "system", "user": "user", "assistant": "assistant"}
# What a provider's own tools have left in a conversation that another provider goes on with.
_FOREIGN_ITEMS = ("web_search_call", "image_generation_call", "tool_search_call", "tool_search_output")


def read(fields: Fields, *, drop: bool, keep_rest: bool = False) -> Chat:
    """The chat. Raises BadRequest. `drop`: parameters that no chat has are left out; `keep_rest`: they are a chat's
    own, and go along."""
    said = decoded(fields)
    for name, what in _KEPT_STATE.items():
        if name in said:
            raise unsupported(name, what)
    if said.get("background"):
        raise unsupported("background", "background: true")
    names, dropped = Names(), [name for name in sorted(said.keys() & (_HINTS - _QUIET_HINTS)) if _means(said, name)]
    rest = said.keys() - _SAME - _HINTS - _READ
    chat = {name: said[name] for name in said if name in _SAME or (keep_rest and name in rest)}
    if keep_rest and "stream_options" in said:
        chat["stream_options"] = said["stream_options"]
    if not keep_rest:
        refuse_rest(list(rest), dropped, drop=drop)
    if "tools" in said:
        _tools(said["tools"], chat, names, dropped)
    if "tool_choice" in said and "tools" in chat:
        _tool_choice(said["tool_choice"], chat, names)
    chat["messages"] = _messages(said, names, dropped)
    if "max_output_tokens" in said:
        chat["max_tokens"] = said["max_output_tokens"]
    if "top_logprobs" in said or "message.output_text.logprobs" in list_of(said.get("include", []), "include"):
        chat["logprobs"] = True
    _text(object_of(said.get("text", {}), "text"), chat)
    _reasoning(object_of(said.get("reasoning", {}), "reasoning"), chat)
    return Chat(chat, dropped, names)


def _means(said: Json, name: str) -> bool:
    """Whether leaving it out is worth a word: not where it says what is so anyway."""
    return (name, said[name]) not in (
        ("store", False),
        ("truncation", "disabled"),
        ("service_tier", "auto"),
        ("metadata", {}),
    )


def _text(text: Json, chat: Json) -> None:
    form = object_of(text.get("format") or {"type": "text"}, "text.format")
    if form.get("type") == "json_schema":
        schema = {
            name: form[name] for name in ("name", "schema", "strict", "description") if form.get(name) is not None
        }
        chat["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif form.get("type") == "json_object":
        chat["response_format"] = {"type": "json_object"}
    elif form.get("type") != "text":
        raise unsupported("text.format", f"text.format of type {form.get('type')!r}")
    if text.get("verbosity") not in (None, "medium"):  # medium is the default, and few know the parameter
        chat["verbosity"] = text["verbosity"]


def _reasoning(reasoning: Json, chat: Json) -> None:
    if reasoning.get("effort") is not None:
        chat["reasoning_effort"] = reasoning["effort"]


def _tools(tools: Any, chat: Json, names: Names, dropped: list[str]) -> None:
    functions: list[Json] = []
    for where, tool in objects_of(tools, "tools"):
        kind = tool.get("type")
        if kind == "function":
            functions.append(_function(tool, where))
        elif kind == "custom":
            functions.append(_custom(tool, where, names))
        elif kind == "namespace":
            functions += _namespace(tool, where, names)
        elif isinstance(kind, str) and kind.startswith(_LEFT_OUT_TOOLS):
            dropped.append(f"tools.{kind}")
        else:
            raise unsupported(where, f"a tool of type {kind!r}")
    called = [function["function"]["name"] for function in functions]
    if twice := [name for name in names.spaces if called.count(name) > 1]:
        raise invalid("tools", f"has two tools that are called {twice[0]}")
    if functions:
        chat["tools"] = functions
    else:
        chat.pop("parallel_tool_calls", None)  # refused where there are no tools


def _function(tool: Json, where: str, name: str | None = None) -> Json:
    nested = tool.get("function")  # as chats have it; Cursor sends both kinds
    said = nested if isinstance(nested, dict) else tool
    function = {"name": name or text_of(said.get("name"), f"{where}.name")}
    for field in ("description", "parameters", "strict"):
        if said.get(field) is not None:
            function[field] = said[field]
    return {"type": "function", "function": function}


def _custom(tool: Json, where: str, names: Names) -> Json:
    name = text_of(tool.get("name"), f"{where}.name")
    names.custom.add(name)
    form = tool.get("format")
    told = str(tool.get("description") or "")
    if isinstance(form, dict) and isinstance(form.get("definition"), str):
        told = f"{told}\n\nThe input must match this {form.get('syntax', '')} grammar:\n{form['definition']}".strip()
    function = {"name": name, "parameters": _FREE_TEXT} | ({"description": told} if told else {})
    return {"type": "function", "function": function}


def _namespace(tool: Json, where: str, names: Names) -> list[Json]:
    space = text_of(tool.get("name"), f"{where}.name")
    functions = []
    for inner_where, inner in objects_of(tool.get("tools", []), f"{where}.tools"):
        if inner.get("type", "function") not in ("function", "custom"):
            raise unsupported(inner_where, f"a tool of type {inner['type']!r} in a namespace")
        name = text_of(inner.get("name"), f"{inner_where}.name")
        flat = names.in_space(space, name)
        if inner.get("type") == "custom":
            functions.append(_custom({**inner, "name": flat}, inner_where, names))
        else:
            functions.append(_function(inner, inner_where, flat))
    return functions


def _tool_choice(choice: Any, chat: Json, names: Names) -> None:
    if isinstance(choice, str):
        chat["tool_choice"] = choice
        return
    choice = object_of(choice, "tool_choice")
    kind = choice.get("type")
    if kind in ("function", "custom"):
        chat["tool_choice"] = {"type": "function", "function": {"name": _called(choice, "tool_choice", names)}}
    elif kind == "allowed_tools":
        allowed = {_called(tool, where, names) for where, tool in objects_of(choice.get("tools"), "tool_choice.tools")}
        chat["tools"] = [tool for tool in chat["tools"] if tool["function"]["name"] in allowed]
        chat["tool_choice"] = choice.get("mode", "auto")
    else:
        raise unsupported("tool_choice", f"tool_choice of type {kind!r}")


def _called(call: Json, where: str, names: Names) -> str:
    """The name by which the chat knows the tool that is called."""
    name = text_of(call.get("name"), f"{where}.name")
    return names.in_space(call["namespace"], name) if isinstance(call.get("namespace"), str) else name


def _messages(said: Json, names: Names, dropped: list[str]) -> list[Json]:
    conversation = _Conversation(names, dropped)
    if said.get("instructions"):
        conversation.say({"role": "system", "content": text_of(said["instructions"], "instructions")})
    items = said.get("input", [])
    for where, item in objects_of([{"role": "user", "content": items}] if isinstance(items, str) else items, "input"):
        conversation.add(item, where)
    messages = conversation.close()
    if not messages:
        raise invalid("input", "must say something")
    return messages


class _Conversation:
    """Items as messages: what the assistant thinks, says and calls in a row is one message of a chat."""

    def __init__(self, names: Names, dropped: list[str]) -> None:
        self.messages: list[Json] = []
        self._names = names
        self._dropped = dropped
        self._thoughts: Json = {}
        self._waiting: list[Json] = []  # media of tools' outputs: a user's to show, once all outputs are there

    def say(self, message: Json) -> None:
        if message["role"] != "tool" and self._waiting:
            self.messages.append({"role": "user", "content": self._waiting})
            self._waiting = []
        if message["role"] != "assistant":
            self._thoughts = {}  # of a turn that was broken off
        self.messages.append(message)

    def close(self) -> list[Json]:
        """All messages."""
        if self._waiting:
            self.messages.append({"role": "user", "content": self._waiting})
        for message in self.messages:
            if message["content"] is None and not message.keys() & {"tool_calls", "refusal"}:
                message["content"] = ""  # who said nothing at all; null needs a call beside it
        return self.messages

    def add(self, item: Json, where: str) -> None:
        kind = item.get("type", "message")
        if kind == "message":
            self._message(item, where)
        elif kind in ("function_call", "custom_tool_call"):
            self._call(item, where)
        elif kind in ("function_call_output", "custom_tool_call_output"):
            self._output(item, where)
        elif kind == "reasoning":
            self._thoughts = thoughts.of_item(item)
        elif kind in _FOREIGN_ITEMS:
            self._dropped.append(f"input.{kind}")
        elif kind == "item_reference":
            raise unsupported(where, "item_reference (the gateway keeps no answers: send the item itself)")
        else:
            raise unsupported(where, f"an item of type {kind!r}")

    def _message(self, item: Json, where: str) -> None:
        role = _ROLES.get(str(item.get("role")))
        if role is None:
            raise invalid(f"{where}.role", "must be user, assistant, system or developer")
        content = item.get("content", "")
        if role == "assistant":
            self._say_as_assistant(_said_by_assistant(content, where))
        else:
            self.say({"role": role, "content": content if isinstance(content, str) else _parts(content, where)})

    def _say_as_assistant(self, said: Json) -> None:
        """Also between a call and its output, where a chat has no message: then it belongs to the call's own."""
        last = self.messages[-1] if self.messages else {"role": None}
        if last["role"] == "assistant" and "tool_calls" in last and last["content"] is not None:
            said["content"] = f"{last['content']}\n\n{said['content'] or ''}"
        self._assistant(calls="tool_calls" in last).update(said)

    def _call(self, item: Json, where: str) -> None:
        arguments = text_of(item.get("arguments", ""), f"{where}.arguments")
        if item["type"] == "custom_tool_call":
            arguments = msgspec.json.encode({_INPUT_PARAMETER: text_of(item.get("input"), f"{where}.input")}).decode()
        call = {
            "id": text_of(item.get("call_id"), f"{where}.call_id"),
            "type": "function",
            "function": {"name": _called(item, where, self._names), "arguments": arguments or "{}"},
        }
        self._assistant(calls=True).setdefault("tool_calls", []).append(call)

    def _output(self, item: Json, where: str) -> None:
        call_id = text_of(item.get("call_id"), f"{where}.call_id")
        output = item.get("output", "")
        if not isinstance(output, str):
            parts = _parts(output, f"{where}.output")
            texts = [part for part in parts if part["type"] == "text"]
            self._waiting += [part for part in parts if part["type"] != "text"]
            output = texts or "(see the next message)"
        self.say({"role": "tool", "tool_call_id": call_id, "content": output})

    def _assistant(self, *, calls: bool = False) -> Json:
        """The assistant's message that goes on, or a new one; what was thought before it belongs to it."""
        last = self.messages[-1] if self.messages else {"role": None}
        if last["role"] != "assistant" or not (calls or (last["content"] is None and "tool_calls" not in last)):
            self.say({"role": "assistant", "content": None})
            last = self.messages[-1]
        for name, thought in self._thoughts.items():
            last[name] = last[name] + thought if name in last else thought
        self._thoughts = {}
        return last


def _said_by_assistant(content: Any, where: str) -> Json:
    if isinstance(content, str):
        return {"content": content}
    parts = _parts(content, where)
    refusals = [part["refusal"] for part in parts if part["type"] == "refusal"]
    said: Json = {"content": "".join(part.get("text", "") for part in parts) or None}
    return said | ({"refusal": "".join(refusals)} if refusals else {})


def _parts(content: Any, where: str) -> list[Json]:
    return [_part(part, place) for place, part in objects_of(content, f"{where}.content")]


def _part(part: Json, where: str) -> Json:
    kind = part.get("type")
    if kind in ("input_text", "output_text", "text", "summary_text"):
        return {"type": "text", "text": text_of(part.get("text"), f"{where}.text")}
    if kind == "refusal":
        return {"type": "refusal", "refusal": text_of(part.get("refusal"), f"{where}.refusal")}
    if kind == "input_image" and part.get("image_url") is not None:
        image = {"url": text_of(part["image_url"], f"{where}.image_url")}
        if part.get("detail") not in (None, "auto"):
            image["detail"] = part["detail"]
        return {"type": "image_url", "image_url": image}
    if kind == "input_file" and part.get("file_data") is not None:
        file = {"file_data": text_of(part["file_data"], f"{where}.file_data")}
        if part.get("filename") is not None:
            file["filename"] = part["filename"]
        return {"type": "file", "file": file}
    if kind in ("input_audio", "image_url", "file"):  # as chats have them
        return part
    raise unsupported(where, f"content of type {kind!r} by reference" if kind else "content without a type")
