"""Whatever goes wrong is told in one line, with what to do next, by its exit code, and without a traceback."""

import contextlib
import http.server
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.conftest import Place
from tests.cli.terminal import Said, Terminal, python
from tests.program import KEY, WAIT


class _Answer(http.server.BaseHTTPRequestHandler):
    """`status`, `kind` and `body` are the server's."""

    def do_GET(self) -> None:
        status, kind, body = self.server.answer  # type: ignore[attr-defined]
        self.send_response(status)
        self.send_header("content-type", kind)
        if status == 302:
            self.send_header("location", "https://elsewhere.example.com/")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 (its name in the library)
        """Nothing: the tests look at the client."""


@contextlib.contextmanager
def answering(status: int, kind: str, body: bytes, tls: Path | None = None) -> Iterator[str]:
    """A web server that is no gateway."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answer)
    server.answer = (status, kind, body)  # type: ignore[attr-defined]
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def failed(said: Said, code: int, *words: str) -> None:
    assert said.code == code, said.err
    assert said.out == ""
    assert said.err.count("\n") == 1, said.err
    assert said.err.startswith("stile: ")
    for word in words:
        assert word in said.err


def at(home: Path, url: str) -> Terminal:
    return Terminal(home, {"STILE_URL": url, "STILE_API_KEY": "sk-stile-none"})


@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [
        (200, "text/html", b"<html>Welcome</html>"),
        (500, "text/html", b"<html>Oh no</html>"),
        (404, "application/json", b'{"message": "Not Found"}'),
        (302, "text/html", b""),
        (200, "application/json", b"[]"),
    ],
)
def test_what_is_no_gateway(status: int, kind: str, body: bytes, tmp_path: Path) -> None:
    with answering(status, kind, body) as url:
        failed(at(tmp_path, url).run("whoami"), 7, url)


def test_nobody_is_there(tmp_path: Path) -> None:
    failed(at(tmp_path, "http://127.0.0.1:9").run("whoami"), 6, "127.0.0.1:9", "Check the URL")
    failed(at(tmp_path, "https://nobody.invalid").run("whoami"), 6, "nobody.invalid")


def test_a_certificate_that_is_not_trusted_until_it_is_named(tmp_path: Path) -> None:
    pem = tmp_path / "self.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    key = ["-newkey", "rsa:2048", "-nodes", "-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")]
    subprocess.run(["openssl", "req", "-x509", *key, *subject], check=True, capture_output=True)
    pem.write_text((tmp_path / "key.pem").read_text() + (tmp_path / "cert.pem").read_text())
    with answering(200, "text/html", b"", pem) as url:
        person = at(tmp_path, url)
        failed(person.run("whoami"), 6, "certificate", "SSL_CERT_FILE")
        person.env["SSL_CERT_FILE"] = str(tmp_path / "cert.pem")
        failed(person.run("whoami"), 7)


def test_a_key_that_is_not_taken(place: Place, tmp_path: Path) -> None:
    failed(at(tmp_path, place.gateway.base).run("whoami"), 3, "stile login")


@pytest.mark.parametrize("text", ["not [toml", "default = 1", "[default]\nurl = 5"])
def test_a_broken_file_of_profiles_stays_as_it_is(text: str, tmp_path: Path) -> None:
    person = Terminal(tmp_path)
    person.profiles().parent.mkdir(parents=True)
    person.profiles().write_text(text)
    failed(person.run("whoami"), 2, "profiles.toml")
    assert person.profiles().read_text() == text


@pytest.mark.parametrize(
    "url", ["ftp://x", "https://", "https://u:p@host", "https://host:99999", "https://h?x=1", "http://[::1"]
)
def test_what_is_no_url(url: str, tmp_path: Path) -> None:
    failed(Terminal(tmp_path).run("login", url, stdin="sk-stile-x"), 2)


def test_values_that_the_gateway_refuses(admin: Terminal) -> None:
    failed(admin.run("keys", "create", "--name", "x", "--expires", "soon"), 2, "expires_at")
    failed(admin.run("users", "create", "nobody"), 2, "email")
    failed(admin.run("users", "show", "x"), 2, "neither an id nor an email")
    failed(admin.run("keys", "show", "no such name"), 4)
    failed(admin.run("chat", "Hello", "-m", "nope"), 4, "nope")


def test_what_cannot_stand_in_a_header(admin: Terminal) -> None:
    failed(admin.run("mcp", "call", "größer"), 4, "größer")
    failed(Terminal(admin.home, {**admin.env, "STILE_API_KEY": "sk-stile-schlüssel"}).run("whoami"), 3, "Copy it")


def test_a_proxy_that_is_none(admin: Terminal) -> None:
    failed(Terminal(admin.home, {**admin.env, "HTTP_PROXY": "ftp://proxy"}).run("whoami"), 2, "HTTP_PROXY")


def test_a_new_text_is_seen_though_the_profile_cannot_be_written(admin: Terminal, tmp_path: Path) -> None:
    made = admin.record("keys", "create", "--name", "turned")
    person = Terminal(tmp_path / "home")
    person.home.mkdir()
    person.ok("login", admin.env["STILE_URL"], stdin=made["key"])
    full = ["sh", "-c", 'ulimit -f 0; exec "$@"', "sh"]  # as on a disk without room
    rotate = [python(), "-m", "stile_cli", "keys", "rotate", "turned", "--yes"]
    said = subprocess.run(
        [*full, *rotate], env=person.environment, capture_output=True, text=True, timeout=WAIT, check=False
    )
    assert said.returncode == 1
    assert "cannot be written" in said.stderr
    assert KEY.fullmatch(said.stdout.strip())
    assert person.record("whoami")["key"]["id"] == made["id"], "the profile is as it was"
    assert [file.name for file in person.profiles().parent.iterdir()] == ["profiles.toml"]
    admin.ok("keys", "delete", "turned", "--yes")


def test_no_gateway_is_known(tmp_path: Path) -> None:
    failed(Terminal(tmp_path).run("whoami"), 2, "stile login URL")
