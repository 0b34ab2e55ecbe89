"""The pepper in a file of mode 0600 beside the database. Without it every key is dead, so it is made once and kept."""

import json
import os
import secrets
from pathlib import Path

from stile.core import keys
from stile.core.keys import Pepper
from stile.errors import StateError

_BYTES = 32


def load(path: Path) -> Pepper:
    """The pepper in `path`; raises StateError when it is missing or cannot be read."""
    try:
        return keys.read_pepper(path.read_text())
    except FileNotFoundError:
        raise StateError(
            f"{path}: the pepper is missing, and without it no key works; restore it from a copy"
        ) from None
    except OSError as fault:
        raise StateError(f"{path}: the pepper cannot be read ({fault.strerror}); it was left as it is") from None
    except ValueError as fault:
        raise StateError(
            f"{path}: the pepper cannot be used ({fault}); it was left as it is. Restore it from a copy"
        ) from None


def make(path: Path) -> None:
    """A new pepper in `path`, unless one is there."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump({"1": secrets.token_bytes(_BYTES).hex()}, file)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
