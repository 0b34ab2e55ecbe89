"""Lambda's Runtime API on a socket, for one runtime process: it shows what AWS's own emulator does not.

AWS's Runtime Interface Emulator hands a streamed answer over in one piece and never looks at it. Here every chunk
reaches the test when it comes, invocation ids and trailers are checked, and the process can live through a snapshot or
lose its connection. What a runtime may not do is answered as AWS answers it, and written down: the test in which it
happened fails.

Protocol: "Using the Lambda runtime API for custom runtimes" in Lambda's developer guide. What is answered in a wrong
state was seen in AWS's emulator (github.com/aws/aws-lambda-runtime-interface-emulator).
"""

import contextlib
import json
import re
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator

from tests.mocks.runtime_http import Connection, Malformed, Request
from tests.mocks.runtime_invocation import ERROR_BODY, ERROR_TYPE, Failure, Invocation, Watch, read_failure

FUNCTION_ARN = "arn:aws:lambda:eu-central-1:123456789012:function:gateway"
STREAMED = "application/vnd.awslambda.http-integration-response"
WHOLE_BYTES = 6 * 1024 * 1024 + 100

_MODE = "lambda-runtime-function-response-mode"
_INVOCATION_ID = "lambda-runtime-invocation-id"
_ACCEPTED = (202, b'{"status":"OK"}\n')
_PATH = re.compile(
    r"/2018-06-01/runtime/"
    r"(?:(invocation/next|init/error|restore/next|restore/error)|invocation/([^/]+)/(response|error))"
)


class _Refused(Exception):
    """What the runtime asks for is against the protocol."""

    def __init__(self, status: int, kind: str, why: str) -> None:
        super().__init__(why)
        self.status = status
        self.kind = kind


