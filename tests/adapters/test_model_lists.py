"""Lists of models, in each provider's shape, over a socket."""

import asyncio
import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from stile.adapters import model_lists
from stile.ports import Listing

LISTS: dict[str, Any] = {
    "/openai": {"object": "list", "data": [{"id": "a"}, {"id": "b"}]},
    "/ollama": {"models": [{"name": "a"}, {"name": "b"}]},
    "/gemini": {"data": [{"id": "models/a"}, {"id": "models/b"}]},
    "/bedrock": {"modelSummaries": [{"modelId": "a"}, {"modelId": "b"}]},
    "/nothing": {"message": "hello"},
    "/array": [1],
}


class Provider(http.server.BaseHTTPRequestHandler):
    seen: ClassVar[dict[str, str]] = {}

    def do_GET(self) -> None:
        type(self).seen = {name.lower(): value for name, value in self.headers.items()}
        if self.path == "/redirect":
            self.send_response(302)
            self.send_header("location", "/openai")
            self.end_headers()
            return
        body = json.dumps(LISTS[self.path]).encode() if self.path in LISTS else b"<html>"
        self.send_response(404 if self.path == "/404" else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def base() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Provider) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("path", ["/openai", "/ollama", "/gemini", "/bedrock"])
def test_names_are_read_in_every_shape(base: str, path: str) -> None:
    assert asyncio.run(model_lists.fetch(Listing(base + path, {"x-key": "1"}))) == ["a", "b"]
    assert Provider.seen["x-key"] == "1"


@pytest.mark.parametrize("path", ["/nothing", "/array", "/html", "/404", "/redirect"])
def test_what_is_no_list_is_none(base: str, path: str) -> None:
    assert asyncio.run(model_lists.fetch(Listing(base + path, {}))) is None


def test_nobody_there_is_none() -> None:
    assert asyncio.run(model_lists.fetch(Listing("http://127.0.0.1:9/", {}))) is None


def test_a_list_of_aws_is_asked_for_with_a_signature(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted")
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    listing = Listing(f"{base}/bedrock", {}, aws_region="eu-west-1")
    assert asyncio.run(model_lists.fetch(listing)) == ["a", "b"]
    signature = Provider.seen["authorization"]
    assert signature.startswith("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/")
    assert "/eu-west-1/bedrock/aws4_request" in signature
