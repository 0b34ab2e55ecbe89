"""The official conformance suite, against the gateway as it is served, and against the same program with the suite's
own tools in place of the gateway's; the table of all runs stands in doc/mcp.md.

`STILE_WRITE_TABLE=1` writes it there anew.
"""

import os
import re
import tempfile
from pathlib import Path

import pytest
from tests import program
from tests.e2e.mcp import suite
from tests.e2e.mcp.suite import EXPECTED, NEED_ITS_OWN, REVISIONS, Result

PAGE = Path(__file__).parents[2] / "doc" / "mcp.md"
SUBJECT = Path(__file__).parent / "mcp" / "subject.py"
PLACE = re.compile(r"(?<=\n## Conformance\n)(.*?)\n(\| scenario .*?\n- \(own\)[^\n]*\n)", re.DOTALL)


@pytest.fixture(scope="module")
def results(output: Path) -> dict[tuple[str, str], Result]:
    found = {}
    for subject, app in (("suite", SUBJECT), ("served", program.APP)):
        with program.launched(app, Path(tempfile.mkdtemp(dir=output))) as gateway:
            for revision in REVISIONS:
                found[revision, subject] = suite.run(gateway, revision)
    return found


@pytest.mark.parametrize("revision", REVISIONS)
def test_what_the_suite_can_ask_of_the_gateway_is_as_it_wants_it(
    results: dict[tuple[str, str], Result], revision: str
) -> None:
    result = results[revision, "suite"]
    assert suite.failing(result) == EXPECTED.keys() & result.keys()


@pytest.mark.parametrize("revision", REVISIONS)
def test_the_gateway_as_served_fails_only_where_its_tools_are_not_the_suites(
    results: dict[tuple[str, str], Result], revision: str
) -> None:
    result = results[revision, "served"]
    assert suite.failing(result) == (EXPECTED.keys() | NEED_ITS_OWN) & result.keys()


def test_the_table_in_the_document_is_what_was_seen(results: dict[tuple[str, str], Result]) -> None:
    page, seen = PAGE.read_text(), suite.table(results)
    place = PLACE.search(page)
    assert place is not None, "doc/mcp.md has no table below '## Conformance'"
    if os.environ.get("STILE_WRITE_TABLE"):
        PAGE.write_text(page[: place.start(2)] + seen + page[place.end(2) :])
        return
    assert place[2] == seen, "the runs differ from doc/mcp.md; STILE_WRITE_TABLE=1 writes the table anew"
