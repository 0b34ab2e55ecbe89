"""Routing as callers and providers see it: which target answers, what failures lead to, and what is said about it.

Every test has a gateway of its own, so that no target remembers what another test did to it.
"""

import contextlib
import http.client
import json
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests import program
from tests.mocks import outage
from tests.mocks.openai import DONE
from tests.mocks.outage import Mode, Outage, Seen, error
from tests.program import Answer, Program, wait_for

CHAT = "/v1/chat/completions"
BOTH = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
Models = Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass
class House:
    """A gateway and its providers."""

    gateway: Program
    providers: Sequence[Outage]

    def ask(self, model: str, *, call: str = "", stream: bool = False, **fields: Any) -> Answer:
        body = {"model": model, "messages": outage.marked(call or outage.marker()), "stream": stream, **fields}
        return self.gateway.ask("POST", CHAT, body)

    def trail(self, call: str) -> list[Seen]:
        return outage.trail(self.providers, call)

    def asked(self, call: str) -> list[str]:
        """The providers that saw the call, in order."""
        return [seen.provider for seen in self.trail(call)]

    def targets(self, model: str) -> dict[str, dict[str, Any]]:
        """What /api/models says of a model's targets, by their labels without the provider."""
        shown = self.gateway.ask("GET", "/api/models").json["data"]
        found = next(one for one in shown if one["id"] == model)
        return {target["target"].removeprefix("openai/"): target for target in found["targets"]}

    def state(self, model: str) -> dict[str, str]:
        return {label: target["state"] for label, target in self.targets(model).items()}

    @contextlib.contextmanager
    def reading(self, model: str) -> Iterator[tuple[str, http.client.HTTPResponse]]:
        """A stream, read as it comes: the call's marker, and the answer whose head is here."""
        call = outage.marker()
        body = json.dumps({"model": model, "messages": outage.marked(call), "stream": True})
        connection = http.client.HTTPConnection(*self.gateway.address, timeout=program.WAIT)
        with contextlib.closing(connection):
            connection.request("POST", CHAT, body, {"authorization": f"Bearer {self.gateway.key}"})
            yield call, connection.getresponse()

    @contextlib.contextmanager
    def sent(self, model: str, *, stream: bool = False) -> Iterator[str]:
        """A call from a client that goes away at the end of the block; its marker."""
        call = outage.marker()
        body = json.dumps({"model": model, "messages": outage.marked(call), "stream": stream}).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {self.gateway.key}\r\n"
        with socket.create_connection(self.gateway.address) as client:
            client.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
            yield call


Start = Callable[..., House]


@pytest.fixture(scope="module")
def outages() -> Iterator[list[Outage]]:
    with outage.running("alpha", "beta", "gamma") as providers:
        yield providers


@pytest.fixture
def providers(outages: list[Outage]) -> Iterator[list[Outage]]:
    yield outages
    for provider in outages:
        provider.heal()


@pytest.fixture
def alpha(providers: list[Outage]) -> Outage:
    return providers[0]


@pytest.fixture
def beta(providers: list[Outage]) -> Outage:
    return providers[1]


@pytest.fixture
def gamma(providers: list[Outage]) -> Outage:
    return providers[2]


@pytest.fixture
def start(folder: Path, providers: list[Outage]) -> Iterator[Start]:
    """Start a gateway with these models and router_settings."""
    with contextlib.ExitStack() as stack:

        def begin(models: Models, *, seconds: int = 20, **router: Any) -> House:
            config = folder / "config.yaml"
            config.write_text(outage.model_file(models, **router))
            settings = {"STILE_CONFIG": str(config), "STILE_TIMEOUT_SECONDS": str(seconds)}
            return House(stack.enter_context(program.running(folder / "gateway", **settings)), providers)

        yield begin


@pytest.fixture
def pair(alpha: Outage, beta: Outage) -> Models:
    """One model, two targets, alpha always first."""
    return {"main": [alpha.target(order=1), beta.target(order=2)]}


def attempts(answer: Answer) -> int:
    return int(answer.headers["x-stile-attempts"])


def text_of(answer: Answer) -> str:
    """Whose words they are: the one token that is in the answer."""
    found = set(outage.tokens(answer.body))
    assert len(found) == 1, answer.body
    return found.pop()


# --- which target ---


def test_the_lowest_order_goes_first(start: Start, pair: Models) -> None:
    house = start(pair)
    assert {house.ask("main").headers["x-stile-target"] for _ in range(8)} == {"openai/alpha"}


