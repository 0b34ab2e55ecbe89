"""The scripted providers themselves: each mode does what its name says, and each call is noted as it went."""

import contextlib
import email.utils
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.mocks import outage
from tests.mocks.outage import Outage
from tests.program import Answer, wait_for

PATH = "/v1/chat/completions"


@dataclass
class Client:
    """A connection that is kept from call to call."""

    connection: http.client.HTTPConnection

    def ask(self, call: str, *, stream: bool = False) -> Answer:
        body = {"model": "m", "messages": outage.marked(call), "stream": stream}
        self.connection.request("POST", PATH, json.dumps(body))
        response = self.connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, headers, response.read())

    def part(self, call: str, *, stream: bool) -> bytes:
        """What came of a body that broke off."""
        with pytest.raises(http.client.IncompleteRead) as cut:
            self.ask(call, stream=stream)
        return cut.value.partial


@pytest.fixture
def provider() -> Iterator[Outage]:
    with outage.running("alpha", "beta") as (alpha, _):
        yield alpha


@pytest.fixture
def client(provider: Outage) -> Iterator[Client]:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", provider.port, timeout=10)) as connection:
        yield Client(connection)


@pytest.mark.parametrize("stream", [False, True])
def test_a_good_answer_is_noted_as_it_was_sent_and_has_a_token_of_its_own(
    provider: Outage, client: Client, stream: bool
) -> None:
    answers = [client.ask(call, stream=stream) for call in ("one", "two")]
    first, second = provider.seen
    assert [answer.body for answer in answers] == [first.sent, second.sent]
    assert [set(outage.tokens(answer.body)) for answer in answers] == [{first.token}, {second.token}]
    assert first.token != second.token
    assert (first.end, first.status, first.kept) == ("whole", 200, False)
    assert second.kept
    assert [seen.marker for seen in provider.seen] == ["one", "two"]


def test_the_modes_of_the_next_calls_come_before_the_lasting_one(provider: Outage, client: Client) -> None:
    provider.mode = outage.error(503)
    provider.next(outage.OK, outage.rate_limited(retry_after="7"))
    answers = [client.ask("c") for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 429, 503]
    assert answers[1].headers["retry-after"] == "7"
    assert [seen.mode for seen in provider.of("c")] == ["ok", "error 429 rate_limit_exceeded", "error 503"]
    provider.heal()
    assert client.ask("c").status == 200


def test_a_date_to_come_back_at_is_never_too_early(provider: Outage, client: Client) -> None:
    provider.next(outage.rate_limited_until(2))
    before = time.time()
    date = email.utils.parsedate_to_datetime(client.ask("c").headers["retry-after"])
    assert date.timestamp() >= before + 2


def test_who_refuses_keeps_the_port(provider: Outage, client: Client) -> None:
    client.ask("before")
    provider.refuse()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", provider.port))
    with pytest.raises(OSError, match="in use"), socket.socket() as other:
        other.bind(("127.0.0.1", provider.port))
    provider.listen()
    client.connection.close()
    assert client.ask("after").status == 200


def test_a_reset_comes_before_the_head_and_on_a_kept_connection_looks_like_a_dead_one(
    provider: Outage, client: Client
) -> None:
    provider.mode = outage.RESET_BEFORE_HEAD
    with pytest.raises(ConnectionError):
        client.ask("new")
    client.connection.close()
    provider.next(outage.OK)
    client.ask("whole")
    with pytest.raises(ConnectionError):
        client.ask("kept")
    assert [(seen.marker, seen.end, seen.unread) for seen in provider.seen] == [
        ("new", "broken", False),
        ("whole", "whole", False),
        ("kept", "broken", True),
    ]


@pytest.mark.parametrize("stream", [False, True])
def test_a_cut_answer_arrives_up_to_the_cut(provider: Outage, client: Client, stream: bool) -> None:
    provider.next(outage.CUT_IN_BODY, outage.CUT_AFTER_HEAD)
    assert len(client.part("body", stream=stream)) > 0
    client.connection.close()
    assert client.part("head", stream=stream) == b""
    assert [(seen.status, seen.end, seen.unread) for seen in provider.seen] == [(200, "broken", False)] * 2


