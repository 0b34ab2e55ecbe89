"""Cognito on a socket, as strict as the real one where moto is lenient, and with trouble on demand.

It stands in front of moto's server and hands everything on, signatures and all. What real Cognito refuses is refused
here with its own errors (cognito_rules.py); what moto keeps and Cognito would not (blank values) is taken out. A test
counts the calls, and has them throttled, failed, dropped, held, or put into an order of its own.
"""

import contextlib
import http.client
import json
import re
import secrets
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import yaml
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from tests.mocks import aws, cognito_rules
from tests.mocks.aws import REGION, Aws
from tests.mocks.cognito_rules import Pool, Refused

TEMPLATE = Path(__file__).parent.parent.parent / "template.yaml"
OPERATIONS = (
    "AdminCreateUser",
    "AdminDeleteUser",
    "AdminDisableUser",
    "AdminEnableUser",
    "AdminGetUser",
    "AdminUpdateUserAttributes",
    "CreateGroup",
    "DescribeUserPool",
    "GetGroup",
    "ListUsers",
)
TURN_SECONDS = 5  # the longest that a request waits for its turn in an order
HELD_SECONDS = 30  # the longest that a request is held, and that a test waits for it to come
_TARGET = "AWSCognitoIdentityProviderService."
_KEY = re.compile(r"Credential=([^/]+)/")

Answer = tuple[int, dict[str, str], bytes]


class Asked(NamedTuple):
    """One request: what for, for whom (a Username, or a list's Filter), and whose access key signed it."""

    operation: str
    user: str
    key: str


class Gate:
    """Where calls are held until a test lets them go."""

    def __init__(self) -> None:
        self._reached, self._opened = threading.Event(), threading.Event()

    def reached(self) -> None:
        """Wait until a call is held here."""
        assert self._reached.wait(HELD_SECONDS), f"waited {HELD_SECONDS} s for a call to hold"

    def open(self) -> None:
        self._opened.set()

    def hold(self) -> None:
        self._reached.set()
        self._opened.wait(HELD_SECONDS)


@dataclass
class Trouble:
    """What happens to the next calls of one operation. `applied`: not before it is handed on."""

    kind: str
    times: int
    status: int = 500
    applied: bool = False
    gate: Gate = field(default_factory=Gate)