@pytest.mark.parametrize("field", ["weight", "rpm", "tpm"])
def test_weights_share_the_calls_out(start: Start, alpha: Outage, beta: Outage, field: str) -> None:
    house = start({"main": [alpha.target(**{field: 900}), beta.target(**{field: 100})]})
    answered = Counter(house.ask("main").headers["x-stile-target"] for _ in range(150))
    # 135 : 15 is meant; what is asserted fails by chance once in millions of runs.
    assert answered["openai/alpha"] > 110
    assert answered["openai/beta"] > 0


def test_targets_without_weights_share_the_calls_evenly(start: Start, alpha: Outage, beta: Outage) -> None:
    house = start({"main": [alpha.target(), beta.target()]})
    answered = Counter(house.ask("main").headers["x-stile-target"] for _ in range(60))
    assert min(answered["openai/alpha"], answered["openai/beta"]) > 8


def test_a_retry_takes_a_target_that_was_not_tried_before(
    start: Start, alpha: Outage, beta: Outage, gamma: Outage
) -> None:
    house = start({"main": [alpha.target(), beta.target(), gamma.target()]}, num_retries=3)
    for provider in house.providers:
        provider.mode = error(500)
    call = outage.marker()
    answer = house.ask("main", call=call)
    asked = house.asked(call)
    assert (answer.status, attempts(answer)) == (500, 4)
    assert sorted(asked[:3]) == ["alpha", "beta", "gamma"]
    assert sorted(Counter(asked).values()) == [1, 1, 2]


def test_a_higher_order_is_tried_when_the_lower_ones_failed(
    start: Start, alpha: Outage, beta: Outage, gamma: Outage
) -> None:
    house = start({"main": [alpha.target(order=1), gamma.target(order=2), beta.target(order=1)]})
    alpha.mode = beta.mode = error(500)
    call = outage.marker()
    answer = house.ask("main", call=call)
    assert (answer.status, attempts(answer)) == (200, 3)
    assert sorted(house.asked(call)[:2]) == ["alpha", "beta"]
    assert house.asked(call)[2] == "gamma"


def test_an_alias_stands_for_its_model_and_its_fallbacks(start: Start, alpha: Outage, beta: Outage) -> None:
    house = start(
        {"main": [alpha.target()], "spare": [beta.target()]},
        model_group_alias={"gpt-4": "main"},
        fallbacks=[{"main": ["spare"]}],
    )
    assert house.ask("gpt-4").headers["x-stile-target"] == "openai/alpha"
    alpha.mode = error(401)
    assert house.ask("gpt-4").headers["x-stile-target"] == "openai/beta"


# --- fallbacks ---


def test_the_chain_of_fallbacks_is_walked_depth_first_and_each_model_once(
    start: Start, providers: list[Outage]
) -> None:
    def targets(model: str) -> list[dict[str, Any]]:
        return [provider.target(model=f"openai/{model}") for provider in providers]

    house = start(
        {model: targets(model) for model in ("one", "two", "three", "four")},
        num_retries=2,
        fallbacks=[{"one": ["two", "three", "four"]}, {"two": ["three"]}],
    )
    for provider in providers:
        provider.mode = error(500)
    call = outage.marker()
    answer = house.ask("one", call=call)
    assert [seen.model for seen in house.trail(call)] == ["one"] * 3 + ["two"] * 3 + ["three"] * 3 + ["four"] * 3
    assert (answer.status, attempts(answer)) == (500, 12)
    providers[0].mode = outage.OK
    answer = house.ask("one")
    assert (answer.status, answer.headers["x-stile-target"]) == (200, "openai/one")


def test_a_call_ends_after_twelve_attempts(start: Start, providers: list[Outage]) -> None:
    models = {f"m{n}": [provider.target(model=f"openai/m{n}") for provider in providers] for n in range(5)}
    house = start(models, num_retries=2, fallbacks=[{f"m{n}": [f"m{n + 1}"]} for n in range(4)])
    for provider in providers:
        provider.mode = error(503)
    call = outage.marker()
    answer = house.ask("m0", call=call)
    assert (answer.status, attempts(answer), len(house.trail(call))) == (503, 12, 12)
    assert {seen.model for seen in house.trail(call)} == {"m0", "m1", "m2", "m3"}


def test_without_retries_each_model_has_one_attempt(start: Start, alpha: Outage, beta: Outage, gamma: Outage) -> None:
    house = start(
        {"main": [alpha.target(order=1), beta.target(order=2)], "spare": [gamma.target()]},
        num_retries=0,
        fallbacks=[{"main": ["spare"]}],
    )
    alpha.mode = error(500)
    call = outage.marker()
    answer = house.ask("main", call=call)
    assert (answer.status, attempts(answer)) == (200, 2)
    assert house.asked(call) == ["alpha", "gamma"]


