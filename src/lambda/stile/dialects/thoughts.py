"""A model's thoughts on their way between dialects.

Chats have them as `reasoning_content` (text) and, from Anthropic's models, as signed `thinking_blocks`, which the model
wants back unchanged when a tool was called between. Responses has `encrypted_content` for that: what only the server
that wrote it can read. Here it is not encrypted: the thoughts were the caller's to see anyway.
"""

import base64
import binascii
from typing import Any

import msgspec

from stile.dialects.translation import Json

_MARK = "stile1:"


class _Kept(msgspec.Struct, omit_defaults=True):
    thinking_blocks: list[dict[str, Any]] = []
    reasoning_content: str = ""


def sealed(text: str, blocks: list[Json]) -> str:
    """Thoughts as `encrypted_content`."""
    kept = _Kept(blocks, "" if blocks else text)
    return _MARK + base64.b64encode(msgspec.json.encode(kept)).decode()


def of_item(item: Json) -> Json:
    """The fields of a chat's message that a reasoning item stands for; none for what another server wrote."""
    content = item.get("encrypted_content")
    if not isinstance(content, str) or not content.startswith(_MARK):
        return {}
    try:
        kept = msgspec.json.decode(base64.b64decode(content.removeprefix(_MARK), validate=True), type=_Kept)
    except (binascii.Error, msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError):
        return {}
    found: Json = msgspec.to_builtins(kept)
    return found


def fresh(so_far: str, piece: Json) -> str:
    """What a piece adds to a block's text: with the signature LiteLLM says the whole text once more."""
    text = str(piece.get("thinking") or "")
    return "" if piece.get("signature") and text == so_far else text


def merged(blocks: list[Json], news: list[Any]) -> None:
    """Put the news of a stream to the blocks so far: text and signature of one block come in pieces."""
    for piece in news:
        if not isinstance(piece, dict):
            continue
        last = blocks[-1] if blocks else None
        if piece.get("type") == "redacted_thinking" or last is None or last["type"] != "thinking" or last["signature"]:
            if piece.get("type") == "redacted_thinking":
                blocks.append({"type": "redacted_thinking", "data": str(piece.get("data") or "")})
                continue
            last = {"type": "thinking", "thinking": "", "signature": ""}
            blocks.append(last)
        last["thinking"] += fresh(last["thinking"], piece)
        last["signature"] += str(piece.get("signature") or "")