class RuntimeApi:
    """The platform's side. `address` is what AWS_LAMBDA_RUNTIME_API says. Methods that wait fail after a while."""

    def __init__(self, address: str, *, snap_start: bool) -> None:
        self.address = address
        self.snap_start = snap_start
        self._watch = Watch()
        self._connections: set[Connection] = set()
        self._gone = False
        self._phase = "init"
        self._asking: Connection | None = None
        self._queue: deque[Invocation] = deque()
        self._current: Invocation | None = None
        self._known: set[str] = set()
        self._init_error: Failure | None = None
        self._restore_error: Failure | None = None

    @property
    def violations(self) -> list[str]:
        """What the runtime did wrong so far."""
        return self._watch.violations

    def follow(self, ended: Callable[[], str | None]) -> None:
        """Let waits end early when the process has: `ended` answers how, or None while it lives."""
        self._watch.ended = ended

    def invoke(
        self,
        event: object,
        *,
        deadline_seconds: float = 60,
        invocation_id: str | None = None,
        chunked: bool = False,
        slowly: bool = False,
    ) -> Invocation:
        """Give the runtime an event: as JSON, or bytes as they are; with a length or in chunks; at once or slowly."""
        data = event if isinstance(event, bytes) else json.dumps(event).encode()
        invocation = Invocation(
            self._watch, data, seconds=deadline_seconds, invocation_id=invocation_id, chunked=chunked, slowly=slowly
        )
        with self._watch.changed:
            self._known.add(invocation.id)
            self._queue.append(invocation)
            self._watch.changed.notify_all()
        return invocation

    def waiting(self) -> None:
        """Wait until the runtime has nothing to do and asks for the next invocation."""
        self._watch.wait(lambda: not self._queue and self._listens(), "the runtime to ask for the next invocation")

    def restoring(self) -> None:
        """Wait until the runtime says that a snapshot may be taken."""
        self._watch.wait(lambda: self._phase == "snapshot", "the runtime to ask for restore/next")

    def restore(self) -> None:
        """Let the runtime go on after the snapshot."""
        self.restoring()
        with self._watch.changed:
            self._phase = "restored"
            self._watch.changed.notify_all()

    def init_error(self) -> Failure:
        """The failure that the runtime reported of its start."""
        return self._watch.wait(lambda: self._init_error, "a report to init/error")

    def restore_error(self) -> Failure:
        """The failure that the runtime reported of its restore."""
        return self._watch.wait(lambda: self._restore_error, "a report to restore/error")

    def drop_connections(self) -> None:
        """Close all connections, as happens to idle ones while a process is frozen; new ones are welcome."""
        with self._watch.changed:
            for connection in self._connections:
                connection.close()
            self._watch.changed.notify_all()

    def vanish(self) -> None:
        """Be gone: connections are closed, and new ones get nowhere."""
        self._gone = True
        self.drop_connections()

    def serve(self, listener: socket.socket) -> None:
        """Accept connections until `vanish`; each is served on a thread of its own."""
        listener.settimeout(0.05)
        threads = []
        with listener:
            while not self._gone:
                with contextlib.suppress(TimeoutError):
                    threads.append(self._begin(listener.accept()[0]))
        self.drop_connections()
        for thread in threads:
            thread.join()

    def _begin(self, accepted: socket.socket) -> threading.Thread:
        connection = Connection(accepted)
        with self._watch.changed:
            self._connections.add(connection)
        thread = threading.Thread(target=self._serve_one, args=(connection,))
        thread.start()
        return thread

    def _serve_one(self, connection: Connection) -> None:
        try:
            while (request := connection.request()) is not None:
                self._exchange(connection, request)
        except Malformed as fault:
            if not connection.closed:
                self._watch.violation(str(fault))
        except OSError:
            pass  # reset by the runtime's end: if something is missing now, a wait will tell
        finally:
            with self._watch.changed:
                self._connections.discard(connection)
                connection.close()
                connection.release()

    def _exchange(self, connection: Connection, request: Request) -> None:
        match = _PATH.fullmatch(request.path)
        what = (match[1] or match[3]) if match else ""
        if match is None or request.method != ("GET" if what.endswith("next") else "POST"):
            if request.method == "POST":
                connection.body(request)
            self._complain(request, "there is nothing")
            connection.answer(404, b"404 page not found\n")
            return
        try:
            if what == "invocation/next":
                self._next(connection)
            elif what == "restore/next":
                self._restore_next(connection)
            elif match[2]:
                self._answer(connection, request, match[2], what)
            else:
                self._report(connection, request, what)
        except _Refused as refused:
            self._complain(request, f"refused with {refused.status}, {refused}")
            connection.answer(refused.status, _error(refused.kind, str(refused)))

    def _next(self, connection: Connection) -> None:
        with self._watch.changed:
            if self._phase not in ("ready", "restored" if self.snap_start else "init"):
                raise _Refused(403, "InvalidStateTransition", f"not in phase {self._phase}")
            if self._current is not None or self._listens():
                raise _Refused(403, "InvalidStateTransition", "the last one is not answered")
            self._phase, self._asking = "ready", connection
            self._watch.changed.notify_all()
            self._watch.changed.wait_for(lambda: self._queue or connection.closed or self._asking is not connection)
            if self._asking is not connection or not self._listens():
                connection.close()
                return
            self._asking = None
            invocation = self._current = self._queue.popleft()
            invocation.on_taken()
        headers = {
            "Lambda-Runtime-Aws-Request-Id": invocation.id,
            "Lambda-Runtime-Deadline-Ms": str(int(invocation.deadline * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": FUNCTION_ARN,
            "Lambda-Runtime-Trace-Id": invocation.trace_id,
        }
        if invocation.invocation_id is not None:
            headers["Lambda-Runtime-Invocation-Id"] = invocation.invocation_id
        connection.answer(200, invocation.event, headers, chunked=invocation.chunked, slowly=invocation.slowly)

    def _listens(self) -> bool:
        """Whether somebody waits for an invocation; one who has hung up meanwhile does not."""
        early = self._asking.early() if self._asking is not None else None
        if early:
            self._watch.violation(f"something came before the last request was answered: {early!r}")
        if early is not None:
            self._asking = None
        return self._asking is not None

    def _restore_next(self, connection: Connection) -> None:
        with self._watch.changed:
            if not self.snap_start or self._phase != "init":
                raise _Refused(403, "InvalidStateTransition", "no snapshot is to be taken")
            self._phase = "snapshot"
            self._watch.changed.notify_all()
            self._watch.changed.wait_for(lambda: self._phase != "snapshot" or connection.closed)
        connection.answer(200, b"")

    def _report(self, connection: Connection, request: Request, what: str) -> None:
        failure = self._read_failure(connection, request)
        with self._watch.changed:
            if self._phase != ("init" if what == "init/error" else "restored"):
                raise _Refused(403, "InvalidStateTransition", f"not in phase {self._phase}")
            self._phase = "failed"
            if what == "init/error":
                self._init_error = failure
            else:
                self._restore_error = failure
            self._watch.changed.notify_all()
        connection.answer(*_ACCEPTED)

    def _answer(self, connection: Connection, request: Request, invocation: str, what: str) -> None:
        """The answer to an invocation, or the failure in its place."""
        mode = "error" if what == "error" else request.headers.get(_MODE, "buffered")
        try:
            current = self._claim(invocation, mode)
        except _Refused:
            connection.body(request)
            raise
        if request.headers.get(_INVOCATION_ID) != current.invocation_id:
            self._complain(request, f"Lambda-Runtime-Invocation-Id is not {current.invocation_id}")
        try:
            answer = self._take(connection, request, current)
        except (Malformed, OSError):
            self._current = None
            current.on_error(Failure("Emulator.BrokenOff", "the answer broke off"))
            raise
        self._current = None
        connection.answer(*answer)

    def _claim(self, invocation: str, mode: str) -> Invocation:
        """The invocation that is under way, from now on answered by this request and no other."""
        with self._watch.changed:
            current = self._current
            if current is None or current.id != invocation or current.mode is not None:
                if invocation in self._known:
                    raise _Refused(403, "InvalidStateTransition", "it is answered, or about to be")
                raise _Refused(400, "InvalidRequestID", "there is no such invocation")
            if mode not in ("error", "buffered", "streaming"):
                raise _Refused(400, "InvalidFunctionResponseMode", f"the response mode is {mode}")
            current.on_begin(mode)
            return current

    def _take(self, connection: Connection, request: Request, invocation: Invocation) -> tuple[int, bytes]:
        if invocation.mode == "error":
            invocation.on_error(self._read_failure(connection, request))
        elif invocation.mode == "streaming":
            self._stream(connection, request, invocation)
        else:
            return self._whole(connection, request, invocation)
        return _ACCEPTED

    def _whole(self, connection: Connection, request: Request, invocation: Invocation) -> tuple[int, bytes]:
        body = connection.body(request)
        if len(body) > WHOLE_BYTES:
            message = f"Exceeded maximum allowed payload size ({WHOLE_BYTES} bytes)."
            invocation.on_error(Failure("Function.ResponseSizeTooLarge", message))
            return 413, _error("RequestEntityTooLarge", message)
        invocation.on_chunk(body)
        invocation.on_end(connection.trailers)
        return _ACCEPTED

    def _stream(self, connection: Connection, request: Request, invocation: Invocation) -> None:
        headers = request.headers
        if not request.chunked:
            self._complain(request, "a streamed answer without Transfer-Encoding: chunked")
        if headers.get("content-type") != STREAMED:
            self._complain(request, f"a streamed answer of type {headers.get('content-type')}")
        announced = {name.strip().lower() for name in headers.get("trailer", "").split(",") if name.strip()}
        if not announced <= {ERROR_BODY, ERROR_TYPE}:
            self._complain(request, f"Trailer: {headers['trailer']}")
        for chunk in connection.chunks(request):
            invocation.on_chunk(chunk)
        if not connection.trailers.keys() <= announced:
            self._complain(request, f"trailers that Trailer does not announce: {', '.join(connection.trailers)}")
        invocation.on_end(connection.trailers)

    def _read_failure(self, connection: Connection, request: Request) -> Failure:
        return read_failure(connection.body(request), lambda text: self._complain(request, text))

    def _complain(self, request: Request, text: str) -> None:
        self._watch.violation(f"{request.method} {request.path}: {text}")


@contextlib.contextmanager
def running(*, snap_start: bool = False) -> Iterator[RuntimeApi]:
    """A Runtime API until the block ends, which fails if the runtime did anything that it may not do."""
    listener = socket.create_server(("127.0.0.1", 0))
    api = RuntimeApi(f"127.0.0.1:{listener.getsockname()[1]}", snap_start=snap_start)
    thread = threading.Thread(target=api.serve, args=(listener,))
    thread.start()
    try:
        yield api
    except BaseException as failure:
        for violation in api.violations:
            failure.add_note(f"violation of the Runtime API: {violation}")
        raise
    finally:
        api.vanish()
        thread.join()
    assert not api.violations, "violations of the Runtime API:\n" + "\n".join(api.violations)


def _error(kind: str, message: str) -> bytes:
    return json.dumps({"errorMessage": message, "errorType": kind}).encode() + b"\n"