@pytest.mark.parametrize("router", [{"fallbacks": [{"*": ["spare"]}]}, {"default_fallbacks": ["spare"]}], ids=str)
def test_a_fallback_can_be_meant_for_all_models(
    start: Start, alpha: Outage, beta: Outage, router: dict[str, Any]
) -> None:
    house = start({"main": [alpha.target()], "other": [alpha.target()], "spare": [beta.target()]}, **router)
    alpha.mode = error(401)
    assert house.ask("main").headers["x-stile-target"] == "openai/beta"
    assert house.ask("other").headers["x-stile-target"] == "openai/beta"
    beta.mode = error(401, "invalid_api_key")
    answer = house.ask("spare")
    assert (answer.status, attempts(answer)) == (401, 1), "a model is not its own fallback"


def test_a_pattern_of_models_has_fallbacks(start: Start, alpha: Outage, beta: Outage) -> None:
    house = start(
        {"wild/*": [alpha.target(model="openai/*")], "spare": [beta.target()]}, fallbacks=[{"wild/*": ["spare"]}]
    )
    answer = house.ask("wild/gpt-7")
    assert (answer.status, answer.headers["x-stile-target"]) == (200, "openai/gpt-7")
    alpha.mode = error(401)
    answer = house.ask("wild/gpt-7")
    assert (answer.status, attempts(answer), answer.headers["x-stile-target"]) == (200, 2, "openai/beta")


# --- what a failure leads to ---


@BOTH
@pytest.mark.parametrize(
    "mode",
    [
        *(error(status) for status in (408, 409, 425, 429, 500, 502, 503, 504, 529)),
        *outage.ENDS_BEFORE_AN_ANSWER,
    ],
    ids=str,
)
def test_a_failure_is_followed_by_the_next_target(
    start: Start, pair: Models, alpha: Outage, mode: Mode, stream: bool
) -> None:
    house = start(pair)
    alpha.mode = mode
    call = outage.marker()
    answer = house.ask("main", call=call, stream=stream)
    assert (answer.status, attempts(answer), answer.headers["x-stile-target"]) == (200, 2, "openai/beta")
    assert house.asked(call) == ["alpha", "beta"]
    assert text_of(answer) == house.trail(call)[1].token


@BOTH
def test_a_refused_connection_is_followed_by_the_next_target(
    start: Start, pair: Models, alpha: Outage, stream: bool
) -> None:
    house = start(pair)
    alpha.refuse()
    call = outage.marker()
    answer = house.ask("main", call=call, stream=stream)
    assert (answer.status, attempts(answer)) == (200, 2)
    assert house.asked(call) == ["beta"]


@BOTH
def test_a_name_that_does_not_resolve_is_followed_by_the_next_target(start: Start, beta: Outage, stream: bool) -> None:
    house = start({"main": [outage.nowhere(order=1), beta.target(order=2)]})
    answer = house.ask("main", stream=stream)
    assert (answer.status, attempts(answer), answer.headers["x-stile-target"]) == (200, 2, "openai/beta")


def test_a_body_that_breaks_off_before_its_end_is_followed_by_the_next_target(
    start: Start, pair: Models, alpha: Outage
) -> None:
    house = start(pair)
    alpha.mode = outage.CUT_IN_BODY
    answer = house.ask("main")
    assert (answer.status, attempts(answer), answer.headers["x-stile-target"]) == (200, 2, "openai/beta")


@BOTH
@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_target_that_does_not_let_the_gateway_in_is_not_tried_again_but_the_others_are(
    start: Start, pair: Models, providers: list[Outage], status: int, stream: bool
) -> None:
    alpha, beta, _ = providers
    house = start(pair, num_retries=4)
    alpha.mode = error(status)
    call = outage.marker()
    answer = house.ask("main", call=call, stream=stream)
    assert (answer.status, house.asked(call)) == (200, ["alpha", "beta"])
    beta.mode = error(status)
    call = outage.marker()
    answer = house.ask("main", call=call, stream=stream)
    assert (answer.status, house.asked(call)) == (status, ["alpha", "beta"])
    assert answer.error["code"] == f"scripted_{status}"


@BOTH
@pytest.mark.parametrize("status", [400, 402, 413, 422])
def test_a_call_that_a_provider_calls_wrong_is_answered_at_once(
    start: Start, providers: list[Outage], status: int, stream: bool
) -> None:
    alpha, beta, gamma = providers
    models = {"main": [alpha.target(order=1), beta.target(order=2)], "spare": [gamma.target()]}
    house = start(models, fallbacks=[{"main": ["spare"]}])
    alpha.mode = error(status)
    call = outage.marker()
    answer = house.ask("main", call=call, stream=stream)
    assert (answer.status, attempts(answer), house.asked(call)) == (status, 1, ["alpha"])
    assert answer.body == house.trail(call)[0].sent


