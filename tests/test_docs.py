"""The documents are true: what they list is what the code has, their links lead somewhere, and examples run."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from tests import program
from tests.program import Program
from tools import log_schema

import stile
from stile import errors, modelentries, modelfile, modelrouting
from stile.adapters import upstream_relay
from stile.api import model_calls as dialect
from stile.core import operations, providers
from stile.telemetry.records import AuditRecord, CallRecord

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "lambda" / "stile"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "doc").glob("*.md"))]
README, CONFIG, API, ARCHITECTURE = (
    (ROOT / name).read_text() for name in ("README.md", "doc/config.md", "doc/api.md", "doc/architecture.md")
)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
ERROR_ROW = re.compile(r"^\| (\d{3}) \| `(\w+)` \| `(\w+)` \|", re.MULTILINE)


def blocks(page: str, kind: str) -> list[str]:
    """The fenced blocks of one kind."""
    return [text for found, text in FENCED.findall(page) if found == kind]


def rows(page: str) -> list[list[str]]:
    """The cells of those table rows that begin with something in backticks."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("| `")
    ]


def quoted(text: str) -> set[str]:
    """What stands between backticks."""
    return set(re.findall(r"`([^`\n]+)`", text))


def anchors(page: Path) -> set[str]:
    """The headings of a page, as links name them."""
    text = FENCED.sub("", page.read_text())
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in HEADING.findall(text)}


def string_arguments(argument: str) -> Iterator[str]:
    """Every text that the code passes as `argument`, where callers may come to see it."""
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == argument and isinstance(node.value, ast.Constant):
                yield str(node.value.value)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(FENCED.sub("", page.read_text())):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target), link


def test_readme_leads_to_every_page() -> None:
    assert {f"doc/{page.name}" for page in PAGES if page.parent.name == "doc"} <= set(LINK.findall(README))


def test_versions_agree() -> None:
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == PROJECT["project"]["version"] == stile.__version__
    assert f"Stile {stile.__version__}\n" in README


