"""What is blotted out of free text, and how long a text that callers chose may be in a line."""

import functools
import re
from collections.abc import Iterable
from typing import TypeVar

from stile.core.secret import blotted

MAX_SHOWN = 512
MAX_CLIENT = 80
_LEAST = 12  # characters

# Keys as the gateway and well-known providers form them, bearer credentials of any form, and signed tokens. What tells
# the kind stays. What may end without a match begins outside of a word only, or a long word would be read from each of
# its letters; and a backslash is never taken, for it may belong to JSON.
_KEY_SHAPED = re.compile(
    r"(sk-[\w-]{4})[\w-]{12,}"
    r"|(AIza[\w-]{2})[\w-]{20,}"
    r"|\b((?:gsk_|hf_|r8_|ghp_|github_pat_|tgp_v1_|fw_|csk-|nvapi-|xai-|pplx-)\w{2})\w{18,}"
    r"|\b((?:AKIA|ASIA)\w{2})\w{14}\b"
    r"|(bedrock-api-key-)[\w+/=]{12,}"
    r"|(?<![\w-])(eyJ[\w-]{4})[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?"
    r"|(\b(?i:bearer\s|basic\s|x-api-key:|api-key:)\s{0,8})[^\s\"',;\\]{8,}"
)
_PRODUCT = re.compile(r"[^(;,]*")

T = TypeVar("T")


def redact(text: str) -> str:
    """`text` without anything shaped like a key, whosever it is."""
    return _KEY_SHAPED.sub(_kind_alone, text)


class Concealed:
    """Secrets that the program knows, whatever their shape."""

    def __init__(self) -> None:
        self._shown: dict[str, str] = {}
        self.name = functools.lru_cache(1024)(self._name)

    def add(self, secrets: Iterable[str]) -> None:
        """Blot these out from now on; those that were known before stay known, for what was begun with them. Short ones
        are words that stand for no key, as servers without keys are given."""
        self._shown |= {secret: "***" for secret in secrets if len(secret) >= _LEAST}
        self.name.cache_clear()

    def redact(self, text: str) -> str:
        """`text` without them, and without anything shaped like a key."""
        return redact(blotted(text, self._shown))

    def _name(self, text: str | None) -> str | None:
        """What a provider calls something, bounded."""
        return None if text is None else str(shown(self.redact(text[: 2 * MAX_SHOWN])))


def shown(text: T) -> T | str:
    """What a caller chose (a path, a model's name): bounded, and without a key that was put in the wrong place."""
    return _shown(text[: 2 * MAX_SHOWN]) if isinstance(text, str) else text


@functools.lru_cache(1024)
def client_of(user_agent: bytes) -> str | None:
    """The first product of a user agent, as in `OpenAI/Python 2.54.0`; None where there is none."""
    text = user_agent[:MAX_SHOWN].decode("utf-8", "replace")
    product = _PRODUCT.match("".join(letter if letter.isprintable() else " " for letter in text))
    return redact(product[0].strip())[:MAX_CLIENT] or None if product else None


@functools.lru_cache(1024)
def _shown(text: str) -> str:
    return redact(text)[:MAX_SHOWN].encode("utf-8", "replace").decode()  # half a surrogate pair cannot be written


def _kind_alone(found: re.Match[str]) -> str:
    return f"{next(group for group in found.groups() if group is not None)}***"
