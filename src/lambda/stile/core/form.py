"""A multipart form (RFC 7578) as a model call: its texts are read, its files pass untouched.

Nothing is decoded or written anew: a changed field is cut out and put in at its place, so that every other byte, and
every field that nobody here knows, goes on as it came. Whoever reads the form behind the gateway must see the same
fields in it. So it is held to what all readers read alike, and anything else is refused: one boundary, which stands
nowhere but between parts; one disposition a part, in the plain form; no field twice.
"""

import re

import msgspec

from stile.errors import BadRequest

MAX_PARTS = 200

_WORD = r"[!#$%&'+.^_`|~0-9A-Za-z-]+"
_PARAMETER = rf'\s*;\s*({_WORD})=(?:({_WORD})|"([^"\\]*)")'
_CONTENT_TYPE = re.compile(rf"multipart/form-data(?:{_PARAMETER})*\s*;?\s*", re.IGNORECASE)
_PARAMETERS = re.compile(_PARAMETER)
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")  # RFC 2046, section 5.1.1
_IS_DISPOSITION = re.compile(rb"content-disposition[ \t]*:", re.IGNORECASE)
# Names are plain; browsers and curl escape quotes in the names of files.
_FIELD = rb';[ \t]*(?:name="[^"\\]*"|filename="(?:[^"\\]|\\.)*"|filename\*=[^\s;"]+)'
_DISPOSITION = re.compile(rb"content-disposition:[ \t]*form-data(?P<fields>(?:%b)*)" % _FIELD, re.IGNORECASE)
_FIELDS = re.compile(rb';[ \t]*(name|filename\*?)=(?:"([^"\\]*)"|"(?:[^"\\]|\\.)*"|[^\s;"]+)', re.IGNORECASE)
_END_OF_HEAD = b"\r\n\r\n"


class Form(msgspec.Struct, frozen=True):
    """A form: its bytes, its content type as it was sent, the line between its parts, where in the bytes the text of
    each field stands, and the names of its files."""

    body: bytes
    content_type: bytes
    line: bytes
    texts: dict[str, tuple[int, int]]
    files: frozenset[str]

    def text(self, name: str) -> str | None:
        """A field's text; None where there is no such field. Raises BadRequest when it is a file, or not UTF-8."""
        if name in self.files:
            raise BadRequest(f"'{name}' must be a text, not a file.", code="invalid_type", param=name)
        place = self.texts.get(name)
        if place is None:
            return None
        try:
            return self.body[slice(*place)].decode()
        except UnicodeDecodeError:
            raise BadRequest(f"'{name}' is not UTF-8.", code="invalid_value", param=name) from None

    def with_text(self, name: str, value: str) -> bytes:
        """The form's bytes with another value of a field, or with one that it does not have."""
        if name not in self.texts:
            head = b'%b\r\nContent-Disposition: form-data; name="%b"' % (self.line, name.encode())
            return b"".join((head, _END_OF_HEAD, value.encode(), b"\r\n", self.body))
        start, end = self.texts[name]
        return b"".join((self.body[:start], value.encode(), self.body[end:]))


def read(body: bytes, content_type: str) -> Form:
    """The form. Raises BadRequest for what is none, or could be read in two ways, and beyond MAX_PARTS parts."""
    line = b"--" + _boundary(content_type).encode("latin-1")
    texts: dict[str, tuple[int, int]] = {}
    files: set[str] = set()
    parts = _parts(body, line)
    if body.count(line) != len(parts) + 1:
        raise _malformed("its boundary stands inside a part of it")
    for start, end in parts:
        head_end = body.find(_END_OF_HEAD, start, end)
        if head_end < 0:
            raise _malformed("a part of it has no head")
        name, is_file = _disposition(body[start + len(b"\r\n") : head_end])
        if is_file:
            files.add(name)
        elif name in texts and not name.endswith("[]"):
            raise _malformed(f"'{name}' stands in it twice")
        else:
            texts[name] = (head_end + len(_END_OF_HEAD), end)
    if twice := files & texts.keys():
        raise _malformed(f"'{min(twice)}' stands in it twice")
    return Form(body, content_type.encode("latin-1"), line, texts, frozenset(files))


def _boundary(content_type: str) -> str:
    kind = content_type.strip()
    found = [match.groups() for match in _PARAMETERS.finditer(kind)] if _CONTENT_TYPE.fullmatch(kind) else []
    boundaries = [token or quoted for name, token, quoted in found if name.lower() == "boundary"]
    if len(boundaries) != 1 or not _BOUNDARY.fullmatch(boundaries[0] or ""):
        raise _malformed("its content type must be multipart/form-data with one boundary")
    return boundaries[0]


def _disposition(head: bytes) -> tuple[str, bool]:
    """A part's name, and whether it is a file."""
    lines = head.split(b"\r\n")
    found = [line for line in lines if _IS_DISPOSITION.match(line)]
    if len(found) != 1 or any(mark in line for line in lines for mark in (b"\r", b"\n", b"\0")) or _is_folded(lines):
        raise _malformed("each part of it must have one plain content-disposition")
    said = _DISPOSITION.fullmatch(found[0].rstrip(b" \t"))
    fields = [(name.lower(), text) for name, text in _FIELDS.findall(said["fields"])] if said else []
    names = [text for name, text in fields if name == b"name"]
    if len(names) != 1 or len({name for name, _ in fields}) != len(fields):
        raise _malformed("each part of it must have one plain name")
    return names[0].decode("utf-8", "replace"), len(fields) > 1


def _is_folded(lines: list[bytes]) -> bool:
    """Whether a line goes on in the next one, which not all readers know."""
    return any(line[:1] in (b" ", b"\t") for line in lines)


def _parts(body: bytes, line: bytes) -> list[tuple[int, int]]:
    """Where each part begins and ends, its head included."""
    if not body.startswith(line + b"\r\n"):
        raise _malformed("it does not begin with its boundary")
    parts = []
    start = len(line)
    while not body.startswith(b"--", start):
        end = body.find(b"\r\n" + line, start)
        if end < 0 or not body.startswith(b"\r\n", start):
            raise _malformed("it is cut off")
        parts.append((start, end))
        if len(parts) > MAX_PARTS:
            raise _malformed(f"it has more than {MAX_PARTS} parts")
        start = end + len(line) + len(b"\r\n")
    return parts


def _malformed(why: str) -> BadRequest:
    return BadRequest(f"The body is not a form: {why}.", code="invalid_form")
