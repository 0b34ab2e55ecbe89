"""A multipart form (RFC 7578) as a model call: its texts are read, its files pass untouched.

Nothing is decoded or written anew: a changed field is cut out and put in at its place, so that every other byte, and
every field that nobody here knows, goes on as it came.
"""

import re

import msgspec

from stile.errors import BadRequest

MAX_PARTS = 200
_BOUNDARY = re.compile(r'multipart/form-data\s*;.*?boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)
_NAME = re.compile(rb'content-disposition:\s*form-data\s*;[^\r\n]*?\bname="([^"\r\n]*)"', re.IGNORECASE)
_FILE = re.compile(rb"content-disposition:[^\r\n]*\bfilename\*?=", re.IGNORECASE)
_END_OF_HEAD = b"\r\n\r\n"


class Form(msgspec.Struct, frozen=True):
    """A form: its bytes, its content type as it was sent, the line between its parts, and where in the bytes the text
    of each field stands."""

    body: bytes
    content_type: bytes
    line: bytes
    texts: dict[str, tuple[int, int]]

    def text(self, name: str) -> str | None:
        """A field's text; None where there is no such field. Raises BadRequest when it is not UTF-8."""
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
    """The form. Raises BadRequest for what is none, for a field that stands there twice, and beyond MAX_PARTS parts."""
    found = _BOUNDARY.match(content_type.strip())
    if found is None:
        raise _malformed("its content type must be multipart/form-data with a boundary")
    line = b"--" + (found[1] or found[2]).encode("latin-1")
    texts: dict[str, tuple[int, int]] = {}
    files: set[str] = set()
    for start, end in _parts(body, line):
        head_end = body.find(_END_OF_HEAD, start, end)
        names = _NAME.findall(body, start, head_end) if head_end >= 0 else []
        if len(names) != 1:
            raise _malformed("each part of it must have one name")
        name = names[0].decode("utf-8", "replace")
        if _FILE.search(body, start, head_end):
            files.add(name)
        elif name in texts and not name.endswith("[]"):
            raise _malformed(f"'{name}' stands in it twice")
        else:
            texts[name] = (head_end + len(_END_OF_HEAD), end)
    if twice := files & texts.keys():
        raise _malformed(f"'{min(twice)}' stands in it twice")
    return Form(body, content_type.encode("latin-1"), line, texts)


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