@BOTH
@pytest.mark.parametrize(
    ("mode", "setting"),
    [(outage.CONTEXT_LENGTH, "context_window_fallbacks"), (outage.CONTENT_FILTER, "content_policy_fallbacks")],
    ids=str,
)
def test_a_refusal_of_its_own_kind_goes_to_the_fallbacks_of_that_kind(
    start: Start, providers: list[Outage], mode: Mode, setting: str, stream: bool
) -> None:
    alpha, beta, gamma = providers
    models = {
        "main": [alpha.target(order=1), alpha.target(model="openai/twin", order=2)],
        "special": [beta.target()],
        "spare": [gamma.target()],
    }
    house = start(models, fallbacks=[{"main": ["spare"]}], **{setting: [{"main": ["special"]}]})
    alpha.next(mode)
    call = outage.marker()
    answer = house.ask("main", call=call, stream=stream)
    assert (answer.status, attempts(answer), house.asked(call)) == (200, 2, ["alpha", "beta"])
    alpha.mode = error(401)
    call = outage.marker()
    house.ask("main", call=call, stream=stream)
    assert house.asked(call) == ["alpha", "alpha", "gamma"], "other failures go to the general ones"


@pytest.mark.parametrize("mode", [outage.CONTEXT_LENGTH, outage.CONTENT_FILTER], ids=str)
def test_a_refusal_without_fallbacks_of_its_kind_goes_to_the_general_ones(
    start: Start, alpha: Outage, beta: Outage, gamma: Outage, mode: Mode
) -> None:
    models = {"main": [alpha.target(order=1), beta.target(order=2)], "spare": [gamma.target()]}
    house = start(models, fallbacks=[{"main": ["spare"]}])
    alpha.mode = mode
    call = outage.marker()
    answer = house.ask("main", call=call)
    assert (answer.status, house.asked(call)) == (200, ["alpha", "gamma"]), "without a retry at another target"


@pytest.mark.parametrize("mode", [outage.CONTEXT_LENGTH, outage.CONTENT_FILTER], ids=str)
def test_a_refusal_without_any_fallbacks_is_the_callers_answer(start: Start, alpha: Outage, mode: Mode) -> None:
    house = start({"main": [alpha.target()]})
    alpha.mode = mode
    call = outage.marker()
    answer = house.ask("main", call=call)
    assert (answer.status, attempts(answer)) == (400, 1)
    assert answer.body == house.trail(call)[0].sent


def test_when_all_attempts_failed_the_last_ones_error_is_told(
    start: Start, pair: Models, alpha: Outage, beta: Outage
) -> None:
    house = start(pair, num_retries=1, allowed_fails=100)
    alpha.mode = error(500)
    beta.mode = error(503, "overloaded", message="Too busy.")
    answer = house.ask("main")
    assert (answer.status, answer.error["code"], answer.error["message"]) == (503, "overloaded", "Too busy.")
    beta.mode = outage.RESET_AFTER_HEAD
    answer = house.ask("main")
    assert (answer.status, answer.error["code"]) == (502, "upstream_broken")
    beta.refuse()
    answer = house.ask("main")
    assert (answer.status, answer.error["code"], attempts(answer)) == (502, "upstream_unreachable", 2)


def test_embeddings_are_routed_like_chat(start: Start, pair: Models, alpha: Outage) -> None:
    house = start(pair)
    alpha.mode = error(500)
    call = outage.marker()
    answer = house.gateway.ask("POST", "/v1/embeddings", {"model": "main", "input": f"x-call:{call}"})
    assert (answer.status, attempts(answer), house.asked(call)) == (200, 2, ["alpha", "beta"])
    assert answer.body == house.trail(call)[1].sent


def test_connections_that_died_while_they_were_kept_cost_no_attempt(start: Start, alpha: Outage) -> None:
    house = start({"main": [alpha.target()]})
    alpha.mode = outage.CLOSES
    assert [attempts(house.ask("main")) for _ in range(5)] == [1] * 5
    alpha.mode = outage.OK
    house.ask("main")
    alpha.hang_up()
    answer = house.ask("main")
    assert (answer.status, attempts(answer)) == (200, 1)


# --- time ---


