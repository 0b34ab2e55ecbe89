"""Cognito on a socket, as strict as the real one where moto is lenient, and with trouble on demand.

It stands in front of moto's server and hands everything on, signatures and all. What real Cognito refuses is refused
here with its own errors; what moto keeps and Cognito would not (blank values) is taken out. A test counts the calls,
and has them throttled, failed, dropped, or put into an order of its own.
"""

import contextlib
import http.client
import json
import re
import secrets
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import yaml
from tests.mocks import aws
from tests.mocks.aws import REGION, Aws

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
_TARGET = "AWSCognitoIdentityProviderService."
_SEARCHABLE = {
    "username", "email", "phone_number", "name", "given_name", "family_name", "preferred_username",
    "cognito:user_status", "status", "sub",
}  # fmt: skip
_STANDARD = ("email", "email_verified", "name", "given_name", "family_name", "phone_number", "profile")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_KEY = re.compile(r"Credential=([^/]+)/")


@dataclass
class Refused(Exception):
    """What Cognito answers instead."""

    code: str
    message: str
    status: int = 400


@dataclass
class Trouble:
    """What happens to the next calls of one operation. `applied`: before the connection breaks, it is handed on."""

    kind: str
    times: int
    status: int = 500
    applied: bool = False


@dataclass
class Cognito:
    """A Cognito that runs. `url` is for AWS_ENDPOINT_URL; `calls` counts the operations asked for."""

    aws: Aws
    url: str = ""
    pool_id: str = ""
    pepper: str = "stile-pepper"
    calls: "Counter[str]" = field(default_factory=Counter)
    _troubles: dict[str, Trouble] = field(default_factory=dict)
    _order: list[tuple[str, str]] = field(default_factory=list)
    _until: float = 0
    _rate: float = 0
    _tokens: float = 0
    _filled: float = 0
    _lock: threading.Condition = field(default_factory=threading.Condition)
    _schemas: dict[str, dict[str, bool]] = field(default_factory=dict)
    _idle: set[socket.socket] = field(default_factory=set)
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

    def hang_up(self) -> None:
        """Close all connections on which nothing is under way."""
        with self._lock:
            for connection in self._idle:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self._idle.clear()

    def calm(self) -> None:
        """No more trouble, order or bucket."""
        with self._lock:
            self._troubles.clear()
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

    def trouble(self, operation: str) -> Trouble | None:
        """What shall happen to this call."""
        with self._lock:
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
        if operation in {"AdminCreateUser", "AdminUpdateUserAttributes"}:
            self._check_attributes(asked, made=operation == "AdminCreateUser")
        if operation == "ListUsers":
            _check_list(asked)

    def complete(self, operation: str, asked: dict[str, Any], said: Any) -> Any:  # noqa: ARG002
        """What of an answer the emulator behind this one leaves out."""
        return said

    def _check_attributes(self, asked: dict[str, Any], *, made: bool) -> None:
        schema = self._schema(asked["UserPoolId"])
        for attribute in asked.get("UserAttributes", []):
            name, value = attribute["Name"], attribute.get("Value", "")
            if name not in schema:
                raise Refused("InvalidParameterException", f"Type for attribute {{{name}}} could not be determined")
            if len(value) > 2048:
                raise Refused("InvalidParameterException", f"{name}: String must not be longer than 2048 characters")
            if not made and not schema[name]:
                raise Refused("NotAuthorizedException", f"Cannot modify the non-mutable attribute {name}")
            if name == "email" and value and not _EMAIL.fullmatch(value):
                raise Refused("InvalidParameterException", "Invalid email address format.")

    def _schema(self, pool_id: str) -> dict[str, bool]:
        """The pool's attributes, and whether they can be changed."""
        if pool_id not in self._schemas:
            with self.aws.client("cognito-idp") as client:
                described = client.describe_user_pool(UserPoolId=pool_id)["UserPool"]["SchemaAttributes"]
            declared = {one["Name"]: one.get("Mutable", True) for one in described}
            self._schemas[pool_id] = {**dict.fromkeys(_STANDARD, True), **declared, "sub": False}
        return self._schemas[pool_id]


