"""Profiles: which gateway, and the key for it, by a name. They are kept in one file that only its owner may read; keys
are in the system's keyring instead, where the extra `keyring` is installed and there is one.

`STILE_URL` and `STILE_API_KEY` come before the file.
"""

import contextlib
import os
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click

from stile_cli.failures import BrokenProfiles, Failure

DEFAULT = "default"
_SERVICE = "stile"


@dataclass(frozen=True)
class Profile:
    """`key` is empty where none is known; `model` is the one that chats go to."""

    name: str
    url: str = ""
    key: str = field(default="", repr=False)
    model: str = ""


class Profiles:
    """The file, and the keyring beside it."""

    def __init__(self, file: Path | None = None) -> None:
        self.file = file or Path(click.get_app_dir("stile")) / "profiles.toml"

    def get(self, name: str, environment: Mapping[str, str] = os.environ) -> Profile:
        """The profile of this name, an empty one if there is none. Raises BrokenProfiles."""
        kept = self._read().get(name, {})
        url = environment.get("STILE_URL") or kept.get("url", "")
        if url != kept.get("url", ""):
            kept = {}  # a key goes to the gateway that it was given for, and to no other
        key = environment.get("STILE_API_KEY") or kept.get("key") or (_from_keyring(name) if kept else "")
        return Profile(name, url, key, kept.get("model", ""))

    def names(self) -> list[str]:
        """Those that there are."""
        return list(self._read())

    def put(self, profile: Profile) -> str:
        """Keep a profile; answers where its key is now."""
        known = self._read()
        in_keyring = _into_keyring(profile.name, profile.key)
        kept = replace(profile, key="") if in_keyring else profile
        known[profile.name] = {name: value for name in ("url", "key", "model") if (value := getattr(kept, name))}
        self._write(known)
        return "the system's keyring" if in_keyring else str(self.file)

    def forget(self, name: str) -> bool:
        """Forget a profile and its key; whether there was one."""
        known = self._read()
        if known.pop(name, None) is None:
            return False
        _out_of_keyring(name)
        self._write(known)
        return True

    def _read(self) -> dict[str, dict[str, str]]:
        try:
            text = self.file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as fault:
            raise BrokenProfiles(f"{self.file} cannot be read: {fault}.", "Mend it, or move it away.") from fault
        try:
            read: dict[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as fault:
            advice = "Mend it, or move it away and run 'stile login' again."
            raise BrokenProfiles(f"{self.file} is not TOML: {fault}.", advice) from fault
        whole = all(
            isinstance(kept, dict) and all(isinstance(value, str) for value in kept.values()) for kept in read.values()
        )
        if not whole:
            raise BrokenProfiles(
                f"{self.file} is not a file of profiles: a table of texts for each is expected.",
                "Mend it, or move it away and run 'stile login' again.",
            )
        return read

    def _write(self, known: Mapping[str, Mapping[str, str]]) -> None:
        """Whole or not at all: a file beside it takes its place. Raises Failure."""
        import tomlkit  # only who logs in or out pays for it

        beside = None
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            handle, beside = tempfile.mkstemp(dir=self.file.parent, prefix=".profiles-")  # its owner's alone, mode 0600
            with os.fdopen(handle, "w", encoding="utf-8") as out:
                out.write(tomlkit.dumps(known))
            os.replace(beside, self.file)
        except OSError as fault:
            if beside:
                with contextlib.suppress(OSError):
                    os.unlink(beside)
            advice = "Make its folder one that you can write, or set STILE_URL and STILE_API_KEY instead."
            raise Failure(f"{self.file} cannot be written: {fault}.", advice) from fault


def _keyring() -> Any:
    """The module `keyring`, if it is installed and there is a keyring; else None."""
    try:
        import keyring  # an extra, and slow
        from keyring.backends import fail
    except ImportError:
        return None
    return None if isinstance(keyring.get_keyring(), fail.Keyring) else keyring


def _from_keyring(name: str) -> str:
    keyring = _keyring()
    if keyring is None:
        return ""
    try:
        return keyring.get_password(_SERVICE, name) or ""
    except keyring.errors.KeyringError:
        return ""


def _into_keyring(name: str, key: str) -> bool:
    keyring = _keyring()
    if keyring is None or not key:
        return False
    try:
        keyring.set_password(_SERVICE, name, key)
    except keyring.errors.KeyringError:
        return False
    return True


def _out_of_keyring(name: str) -> None:
    keyring = _keyring()
    if keyring is not None:
        with contextlib.suppress(keyring.errors.KeyringError):
            keyring.delete_password(_SERVICE, name)
