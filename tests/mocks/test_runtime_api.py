"""The emulator of the Runtime API itself: a double that lets mistakes pass would make every test above it worthless."""

import base64
import http.client
import json
import socket
import threading
from collections.abc import Iterator

import pytest
from tests.mocks import runtime_api, runtime_invocation
from tests.mocks.runtime_api import RuntimeApi

PATH = "/2018-06-01/runtime"
FAILURE = b'{"errorMessage":"no","errorType":"Broken","stackTrace":[]}'
PRELUDE = b'{"statusCode":200,"headers":{}}' + b"\0" * 8
STREAM = (
    "Lambda-Runtime-Function-Response-Mode: streaming\r\nTransfer-Encoding: chunked\r\n"
    "Content-Type: application/vnd.awslambda.http-integration-response\r\n"
)
TRAILER = "Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\n"


class Runtime:
    """A runtime that sends exactly what it is told, right or wrong."""

    def __init__(self, api: RuntimeApi) -> None:
        host, port = api.address.split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=30)
        self.id = ""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def begin(self, method: str, path: str, headers: str = "") -> None:
        self.send(f"{method} {PATH}{path} HTTP/1.1\r\nHost: lambda\r\n{headers}\r\n".encode())

    def ask(self, method: str, path: str, body: bytes = b"", headers: str = "") -> int:
        length = f"Content-Length: {len(body)}\r\n" if method == "POST" else ""
        self.begin(method, path, headers + length)
        self.send(body)
        return self.status()

    def status(self) -> int:
        response = http.client.HTTPResponse(self.socket)
        response.begin()
        self.id = response.headers.get("Lambda-Runtime-Aws-Request-Id", self.id)
        response.read()
        return response.status

    def next(self) -> None:
        assert self.ask("GET", "/invocation/next") == 200

    def stream(self, *chunks: bytes, headers: str = "", trailers: bytes = b"") -> int:
        self.begin("POST", f"/invocation/{self.id}/response", STREAM + headers)
        for piece in chunks:
            self.send(chunk(piece))
        self.send(b"0\r\n" + trailers + b"\r\n")
        return self.status()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@pytest.fixture
def api() -> Iterator[RuntimeApi]:
    with runtime_api.running() as running:
        yield running


@pytest.fixture
def runtime(api: RuntimeApi) -> Iterator[Runtime]:
    runtime = Runtime(api)
    with runtime.socket:
        yield runtime


def expect(api: RuntimeApi, violation: str) -> None:
    """This and nothing else was written down; with that it is settled."""
    found = api.violations.copy()
    api.violations.clear()
    assert len(found) == 1, found
    assert violation in found[0]


def test_chunks_arrive_while_the_answer_is_under_way(api: RuntimeApi, runtime: Runtime) -> None:
    invocation = api.invoke({})
    runtime.next()
    runtime.begin("POST", f"/invocation/{runtime.id}/response", STREAM)
    runtime.send(chunk(PRELUDE[:20]))
    runtime.send(chunk(PRELUDE[20:] + b"one"))
    assert invocation.head().status == 200
    assert invocation.next_chunk() == b"one"
    runtime.send(chunk(b"two"))
    assert invocation.next_chunk() == b"two"
    assert not invocation.answered
    runtime.send(b"0\r\n\r\n")
    assert invocation.next_chunk() is None
    assert (invocation.body(), invocation.broken_off(), runtime.status()) == (b"onetwo", None, 202)


def test_trailers_tell_of_a_failure(api: RuntimeApi, runtime: Runtime) -> None:
    invocation = api.invoke({})
    runtime.next()
    lines = b"Lambda-Runtime-Function-Error-Type: Broken\r\nLambda-Runtime-Function-Error-Body: %b\r\n"
    assert runtime.stream(PRELUDE, headers=TRAILER, trailers=lines % base64.b64encode(FAILURE)) == 202
    failure = invocation.broken_off()
    assert failure is not None
    assert (failure.kind, failure.message) == ("Broken", "no")


def test_trailers_that_nobody_announced_are_a_violation(api: RuntimeApi, runtime: Runtime) -> None:
    api.invoke({})
    runtime.next()
    lines = b"Lambda-Runtime-Function-Error-Type: Broken\r\nLambda-Runtime-Function-Error-Body: %b\r\n"
    runtime.stream(PRELUDE, trailers=lines % base64.b64encode(FAILURE))
    expect(api, "does not announce")