@dataclass
class Cognito:
    """A Cognito that runs. `url` is for AWS_ENDPOINT_URL.

    `calls` counts the operations asked for, `throttled` those of them that were too many, `log` names each in the
    order in which their turns came.
    """

    aws: Aws
    url: str = ""
    pool_id: str = ""
    pepper: str = "stile-pepper"
    calls: "Counter[str]" = field(default_factory=Counter)
    throttled: "Counter[str]" = field(default_factory=Counter)
    log: list[Asked] = field(default_factory=list)
    _troubles: dict[str, Trouble] = field(default_factory=dict)
    _hooks: dict[str, Callable[[], object]] = field(default_factory=dict)
    _order: list[tuple[str, str]] = field(default_factory=list)
    _until: float = 0
    _rate: float = 0
    _tokens: float = 0
    _filled: float = 0
    _lock: threading.Condition = field(default_factory=threading.Condition)
    _pools: dict[str, Pool] = field(default_factory=dict)
    _idle: set[socket.socket] = field(default_factory=set)
    _busy: int = 0
    _one: threading.Lock = field(default_factory=threading.Lock)

    def environment(self, **more: str) -> dict[str, str]:
        """What a gateway needs, with a key of its own."""
        return environment(self.aws, self.url, self.pool_id, self.pepper, **more)

    def throttle(self, operation: str, times: int) -> None:
        """The next calls are too many."""
        self._troubles[operation] = Trouble("throttle", times)

    def fail(self, operation: str, times: int, *, status: int = 500) -> None:
        """The next calls meet a fault of the service's own."""
        self._troubles[operation] = Trouble("fail", times, status)

    def drop(self, operation: str, times: int, *, applied: bool) -> None:
        """The next calls get no answer; `applied`: but are carried out."""
        self._troubles[operation] = Trouble("drop", times, applied=applied)

    def delay(self, operation: str, times: int = 1, *, applied: bool) -> Gate:
        """The next calls are held at a gate; `applied`: they are carried out, and their answers are held."""
        trouble = self._troubles[operation] = Trouble("delay", times, applied=applied)
        return trouble.gate

    def hook(self, operation: str, run: Callable[[], object]) -> None:
        """Run something when the next call of the operation has come and before anything is done with it."""
        self._hooks[operation] = run

    def hang_up(self) -> None:
        """Close all connections, after what is under way: who has an answer may be ahead of who gave it."""
        with self._lock:
            self._lock.wait_for(lambda: self._busy == 0, TURN_SECONDS)
            for connection in self._idle:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self._idle.clear()

    def calm(self) -> None:
        """No more trouble, hooks, order or bucket; what is held goes on."""
        with self._lock:
            for trouble in self._troubles.values():
                trouble.gate.open()
            self._troubles.clear()
            self._hooks.clear()
            self._order, self._rate = [], 0
            self._lock.notify_all()

    def bucket(self, rate: float) -> None:
        """So many AdminGetUser a second in all, and as many at once; the rest is throttled."""
        with self._lock:
            self._rate, self._tokens, self._filled = rate, rate, time.monotonic()

    def order(self, steps: Sequence[tuple[str, str]]) -> None:
        """Let the next requests come in this order: access key and operation. Others are free."""
        with self._lock:
            self._order, self._until = list(steps), time.monotonic() + TURN_SECONDS
            self._lock.notify_all()

    @contextlib.contextmanager
    def turn(self, step: tuple[str, str]) -> Iterator[None]:
        """Wait until the step is next, if it is in the order at all; the one after it goes when this one is done."""
        with self._lock:
            ordered = step in self._order
            while ordered and self._order and self._order[0] != step and time.monotonic() < self._until:
                if step not in self._order:
                    ordered = False
                    break
                self._lock.wait(0.05)
        try:
            yield
        finally:
            with self._lock:
                if ordered and self._order and self._order[0] == step:
                    del self._order[0]
                self._lock.notify_all()

    def come(self, asked: Asked) -> Trouble | None:
        """Take note of a call whose turn it is; answers what shall happen to it."""
        with self._lock:
            self.calls[asked.operation] += 1
            self.log.append(asked)
            run = self._hooks.pop(asked.operation, None)
        if run is not None:
            run()
        with self._lock:
            found = self._trouble(asked.operation)
            if found is not None and found.kind == "throttle":
                self.throttled[asked.operation] += 1
            return found

    def _trouble(self, operation: str) -> Trouble | None:
        if operation == "AdminGetUser" and self._rate:
            now = time.monotonic()
            self._tokens = min(self._rate, self._tokens + (now - self._filled) * self._rate)
            self._filled = now
            if self._tokens < 1:
                return Trouble("throttle", 1)
            self._tokens -= 1
        found = self._troubles.get(operation)
        if found is None or found.times <= 0:
            return None
        found.times -= 1
        return found

    def check(self, operation: str, asked: dict[str, Any]) -> None:
        """Raises Refused for what real Cognito refuses and moto does not."""
        cognito_rules.check_request(operation, asked)
        made = operation == "AdminCreateUser"
        if made or operation == "AdminUpdateUserAttributes":
            cognito_rules.check_attributes(self._pool(asked["UserPoolId"]), asked, made=made)
        if operation == "AddCustomAttributes":
            cognito_rules.check_addition(self._pool(asked["UserPoolId"]), asked)
        if made and self._namesake(asked) is not None:
            raise Refused("UsernameExistsException", "User account already exists")

    def complete(self, operation: str, asked: dict[str, Any], said: Any) -> Any:  # noqa: ARG002
        """What of an answer the emulator behind this one leaves out."""
        return said

    def again(self, operation: str, asked: dict[str, Any], answer: Answer) -> Answer:
        """Another answer where the emulator knows nobody by this address because it is spelled in another case."""
        if answer[0] != 400 or b"UserNotFoundException" not in answer[2]:
            return answer
        namesake = self._namesake(asked)
        return answer if namesake is None else self.ask(operation, {**asked, "Username": namesake})

    def ask(self, operation: str, asked: Mapping[str, Any]) -> Answer:
        """Ask the emulator itself, as its administrator."""
        headers = {"content-type": "application/x-amz-json-1.1", "x-amz-target": f"{_TARGET}{operation}"}
        request = AWSRequest("POST", f"{self.aws.url}/", headers, json.dumps(asked).encode())
        SigV4Auth(Credentials(*self.aws.key), "cognito-idp", REGION).add_auth(request)
        return _send(self.aws.url, "POST", "/", dict(request.headers.items()), request.body)

    def _pool(self, pool_id: str) -> Pool:
        if pool_id not in self._pools:
            status, _, said = self.ask("DescribeUserPool", {"UserPoolId": pool_id})
            if status != 200:
                raise Refused("ResourceNotFoundException", f"User pool {pool_id} does not exist.")
            self._pools[pool_id] = Pool.read(json.loads(said)["UserPool"])
        return self._pools[pool_id]

    def _namesake(self, asked: dict[str, Any]) -> str | None:
        """The address of the user whose address differs from this one by its case alone."""
        wanted = asked.get("Username", "")
        if "@" not in wanted or not self._pool(asked["UserPoolId"]).any_case:
            return None
        page: dict[str, Any] = {}
        while True:
            token = {"PaginationToken": page["PaginationToken"]} if page else {}
            page = json.loads(self.ask("ListUsers", {"UserPoolId": asked["UserPoolId"], "Limit": 60, **token})[2])
            for user in page["Users"]:
                for one in user["Attributes"]:
                    if one["Name"] == "email" and one["Value"] != wanted and one["Value"].lower() == wanted.lower():
                        return str(one["Value"])
            if "PaginationToken" not in page:
                return None


