"""The house's floors: a room imports only rooms below its own, hosts and gateway know nothing of each other, and each
outside library has its own room."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "src" / "lambda"
FLOORS = [
    {"errors", "__init__"},
    {"core"},
    {"ports", "settings", "yamlfile", "entries", "shown", "dialects"},
    {"telemetry"},
    {"modelvalues", "sources", "changes", "patience", "answers", "sign_in"},
    {"modelentries"},
    {"modelrouting"},
    {"modelfile"},
    {"adapters", "calls", "keyring", "users", "authentication", "catalog"},
    {"bootstrap", "state", "configuration", "renewal", "stored"},
    {"api"},
    {"build"},
    {"checking"},
    {"local", "serverless"},
]
HOSTS = "hosts"
# Third-party library → the rooms that may import it.
LIBRARIES: dict[str, set[str]] = {
    "aiohappyeyeballs": {"adapters"},
    "aiohttp": {"adapters"},
    "botocore": {"adapters"},
    "httptools": {"adapters"},
    "jwt": {"adapters"},
    "litellm": {"adapters"},
    "mcp": {"api"},
    "mcp_types": {"api"},
    "msgspec": set().union(*FLOORS) | {HOSTS},
    "uvicorn": {HOSTS},
    "uvloop": {HOSTS},
    "yaml": {"yamlfile", "modelvalues", "modelentries", "modelrouting", "modelfile"},
    "yarl": {"adapters"},
}
FILES = sorted(path for path in (ROOT / "stile").rglob("*.py"))


def room(parts: tuple[str, ...]) -> str:
    return parts[1] if len(parts) > 1 else "__init__"


def imports(path: Path) -> list[str]:
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.extend(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            found.extend(f"{module}.{alias.name}" for alias in node.names) if module == "stile" else found.append(
                module
            )
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_down_the_house_only(path: Path) -> None:
    own = room(path.relative_to(ROOT).with_suffix("").parts)
    for name in imports(path):
        top = name.split(".")[0]
        if top == "stile":
            other = room(tuple(name.split(".")))
            if other == "__version__":
                continue
            if HOSTS in (own, other):
                assert own == other or (other == HOSTS and own in ("local", "serverless")), f"{path}: {name}"
            elif own != other:
                assert floor(other) < floor(own), f"{path}: {name} is not below {own}"
        elif top not in sys.stdlib_module_names:
            assert own in LIBRARIES.get(top, set()), f"{path}: {top} has no business in {own}"


def floor(name: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if name in rooms)


def test_core_does_no_input_and_output() -> None:
    forbidden = {
        "os",
        "socket",
        "time",
        "asyncio",
        "pathlib",
        "sqlite3",
        "random",
        "secrets",
        "threading",
        "subprocess",
    }
    for path in (ROOT / "stile" / "core").glob("*.py"):
        assert not forbidden & {name.split(".")[0] for name in imports(path)}, path
