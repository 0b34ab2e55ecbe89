"""cognito-local, an emulator of Cognito from npm that shares nothing with moto, behind the same strict wrapper.

It answers ListUsers whole and unfiltered, makes a group of the same name twice, and fails over one that is not there;
the wrapper makes up for that. Its packages are the locked ones, installed once into the user's cache.
"""

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e import npm
from tests.mocks import cognito
from tests.mocks.aws import Aws
from tests.mocks.cognito import Cognito
from tests.mocks.cognito_rules import Refused
from tests.program import wait_for

PACKAGES = Path(__file__).parent / "cognito-local"
_SERVING = re.compile(r"running on (http://127\.0\.0\.1:\d+)")
_PAGE = re.compile(r"after-(\d+)")


@dataclass
class CognitoLocal(Cognito):
    """The wrapper, with pages, filters and unique groups."""

    _groups: set[str] = field(default_factory=set)

    def check(self, operation: str, asked: dict[str, Any]) -> None:
        super().check(operation, asked)
        with self._lock:
            there = asked.get("GroupName") in self._groups
            if operation == "CreateGroup" and there:
                raise Refused("GroupExistsException", "A group with the name already exists.")
            if operation == "GetGroup" and not there:
                raise Refused("ResourceNotFoundException", "Group not found.")
            if operation == "CreateGroup":
                self._groups.add(asked["GroupName"])

    def complete(self, operation: str, asked: dict[str, Any], said: Any) -> Any:
        return _page(asked, said) if operation == "ListUsers" else said


def _page(asked: dict[str, Any], said: Any) -> Any:
    users = said["Users"]
    if wanted := re.fullmatch(r'(\w+) = "(.*)"', asked.get("Filter", "")):
        users = [user for user in users if {"Name": wanted[1], "Value": wanted[2]} in user["Attributes"]]
    token = asked.get("PaginationToken")
    after = _PAGE.fullmatch(token) if token else None
    if token and after is None:
        raise Refused("InvalidParameterException", "Invalid pagination token given.")
    first = int(after[1]) if after else 0
    last = first + asked.get("Limit", 60)
    more = {"PaginationToken": f"after-{last}"} if last < len(users) else {}
    return {"Users": users[first:last], **more}


@contextlib.contextmanager
def running(folder: Path) -> Iterator[CognitoLocal]:
    """An emulator with the template's pool, until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "cognito-local.txt"
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["node", npm.installed(PACKAGES) / "node_modules" / "cognito-local" / "lib" / "bin" / "start.js"],
            cwd=folder,
            env={"PATH": os.environ["PATH"], "HOST": "127.0.0.1", "PORT": "0", "NO_COLOR": "1"},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    try:
        address = wait_for(lambda: _SERVING.search(log.read_text()), f"cognito-local to serve; {log} says why not")
        cloud = Aws(address[1], ("anybody", "it checks no signature"))
        with cognito.serving(CognitoLocal(cloud, pool_id=cognito.make_pool(cloud))) as state:
            yield state
    finally:
        process.kill()
        process.wait()


def environment(state: Cognito) -> dict[str, str]:
    """What a client needs; the emulator takes any credentials."""
    return {
        "AWS_ACCESS_KEY_ID": "anybody",
        "AWS_SECRET_ACCESS_KEY": "anything",
        "AWS_REGION": "local",
        "AWS_ENDPOINT_URL": state.url,
        "STILE_USER_POOL_ID": state.pool_id,
    }
