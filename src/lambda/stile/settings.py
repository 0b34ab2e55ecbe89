"""Everything that the environment says, read once into one frozen object; all faults are reported at once.

`SETTINGS` is the whole list: doc/config.md repeats it, and a test holds the two equal.
"""

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from stile.errors import ConfigError

MIB = 1024 * 1024


class Settings(msgspec.Struct, frozen=True):
    """The environment's settings. Sizes in bytes, times in seconds."""

    home: Path
    host: str
    port: int
    config: Path | None
    log_file: Path | None
    max_body_bytes: int
    key_cache_seconds: int
    timeout_seconds: float
    drain_seconds: float
    fetch_urls: bool


class _Setting(msgspec.Struct, frozen=True):
    default: str
    read: Callable[[str], Any]
    help: str


def _whole(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return int(text)

    return read


def _switch(text: str) -> bool:
    if text.lower() not in {"1", "true", "yes", "on", "0", "false", "no", "off", ""}:
        raise ValueError("must be 1 or 0")
    return text.lower() in {"1", "true", "yes", "on"}


def _path(text: str) -> Path | None:
    return Path(text).expanduser() if text else None


SETTINGS: dict[str, _Setting] = {
    "STILE_HOME": _Setting(".stile", _path, "folder of the embedded state: users, keys, pepper"),
    "STILE_HOST": _Setting("127.0.0.1", str, "address to listen on"),
    "STILE_PORT": _Setting("4000", _whole(0, 65535), "port to listen on; 0 takes a free one"),
    "STILE_CONFIG": _Setting(
        "", _path, "model file in LiteLLM's config.yaml dialect; without one, providers are found"
    ),
    "STILE_LOG_FILE": _Setting("", _path, "file for the JSON log lines; without one they go to standard output"),
    "STILE_MAX_BODY_BYTES": _Setting(str(32 * MIB), _whole(1024, 1024 * MIB), "largest request body"),
    "STILE_KEY_CACHE_SECONDS": _Setting(
        "60", _whole(0, 3600), "how long a checked key is believed without asking the directory"
    ),
    "STILE_TIMEOUT_SECONDS": _Setting("600", _whole(1, 3600), "longest time for one model call"),
    "STILE_DRAIN_SECONDS": _Setting("10", _whole(0, 600), "how long a stop waits for calls in flight"),
    "STILE_FETCH_URLS": _Setting(
        "0", _switch, "1: media URLs of translated calls are fetched, from public addresses only; 0: refused"
    ),
}

# The command line client's own variables may well be set in the same shell.
_OF_THE_CLIENT = {"STILE_URL", "STILE_API_KEY"}


def read(environment: Mapping[str, str]) -> Settings:
    """The settings; raises ConfigError with every fault."""
    faults = []
    values: dict[str, Any] = {}
    for name in sorted(environment):
        if name.startswith("STILE_") and name not in SETTINGS and name not in _OF_THE_CLIENT:
            near = difflib.get_close_matches(name, SETTINGS, n=1)
            faults.append(f"{name}: no such setting" + (f"; did you mean {near[0]}?" if near else ""))
    for name, setting in SETTINGS.items():
        text = environment.get(name, "").strip() or setting.default
        try:
            values[name.removeprefix("STILE_").lower()] = setting.read(text)
        except ValueError as fault:
            faults.append(f"{name}: {fault} (it is {text!r})")
    if faults:
        raise ConfigError(faults)
    return Settings(**values)