@BOTH
@pytest.mark.parametrize("mode", [outage.HALF_OPEN, outage.STALL_AFTER_HEAD, outage.COMMENT_THEN_STALL], ids=str)
def test_a_target_that_says_nothing_is_followed_by_the_next_when_its_time_is_over(
    start: Start, alpha: Outage, beta: Outage, mode: Mode, stream: bool
) -> None:
    house = start({"main": [alpha.target(order=1, timeout=0.3), beta.target(order=2, timeout=15)]})
    alpha.mode = mode
    call = outage.marker()
    began = time.monotonic()
    answer = house.ask("main", call=call, stream=stream)
    assert time.monotonic() - began >= 0.3
    assert (answer.status, attempts(answer), answer.headers["x-stile-target"]) == (200, 2, "openai/beta")
    first, _ = house.trail(call)
    wait_for(lambda: first.end == "left", "the silent call to be dropped")


def test_a_body_that_stalls_is_followed_by_the_next_target(start: Start, alpha: Outage, beta: Outage) -> None:
    house = start({"main": [alpha.target(order=1, timeout=0.3), beta.target(order=2)]})
    alpha.mode = outage.STALL_IN_BODY
    answer = house.ask("main")
    assert (answer.status, attempts(answer), answer.headers["x-stile-target"]) == (200, 2, "openai/beta")


def test_streams_have_a_time_of_their_own(start: Start, alpha: Outage, beta: Outage) -> None:
    house = start({"main": [alpha.target(order=1), beta.target(order=2)]}, timeout=15, stream_timeout=0.3)
    alpha.mode = outage.HALF_OPEN
    answer = house.ask("main", stream=True)
    assert (answer.status, attempts(answer)) == (200, 2)
    with house.sent("main") as call:
        first = wait_for(lambda: house.trail(call), "the call")[0]
        house.ask("main", stream=True)
        assert first.end == "open", "what holds for streams does not hold for whole answers"


def test_when_nobody_answers_in_time_it_is_a_504(start: Start, alpha: Outage) -> None:
    house = start({"main": [alpha.target()]}, timeout=0.2, num_retries=1)
    alpha.mode = outage.HALF_OPEN
    answer = house.ask("main")
    assert (answer.status, attempts(answer), answer.error["code"]) == (504, 2, "upstream_timeout")


@BOTH
def test_a_call_ends_at_its_deadline_whatever_is_left_to_try(
    start: Start, pair: Models, alpha: Outage, stream: bool
) -> None:
    house = start(pair, seconds=1, timeout=15)
    alpha.mode = outage.HALF_OPEN
    call = outage.marker()
    began = time.monotonic()
    answer = house.ask("main", call=call, stream=stream)
    assert time.monotonic() - began >= 1
    assert (answer.status, answer.error["code"], attempts(answer)) == (504, "upstream_timeout", 1)
    assert answer.headers["x-stile-target"] == "openai/alpha"
    assert house.asked(call) == ["alpha"]


def test_a_stream_that_keeps_coming_may_last_longer_than_its_time_out(start: Start, alpha: Outage) -> None:
    house = start({"main": [alpha.target(stream_timeout=6 * outage.DRIP_SECONDS)]})
    alpha.mode = outage.DRIPS
    began = time.monotonic()
    answer = house.ask("main", stream=True)
    assert time.monotonic() - began > 6 * outage.DRIP_SECONDS
    assert (answer.status, attempts(answer)) == (200, 1)
    assert answer.body.endswith(DONE)


@pytest.mark.parametrize(
    ("mode", "seconds"),
    [
        (outage.rate_limited(retry_after="1"), 1),
        (outage.rate_limited(retry_after_ms="700"), 0.7),
        (outage.rate_limited_until(1), 1),
        (error(503, headers={"retry-after": "1"}), 1),
    ],
    ids=["seconds", "milliseconds", "date", "503"],
)
def test_a_pause_is_as_long_as_the_provider_asks(start: Start, alpha: Outage, mode: Mode, seconds: float) -> None:
    house = start({"main": [alpha.target()]})
    alpha.next(mode)
    call = outage.marker()
    answer = house.ask("main", call=call)
    assert (answer.status, attempts(answer)) == (200, 2)
    first, second = house.trail(call)
    assert second.at - first.at >= seconds


def test_a_pause_is_as_long_as_the_configuration_asks(start: Start, alpha: Outage) -> None:
    house = start({"main": [alpha.target()]}, retry_after=1)
    alpha.next(error(500))
    call = outage.marker()
    assert house.ask("main", call=call).status == 200
    first, second = house.trail(call)
    assert second.at - first.at >= 1


def test_another_target_is_tried_without_a_pause(start: Start, pair: Models, alpha: Outage) -> None:
    house = start(pair, retry_after=30)
    alpha.mode = outage.rate_limited(retry_after="60")
    answer = house.ask("main")
    assert (answer.status, attempts(answer), answer.headers["x-stile-target"]) == (200, 2, "openai/beta")