@pytest.mark.parametrize("mode", [outage.RESET_AFTER_HEAD, outage.RESET_IN_BODY], ids=str)
def test_an_answer_is_reset(provider: Outage, client: Client, mode: outage.Mode) -> None:
    provider.next(mode)
    with pytest.raises((ConnectionError, http.client.IncompleteRead)):
        client.ask("c", stream=True)
    assert provider.seen[0].end == "broken"


def test_a_stream_can_have_no_event_or_half_of_one_or_an_error_in_its_place(provider: Outage, client: Client) -> None:
    provider.next(outage.EMPTY, outage.ERROR_EVENT, outage.CUT_IN_FIRST_EVENT)
    assert client.ask("empty", stream=True).body == b""
    body = client.ask("error", stream=True).body
    assert json.loads(body.removeprefix(b"data: "))["error"]["code"] == "overloaded"
    half = client.part("half", stream=True)
    assert half.startswith(b"data: {")
    assert b"\n\n" not in half
    assert [(seen.status, seen.end) for seen in provider.seen] == [(200, "broken")] * 3


def test_a_stream_drips(provider: Outage, client: Client) -> None:
    provider.mode = outage.DRIPS
    began = time.monotonic()
    assert client.ask("c", stream=True).body == provider.seen[0].sent
    assert time.monotonic() - began > 7 * outage.DRIP_SECONDS


STALLS = [outage.HALF_OPEN, outage.STALL_AFTER_HEAD, outage.COMMENT_THEN_STALL, outage.STALL_IN_BODY]


@pytest.mark.parametrize("mode", STALLS, ids=str)
def test_a_stall_ends_when_the_client_leaves(provider: Outage, client: Client, mode: outage.Mode) -> None:
    provider.mode = mode
    client.connection.timeout = 0.1
    with pytest.raises(TimeoutError):
        client.ask("c", stream=True)
    assert provider.seen[0].end == "open"
    client.connection.close()
    wait_for(lambda: provider.seen[0].end == "left", "the provider to see it")
    assert (b"<alpha" in provider.seen[0].sent) is (mode is outage.STALL_IN_BODY)


@pytest.mark.parametrize("mode", [outage.GATED, outage.GATED_BODY, outage.RESET_BEHIND_GATE], ids=str)
def test_a_gate_holds_the_answer_back(provider: Outage, client: Client, mode: outage.Mode) -> None:
    provider.mode = mode
    ended = threading.Event()

    def ask() -> None:
        with contextlib.suppress(ConnectionError, http.client.IncompleteRead):
            client.ask("c", stream=True)
        ended.set()

    thread = threading.Thread(target=ask)
    thread.start()
    wait_for(lambda: provider.seen, "the call")
    assert not ended.wait(0.05)
    provider.open()
    assert ended.wait(10)
    thread.join()
    assert provider.seen[0].end == ("broken" if mode is outage.RESET_BEHIND_GATE else "whole")


def test_a_connection_closes_after_an_answer_that_did_not_say_so(provider: Outage, client: Client) -> None:
    provider.mode = outage.CLOSES
    answer = client.ask("c")
    assert "connection" not in answer.headers
    assert client.connection.sock.recv(1) == b""


def test_calls_in_flight_are_broken_off_by_an_outage(provider: Outage, client: Client) -> None:
    provider.mode = outage.HALF_OPEN

    def refuse() -> None:
        wait_for(lambda: provider.seen, "the call")
        provider.refuse()

    thread = threading.Thread(target=refuse)
    thread.start()
    with pytest.raises(ConnectionError):
        client.ask("c")
    thread.join()
    assert provider.seen[0].end == "broken"


def test_a_name_that_does_not_resolve() -> None:
    host = outage.NO_SUCH_HOST.split("/")[2]
    with pytest.raises(socket.gaierror):
        socket.getaddrinfo(host, 80)
