"""The story of a look at a model file: what of it is honoured, what has no effect, what is wrong, line by line."""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from stile import settings
from stile.configuration import Configuration
from stile.errors import ConfigError
from stile.modelfile import Findings
from stile.telemetry.redaction import redact

_JSON = "--json"
_NO_FILE = "there is no model file to check: name one, as in make check-config CONFIG=config.yaml, or set STILE_CONFIG"


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Print what there is to tell; answers 0 when a start would take the file, else 1. Raises ConfigError where it
    cannot be read at all."""
    files = [argument for argument in arguments if argument != _JSON]
    if len(files) > 1 or any(file.startswith("-") for file in files):
        raise ConfigError([f"usage: app.py check-config [FILE] [{_JSON}]"])
    known = settings.read({**environment, **({"STILE_CONFIG": files[0]} if files else {})})
    found = asyncio.run(Configuration(known, environment).check())
    if found is None:
        raise ConfigError([_NO_FILE])
    _say(_as_json(found) if _JSON in arguments else _as_text(found, str(known.config)))
    return 1 if found.wrong else 0


def _as_json(found: Findings) -> str:
    told: dict[str, Any] = {
        "ok": not found.wrong,
        **_counted(found),
        "honoured": found.honoured,
        "without_effect": [*found.without_effect, *found.unknown],
        "wrong": found.wrong,
    }
    return msgspec.json.format(msgspec.json.encode(told)).decode()


def _as_text(found: Findings, name: str) -> str:
    without = [*found.without_effect, *found.unknown]
    parts = {"Honoured": found.honoured, "Without effect": without, "Wrong": found.wrong}
    lines = [line for title, texts in parts.items() if texts for line in (f"{title}:", *_indented(texts), "")]
    if found.wrong:
        return "\n".join([*lines, f"{name}: a start would refuse it."])
    counted = ", ".join(f"{what}: {number}" for what, number in _counted(found).items())
    return "\n".join([*lines, f"{name}: fine ({counted})."])


def _indented(texts: Sequence[str]) -> list[str]:
    return [f"  {text}" for text in texts]


def _counted(found: Findings) -> dict[str, int]:
    if found.models is None:
        return {}
    targets = [target for group in found.models.table.values() for target in group]
    return {
        "models": len(found.models.table),
        "targets": len(targets),
        "providers": len({target.provider for target in targets}),
    }


def _say(text: str) -> None:
    sys.stdout.write(f"{redact(text)}\n")
