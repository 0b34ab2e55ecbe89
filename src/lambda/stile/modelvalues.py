"""Single values of a model file: numbers and switches, which are texts where they come from the environment."""

import math
from collections.abc import Mapping
from typing import Any

import yaml

from stile.yamlfile import YamlFile


class Numbers:
    """Fields that must be numbers, where they are there; a text that is one counts, as environments hold them."""

    def __init__(self, file: YamlFile, nodes: Mapping[str, yaml.Node], values: Mapping[str, Any]) -> None:
        self._file = file
        self._nodes = nodes
        self._values = values

    def read(self, name: str, *, least: float = 0, whole: bool = False) -> float | None:
        """None where it is absent, null or wrong; a wrong one is a fault."""
        value = self._values.get(name)
        if value is None:
            return None
        number = _number(value)
        if number is None or number < least or not math.isfinite(number) or (whole and number != int(number)):
            kind = "a whole number" if whole else "a number"
            bound = f" of at least {least:g}" if math.isfinite(least) else ""
            self._file.fault(self._nodes[name], f"{name} must be {kind}{bound}")
            return None
        return number

    def seconds(self, name: str) -> float | None:
        """The same for a time that something may take."""
        number = self.read(name)
        if number == 0:
            self._file.fault(self._nodes[name], f"{name} must be more than 0 seconds")
        return number or None


def is_true(value: Any) -> bool:
    """Of a switch, which is a text where it comes from the environment."""
    return value.strip().lower() in {"true", "1", "yes", "on"} if isinstance(value, str) else bool(value)


def _number(value: Any) -> float | None:
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None
