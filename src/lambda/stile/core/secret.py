"""A string that must never be shown: it prints as `***` wherever it is formatted, logged or dumped."""


class Secret:
    """A secret value; only `reveal()` answers it. Two secrets are never compared."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "***"