@BOTH
def test_a_long_retry_after_is_not_waited_for_but_told(start: Start, alpha: Outage, stream: bool) -> None:
    house = start({"main": [alpha.target()]})
    alpha.next(outage.rate_limited(retry_after="60"))
    answer = house.ask("main", stream=stream)
    assert (answer.status, attempts(answer), answer.headers["retry-after"]) == (429, 1, "60")
    assert answer.error["code"] == "rate_limit_exceeded"


def test_a_pause_that_would_pass_the_deadline_is_not_made(start: Start, alpha: Outage) -> None:
    house = start({"main": [alpha.target()]}, seconds=2)
    alpha.next(outage.rate_limited(retry_after="3"))
    answer = house.ask("main")
    assert (answer.status, attempts(answer), answer.headers["retry-after"]) == (429, 1, "3")


# --- streams that have begun ---


@pytest.mark.parametrize("mode", [outage.CUT_IN_BODY, outage.STALL_IN_BODY], ids=str)
def test_a_stream_that_ends_too_early_ends_with_an_error_and_nobody_else_is_asked(
    start: Start, pair: Models, alpha: Outage, mode: Mode
) -> None:
    house = start(pair, stream_timeout=0.5)
    alpha.mode = mode
    call = outage.marker()
    answer = house.ask("main", call=call, stream=True)
    assert (answer.status, attempts(answer), house.asked(call)) == (200, 1, ["alpha"])
    begun, _, last = answer.body.removesuffix(b"\n\n").rpartition(b"\n\n")
    assert begun + b"\n\n" == house.trail(call)[0].sent
    wanted = "upstream_broken" if mode is outage.CUT_IN_BODY else "upstream_timeout"
    assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == wanted
    assert house.gateway.line_of(answer.headers["x-request-id"])["error"] == wanted


def test_a_stream_ends_with_an_error_at_the_calls_deadline(start: Start, pair: Models, alpha: Outage) -> None:
    house = start(pair, seconds=1, timeout=15)
    alpha.mode = outage.STALL_IN_BODY
    call = outage.marker()
    answer = house.ask("main", call=call, stream=True)
    assert (answer.status, attempts(answer), house.asked(call)) == (200, 1, ["alpha"])
    last = answer.body.removesuffix(b"\n\n").rpartition(b"\n\n")[2]
    assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "upstream_timeout"


def test_a_stream_that_is_reset_ends_with_an_error_and_nobody_else_is_asked(
    start: Start, pair: Models, alpha: Outage
) -> None:
    house = start(pair)
    alpha.mode = outage.RESET_BEHIND_GATE
    with house.reading("main") as (call, response):
        (token,) = outage.tokens(response.readline() + response.readline() + response.readline())
        alpha.open()
        rest = response.read()
    assert [(seen.provider, seen.token) for seen in house.trail(call)] == [("alpha", token)]
    error_event, end = rest.removeprefix(b"\n").split(b"\n\n")
    assert json.loads(error_event.removeprefix(b"data: "))["error"]["code"] == "upstream_broken"
    assert end == b""


# --- cool-down ---


def test_three_failures_in_a_row_put_a_target_last(start: Start, pair: Models, alpha: Outage) -> None:
    house = start(pair, cooldown_time=60)
    alpha.next(error(500), error(500), outage.OK, error(500), error(500))
    for _ in range(5):
        house.ask("main")
        assert house.state("main") == {"alpha": "ok", "beta": "ok"}, "one that answers in between begins anew"
    alpha.next(error(500))
    house.ask("main")
    alpha_, beta_ = house.targets("main").values()
    assert (alpha_["state"], beta_["state"]) == ("cooling", "ok")
    assert alpha_["last_error"]
    assert (beta_["until"], beta_["last_error"]) == (None, None)
    left = alpha_["until"] - time.time()
    assert 0 < left <= 61
    answer = house.ask("main")
    assert (attempts(answer), answer.headers["x-stile-target"]) == (1, "openai/beta")


@pytest.mark.parametrize("mode", [outage.CUT_IN_BODY, outage.RESET_IN_BODY, outage.STALL_IN_BODY], ids=str)
def test_streams_that_break_off_count_as_failures(start: Start, pair: Models, alpha: Outage, mode: outage.Mode) -> None:
    house = start(pair, cooldown_time=60, allowed_fails=2, stream_timeout=1)
    alpha.next(mode, outage.OK, mode, mode)
    for cooling in ("ok", "ok", "ok", "cooling"):
        house.ask("main", stream=True)
        assert house.state("main")["alpha"] == cooling, "a whole answer in between begins anew"