@pytest.mark.parametrize(
    ("chunks", "violation"),
    [
        ([b'{"statusCode":200,"headers":{"x":["1"]}}' + b"\0" * 8], "headers is {'x': ['1']}"),
        ([b'{"statusCode":200,"multiValueHeaders":{"x":"1"}}' + b"\0" * 8], "multiValueHeaders is"),
        ([b'{"statusCode":"200"}' + b"\0" * 8], "statusCode is '200'"),
        ([b'{"status":200,"statusCode":200}' + b"\0" * 8], "status, which nobody knows"),
        ([b"200" + b"\0" * 8], "no JSON object"),
        ([b'{"statusCode":200}' + b"\0" * 7], "before its prelude did"),
        ([b'{"statusCode":200,"headers":{"x":"%b"}}' % (b"x" * 16_340) + b"\0" * 8], "within the first 16384"),
    ],
)
def test_a_wrong_prelude_is_a_violation(api: RuntimeApi, runtime: Runtime, chunks: list[bytes], violation: str) -> None:
    api.invoke({})
    runtime.next()
    assert runtime.stream(*chunks) == 202
    expect(api, violation)


def test_an_answer_after_its_deadline_is_a_violation(api: RuntimeApi, runtime: Runtime) -> None:
    invocation = api.invoke({}, deadline_seconds=-1)
    runtime.next()
    runtime.stream(PRELUDE)
    assert invocation.seconds_left() < -1
    expect(api, "late")


@pytest.mark.parametrize(("given", "echoed"), [("one", None), ("one", "two"), (None, "one")])
def test_an_invocation_id_that_is_not_echoed_is_a_violation(
    api: RuntimeApi, runtime: Runtime, given: str | None, echoed: str | None
) -> None:
    api.invoke({}, invocation_id=given)
    runtime.next()
    runtime.stream(PRELUDE, headers=f"Lambda-Runtime-Invocation-Id: {echoed}\r\n" if echoed else "")
    expect(api, f"Lambda-Runtime-Invocation-Id is not {given}")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/invocation/unknown/response", 400),
        ("POST", "/invocation/unknown/error", 400),
        ("POST", "/invocation/ANSWERED/response", 403),
        ("POST", "/invocation/ANSWERED/error", 403),
        ("POST", "/init/error", 403),
        ("POST", "/restore/error", 403),
        ("GET", "/restore/next", 403),
        ("GET", "/nothing", 404),
        ("GET", "/init/error", 404),
    ],
)
def test_what_comes_at_the_wrong_time_is_refused(
    api: RuntimeApi, runtime: Runtime, method: str, path: str, status: int
) -> None:
    api.invoke({})
    runtime.next()
    assert runtime.ask("POST", f"/invocation/{runtime.id}/response", b"{}") == 202
    assert runtime.ask(method, path.replace("ANSWERED", runtime.id), FAILURE if method == "POST" else b"") == status
    expect(api, path.replace("ANSWERED", runtime.id))


def test_a_failure_is_refused_when_the_answer_has_begun(api: RuntimeApi, runtime: Runtime) -> None:
    invocation = api.invoke({})
    runtime.next()
    runtime.begin("POST", f"/invocation/{runtime.id}/response", STREAM)
    runtime.send(chunk(PRELUDE))
    assert invocation.head()
    other = Runtime(api)
    with other.socket:
        assert other.ask("POST", f"/invocation/{runtime.id}/error", FAILURE) == 403
        expect(api, "/error: refused")
        assert other.ask("GET", "/invocation/next") == 403
        expect(api, "/next: refused")
    runtime.send(b"0\r\n\r\n")
    assert runtime.status() == 202


def test_an_answer_in_one_piece_may_have_six_megabytes(api: RuntimeApi, runtime: Runtime) -> None:
    invocation = api.invoke({})
    runtime.next()
    assert runtime.ask("POST", f"/invocation/{runtime.id}/response", b" " * (6 * 1024 * 1024 + 101)) == 413
    assert invocation.error().kind == "Function.ResponseSizeTooLarge"


def test_a_failure_without_its_fields_is_a_violation(api: RuntimeApi, runtime: Runtime) -> None:
    assert runtime.ask("POST", "/init/error", b'{"errorType":"Broken"}') == 202
    assert api.init_error().kind == "Broken"
    expect(api, "a failure needs errorType, errorMessage")


