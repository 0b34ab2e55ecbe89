"""Media in messages: what may reach a translator, and which addresses media may be fetched from.

LiteLLM fetches URLs that it finds in messages, looks for `https://` and `gs://` anywhere in what should be data, and
hands some fields on to the provider as they are. So messages are not searched for what is wrong but rebuilt from what
is known: every field that is not named here is dropped, every kind of content that is not named here is refused, and
where media stand there is base64 and nothing else. Ordinary text may hold any URL.
"""

import ipaddress
import re
from collections.abc import Callable
from typing import Any

import msgspec

from stile.errors import BadRequest

Message = dict[str, Any]

_PARAM = "messages"
_REMOTE = re.compile(r"https?://", re.IGNORECASE)
_DATA_URL = re.compile(r"data:[a-z0-9]+/[a-z0-9.+-]+(;[a-z0-9-]+=[a-z0-9.+_-]+)*;base64,", re.IGNORECASE)
_MIME_TYPE = re.compile(r"[a-z0-9]+/[a-z0-9.+-]+", re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z0-9_-]{1,128}")
_BUCKET = re.compile(r"\s*(s3|gs)://", re.IGNORECASE)

_MESSAGE_FIELDS = {
    "role",
    "name",
    "refusal",
    "tool_calls",
    "tool_call_id",
    "function_call",
    "reasoning_content",
    "cache_control",
}
_TEXTS = {
    "text": ("text",),
    "refusal": ("refusal",),
    "thinking": ("thinking", "signature"),
    "redacted_thinking": ("data",),
}
_THOUGHT_FIELDS = {"text", "thought", "functionCall"}

_UNICAST = ipaddress.IPv6Network("2000::/3")  # all that is routed between IPv6 networks today
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class Remote(msgspec.Struct, frozen=True):
    """Media that a message names by URL. `fill` puts the content in its place, as a data URL."""

    url: str
    fill: Callable[[str], None]


def rebuild(messages: Any) -> tuple[list[Message], list[Remote]]:
    """The messages, made of known fields alone, and the media in them that would have to be fetched.

    Raises BadRequest for content that cannot be let through.
    """
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise _invalid("'messages' must be an array of objects")
    remotes: list[Remote] = []
    return [_message(message, remotes) for message in messages], remotes


def refuse(remotes: list[Remote]) -> None:
    """Raises BadRequest when there are any."""
    if remotes:
        raise not_allowed("Media URLs are not fetched for this model; send base64 in a data: URL.")


def check_texts(texts: Any) -> None:
    """Raises BadRequest unless `texts` are what OpenAI embeds: text or tokens, and nothing that names a bucket."""
    items = texts if isinstance(texts, list) else [texts]
    for item in items:
        if isinstance(item, str) and _BUCKET.match(item):
            raise not_allowed("Storage URLs cannot be embedded; send the text.", "input")
        tokens = item if isinstance(item, list) else [item]
        if not isinstance(item, str) and not all(type(token) is int for token in tokens):
            raise BadRequest("'input' must be text, tokens, or an array of either.", code="invalid_type", param="input")


def not_allowed(message: str, param: str = _PARAM) -> BadRequest:
    """Media that would make somebody fetch something."""
    return BadRequest(message, code="media_url_not_allowed", param=param)


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet, also by the IPv4 address that an IPv6 one wraps."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed in _NAT64:
            return is_public(str(ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)))
        if parsed.sixtofour is not None:
            return is_public(str(parsed.sixtofour))
        return parsed in _UNICAST and parsed.is_global and parsed.scope_id is None
    return parsed.is_global and not parsed.is_multicast


def is_media_type(mime_type: str) -> bool:
    """Whether content of this type may stand in a message."""
    known = mime_type.startswith(("image/", "audio/", "video/")) or mime_type == "application/pdf"
    return known and _MIME_TYPE.fullmatch(mime_type) is not None


def _message(message: Message, remotes: list[Remote]) -> Message:
    kept = {name: value for name, value in message.items() if name in _MESSAGE_FIELDS}
    content = message.get("content")
    if content is None or isinstance(content, str):
        kept["content"] = content
    else:
        kept["content"] = _parts(content, remotes)
    if message.get("images"):
        kept["images"] = _parts(message["images"], remotes)
    if message.get("thinking_blocks"):
        kept["thinking_blocks"] = [_thought(block) for block in _parts(message["thinking_blocks"], remotes)]
    return kept