def test_every_command_is_in_the_table() -> None:
    targets = re.findall(r"^([a-z0-9-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert sorted(row[0] for row in rows(README)) == sorted(f"`make {target}`" for target in targets)


def test_every_path_is_in_the_api() -> None:
    tree = ast.parse((SOURCE / "api" / "routes.py").read_text())
    paths = {
        str(key.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Constant) and str(key.value).startswith("/")
    } | {f"/v1{path}" for path in operations.PATHS.values()}
    shown = {name.split()[-1] for row in rows(API) for name in quoted(row[0]) if " /" in name}
    assert {path.replace(":path}", "}") for path in paths} == shown


def subclasses(kind: type[errors.PublicError]) -> Iterator[type[errors.PublicError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from subclasses(below)


def test_every_error_is_in_the_api_with_its_status_and_type() -> None:
    table = {(int(status), kind, code) for status, kind, code in ERROR_ROW.findall(API)}
    for error in subclasses(errors.PublicError):
        assert (error.status, error.kind, error.code) in table
    own = {error.code for error in subclasses(errors.PublicError)}
    assert {code for _, _, code in table} == own | set(string_arguments("code"))


def test_every_field_of_the_log_line_is_in_the_api() -> None:
    after = API.split("## The log line")[1]
    for part, kind in ((after.split("### Traces")[0], CallRecord), (after.split("### The audit")[1], AuditRecord)):
        fields = msgspec.structs.fields(kind)
        named = sorted(name for row in rows(part) for name in quoted(row[0]))
        assert named == sorted(field.encode_name for field in fields)
        (line,) = blocks(part, "json")
        assert sorted(json.loads(line)) == sorted(field.name for field in fields if field.default is not msgspec.UNSET)


def test_the_schema_of_the_log_is_fresh() -> None:
    assert log_schema.PAGE.read_text() == log_schema.text(), "make schema writes it anew"


def test_headers_that_pass_are_in_the_api() -> None:
    up, down = (API.split(f"**Headers that {way}**")[1].split(". ")[0] for way in ("go up", "come down"))
    assert quoted(up) == {name.decode() for name in dialect._UP}
    assert quoted(down) == {name.decode() for name in upstream_relay.DOWN}


def test_every_dependency_has_its_reason() -> None:
    groups: dict[str, list[Any]] = PROJECT["dependency-groups"]
    named = {re.split(r"[\[=;< ]", entry)[0] for group in groups.values() for entry in group if isinstance(entry, str)}
    reasoned = {name for row in rows(ARCHITECTURE.split("## Dependencies")[1]) for name in quoted(row[0])}
    assert named == reasoned


def test_every_file_has_its_place_in_the_house() -> None:
    house = blocks(ARCHITECTURE, "text")[0]
    missing = [path.name for path in SOURCE.rglob("*.py") if path.name != "__init__.py" and path.name not in house]
    assert missing == []
    named = set(re.findall(r"\b(\w+\.py)\b", house))
    assert named <= {path.name for folder in ("src", "tools") for path in (ROOT / folder).rglob("*.py")}


def paragraph(section: str, begins: str) -> set[str]:
    """What is quoted in the first sentence of the paragraph of config.md that begins so, below a heading."""
    text = CONFIG.split(f"### {section}\n")[1].split("\n### ")[0]
    return quoted(" ".join(text.split()).split(begins)[1].split(". ")[0])


def table(section: str) -> set[str]:
    """The fields of the first table below a heading of config.md."""
    text = CONFIG.split(f"### {section}\n")[1].split("\n### ")[0]
    return {name for row in rows(text) for name in quoted(row[0])}


def test_the_fields_of_the_model_file_are_documented_as_they_are() -> None:
    params, router, litellm = (
        f"Fields of `{name}`" for name in ("litellm_params", "router_settings", "litellm_settings")
    )
    assert table(params) == modelentries._HONOURED
    assert paragraph(params, "ignore them:") == modelentries._OPTIONS
    assert paragraph(params, "says otherwise:") == modelentries._DEFAULTS
    assert paragraph(params, "without effect here:**") == modelentries._IGNORED
    assert table(router) == modelrouting._ROUTER
    assert paragraph(router, "without effect here:**") == modelrouting._ROUTER_IGNORED
    assert paragraph(litellm, "**Honoured:**") == modelrouting._LITELLM
    assert paragraph("Other sections", "without effect here:**") == modelfile._TOP_IGNORED
    assert quoted(CONFIG) >= modelfile._TOP


def test_every_provider_is_documented_as_it_is() -> None:
    table = {name: row for row in rows(CONFIG) if len(row) == 5 for name in quoted(row[0])}
    assert table.keys() == providers.KNOWN.keys()
    for name, provider in providers.KNOWN.items():
        _, found_by, way, own, other = table[name]
        assert way == ("relayed" if provider.relayed else "translated"), name
        assert set(provider.key_env) <= quoted(found_by), name
        assert quoted(own) - {"OLLAMA_HOST"} == ({provider.base_url} if provider.base_url else set()), name
        assert set(provider.base_env) == quoted(other), name


def test_other_names_of_providers_are_documented() -> None:
    assert providers.ALIASES.keys() <= quoted(CONFIG)


def test_the_examples_of_model_files_can_be_read(folder: Path) -> None:
    whole = [
        text
        for page in PAGES
        for text in blocks(page.read_text(), "yaml")
        if isinstance(yaml.safe_load(text), dict) and "model_list" in yaml.safe_load(text)
    ]
    assert len(whole) >= 4
    for text in whole:
        path = folder / "config.yaml"
        path.write_text(text)
        environment = dict.fromkeys(re.findall(r"os\.environ/(\w+)", text), "x")
        assert modelfile.read(str(path), text.encode(), environment).warnings == []


def test_the_readmes_curl_line_gives_the_answer_that_it_shows(folder: Path) -> None:
    curl = next(text for text in blocks(README, "sh") if text.startswith("curl"))
    with program.running(folder) as gateway:
        answer = json.loads(run("sh", "-s", script=as_meant(curl, gateway)))
    shown = json.loads(blocks(README, "json")[0])
    assert shown.keys() == answer.keys()
    assert shown | {"id": "", "created": 0} == answer | {"id": "", "created": 0}


def test_the_readmes_example_streams(folder: Path) -> None:
    (example,) = blocks(README, "python")
    with program.running(folder) as gateway:
        said = run(sys.executable, "-", script=as_meant(example, gateway))
    assert said == "This is Stile's echo, not a language model. You said: Hello"


def test_the_readmes_banner_is_the_programs(folder: Path) -> None:
    shown = next(text for text in blocks(README, "text") if text.startswith("Stile"))
    with program.running(folder) as gateway:
        banner = gateway.out.read_text().replace(gateway.base, "http://127.0.0.1:4000").splitlines()
    for line in shown.splitlines():
        start = line.split("…")[0]
        assert any(real.startswith(start) for real in banner), start


def as_meant(text: str, gateway: Program) -> str:
    """An example with this gateway's address and key in it."""
    assert "http://127.0.0.1:4000" in text
    assert "YOUR_KEY" in text
    return text.replace("http://127.0.0.1:4000", gateway.base).replace("YOUR_KEY", gateway.key)


def run(*command: str, script: str) -> str:
    """What the script prints; it goes in by standard input, so that no failure shows the key as an argument."""
    ended = subprocess.run(command, input=script, capture_output=True, text=True, timeout=program.WAIT, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
