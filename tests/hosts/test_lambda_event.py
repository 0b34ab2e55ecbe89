"""Lambda's web events as requests, and answers as Lambda wants them. The events are recorded ones."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from stile.hosts import lambda_event
from stile.hosts.lambda_event import EXTENSION, Door, HeadTooLarge, HttpRequest, UnknownEvent

EVENTS = Path(__file__).parent.parent / "events"
CHAT = "/v1/chat/completions"
QUERY = {b"tag=one", b"tag=two", b"literalPlus=a+b", b"encodedPlus=a%2Bb", b"empty="}


def read(name: str) -> HttpRequest:
    return lambda_event.read((EVENTS / f"{name}.json").read_bytes())


def header(request: HttpRequest, name: bytes) -> list[bytes]:
    return [value for found, value in request.scope["headers"] if found == name]


@pytest.mark.parametrize(
    ("name", "method", "path"),
    [
        ("rest_chat", "POST", CHAT),
        ("rest_console", "POST", CHAT),
        ("rest_base_path", "POST", CHAT),
        ("rest_base_path_and_stage", "POST", CHAT),
        ("rest_base_path_root", "GET", "/"),
        ("rest_root", "GET", "/"),
        ("rest_preflight", "OPTIONS", CHAT),
        ("rest_encoded_path", "GET", "/v1/models/openai/gpt-4o"),
        ("rest_multipart", "POST", "/v1/audio/transcriptions"),
        ("url_chat", "POST", CHAT),
        ("url_query", "GET", "/v1/models/openai/gpt-4o"),
        ("url_multipart", "POST", "/v1/audio/transcriptions"),
    ],
)
def test_the_app_sees_its_own_paths_whatever_stands_before_them(name: str, method: str, path: str) -> None:
    scope = read(name).scope
    assert (scope["type"], scope["method"], scope["path"], scope["root_path"]) == ("http", method, path, "")


def test_a_path_stays_as_it_was_sent_beside_the_decoded_one() -> None:
    assert read("rest_encoded_path").scope["raw_path"] == b"/v1/models/openai%2Fgpt-4o"


@pytest.mark.parametrize("name", ["rest_chat", "url_chat", "rest_base_path", "rest_console"])
def test_a_body_comes_as_it_was_sent_with_its_true_length(name: str) -> None:
    request = read(name)
    assert json.loads(request.body)["messages"]
    assert header(request, b"content-length") == [str(len(request.body)).encode()]


@pytest.mark.parametrize("name", ["rest_multipart", "url_multipart"])
def test_a_base64_body_is_decoded(name: str) -> None:
    request = read(name)
    assert request.body.startswith(b"--boundary-7f3a\r\n")
    assert header(request, b"content-length") == [str(len(request.body)).encode()]


@pytest.mark.parametrize("name", ["rest_query", "url_query"])
def test_queries_keep_repeated_names_and_their_escapes(name: str) -> None:
    assert set(read(name).scope["query_string"].split(b"&")) >= QUERY


@pytest.mark.parametrize("name", ["rest_query", "url_query"])
def test_cookies_are_one_header(name: str) -> None:
    assert header(read(name), b"cookie") == [b"session=abc123; theme=dark"]


def test_repeated_headers_are_kept() -> None:
    event = json.loads((EVENTS / "rest_chat.json").read_text())
    event["multiValueHeaders"]["X-Twice"] = ["one", "two"]
    assert header(lambda_event.read(event), b"x-twice") == [b"one", b"two"]


@pytest.mark.parametrize(("name", "client"), [("rest_chat", "203.0.113.10"), ("url_chat", "203.0.113.10")])
def test_who_calls_and_the_front_doors_own_id_are_told(name: str, client: str) -> None:
    scope = read(name).scope
    assert scope["client"] == (client, 0)
    assert scope["extensions"][EXTENSION]["api_request_id"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("other_http_api", "an API Gateway HTTP API, which cannot stream"),
        ("other_load_balancer", "a load balancer, which cannot stream"),
        ("other_queue", "neither from an API Gateway REST API nor from a function URL"),
        ("other_schedule", "neither from"),
        ("other_empty", "neither from"),
        ("other_list", "cannot be read"),
        ("other_text", "cannot be read"),
    ],
)
def test_other_events_are_told_apart(name: str, said: str) -> None:
    with pytest.raises(UnknownEvent, match=said):
        read(name)


@pytest.mark.parametrize("event", [b"", b"{", b"\xff", b"null", b'{"requestContext":[]}', b"[" * 100_000])
def test_what_is_no_event_at_all_is_told_too(event: bytes) -> None:
    with pytest.raises(UnknownEvent):
        lambda_event.read(event)


def test_a_body_that_is_not_the_base64_it_says_is_refused() -> None:
    event = json.loads((EVENTS / "rest_multipart.json").read_text())
    with pytest.raises(UnknownEvent, match="base64"):
        lambda_event.read({**event, "body": "*"})


def prelude(door: Door, *headers: tuple[bytes, bytes]) -> Any:
    head, separator, rest = lambda_event.prelude(door, 200, headers).partition(b"\0" * 8)
    assert (separator, rest) == (b"\0" * 8, b"")
    return json.loads(head)


def test_headers_are_single_texts_and_repeated_ones_lists() -> None:
    head = prelude("rest", (b"Content-Type", b"text/plain"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"))
    assert head == {
        "statusCode": 200,
        "headers": {"content-type": "text/plain"},
        "multiValueHeaders": {"set-cookie": ["a=1", "b=2"]},
    }


def test_a_function_url_takes_cookies_apart_and_no_repeated_headers() -> None:
    head = prelude("url", (b"vary", b"a"), (b"vary", b"b"), (b"set-cookie", b"a=1"))
    assert head == {"statusCode": 200, "headers": {"vary": "a, b"}, "cookies": ["a=1"]}


def test_headers_of_a_connection_stay_behind() -> None:
    assert prelude("rest", (b"connection", b"close"), (b"transfer-encoding", b"chunked"))["headers"] == {}


def test_a_head_that_lambda_would_not_take_is_an_error() -> None:
    with pytest.raises(HeadTooLarge):
        lambda_event.prelude("rest", 200, [(b"x", b"x" * 16_384)])


@pytest.mark.parametrize(
    ("headers", "body", "encoded"),
    [
        ([(b"content-type", b"application/json; charset=utf-8")], b'{"a":"\xc3\xa4"}', False),
        ([(b"content-type", b"text/event-stream")], b"data: x\n\n", False),
        ([(b"content-type", b"text/plain"), (b"content-encoding", b"gzip")], b"\x1f\x8b", True),
        ([(b"content-type", b"text/plain")], b"\xff", True),
        ([(b"content-type", b"audio/mpeg")], b"ID3", True),
        ([], b"", False),
    ],
)
def test_a_whole_answer_is_text_where_it_can_be_and_base64_where_not(
    headers: list[tuple[bytes, bytes]], body: bytes, *, encoded: bool
) -> None:
    answer = lambda_event.whole("rest", 200, headers, body)
    shown = base64.b64decode(answer["body"]) if encoded else answer["body"].encode()
    assert (answer["isBase64Encoded"], shown) == (encoded, body)