@pytest.mark.parametrize(
    ("sent", "violation"),
    [
        (b"GET / HTTP/1.0\r\nHost: x\r\n\r\n", "request line"),
        (b"GET / HTTP/1.1\nHost: x\n\n", "CR LF"),
        (b"GET / HTTP/1.1\r\n\r\n", "no Host"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n", "a body where none belongs"),
        (b"POST / HTTP/1.1\r\nHost: x\r\n\r\n", "a body needs"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "a body needs"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", "Transfer-Encoding: gzip"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", "Content-Length: -1"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", "comes twice"),
        (b"POST / HTTP/1.1\r\nHost : x\r\n\r\n", "no header field"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n", "longer than it says"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", "no chunk size"),
    ],
)
def test_what_is_no_http_is_a_violation(api: RuntimeApi, runtime: Runtime, sent: bytes, violation: str) -> None:
    runtime.send(sent)
    assert runtime.socket.recv(1) == b""
    expect(api, violation)


def test_an_answer_that_breaks_off_is_a_violation(api: RuntimeApi, runtime: Runtime) -> None:
    invocation = api.invoke({})
    runtime.next()
    runtime.begin("POST", f"/invocation/{runtime.id}/response", STREAM)
    runtime.send(b"5\r\nab")
    runtime.socket.shutdown(socket.SHUT_WR)
    assert runtime.socket.recv(1) == b""
    expect(api, "3 bytes too early")
    assert invocation.error().kind == "Emulator.BrokenOff"


def test_an_answer_whose_connection_is_cut_is_over_and_the_runtime_may_go_on(api: RuntimeApi, runtime: Runtime) -> None:
    invocation = api.invoke({})
    runtime.next()
    runtime.begin("POST", f"/invocation/{runtime.id}/response", STREAM)
    runtime.send(chunk(PRELUDE))
    assert invocation.head()
    api.drop_connections()
    assert invocation.error().kind == "Emulator.BrokenOff"
    api.invoke({})
    again = Runtime(api)
    with again.socket:
        again.next()
        again.stream(PRELUDE)


def test_an_invocation_waits_for_the_runtime_that_comes_after_one_that_hung_up(api: RuntimeApi) -> None:
    first, second = Runtime(api), Runtime(api)
    first.begin("GET", "/invocation/next")
    api.waiting()
    first.socket.close()
    invocation = api.invoke({})
    with second.socket:
        second.next()
        assert second.id == invocation.id
        second.stream(PRELUDE)


def test_a_snapshot_stands_before_the_first_invocation() -> None:
    with runtime_api.running(snap_start=True) as api:
        runtime = Runtime(api)
        with runtime.socket:
            assert runtime.ask("GET", "/invocation/next") == 403
            expect(api, "not in phase init")
            runtime.begin("GET", "/restore/next")
            api.restore()
            assert runtime.status() == 200
            api.invoke({})
            runtime.next()
            runtime.stream(PRELUDE)


def test_a_wait_ends_soon_when_the_process_has_ended(api: RuntimeApi) -> None:
    api.follow(lambda: "the process had ended with 7: oh")
    with pytest.raises(AssertionError, match="ended with 7"):
        api.waiting()


def test_a_wait_ends_when_nothing_comes(api: RuntimeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_invocation, "WAIT", 0.1)
    api.violations.append("something went wrong")
    with pytest.raises(AssertionError, match=r"did not come in 0\.1 s\nviolation: something"):
        api.invoke({}).body()
    api.violations.clear()


def test_a_test_fails_when_something_was_written_down() -> None:
    def with_a_mistake() -> None:
        with runtime_api.running() as api:
            runtime = Runtime(api)
            with runtime.socket:
                runtime.ask("POST", "/invocation/unknown/response", b"{}")

    with pytest.raises(AssertionError, match="no such invocation"):
        with_a_mistake()


def test_nobody_answers_when_it_has_vanished(api: RuntimeApi, runtime: Runtime) -> None:
    runtime.begin("GET", "/invocation/next")
    api.waiting()
    api.vanish()
    assert runtime.socket.recv(1) == b""


def test_no_thread_outlives_it() -> None:
    before = threading.active_count()
    with runtime_api.running() as api:
        runtime = Runtime(api)
        runtime.begin("GET", "/invocation/next")
        api.waiting()
    runtime.socket.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("slowly", [False, True])
def test_an_event_arrives_whole_whatever_its_way(
    api: RuntimeApi, runtime: Runtime, chunked: bool, slowly: bool
) -> None:
    event = {"text": "ü" * 5_000}
    api.invoke(event, chunked=chunked, slowly=slowly)
    runtime.begin("GET", "/invocation/next")
    response = http.client.HTTPResponse(runtime.socket)
    response.begin()
    assert json.loads(response.read()) == event
    assert (response.headers.get("Content-Length") is None) == chunked
    runtime.id = response.headers["Lambda-Runtime-Aws-Request-Id"]
    runtime.stream(PRELUDE)
