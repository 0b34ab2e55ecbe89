"""The OpenAPI document as a page for people: one file of HTML, without a script and without anything from elsewhere.

Whatever the document says is escaped here; its texts may have paragraphs, and code in backticks.
"""

import json
import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, NamedTuple

_Json = Mapping[str, Any]
_METHODS = ("get", "post", "put", "patch", "delete")
_LIMITS = {"Length": " characters", "imum": "", "Items": " entries", "Properties": " fields"}  # minLength, maximum …
_STYLE = """
:root{color-scheme:light dark;--back:#fff;--box:#f4f6f8;--line:#d0d7de;--text:#1c2126;--soft:#56606b;--link:#0a58ab}
@media (prefers-color-scheme:dark){
:root{--back:#14171a;--box:#1f2429;--line:#3b444d;--text:#e6e9ec;--soft:#a3aeb9;--link:#7cb8ff}}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--text);font:1rem/1.55 system-ui,sans-serif;overflow-wrap:anywhere}
header,main,nav{margin:0 auto;max-width:54rem;padding:1.25rem}
h1{font-size:2rem;line-height:1.2;margin:0} h2{margin:2.5rem 0 1rem} section:first-child h2{margin-top:0}
h3{font-size:1.2rem;margin:0 0 .5rem} h4{font-size:.95rem;margin:1.25rem 0 .25rem}
a{color:var(--link)} nav a{text-decoration:none} nav a:hover,nav a:focus{text-decoration:underline}
nav ul{list-style:none;margin:.25rem 0 1.25rem;padding:0} nav li{margin:.3rem 0}
small,i,dd{color:var(--soft);font-style:normal;font-weight:400}
code,pre,b,.call{font:.875em/1.5 ui-monospace,Menlo,Consolas,monospace}
p code,dd code{background:var(--box);border-radius:.25rem;padding:.1em .3em}
pre{background:var(--box);border:1px solid var(--line);border-radius:.5rem;padding:.75rem 1rem;white-space:pre-wrap}
article{border:1px solid var(--line);border-radius:.75rem;margin:0 0 1.5rem;padding:1.25rem;scroll-margin-top:1rem}
article p{margin:.25rem 0} article .call{font-size:1rem;margin:0 0 .5rem}
dl{margin:.25rem 0} dl div{border-top:1px solid var(--line);padding:.4rem 0} dd{margin:0}
b{border-radius:.3rem;color:#fff;font-size:.75rem;font-weight:700;margin-right:.5rem;padding:.3em .6em}
.get{background:#0a58ab} .post{background:#1a7037} .put,.patch{background:#8a5200} .delete{background:#b3261e}
summary{cursor:pointer;padding:.2rem 0}
.skip{left:-99rem;position:absolute} .skip:focus{background:var(--back);left:0;padding:1rem}
@media (min-width:72rem){body{display:grid;grid-template:auto 1fr/19rem minmax(0,56rem)}
header,main{grid-column:2;margin:0}
nav{grid-area:1/1/3;height:100vh;margin:0;overflow-y:auto;position:sticky;top:0}}
"""


class _Operation(NamedTuple):
    method: str
    path: str
    said: _Json

    @property
    def anchor(self) -> str:
        return escape(self.said["operationId"])

    @property
    def body(self) -> _Json:
        content: _Json = self.said.get("requestBody", {}).get("content", {}).get("application/json", {})
        return content


class _Schemas:
    """Schemas in words; references are followed."""

    def __init__(self, document: _Json) -> None:
        self._named: _Json = document["components"]["schemas"]

    def choices(self, schema: _Json) -> list[_Json]:
        """What a value may be, one by one."""
        if "$ref" in schema:
            return self.choices(self._named[schema["$ref"].rpartition("/")[2]])
        within = schema.get("anyOf") or schema.get("oneOf")
        return [choice for each in within for choice in self.choices(each)] if within else [schema]

    def fields(self, schema: _Json, *, asked: bool, before: str = "", within: tuple[str, ...] = ()) -> Iterator[str]:
        """The fields of an object and of those in it, but of none in itself. `asked`: tell which must be there."""
        for choice in self.choices(schema):
            name = choice.get("title", "")
            if "items" in choice:
                inner = f"{before.removesuffix('.')}[]."
                yield from self.fields(choice["items"], asked=asked, before=inner, within=within)
            elif not name or name not in within:
                for field, kind in choice.get("properties", {}).items():
                    yield self.field(before + field, kind, required=asked and field in choice.get("required", ()))
                    yield from self.fields(kind, asked=asked, before=f"{before}{field}.", within=(*within, name))

    def field(self, name: str, schema: _Json, *, required: bool, where: str = "") -> str:
        """One field, as a row of a list."""
        must = " <strong>required</strong>" if required else ""
        notes = "; ".join(self._notes(schema))
        told = f"<dd>{notes}</dd>" if notes else ""
        return f"<div><dt><code>{escape(name)}</code> <i>{self._kind(schema)}{where}</i>{must}</dt>{told}</div>"

    def _kind(self, schema: _Json) -> str:
        return " or ".join(dict.fromkeys(self._kind_of(choice) for choice in self.choices(schema)))

    def _kind_of(self, schema: _Json) -> str:
        if "enum" in schema:
            return " | ".join(_code(value) for value in schema["enum"])
        if "items" in schema:
            return f"list of {self._kind(schema['items'])}"
        kind = schema.get("type", "anything")
        return escape(f"{kind} ({schema['format']})" if "format" in schema else kind)

    def _notes(self, schema: _Json) -> Iterator[str]:
        choices = [schema, *(each for each in self.choices(schema) if each is not schema)]
        inner = [each for choice in choices if "items" in choice for each in self.choices(choice["items"])]
        yield from (_text(choice["description"]) for choice in choices if "description" in choice)
        yield from (limit for choice in choices for limit in _limits(choice))
        yield from (f"each {limit}" for choice in inner for limit in _limits(choice))
        if schema.get("default") is not None:
            yield f"default {_code(schema['default'])}"


