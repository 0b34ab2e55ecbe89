"""A string that must never be shown: it prints as `***` wherever it is formatted, logged or dumped."""

from collections.abc import Mapping

_LEAST = 6  # characters; shorter ones are no secrets, and replacing them would garble the text


class Secret:
    """A secret value; only `reveal()` answers it. Two secrets are never compared."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "***"


def blotted(text: str, shown: Mapping[str, str]) -> str:
    """`text` with something else in place of each secret: `shown` maps one to the other."""
    for secret in sorted(shown, key=len, reverse=True):  # one may be a part of another
        if len(secret) >= _LEAST:
            text = text.replace(secret, shown[secret])
    return text