def test_as_many_failures_as_are_allowed_put_a_target_last(start: Start, pair: Models, alpha: Outage) -> None:
    house = start(pair, cooldown_time=60, allowed_fails=1)
    alpha.next(error(500))
    house.ask("main")
    assert house.state("main") == {"alpha": "cooling", "beta": "ok"}


def test_who_cannot_be_reached_is_last_at_once(start: Start, alpha: Outage, beta: Outage) -> None:
    house = start({"main": [outage.nowhere(order=1), alpha.target(order=2), beta.target(order=3)]}, cooldown_time=60)
    alpha.refuse()
    assert attempts(house.ask("main")) == 3
    assert house.state("main") == {"nowhere": "cooling", "alpha": "cooling", "beta": "ok"}
    ready = house.gateway.ask("GET", "/health/ready").json["targets"]
    shown = {one["target"]: (one["id"], one["state"]) for one in house.targets("main").values()}
    assert {one["target"]: (name, one["state"]) for name, one in ready.items() if name != "echo"} == shown
    assert attempts(house.ask("main")) == 1


def test_a_short_retry_after_is_no_failure_that_counts(start: Start, pair: Models, alpha: Outage) -> None:
    house = start(pair, cooldown_time=60, allowed_fails=1)
    alpha.next(outage.rate_limited(retry_after="1"), outage.rate_limited(retry_after_ms="10"))
    assert [attempts(house.ask("main")) for _ in range(2)] == [2, 2]
    assert house.state("main") == {"alpha": "ok", "beta": "ok"}


def test_a_long_retry_after_keeps_a_target_last_for_as_long_as_it_says(
    start: Start, pair: Models, alpha: Outage
) -> None:
    house = start(pair, cooldown_time=1)
    alpha.next(outage.rate_limited(retry_after="90"))
    before = time.time()
    house.ask("main")
    shown = house.targets("main")["alpha"]
    assert shown["state"] == "cooling"
    assert shown["until"] >= int(before) + 90
    assert house.ask("main").headers["x-stile-target"] == "openai/beta"


def test_a_target_that_cools_down_is_still_tried_when_the_others_fail(
    start: Start, pair: Models, alpha: Outage, beta: Outage
) -> None:
    house = start(pair, cooldown_time=60, allowed_fails=1)
    alpha.next(error(500))
    house.ask("main")
    beta.mode = error(500)
    call = outage.marker()
    answer = house.ask("main", call=call)
    assert (answer.status, house.asked(call)) == (200, ["beta", "alpha"])


def test_when_all_targets_cool_down_the_one_due_first_is_tried(
    start: Start, pair: Models, alpha: Outage, beta: Outage
) -> None:
    house = start(pair, cooldown_time=30, allowed_fails=1, num_retries=1)
    alpha.next(outage.rate_limited(retry_after="90"))
    beta.next(error(500))
    assert house.ask("main").status == 500
    assert house.state("main") == {"alpha": "cooling", "beta": "cooling"}
    answer = house.ask("main")
    assert (answer.status, attempts(answer), answer.headers["x-stile-target"]) == (200, 1, "openai/beta")


def test_after_its_cool_down_a_target_has_its_place_again(start: Start, pair: Models, alpha: Outage) -> None:
    house = start(pair, cooldown_time=1, allowed_fails=1)
    alpha.next(error(500))
    house.ask("main")
    assert house.state("main")["alpha"] == "cooling"
    wait_for(lambda: house.state("main")["alpha"] == "ok", "the end of the cool-down")
    answer = house.ask("main")
    assert (attempts(answer), answer.headers["x-stile-target"]) == (1, "openai/alpha")


# --- what is said about it ---


@BOTH
def test_every_answer_says_who_gave_it_and_how_many_were_asked(
    start: Start, pair: Models, alpha: Outage, beta: Outage, stream: bool
) -> None:
    house = start(pair, num_retries=1)
    ids = {label: target["id"] for label, target in house.targets("main").items()}
    assert ids["alpha"] != ids["beta"]
    for mode, status in ((outage.OK, 200), (error(503), 503), (error(400), 400)):
        alpha.mode, beta.mode = error(500), mode
        answer = house.ask("main", stream=stream)
        headers = answer.headers
        assert answer.status == status
        assert (headers["x-stile-target"], headers["x-stile-attempts"]) == ("openai/beta", "2")
        assert headers["x-litellm-model-id"] == ids["beta"]
        assert headers["x-litellm-call-id"] == headers["x-request-id"]
        assert float(headers["x-stile-overhead-ms"]) >= 0
        line = house.gateway.line_of(headers["x-request-id"])
        assert (line["target"], line["attempts"], line["status"]) == ("openai/beta", 2, status)
        alpha.mode = outage.OK
        house.ask("main")  # so that alpha never fails three times in a row


