"""Forms as other programs write and read them: whatever clients send is taken, and whoever reads a form that went on
sees the one model that this gateway put there."""

import asyncio
import email.parser
import email.policy
import io
import itertools
from collections.abc import Callable

import aiohttp
import httpx
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.formparser import FormDataParser
from werkzeug.http import parse_options_header

from stile.core import form as forms
from stile.errors import BadRequest

KIND = "multipart/form-data; boundary=L"
SOUND = bytes(range(256)) + b"\r\n--\r\n--other\n"
NAMES = ["a.wav", 'with "quotes".wav', "back\\slash.wav", "möwe 😀.wav", "semi;colon=x.wav", "name=.wav", "a\r\nb.wav"]
MODEL = b'Content-Disposition: form-data; name="model"'
FILE = b'Content-Disposition: form-data; name="file"; filename="a"'

Sent = tuple[bytes, str]


def part(head: bytes, content: bytes) -> bytes:
    return b"--L\r\n%b\r\n\r\n%b\r\n" % (head, content)


def by_werkzeug(data: bytes, kind: str) -> list[str]:
    """The models that Flask's reader finds, files of that name among them."""
    mime, options = parse_options_header(kind)
    _, texts, files = FormDataParser().parse(io.BytesIO(data), mime, len(data), options)
    found = [*texts.getlist("model"), *(file.read().decode() for file in files.getlist("model"))]
    for file in itertools.chain.from_iterable(files.listvalues()):
        file.close()
    return found


def by_email(data: bytes, kind: str) -> list[str]:
    """The same by the standard library's reader of MIME."""
    head = f"Content-Type: {kind}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + data)
    found = []
    for found_part in message.iter_parts():
        content = found_part.get_payload(decode=True)
        if found_part.get_param("name", header="content-disposition") == "model" and isinstance(content, bytes):
            found.append(content.decode())
    return found


def by_httpx(file_name: str) -> Sent:
    made = httpx.Request("POST", "http://x", data={"model": "before"}, files={"file": (file_name, SOUND, "audio/wav")})
    return made.read(), made.headers["content-type"]


def by_requests(file_name: str) -> Sent:
    fields = {"data": {"model": "before"}, "files": {"file": (file_name, SOUND, "audio/wav")}}
    made = requests.Request("POST", "http://x", **fields).prepare()  # type: ignore[arg-type]
    assert isinstance(made.body, bytes)
    return made.body, str(made.headers["content-type"])


def by_aiohttp(file_name: str) -> Sent:
    async def write() -> Sent:
        form = aiohttp.FormData()
        form.add_field("file", SOUND, filename=file_name, content_type="audio/wav")
        form.add_field("model", "before")
        payload = form()
        assert isinstance(payload, aiohttp.MultipartWriter)
        return await payload.as_bytes(), payload.headers["content-type"]

    return asyncio.run(write())


def by_curl(file_name: str) -> Sent:
    """As curl 7.88 writes it (`curl -F model=before -F file=@…`): it escapes quotes and line ends as browsers do."""
    line = "------------------------7zJ0yBCJ3OlFWCKtfjCcxc"
    shown = file_name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A").encode()
    head = b'Content-Disposition: form-data; name="file"; filename="%b"\r\nContent-Type: audio/wav' % shown
    parts = [part(MODEL, b"before"), part(head, SOUND)]
    return (b"".join(parts) + b"--L--\r\n").replace(b"--L", f"--{line}".encode()), (
        f"multipart/form-data; boundary={line}"
    )


CLIENTS: list[Callable[[str], Sent]] = [by_httpx, by_requests, by_aiohttp, by_curl]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("file_name", NAMES)
def test_what_clients_send_is_taken_whatever_a_file_is_called(client: Callable[[str], Sent], file_name: str) -> None:
    if client is by_aiohttp and "\r" in file_name:
        with pytest.raises(ValueError, match=r"newline|CR|control"):
            client(file_name)
        return
    sent, kind = client(file_name)
    form = forms.read(sent, kind)
    changed = form.with_text("model", "after")
    assert form.text("model") == "before"
    assert changed == sent.replace(b"before", b"after")
    assert by_werkzeug(changed, kind) == by_email(changed, kind) == ["after"]