T = TypeVar("T", bound=Cognito)


def _handler(state: Cognito) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def setup(self) -> None:
            super().setup()
            with state._lock:
                state._idle.add(self.connection)

        def finish(self) -> None:
            with state._lock:
                state._idle.discard(self.connection)
            super().finish()

        def do_POST(self) -> None:
            with state._lock:
                state._idle.discard(self.connection)
                state._busy += 1
            try:
                self._do()
            finally:
                with state._lock:
                    state._idle.add(self.connection)
                    state._busy -= 1
                    state._lock.notify_all()

        do_GET = do_PUT = do_DELETE = do_HEAD = do_POST  # noqa: N815

        def _do(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            target = self.headers.get("x-amz-target", "")
            if not target.startswith(_TARGET):
                self._say(*self._forward(body))
                return
            operation = target.removeprefix(_TARGET)
            key = _KEY.search(self.headers.get("authorization", ""))
            signer = key[1] if key else ""
            with state.turn((signer, operation)):
                self._play(operation, signer, body)

        def _play(self, operation: str, signer: str, body: bytes) -> None:
            asked = json.loads(body)
            user = asked.get("Username", asked.get("Filter", ""))
            trouble = state.come(Asked(operation, user, signer)) or Trouble("none", 0)
            held = trouble.kind == "delay"
            if held and not trouble.applied:
                trouble.gate.hold()
            dropped = trouble.kind == "drop"
            answer = None if dropped and not trouble.applied else self._answer(operation, asked, body, trouble)
            if held and trouble.applied:
                trouble.gate.hold()
            if answer is None or dropped:
                self.close_connection = True
                self.connection.close()
            else:
                self._say(*answer)

        def _answer(self, operation: str, asked: dict[str, Any], body: bytes, trouble: Trouble) -> Answer:
            try:
                if trouble.kind == "throttle":
                    raise Refused("TooManyRequestsException", "Rate exceeded")
                if trouble.kind == "fail":
                    raise Refused("InternalErrorException", "Internal server error", trouble.status)
                with state._one:  # an emulator is not made for several at once
                    state.check(operation, asked)
                    status, headers, said = state.again(operation, asked, self._forward(body))
                    if status == 403 and (denied := cognito_rules.denied(said)):
                        raise denied
                    if status == 400 and b"InvalidToken" in said:
                        raise Refused("InvalidParameterException", "Invalid pagination token given.")
                    if status == 200 and b'Attributes"' in said:
                        whole = cognito_rules.without_blanks(json.loads(said))
                        said = json.dumps(state.complete(operation, asked, whole)).encode()
                    return status, headers, said
            except Refused as refused:
                return refused.answer()

        def _forward(self, body: bytes) -> Answer:
            """The host goes on as it came: it is signed."""
            return _send(state.aws.url, self.command, self.path, dict(self.headers.items()), body)

        def _say(self, status: int, headers: dict[str, str], body: bytes) -> None:
            with contextlib.suppress(OSError):  # who asked may have gone
                self.send_response(status)
                for name, value in {**headers, "content-length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nobody reads it."""

    return Handler


def _send(url: str, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
    connection = http.client.HTTPConnection(str(urlsplit(url).netloc), timeout=HELD_SECONDS)
    with contextlib.closing(connection):
        named = any(name.lower() == "host" for name in headers)
        connection.putrequest(method, path, skip_host=named, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        if "content-length" not in {name.lower() for name in headers}:
            connection.putheader("content-length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        said = answer.read()
        kept = ("content-type", "x-amzn-requestid", "x-amzn-errortype")
        return answer.status, {n.lower(): v for n, v in answer.getheaders() if n.lower() in kept}, said


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # who asked may have gone
            super().handle_error(request, client_address)


class _Loader(yaml.SafeLoader):
    """Reads a template; of CloudFormation's tags `!Ref` of a parameter is all that the pool needs."""


_Loader.add_multi_constructor("!", lambda _loader, suffix, node: {suffix: getattr(node, "value", None)})


def _pool_properties() -> dict[str, Any]:
    """The properties of the template's own user pool, with the parameters' defaults, as CreateUserPool takes them."""
    template = yaml.load(TEMPLATE.read_text(), _Loader)
    properties = dict(template["Resources"]["UserPool"]["Properties"])
    properties["PoolName"] = properties.pop("UserPoolName")
    given = {"AWS::StackName": "stile"} | {
        name: parameter.get("Default") for name, parameter in template["Parameters"].items()
    }
    return {
        name: given[value["Ref"]] if isinstance(value, dict) and "Ref" in value else value
        for name, value in properties.items()
    }


def make_pool(cloud: Aws) -> str:
    """A pool as the template makes it; answers its id."""
    properties = _pool_properties()
    cognito_rules.check_request("CreateUserPool", properties)
    with cloud.client("cognito-idp") as client:
        return str(client.create_user_pool(**properties)["UserPool"]["Id"])


def environment(cloud: Aws, url: str, pool_id: str, pepper: str, **more: str) -> dict[str, str]:
    """What a gateway needs for users in this pool, with a new key that may do just what the template's role may."""
    actions = [*(f"cognito-idp:{operation}" for operation in OPERATIONS), "secretsmanager:GetSecretValue"]
    key, secret = cloud.user([{"Effect": "Allow", "Action": action, "Resource": "*"} for action in actions])
    return {
        "STILE_DIRECTORY": "cognito",
        "STILE_USER_POOL_ID": pool_id,
        "STILE_PEPPER_SECRET": pepper,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL": url,
        "AWS_EC2_METADATA_DISABLED": "true",
        **more,
    }


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Cognito]:
    """A Cognito with the template's pool, and a pepper beside it, until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with aws.running(folder) as cloud, serving(Cognito(cloud, pool_id=make_pool(cloud))) as state:
        cloud.keep(state.pepper, secrets.token_urlsafe(48))
        yield state


@contextlib.contextmanager
def serving(state: T) -> Iterator[T]:
    """The same in front of an emulator that runs already."""
    server = _Server(("127.0.0.1", 0), _handler(state))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield state
    finally:
        state.calm()
        server.shutdown()
        thread.join()
        server.server_close()