def test_the_models_are_shown_with_their_targets_and_fallbacks(start: Start, pair: Models, beta: Outage) -> None:
    house = start({**pair, "spare": [beta.target()]}, fallbacks=[{"main": ["spare"]}])
    shown = {model["id"]: model for model in house.gateway.ask("GET", "/api/models").json["data"]}
    assert [target["target"] for target in shown["main"]["targets"]] == ["openai/alpha", "openai/beta"]
    assert shown["main"]["fallbacks"] == ["spare"]
    assert shown["spare"]["fallbacks"] == []
    assert {target["state"] for model in shown.values() for target in model["targets"]} == {"ok"}


# --- clients that go away ---


@BOTH
@pytest.mark.parametrize("mode", [outage.HALF_OPEN, outage.rate_limited(retry_after="4")], ids=["silence", "pause"])
def test_nobody_else_is_asked_when_the_client_has_gone(
    start: Start, alpha: Outage, beta: Outage, mode: Mode, stream: bool
) -> None:
    models = {"main": [alpha.target(timeout=15)], "spare": [beta.target()]}
    house = start(models, fallbacks=[{"main": ["spare"]}])
    alpha.mode = mode
    with house.sent("main", stream=stream) as call:
        wait_for(lambda: house.trail(call), "the call to arrive")
    line = wait_for(lambda: next(iter(house.gateway.calls()), None), "the log line")
    assert (line["status"], line["error"], line["attempts"]) == (499, "client_gone", 1)
    seen = house.trail(call)
    assert [one.provider for one in seen] == ["alpha"]
    if mode is outage.HALF_OPEN:
        wait_for(lambda: seen[0].end == "left", "the provider's connection to be closed")


# --- the bytes ---


ODD: bytes = (
    b'{"prompt_cache_key":"\\u0061","model":"main","messages":[ {"role":"system","content":[{"type":"text", "text":"S",'
    b' "cache_control":{"type" : "ephemeral"}}]},\n {"role":"user","content":"Gr\\u00fc\xc3\x9fe x-call:%b."} ],'
    b'"stream":%b,"x_new":{"a":[1, 2.50, 1E3]},"prompt_cache_retention" :"24h",'
    b'"stream_options":{ "include_usage" :true},"seed":12345678901234567890}'
)


@BOTH
def test_a_relay_changes_nothing_but_the_models_name(start: Start, pair: Models, alpha: Outage, stream: bool) -> None:
    house = start(pair)
    alpha.mode = error(500)
    call = outage.marker()
    body = ODD % (call.encode(), b"true" if stream else b"false")
    answer = house.gateway.ask("POST", CHAT, body)
    assert (answer.status, attempts(answer)) == (200, 2)
    first, second = house.trail(call)
    whole = body.replace(b'"prompt_cache_retention" :', b'"prompt_cache_retention":')
    assert first.call.body == whole.replace(b'"model":"main"', b'"model":"alpha"')
    assert second.call.body == whole.replace(b'"model":"main"', b'"model":"beta"')
    assert answer.body == second.sent


def test_only_the_usage_that_nobody_asked_for_is_held_back(start: Start, alpha: Outage) -> None:
    house = start({"main": [alpha.target()]})
    call = outage.marker()
    answer = house.ask("main", call=call, stream=True)
    sent = house.trail(call)[0].sent
    *events, usage, done, end = sent.split(b"\n\n")
    assert b"prompt_tokens" in usage
    assert (done + b"\n\n", end) == (DONE, b"")
    assert answer.body == b"\n\n".join([*events, done, end])


# --- what a call may not say ---


REFUSED = [
    *("api_base", "base_url", "api_key", "api_version", "api_type", "custom_llm_provider", "organization"),
    *("model_list", "fallbacks", "num_retries", "mock_response", "extra_headers", "headers"),
    *("aws_region_name", "aws_anything", "vertex_project", "azure_ad_token"),
]


def test_a_call_cannot_point_the_gateway_anywhere(start: Start, alpha: Outage) -> None:
    house = start({"main": [alpha.target()]})
    seen = len(alpha.seen)
    for field in REFUSED:
        fields: dict[str, Any] = {field: "http://127.0.0.1:9/v1"}
        answer = house.ask("main", **fields)
        assert (answer.status, answer.error["type"], answer.error["param"]) == (400, "invalid_request_error", field)
    assert len(alpha.seen) == seen
    assert house.ask("main", headers_="no", vertex="no").status == 200, "what only looks alike passes"
