"""As much of CloudFormation as `make deploy` and the SAM CLI's stand-in need: stacks on a socket, for real clients."""

import contextlib
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from xml.sax.saxutils import escape

NAMESPACE = "http://cloudformation.amazonaws.com/doc/2010-05-15/"


class Refused(Exception):
    """What the service answers with a status other than 200: status, code, message."""


@dataclass
class CloudFormation:
    """The stacks that there are: name → status. Each request is kept, with where it was to go."""

    outputs: dict[str, str]
    url: str = ""
    stacks: dict[str, str] = field(default_factory=dict)
    fails_after: int | None = None
    requests: list[dict[str, str]] = field(default_factory=list)

    def environment(self) -> dict[str, str]:
        """That of a shell in which AWS's tools find this account."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "shell",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "eu-west-1",
            "AWS_CONFIG_FILE": "/nowhere",
            "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def answer(self, asked: dict[str, str]) -> str:
        self.requests.append(asked)
        if self.fails_after is not None and len(self.requests) > self.fails_after:
            raise Refused(403, "ExpiredToken", "The security token included in the request is expired")
        action, name = asked["Action"], asked["StackName"]
        if action == "CreateStack":
            self.stacks[name] = "CREATE_COMPLETE"
            return f"<CreateStackResponse xmlns='{NAMESPACE}'><CreateStackResult/></CreateStackResponse>"
        if name not in self.stacks:
            raise Refused(400, "ValidationError", f"Stack with id {name} does not exist")
        return self._described(name)

    def _described(self, name: str) -> str:
        outputs = "".join(
            f"<member><OutputKey>{escape(key)}</OutputKey><OutputValue>{escape(value)}</OutputValue></member>"
            for key, value in self.outputs.items()
        )
        return (
            f"<DescribeStacksResponse xmlns='{NAMESPACE}'><DescribeStacksResult><Stacks><member>"
            f"<StackName>{name}</StackName><CreationTime>2026-11-20T10:00:00Z</CreationTime>"
            f"<StackStatus>{self.stacks[name]}</StackStatus><Outputs>{outputs}</Outputs>"
            "</member></Stacks></DescribeStacksResult></DescribeStacksResponse>"
        )


@contextlib.contextmanager
def running(outputs: dict[str, str]) -> Iterator[CloudFormation]:
    """A CloudFormation whose stacks all have these outputs, until the block ends."""
    service = CloudFormation(outputs)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            asked = dict(urllib.parse.parse_qsl(body)) | {"credential": self.headers["authorization"]}
            try:
                status, text = 200, service.answer(asked)
            except Refused as refused:
                status, code, message = refused.args
                text = f"<ErrorResponse xmlns='{NAMESPACE}'><Error><Type>Sender</Type><Code>{code}</Code>"
                text += f"<Message>{escape(message)}</Message></Error></ErrorResponse>"
            self.send_response(status)
            self.send_header("content-type", "text/xml")
            self.send_header("content-length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        service.url = f"http://127.0.0.1:{server.server_port}"
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
