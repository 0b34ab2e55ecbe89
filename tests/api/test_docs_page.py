"""The page /docs: all of the document is on it, and nothing of it can get out of the text."""

import re
import shlex
from html.parser import HTMLParser
from typing import Any

import pytest
from tests.program import Program

from stile.api import docs_page

METHODS = ("get", "post", "patch", "delete")
NASTY = "<script>alert(1)</script>\"'&`<b>`"


class Read(HTMLParser):
    """A page as a browser sees it: tags with their attributes, and the text of each article."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.articles: dict[str, str] = {}
        self.examples: dict[str, str] = {}
        self._article = ""
        self._example = False
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "article":
            self._article = dict(attrs)["id"] or ""
        self._example = tag == "pre"

    def handle_endtag(self, tag: str) -> None:
        if tag == "article":
            self._article = ""

    def handle_data(self, data: str) -> None:
        texts = self.examples if self._example else self.articles
        texts[self._article] = texts.get(self._article, "") + data

    def values(self, name: str) -> list[str]:
        """Every value of one attribute."""
        return [value for _, attributes in self.tags if (value := attributes.get(name)) is not None]


def document(**schemas: Any) -> dict[str, Any]:
    """A document of two paths. `schemas` come beside or instead of its own."""
    thing = {
        "title": "Thing",
        "description": "A thing.\n\n    With a second `paragraph`.",
        "type": "object",
        "properties": {
            "label": {"type": "string", "minLength": 1, "maxLength": 9, "description": "What it is called"},
            "size": {"anyOf": [{"enum": ["big", "small"]}, {"type": "null"}], "default": "small"},
            "part": {"anyOf": [{"$ref": "#/components/schemas/Part"}, {"type": "null"}]},
        },
        "required": ["label"],
    }
    part = {
        "title": "Part",
        "type": "object",
        "properties": {"weights": {"type": "array", "maxItems": 3, "items": {"type": "integer", "minimum": 0}}},
    }
    things = {
        "type": "object",
        "properties": {"data": {"type": "array", "items": {"$ref": "#/components/schemas/Thing"}}},
    }
    error = {"type": "object", "properties": {"message": {"type": "string"}}}
    body = {"schema": {"$ref": "#/components/schemas/Thing"}, "example": {"label": "it's", "size": "big"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Things", "version": "1.2.3", "description": "First.\n\nThen `this`."},
        "servers": [{"url": "."}],
        "tags": [{"name": "Making"}, {"name": "Looking"}],
        "security": [{"key": []}],
        "paths": {
            "/things": {
                "post": {
                    "operationId": "makeThing",
                    "summary": "Make a thing",
                    "description": "For `makers`.",
                    "tags": ["Making"],
                    "security": [],
                    "requestBody": {"content": {"application/json": body}},
                    "responses": {"201": answer("Made", "Thing"), "422": answer("A wrong value", "Error")},
                },
                "get": {
                    "operationId": "listThings",
                    "summary": "List things",
                    "tags": ["Looking"],
                    "parameters": [
                        {
                            "name": "limit",
                            "in": "query",
                            "description": "How many",
                            "schema": {"type": "integer", "maximum": 60},
                        }
                    ],
                    "responses": {"200": answer("Done", "Things")},
                },
            },
            "/things/{id}": {
                "delete": {
                    "operationId": "deleteThing",
                    "summary": "Forget a thing",
                    "tags": ["Making"],
                    "parameters": [
                        {
                            "name": "id",
                            "in": "path",
                            "required": True,
                            "description": "Which",
                            "schema": {"type": "string"},
                        }
                    ],
                    "responses": {
                        "204": {"description": "Gone"},
                        "401": answer("Who are you?", "Error"),
                        "404": answer("None", "Error"),
                    },
                }
            },
        },
        "components": {"schemas": {"Thing": thing, "Part": part, "Things": things, "Error": error, **schemas}},
    }


def answer(description: str, name: str) -> dict[str, Any]:
    return {
        "description": description,
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}},
    }


def read(said: dict[str, Any]) -> Read:
    return Read(docs_page.page(said))


def everywhere(said: Any, text: str) -> Any:
    """The document with `text` behind every word of it: values, and the names of paths, statuses and fields."""
    named = re.compile(r"/.*|\d+|label|size|part|weights|data|message")
    if isinstance(said, dict):
        return {
            name + text if named.fullmatch(name) else name: value if name == "$ref" else everywhere(value, text)
            for name, value in said.items()
        }
    if isinstance(said, list):
        return [everywhere(each, text) for each in said]
    return said + text if isinstance(said, str) else said


def test_every_operation_is_there_and_in_the_contents() -> None:
    page = read(document())
    begins = {name: re.split("Body|Parameters", text)[0] for name, text in page.articles.items() if name}
    assert begins == {
        "makeThing": "Make a thingPOST/thingsFor makers.",
        "deleteThing": "Forget a thingDELETE/things/{id}",
        "listThings": "List thingsGET/things",
    }
    assert {"#makeThing", "#deleteThing", "#listThings"} <= set(page.values("href"))


def test_links_lead_to_places_of_the_page_that_are_there_once() -> None:
    page = read(document())
    places = page.values("id")
    assert len(places) == len(set(places))
    assert {link for link in page.values("href") if not link.startswith("#")} == {"openapi.json"}
    assert {link[1:] for link in page.values("href") if link.startswith("#")} <= set(places)
    assert set(page.values("aria-labelledby")) <= set(places)


def test_nothing_is_loaded_from_elsewhere() -> None:
    page = docs_page.page(document())
    tags = {tag for tag, _ in Read(page).tags}
    assert tags.isdisjoint({"script", "link", "img", "iframe", "object", "embed", "form", "base", "video", "svg"})
    assert Read(page).values("src") == []
    style = page.decode().split("<style>")[1].split("</style>")[0]
    assert not re.search(r"url\(|@import|//", style)


def test_what_the_document_says_cannot_become_part_of_the_page() -> None:
    plain, nasty = document(), everywhere(document(), NASTY)
    assert read(nasty).articles.keys() == {name and name + NASTY for name in read(plain).articles}
    assert {tag for tag, _ in read(nasty).tags} == {tag for tag, _ in read(plain).tags}
    assert {name for _, attributes in read(nasty).tags for name in attributes} == {
        name for _, attributes in read(plain).tags for name in attributes
    }
    assert b"<script" not in docs_page.page(nasty)
    assert b"&lt;script&gt;" in docs_page.page(nasty)


def test_paragraphs_and_code_of_texts_are_shown_as_such() -> None:
    page = docs_page.page(document()).decode()
    assert "<p>First.</p><p>Then <code>this</code>.</p>" in page
    assert "<p>A thing.</p><p>With a second <code>paragraph</code>.</p>" in page


@pytest.mark.parametrize(
    "row",
    [
        "<dt><code>label</code> <i>string</i> <strong>required</strong></dt>"
        "<dd>What it is called; at least 1 and at most 9 characters</dd>",
        "<dt><code>size</code> <i><code>big</code> | <code>small</code> or null</i></dt>"
        "<dd>default <code>small</code></dd>",
        "<dt><code>part</code> <i>object or null</i></dt>",
        "<dt><code>part.weights</code> <i>list of integer</i></dt><dd>at most 3 entries; each at least 0</dd>",
        "<dt><code>data[].part.weights</code> <i>list of integer</i></dt>",
        "<dt><code>limit</code> <i>integer in the query</i></dt><dd>How many; at most 60</dd>",
        "<dt><code>id</code> <i>string in the path</i> <strong>required</strong></dt><dd>Which</dd>",
    ],
)
def test_fields_are_shown_with_what_they_take(row: str) -> None:
    assert row in docs_page.page(document()).decode()


def test_what_is_always_in_an_answer_is_not_called_required() -> None:
    answered = docs_page.page(document()).decode().split("Fields of 201")[1].split("</details>")[0]
    assert "<code>label</code> <i>string</i></dt>" in answered


def test_each_status_is_told_and_the_same_fields_only_once() -> None:
    page = read(document())
    assert page.articles["deleteThing"].split("Answers")[1] == (
        "204 Gone401 Who are you?404 NoneFields of 401, 404message string"
    )


def test_a_schema_within_itself_comes_to_an_end() -> None:
    tree = {
        "title": "Thing",
        "type": "object",
        "properties": {"twigs": {"type": "array", "items": {"$ref": "#/components/schemas/Thing"}}},
    }
    page = docs_page.page(document(Thing=tree)).decode()
    assert "<code>twigs</code> <i>list of object</i>" in page
    assert "twigs[].twigs" not in page


def test_the_examples_are_lines_that_a_shell_understands() -> None:
    examples = {name: shlex.split(text.replace("\\\n", "")) for name, text in read(document()).examples.items()}
    assert examples == {
        "makeThing": [
            *("curl", "YOUR_GATEWAY/things", "-H", "Content-Type: application/json"),
            *("-d", '{"label": "it\'s", "size": "big"}'),
        ],
        "listThings": ["curl", "YOUR_GATEWAY/things", "-H", "Authorization: Bearer YOUR_KEY"],
        "deleteThing": [
            *("curl", "-X", "DELETE", "YOUR_GATEWAY/things/ID", "-H", "Authorization: Bearer YOUR_KEY"),
        ],
    }


def test_texts_can_be_read_on_light_and_on_dark() -> None:
    """WCAG's contrast for text, level AA."""
    style = docs_page.page(document()).decode().split("<style>")[1]
    schemes = [dict(re.findall(r"--(\w+):#(\w+)", root)) for root in re.findall(r":root\{([^}]*)\}", style)]
    assert len(schemes) == 2
    for colours in schemes:
        for back in (colours["back"], colours["box"]):
            assert min(contrast(colours[name], back) for name in ("text", "soft", "link")) >= 4.5
    badges = re.findall(r"(?<=\{background:#)\w{6}", style)
    assert len(badges) == len(METHODS)
    assert min(contrast("fff", badge) for badge in badges) >= 4.5


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    full = colour if len(colour) == 6 else "".join(digit * 2 for digit in colour)
    parts = [int(full[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_the_gateway_serves_the_page_of_its_own_document_to_everybody(gateway: Program) -> None:
    served = gateway.ask("GET", "/docs", key=None)
    assert (served.status, served.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert served.headers["content-security-policy"].startswith("default-src 'none'; style-src 'unsafe-inline'")
    said = gateway.ask("GET", "/openapi.json", key=None).json
    page = Read(served.body)
    operations = [item[method] for item in said["paths"].values() for method in METHODS if method in item]
    assert {each["operationId"] for each in operations} == {name for name in page.articles if name}
    for each in operations:
        assert each["summary"].replace("`", "") in page.articles[each["operationId"]]