def page(document: _Json) -> bytes:
    """The whole page."""
    info, groups = document["info"], _groups(document)
    title = escape(info["title"])
    contents = "".join(_contents(tag, group) for tag, group in groups.items())
    sections = "".join(_section(tag, group, document) for tag, group in groups.items())
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title} API</title><style>{_STYLE}</style></head>
<body><a class="skip" href="#operations">Skip to the operations</a>
<header><h1>{title} API <small>{escape(info["version"])}</small></h1>{_paragraphs(info.get("description", ""))}
<p>In the examples <code>YOUR_GATEWAY</code> is this gateway’s address, as in <code>http://127.0.0.1:4000</code>.
For programs, all of this is in <a href="openapi.json">openapi.json</a>.</p></header>
<nav aria-label="Contents">{contents}</nav>
<main id="operations">{sections}</main></body></html>
""".encode()


def _groups(document: _Json) -> dict[str, list[_Operation]]:
    groups: dict[str, list[_Operation]] = {tag["name"]: [] for tag in document["tags"]}
    for path, item in document["paths"].items():
        for method in filter(item.__contains__, _METHODS):
            groups[item[method]["tags"][0]].append(_Operation(method, path, item[method]))
    return groups


def _contents(tag: str, group: list[_Operation]) -> str:
    links = (f'<li><a href="#{each.anchor}">{_text(each.said["summary"])}</a></li>' for each in group)
    return f"<strong>{escape(tag)}</strong><ul>{''.join(links)}</ul>"


def _section(tag: str, group: list[_Operation], document: _Json) -> str:
    schemas, name = _Schemas(document), escape(tag)
    articles = "\n".join(_article(each, document, schemas) for each in group)
    return f'<section aria-labelledby="tag-{name}"><h2 id="tag-{name}">{name}</h2>{articles}</section>'


def _article(operation: _Operation, document: _Json, schemas: _Schemas) -> str:
    method, path, said = operation
    anchor, example = operation.anchor, escape(_curl(operation, document))
    asked = "".join(schemas.fields(operation.body.get("schema", {}), asked=True))
    parameters = "".join(_parameter(each, schemas) for each in said.get("parameters", ()))
    return (
        f'<article id="{anchor}" aria-labelledby="{anchor}-name">'
        f'<h3 id="{anchor}-name">{_text(said["summary"])}</h3>'
        f'<p class="call"><b class="{method}">{method.upper()}</b>{escape(path)}</p>'
        f"{_paragraphs(said.get('description', ''))}"
        + (f"<h4>Parameters</h4><dl>{parameters}</dl>" if parameters else "")
        + (f"<h4>Body</h4>{_about(operation.body, schemas)}<dl>{asked}</dl>" if asked else "")
        + f"<h4>Example</h4><pre>{example}</pre><h4>Answers</h4>{_answers(operation, schemas)}"
        "</article>"
    )


def _parameter(said: _Json, schemas: _Schemas) -> str:
    schema = {"description": said["description"], **said["schema"]}
    where = f" in the {escape(said['in'])}"
    return schemas.field(said["name"], schema, required=said.get("required", False), where=where)


def _answers(operation: _Operation, schemas: _Schemas) -> str:
    """What each status means, then the fields of the answers: those of errors are the same for all."""
    rows, bodies = [], dict[str, tuple[_Json, list[str]]]()
    for status, answer in operation.said["responses"].items():
        rows.append(f"<div><dt><code>{escape(status)}</code> {_text(answer['description'])}</dt></div>")
        content = answer.get("content", {}).get("application/json", {})
        bodies.setdefault(json.dumps(content), (content, []))[1].append(status)
    return f"<dl>{''.join(rows)}</dl>" + "".join(
        f"<details><summary>Fields of {escape(', '.join(statuses))}</summary>{_about(content, schemas)}"
        f"<dl>{''.join(schemas.fields(content['schema'], asked=False))}</dl></details>"
        for content, statuses in bodies.values()
        if content
    )


def _about(content: _Json, schemas: _Schemas) -> str:
    choices = schemas.choices(content.get("schema", {}))
    return "".join(_paragraphs(choice.get("description", "")) for choice in choices)


def _curl(operation: _Operation, document: _Json) -> str:
    path = re.sub(r"{(\w+)}", lambda name: name[1].upper(), operation.path)
    example = operation.body.get("example")
    verb = "" if operation.method == ("get" if example is None else "post") else f" -X {operation.method.upper()}"
    parts = [f"curl{verb} YOUR_GATEWAY{path}"]
    if operation.said.get("security", document["security"]):
        parts.append("-H 'Authorization: Bearer YOUR_KEY'")
    if example is not None:
        parts.append("-H 'Content-Type: application/json'")
        parts.append("-d '{}'".format(json.dumps(example, ensure_ascii=False).replace("'", r"'\''")))
    return " \\\n  ".join(parts)


def _limits(schema: _Json) -> Iterator[str]:
    for of, unit in _LIMITS.items():
        least, most = schema.get(f"min{of}"), schema.get(f"max{of}")
        bounds = [f"{word} {bound}" for word, bound in (("at least", least), ("at most", most)) if bound is not None]
        if bounds:
            yield " and ".join(bounds) + unit
    if "pattern" in schema:
        yield _code(schema["pattern"])


def _code(value: object) -> str:
    return f"<code>{escape(value if isinstance(value, str) else json.dumps(value))}</code>"


def _text(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{_text(each)}</p>" for each in re.split(r"\n\s*\n\s*", text.strip()) if each)