def _check_list(asked: dict[str, Any]) -> None:
    limit = asked.get("Limit", 60)
    if not 0 <= limit <= 60:
        raise Refused("InvalidParameterException", "Value at 'limit' must be less than or equal to 60")
    wanted = asked.get("Filter", "")
    found = re.fullmatch(r"""([\w:]+)\s*\^?=\s*"([^"\\]*)\"""", wanted)
    if wanted and found is None:
        raise Refused("InvalidParameterException", "Error while parsing filter.")
    if found is not None and found[1] not in _SEARCHABLE:
        raise Refused("InvalidParameterException", f"Cannot search on attribute {found[1]}")


T = TypeVar("T", bound=Cognito)


def _handler(state: Cognito) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle_one_request(self) -> None:
            with state._lock:
                state._idle.add(self.connection)
            super().handle_one_request()

        def do_POST(self) -> None:
            with state._lock:
                state._idle.discard(self.connection)
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            target = self.headers.get("x-amz-target", "")
            if not target.startswith(_TARGET):
                self._say(*self._forward(body))
                return
            operation = target.removeprefix(_TARGET)
            key = _KEY.search(self.headers.get("authorization", ""))
            with state.turn((key[1] if key else "", operation)):
                self._play(operation, body)

        do_GET = do_PUT = do_DELETE = do_HEAD = do_POST  # noqa: N815

        def _play(self, operation: str, body: bytes) -> None:
            state.calls[operation] += 1
            trouble = state.trouble(operation)
            try:
                if trouble is None:
                    asked = json.loads(body)
                    state.check(operation, asked)
                    self._say(*self._apply(operation, asked, body))
                elif trouble.kind == "drop":
                    if trouble.applied:
                        self._apply(operation, json.loads(body), body)
                    self.close_connection = True
                    self.connection.close()
                elif trouble.kind == "throttle":
                    raise Refused("TooManyRequestsException", "Rate exceeded")
                else:
                    raise Refused("InternalErrorException", "Internal server error", trouble.status)
            except Refused as refused:
                said = json.dumps({"__type": refused.code, "message": refused.message}).encode()
                self._say(refused.status, {"content-type": "application/x-amz-json-1.1"}, said)

        def _apply(self, operation: str, asked: dict[str, Any], body: bytes) -> tuple[int, dict[str, str], bytes]:
            with state._one:  # an emulator is not made for several at once
                status, headers, said = self._forward(body)
            if status == 200 and b'Attributes"' in said:
                said = json.dumps(state.complete(operation, asked, _without_blanks(json.loads(said)))).encode()
            return status, headers, said

        def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
            """The host goes on as it came: it is signed."""
            connection = http.client.HTTPConnection(str(urlsplit(state.aws.url).netloc), timeout=30)
            with contextlib.closing(connection):
                connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    connection.putheader(name, value)
                connection.endheaders(body)
                answer = connection.getresponse()
                said = answer.read()
                kept = ("content-type", "x-amzn-requestid", "x-amzn-errortype")
                headers = {name.lower(): value for name, value in answer.getheaders() if name.lower() in kept}
                return answer.status, headers, said

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


def _without_blanks(said: Any) -> Any:
    if isinstance(said, list):
        return [_without_blanks(one) for one in said if not (isinstance(one, dict) and one.get("Value") == "")]
    if isinstance(said, dict):
        return {name: _without_blanks(value) for name, value in said.items()}
    return said


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


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
    with cloud.client("cognito-idp") as client:
        return str(client.create_user_pool(**_pool_properties())["UserPool"]["Id"])


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
        server.shutdown()
        thread.join()
        server.server_close()