@given(st.text(max_size=40).filter(bool), st.binary(max_size=100))
def test_no_name_of_a_file_makes_a_second_field(file_name: str, content: bytes) -> None:
    made = httpx.Request("POST", "http://x", data={"model": "before"}, files={"file": (file_name, content)})
    sent, kind = made.read(), made.headers["content-type"]
    changed = forms.read(sent, kind).with_text("model", "after")
    assert by_werkzeug(changed, kind) == ["after"]


HEADS = {
    "another parameter's name ends in name": b'Content-Disposition: form-data; x-name="junk"; name="model"',
    "two names": b'Content-Disposition: form-data; name="junk"; name="model"',
    "a name within a value": b'Content-Disposition: form-data; a=" name="; name="model"',
    "a name without quotes": b'Content-Disposition: form-data; name=model; x-name="junk"',
    "a name in extended form": b"Content-Disposition: form-data; name=\"junk\"; name*=utf-8''model",
    "another header's name ends so": b'X-Content-Disposition: form-data; name="junk"\r\n'
    b"Content-Disposition: form-data; name=model",
    "a header within a value": b'X: content-disposition: form-data; name="junk"\r\n'
    b"Content-Disposition: form-data; name=model",
    "an escape in the name": b'Content-Disposition: form-data; name="mod\\el"',
    "a line that ends in LF alone": b'Content-Disposition: form-data; name=model\nX: ; name="junk"',
    "space before the colon": b'X-Content-Disposition: form-data; name="junk"\r\n'
    b'Content-Disposition : form-data; name="model"',
    "a header that goes on in the next line": b'X-Content-Disposition: form-data; name="junk"\r\n'
    b'Content-Disposition: form-data;\r\n name="model"',
}
TWO = part(MODEL, b"cheap") + part(FILE, b"\r\n--B\r\n%b\r\n\r\nevil\r\n--B--\r\n" % MODEL) + b"--L--\r\n"
LONG = "L" * 71
TRICKS: dict[str, Sent] = {
    **{why: (part(head, b"evil") + part(MODEL, b"cheap") + b"--L--\r\n", KIND) for why, head in HEADS.items()},
    **{
        f"the content type is {kind}": (TWO, f"multipart/form-data; {kind}")
        for kind in (
            "xboundary=L; boundary=B",
            'x="boundary=L"; boundary=B',
            "boundary=L; boundary=B",
            "boundary=L; boundary*=utf-8''B",
            'x="\\"; boundary=L; y="; boundary=B',
        )
    },
    "a boundary that is too long": (
        TWO.replace(b"\r\n--B", b"\n--" + LONG.encode())
        .replace(b"--L\r\n", b"--" + LONG[:70].encode() + b"\r\n")
        .replace(b"--L--", b"--" + LONG[:70].encode() + b"--"),
        f"multipart/form-data; boundary={LONG}",
    ),
    **{
        f"a line behind {end!r} alone": (
            part(MODEL, b"cheap") + part(FILE, b"sound%b--L%b%b%b%bevil" % (end, end, MODEL, end, end)) + b"--L--\r\n",
            KIND,
        )
        for end in (b"\n", b"\r")
    },
    "a file that is none": (
        part(b'Content-Disposition: form-data; name="model"; x-filename="a"', b"evil") + b"--L--\r\n",
        KIND,
    ),
    "a file called model": (
        part(b'Content-Disposition: form-data; name="model"; filename="a"', b"evil") + b"--L--\r\n",
        KIND,
    ),
}


@pytest.mark.parametrize("why", TRICKS)
def test_a_form_that_others_could_read_as_another_models_is_refused(why: str) -> None:
    data, kind = TRICKS[why]
    with pytest.raises(BadRequest) as refused:
        forms.read(data, kind).text("model")
    assert refused.value.code == ("invalid_type" if why == "a file called model" else "invalid_form")