def _parts(parts: Any, remotes: list[Remote]) -> list[Message]:
    if not isinstance(parts, list):
        raise _invalid("a message's content must be text or an array of parts")
    return [_part(part, remotes) for part in parts]


def _part(part: Any, remotes: list[Remote]) -> Message:
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(kind, str) and kind in _TEXTS:
        rebuilt = {name: part[name] for name in _TEXTS[kind] if isinstance(part.get(name), str)}
    elif kind == "image_url":
        rebuilt = {"image_url": _image(part.get("image_url"), remotes)}
    elif kind == "input_audio":
        rebuilt = {"input_audio": _audio(part.get("input_audio"))}
    elif kind == "file":
        rebuilt = {"file": _file(part.get("file"), remotes)}
    else:
        raise BadRequest(
            "This model takes content parts of type text, image_url, input_audio and file.",
            code="unsupported_content",
            param=_PARAM,
        )
    if isinstance(part.get("cache_control"), dict):
        rebuilt["cache_control"] = part["cache_control"]
    return {"type": kind, **rebuilt}


def _image(image: Any, remotes: list[Remote]) -> Message:
    fields = {"url": image} if isinstance(image, str) else _object(image, "image_url")
    kept = {"url": _url(fields.get("url"))}
    if "detail" in fields:
        kept["detail"] = _matching(_WORD, fields["detail"], "detail")
    if "format" in fields:
        kept["format"] = _matching(_MIME_TYPE, fields["format"], "format")
    if _REMOTE.match(kept["url"]):
        remotes.append(Remote(kept["url"], lambda content: kept.update(url=content)))
    return kept


def _audio(audio: Any) -> Message:
    fields = _object(audio, "input_audio")
    data = fields.get("data")
    if not isinstance(data, str) or ":" in data:
        raise not_allowed("'input_audio.data' must be base64.")
    return {"data": data, "format": _matching(_WORD, fields.get("format"), "format")}


def _file(file: Any, remotes: list[Remote]) -> Message:
    fields = _object(file, "file")
    kept: Message = {}
    if isinstance(fields.get("filename"), str):
        kept["filename"] = fields["filename"].rpartition("/")[2]
    if "format" in fields:
        kept["format"] = _matching(_MIME_TYPE, fields["format"], "format")
    identity, data = fields.get("file_id"), fields.get("file_data")
    if isinstance(identity, str) and _WORD.fullmatch(identity):
        kept["file_id"] = identity
        return kept
    kept["file_data"] = _url(identity if data is None else data)
    if _REMOTE.match(kept["file_data"]):
        remotes.append(Remote(kept["file_data"], lambda content: kept.update(file_data=content)))
    return kept


def _url(url: Any) -> str:
    """A data URL that is one to its end (no second colon, so no second URL), or http(s)."""
    if isinstance(url, str):
        data = _DATA_URL.match(url)
        if _REMOTE.match(url) or (data is not None and ":" not in url[data.end() :]):
            return url
    raise not_allowed("Media must be base64 in a data: URL, as in data:image/png;base64,….")


def _thought(block: Message) -> Message:
    """LiteLLM takes a Gemini thought that is JSON for the fields of a part: no more than a thought's own pass."""
    if block["type"] not in ("thinking", "redacted_thinking"):
        raise _invalid("'thinking_blocks' must hold thinking alone")
    try:
        fields = msgspec.json.decode(block.get("thinking", ""))
    except (msgspec.DecodeError, RecursionError):
        return block
    if isinstance(fields, dict) and not fields.keys() <= _THOUGHT_FIELDS:
        raise _invalid("'thinking_blocks' must hold thinking alone")
    return block


def _object(value: Any, name: str) -> Message:
    if not isinstance(value, dict):
        raise _invalid(f"'{name}' must be an object")
    return value


def _matching(pattern: re.Pattern[str], value: Any, name: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise _invalid(f"'{name}' of media is not a plain word")
    return value


def _invalid(message: str) -> BadRequest:
    return BadRequest(f"Invalid message: {message}.", code="invalid_value", param=_PARAM)
