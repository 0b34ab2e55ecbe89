"""Looks for key material where none may be: in everything that a run of the tests has written."""

import os
import re
from pathlib import Path

FOLDER = "STILE_TEST_OUTPUT"  # where all programs that the tests start write to

# Planted in configurations and environments; no output may hold them.
PROVIDER_KEY = "sk-provider-planted-0123456789abcdef"

_KEY = re.compile(r"sk-stile-[0-9a-f]{48}-[0-9A-Za-z]{59}")
_BANNER = re.compile(rf"^(  API key   {_KEY.pattern}|curl .*{_KEY.pattern}.*)$", re.MULTILINE)


def find(text: str) -> list[str]:
    """What of `text` must not be there; the banner's two places may hold the key."""
    rest = _BANNER.sub("", text)
    found = [match[0][:30] + "…" for match in _KEY.finditer(rest)]
    if PROVIDER_KEY in rest:
        found.append(PROVIDER_KEY)
    return found


def in_folder(folder: Path) -> list[str]:
    """The same for every file under `folder`, peppers' text included in the search."""
    texts = {path: path.read_text(errors="replace") for path in folder.rglob("*.out")}
    texts |= {path: path.read_text(errors="replace") for path in folder.rglob("*.err")}
    texts |= {path: path.read_text(errors="replace") for path in folder.rglob("*.log")}
    peppers = [re.findall(r"[0-9a-f]{64}", path.read_text()) for path in folder.rglob("pepper.json") if path.is_file()]
    secrets = [secret for pepper in peppers for secret in pepper]
    found = [f"{path}: {leak}" for path, text in texts.items() for leak in find(text)]
    return found + [f"{path}: a pepper" for path, text in texts.items() if any(secret in text for secret in secrets)]


def folder() -> Path:
    return Path(os.environ[FOLDER])
