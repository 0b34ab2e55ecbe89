"""Forms: read as they are, changed at one place, refused when two readers could see different things in them."""

import email.parser
import email.policy
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stile.core import form as forms
from stile.errors import BadRequest

LINE = "form-data-7MA4YWxkTrZu0gW"
KIND = f"multipart/form-data; boundary={LINE}"
FILE = b'Content-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav'


def text(name: str) -> bytes:
    return b'Content-Disposition: form-data; name="%b"' % name.encode()


def body(*parts: tuple[bytes, bytes], line: str = LINE) -> bytes:
    made = b"".join(b"--%b\r\n%b\r\n\r\n%b\r\n" % (line.encode(), head, content) for head, content in parts)
    return made + b"--%b--\r\n" % line.encode()


def by_standard_library(data: bytes, kind: str) -> list[tuple[Any, bool, Any]]:
    """Each part's name, whether it is a file, and its bytes, as Python's own parser of MIME reads them."""
    head = f"Content-Type: {kind}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + data)
    return [
        (
            part.get_param("name", header="content-disposition"),
            part.get_filename() is not None,
            part.get_payload(decode=True),
        )
        for part in message.iter_parts()
    ]


@given(
    st.dictionaries(st.from_regex(r"[a-z_]{1,12}(\[\])?", fullmatch=True), st.text(max_size=30), max_size=5),
    st.binary(max_size=300),
    st.text(alphabet="abcdefghij-0123456789", min_size=1, max_size=30),
)
def test_what_httpx_sends_is_read_and_only_the_model_changes(
    fields: dict[str, str], content: bytes, model: str
) -> None:
    request = httpx.Request(
        "POST", "http://x", data={"model": "before", **fields}, files={"file": ("a.wav", content, "audio/wav")}
    )
    sent, kind = request.read(), request.headers["content-type"]
    form = forms.read(sent, kind)
    for name, value in fields.items():
        assert form.text(name) == value
    changed = form.with_text("model", model)
    again = forms.read(changed, kind)
    assert again.text("model") == model
    assert again.texts.keys() == form.texts.keys()
    start, end = form.texts["model"]
    assert changed == sent[:start] + model.encode() + sent[end:]


def test_the_standard_library_reads_the_same_of_a_changed_form() -> None:
    data = body((text("model"), b"before"), (FILE, b"\0\r\n--not-the-line\r\n\xff"), (text("language"), b"en"))
    changed = forms.read(data, KIND).with_text("model", "after")
    assert [(name, is_file) for name, is_file, _ in by_standard_library(changed, KIND)] == [
        ("model", False),
        ("file", True),
        ("language", False),
    ]
    assert by_standard_library(changed, KIND)[0][2] == b"after"


def test_a_form_without_a_model_gets_one() -> None:
    data = body((FILE, b"sound"))
    again = forms.read(forms.read(data, KIND).with_text("model", "m"), KIND)
    assert (again.text("model"), again.text("nothing")) == ("m", None)


def test_a_boundary_may_be_quoted_and_the_field_may_come_last() -> None:
    data = body((FILE, b"sound"), (text("model"), b"m"))
    assert forms.read(data, f'Multipart/Form-Data; charset=utf-8; boundary="{LINE}"').text("model") == "m"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"preamble\r\n" + body((text("model"), b"m")),
        body((text("model"), b"m"))[:-20],
        body((text("model"), b"m")).replace(b"--\r\n", b""),
        body((text("model"), b"one"), (text("model"), b"two")),
        body((text("model"), b"one"), (FILE.replace(b'"file"', b'"model"'), b"two")),
        body((text("model") + b"\r\n" + text("other"), b"m")),
        body((b"Content-Type: text/plain", b"m")),
        body((b"Content-Disposition: form-data; name=model", b"m")),
        *(
            body((b"Content-Disposition: form-data; " + odd, b"m"))
            for odd in (
                b'x-name="junk"; name="model"',
                b'name="junk"; name="model"',
                b"name=\"junk\"; name*=utf-8''model",
                b'a=" name="; name="model"',
                b'name=model; x-name="junk"',
                b'name="mod\\el"',
                b'name="model"; x-filename="a"',
                b'name="model";\r\n filename="a"',
            )
        ),
        body((b'X-Content-Disposition: form-data; name="a"\r\nContent-Disposition: form-data; name=model', b"m")),
        body((FILE, b'sound\n--%b\nContent-Disposition: form-data; name="model"\n\nm' % LINE.encode())),
        body((FILE, b"--%b" % LINE.encode())),
        body((b'Content-Disposition: attachment; name="model"', b"m")),
        body((b"X: y\n" + text("model"), b"m")).replace(b"\r\n\r\n", b"\n\n"),
        body(*[(text(f"f{n}"), b"") for n in range(forms.MAX_PARTS + 1)]),
    ],
    ids=range(24),
)
def test_what_is_no_form_or_could_be_read_in_two_ways_is_refused(data: bytes) -> None:
    with pytest.raises(BadRequest) as refused:
        forms.read(data, KIND)
    assert refused.value.code == "invalid_form"


@pytest.mark.parametrize(
    "kind",
    [
        "",
        "application/json",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        f"multipart/form-data; xboundary={LINE}",
        f"multipart/form-data; boundary={LINE}; boundary=other",
        f'multipart/form-data; x="boundary={LINE}"; boundary=other',
        f"multipart/form-data; boundary={LINE}; boundary*=utf-8''other",
        f"multipart/form-data; boundary={LINE}{'x' * 60}",
    ],
)
def test_another_content_type_is_refused(kind: str) -> None:
    with pytest.raises(BadRequest):
        forms.read(body((text("model"), b"m")), kind)


def test_a_file_is_no_text() -> None:
    form = forms.read(body((FILE.replace(b'"file"', b'"model"'), b"m")), KIND)
    with pytest.raises(BadRequest, match="must be a text"):
        form.text("model")


@pytest.mark.parametrize(
    "head",
    [
        b'content-disposition:form-data;name="model"',
        b'Content-Disposition: form-data; name="model"\r\nContent-Type: text/plain; charset=utf-8',
        b'Content-Type: text/plain\r\nCONTENT-DISPOSITION: form-data; name="model"',
    ],
)
def test_plain_heads_are_read(head: bytes) -> None:
    assert forms.read(body((head, b"m")), KIND).text("model") == "m"


@pytest.mark.parametrize(
    "head",
    [
        b'Content-Disposition: form-data; name="f"; filename="a \\"b\\".wav"',
        b'Content-Disposition: form-data; name="f"; filename="a"; filename*=utf-8\'\'a%20b',
        b'Content-Disposition: form-data; filename="a"; name="f"',
    ],
)
def test_files_are_known_by_their_names(head: bytes) -> None:
    assert forms.read(body((head, b"sound")), KIND).files == {"f"}


def test_text_that_is_not_utf_8_is_refused_by_name() -> None:
    with pytest.raises(BadRequest, match="model"):
        forms.read(body((text("model"), b"\xff")), KIND).text("model")


@given(st.binary(max_size=200), st.integers(0, 300))
def test_bytes_that_were_tampered_with_are_read_as_a_form_or_refused(noise: bytes, place: int) -> None:
    whole = body((text("model"), b"m"), (FILE, b"sound"))
    data = whole[:place] + noise + whole[place:]
    try:
        form = forms.read(data, KIND)
    except BadRequest:
        return
    again = forms.read(form.with_text("model", "other"), KIND)
    assert again.texts.keys() | {"model"} == form.texts.keys() | {"model"}
