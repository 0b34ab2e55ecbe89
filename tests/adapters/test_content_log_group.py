"""The content log as a log group: in moto's CloudWatch, which checks signatures and policies, and in one that plays
every fault. Whatever happens, a line costs bounded time, nothing is raised, and nothing of it is in another log."""

import asyncio
import itertools
import json
import os
import re
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.mocks import aws, provider
from tests.mocks.aws import REGION, Aws
from tests.mocks.provider import Exchange, Provider, Script

from stile.adapters import content_log_group
from stile.adapters.content_log_group import MAX_BYTES, REST_SECONDS, SECONDS, ContentLogGroup
from stile.errors import ConfigError

KEY = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "planted-secret", "AWS_REGION": REGION}
LINE = '{"request_id":"req_1","request":"planted, and über"}'.encode()
NAME = re.compile(r"\d{4}/\d\d/\d\d/[0-9a-f]{32}")
CREATE, PUT = "Logs_20140328.CreateLogStream", "Logs_20140328.PutLogEvents"
_groups = (f"/aws/lambda/stile-{number}-content" for number in itertools.count(1))


@pytest.fixture(scope="module")
def cloud() -> Iterator[Aws]:
    with tempfile.TemporaryDirectory() as folder, aws.running(Path(folder)) as running:
        yield running


@asynccontextmanager
async def opened(group: str, environment: dict[str, str], **options: Any) -> AsyncIterator[ContentLogGroup]:
    log = ContentLogGroup(group, environment, **options)
    try:
        yield log
    finally:
        await log.close()


def made(cloud: Aws) -> str:
    """A new log group."""
    group = next(_groups)
    with cloud.client("logs") as logs:
        logs.create_log_group(logGroupName=group)
    return group


def allowed(cloud: Aws) -> dict[str, str]:
    return cloud.allowing(logs_CreateLogStream="*", logs_PutLogEvents="*")


def kept(cloud: Aws, group: str) -> dict[str, list[str]]:
    """The messages of each stream."""
    with cloud.client("logs") as logs:
        names = [one["logStreamName"] for one in logs.describe_log_streams(logGroupName=group)["logStreams"]]
        return {name: [event["message"] for event in events(logs, group, name)] for name in names}


def events(logs: Any, group: str, stream: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = logs.get_log_events(logGroupName=group, logStreamName=stream)["events"]
    return found


def scripted(script: Script, test: Callable[[Provider, ContentLogGroup], Awaitable[None]], **options: Any) -> None:
    """Run a test against a service that plays this script."""

    async def run() -> None:
        async with provider.running(script) as service:
            environment = {**KEY, "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": service.url}
            async with opened("group", environment, **options) as log:
                await test(service, log)

    asyncio.run(run())


def refusing(operation: str, *answers: Script) -> Script:
    """Answers to one operation in turn, and then nothing but success."""
    left = list(answers)

    async def script(exchange: Exchange) -> None:
        due = left.pop(0) if left and operations(exchange) == operation else OK
        await due(exchange)

    return script


def operations(exchange: Exchange) -> str:
    return exchange.call.headers["x-amz-target"]


def asked(service: Provider) -> list[str]:
    return [call.headers["x-amz-target"] for call in service.calls]


def error(code: str, message: str = "planted", status: int = 400) -> Script:
    return provider.status(status, {"__type": f"com.amazonaws.logs#{code}", "message": message})


OK = provider.status(200, {})
GONE = error("ResourceNotFoundException")
THERE = error("ResourceAlreadyExistsException")


# --- in moto's CloudWatch ---


def test_lines_are_events_of_a_stream_that_each_log_makes_for_itself(cloud: Aws) -> None:
    group = made(cloud)

    async def test() -> None:
        for number in range(2):
            async with opened(group, allowed(cloud)) as log:
                assert len(kept(cloud, group)) == number, "a stream is made with its first line"
                before = time.time() * 1000 // 1
                await log.write(LINE)
                await log.write(b'{"n":%d}' % number)
        streams = kept(cloud, group)
        assert sorted(streams.values()) == [[LINE.decode(), '{"n":0}'], [LINE.decode(), '{"n":1}']]
        assert all(NAME.fullmatch(name) for name in streams)
        with cloud.client("logs") as logs:
            stamps = [event["timestamp"] for name in streams for event in events(logs, group, name)]
        assert before <= max(stamps) <= time.time() * 1000

    asyncio.run(test())


def test_lines_that_come_at_once_share_one_stream(cloud: Aws, caplog: pytest.LogCaptureFixture) -> None:
    group = made(cloud)
    lines = [b'{"n":%d}' % number for number in range(20)]

    async def test() -> None:
        async with opened(group, allowed(cloud)) as log:
            await asyncio.gather(*map(log.write, lines))

    asyncio.run(test())
    ((_, messages),) = kept(cloud, group).items()
    assert sorted(messages) == sorted(line.decode() for line in lines)
    assert caplog.messages == []


def test_a_stream_that_somebody_deleted_is_made_again(cloud: Aws, caplog: pytest.LogCaptureFixture) -> None:
    group = made(cloud)

    async def test() -> None:
        async with opened(group, allowed(cloud)) as log:
            await log.write(b'"before"')
            (stream,) = kept(cloud, group)
            with cloud.client("logs") as logs:
                logs.delete_log_stream(logGroupName=group, logStreamName=stream)
            await log.write(b'"after"')
            assert kept(cloud, group) == {stream: ['"after"']}

    asyncio.run(test())
    assert caplog.messages == []


def test_what_is_made_from_a_snapshot_has_a_stream_of_its_own(cloud: Aws) -> None:
    group = made(cloud)

    async def test() -> None:
        async with opened(group, allowed(cloud)) as log:
            await log.write(b'"before"')
            await log.release()
            await log.write(b'"after"')

    asyncio.run(test())
    assert sorted(kept(cloud, group).values()) == [['"after"'], ['"before"']]


@pytest.mark.parametrize("missing", ["CreateLogStream", "PutLogEvents"])
def test_a_missing_permission_is_told_once_and_hinders_nobody(
    cloud: Aws, caplog: pytest.LogCaptureFixture, missing: str
) -> None:
    group = made(cloud)
    actions = {f"logs_{name}": "*" for name in ("CreateLogStream", "PutLogEvents") if name != missing}

    async def test() -> None:
        async with opened(group, cloud.allowing(**actions)) as log:
            for _ in range(3):
                await log.write(LINE)

    asyncio.run(test())
    (told,) = caplog.messages
    assert told.startswith(f"STILE_CONTENT_LOG: cloudwatch:{group}: a line was lost: AccessDenied")


def test_a_log_group_that_is_not_there_is_told(cloud: Aws, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with opened("/nowhere", allowed(cloud)) as log:
            await log.write(LINE)
            await log.write(LINE)

    asyncio.run(test())
    (told,) = caplog.messages
    assert "ResourceNotFoundException; there is no such log group in this account and region: make it, or" in told


def test_the_largest_line_arrives_and_a_larger_one_is_not_sent(cloud: Aws, caplog: pytest.LogCaptureFixture) -> None:
    group = made(cloud)
    largest = b'"' + b"a" * (MAX_BYTES - 2) + b'"'

    async def test() -> None:
        async with opened(group, allowed(cloud)) as log:
            await log.write(largest)
            await log.write(largest + b" ")

    asyncio.run(test())
    assert list(kept(cloud, group).values()) == [[largest.decode()]]
    assert MAX_BYTES + 26 == 1_048_576
    (told,) = caplog.messages
    assert told.endswith("it is longer than CloudWatch takes; set STILE_CONTENT_BYTES lower")


# --- in a CloudWatch that fails in every way ---


def test_without_a_region_the_start_is_refused() -> None:
    async def test() -> None:
        with pytest.raises(ConfigError) as refused:
            ContentLogGroup("group", {})
        assert refused.value.faults == [
            "STILE_CONTENT_LOG: cloudwatch:group cannot be written without a region; set AWS_REGION"
        ]
        async with opened("group", {"AWS_DEFAULT_REGION": REGION}):
            pass

    asyncio.run(test())


def test_a_request_says_what_cloudwatchs_model_asks_for() -> None:
    async def test(service: Provider, log: ContentLogGroup) -> None:
        await log.write(LINE)
        await log.write(LINE)
        assert asked(service) == [CREATE, PUT, PUT]
        create, put, _ = service.calls
        assert create.headers["content-type"] == put.headers["content-type"] == "application/x-amz-json-1.1"
        assert f"/{REGION}/logs/aws4_request" in put.headers["authorization"]
        assert create.json == {"logGroupName": "group", "logStreamName": put.json["logStreamName"]}
        assert put.json.keys() == {"logGroupName", "logStreamName", "logEvents"}
        assert [event.keys() for event in put.json["logEvents"]] == [{"timestamp", "message"}]

    scripted(OK, test)


@pytest.mark.parametrize(
    "failure",
    [
        error("ThrottlingException"),
        error("ServiceUnavailableException", status=500),
        provider.status(503, {}),
        lambda exchange: asyncio.to_thread(exchange.reset),
    ],
    ids=["throttled", "unavailable", "without a name", "reset"],
)
@pytest.mark.parametrize("operation", [CREATE, PUT])
def test_what_fails_in_passing_is_sent_again(failure: Script, operation: str, caplog: pytest.LogCaptureFixture) -> None:
    async def test(service: Provider, log: ContentLogGroup) -> None:
        await log.write(LINE)
        assert asked(service) == sorted([CREATE, PUT, operation])

    scripted(refusing(operation, failure), test)
    assert caplog.messages == []


def test_a_stream_that_is_there_already_is_as_good_as_made(caplog: pytest.LogCaptureFixture) -> None:
    async def test(service: Provider, log: ContentLogGroup) -> None:
        await log.write(LINE)
        await log.write(LINE)
        assert asked(service) == [CREATE, PUT, PUT]

    scripted(refusing(CREATE, THERE), test)
    assert caplog.messages == []


def test_a_stream_that_is_always_gone_is_made_again_once_for_each_line(caplog: pytest.LogCaptureFixture) -> None:
    async def test(service: Provider, log: ContentLogGroup) -> None:
        await log.write(LINE)
        assert asked(service) == [CREATE, PUT, CREATE, PUT]
        await log.write(LINE)
        assert asked(service)[4:] == [PUT]

    scripted(refusing(PUT, GONE, GONE), test)
    assert len(caplog.messages) == 1


ECHO = "1 validation error detected: Value '[InputLogEvent(message={})]' at 'logEvents' failed to satisfy constraint"


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (error("InvalidParameterException", ECHO.format(LINE.decode())), "InvalidParameterException"),
        (error("ThrottlingException"), "ThrottlingException"),
        (error("ServiceUnavailableException", status=503), "ServiceUnavailableException"),
        (
            error("AccessDeniedException"),
            "AccessDeniedException; allow logs:CreateLogStream and logs:PutLogEvents on it",
        ),
        (
            error("ExpiredTokenException"),
            "ExpiredTokenException; AWS does not take these credentials; renew them",
        ),
        (
            error("UnrecognizedClientException"),
            "UnrecognizedClientException; AWS does not take these credentials; renew them",
        ),
        (lambda exchange: exchange.answer(502, b"<html>" + LINE), "Status502"),
        (lambda exchange: exchange.answer(200, LINE[:-1]), "Unreadable: the answer to PutLogEvents is not what .* be"),
        (lambda exchange: asyncio.to_thread(exchange.reset), "Unreachable: .*; check the network; .*"),
        (
            provider.status(200, {"rejectedLogEventsInfo": {"tooNewLogEventStartIndex": 0}}),
            "CloudWatch does not take lines of this time; set this machine's clock",
        ),
    ],
)
def test_every_fault_is_told_once_without_a_word_of_the_line(
    failure: Script, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(_: Provider, log: ContentLogGroup) -> None:
        await log.write(LINE)
        await log.write(LINE)

    scripted(refusing(PUT, *[failure] * 8), test)
    assert len(caplog.messages) == 1
    assert re.fullmatch(f"STILE_CONTENT_LOG: cloudwatch:group: a line was lost: {told}", caplog.messages[0])
    assert "planted" not in caplog.text


@pytest.mark.parametrize("operation", [CREATE, PUT])
def test_a_service_that_does_not_answer_costs_bounded_time_and_is_then_left_in_peace(
    operation: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content_log_group, "SECONDS", 0.1)
    now = 1000.0
    hangs = True

    async def script(exchange: Exchange) -> None:
        if hangs and operations(exchange) == operation:
            await exchange.hung_up()
        else:
            await OK(exchange)

    async def test(service: Provider, log: ContentLogGroup) -> None:
        nonlocal now, hangs
        async with asyncio.timeout(provider.SETTLED):
            await asyncio.gather(log.write(LINE), log.write(LINE))
        came = len(service.calls)
        await log.write(LINE)
        now += REST_SECONDS - 0.1
        await log.write(LINE)
        assert len(service.calls) == came
        hangs = False
        monkeypatch.setattr(content_log_group, "SECONDS", provider.SETTLED)
        now += 0.2
        await log.write(LINE)
        assert asked(service)[came:][-1] == PUT

    scripted(script, test, clock=lambda: now)
    assert caplog.messages == [
        "STILE_CONTENT_LOG: cloudwatch:group: a line was lost: TimedOut: there was no answer within 2 seconds; check"
        " the network; a function in a VPC needs an endpoint of the service, or a way out"
    ]
    assert SECONDS == 2


def test_a_restored_process_does_not_rest_for_what_another_met(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content_log_group, "SECONDS", 0.1)
    hangs = True

    async def script(exchange: Exchange) -> None:
        await (exchange.hung_up() if hangs else OK(exchange))

    async def test(service: Provider, log: ContentLogGroup) -> None:
        nonlocal hangs
        await log.write(LINE)
        hangs = False
        monkeypatch.setattr(content_log_group, "SECONDS", provider.SETTLED)
        await log.release()
        await log.write(LINE)
        first, again, put = service.calls
        assert first.json != again.json
        assert put.json["logEvents"][0]["message"] == LINE.decode()

    scripted(script, test)


def test_without_credentials_the_log_says_what_to_set(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    async def test() -> None:
        async with opened("group", {"AWS_REGION": REGION}) as log:
            await log.write(LINE)

    asyncio.run(test())
    (told,) = caplog.messages
    assert "NoCredentials: there are none; set AWS_PROFILE, or AWS_ACCESS_KEY_ID" in told


def test_a_call_that_is_cancelled_meanwhile_stays_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    async def script(exchange: Exchange) -> None:
        came.set()
        await exchange.hung_up()

    came = asyncio.Event()

    async def test(_: Provider, log: ContentLogGroup) -> None:
        writing = asyncio.ensure_future(log.write(LINE))
        await asyncio.wait_for(came.wait(), provider.SETTLED)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing

    scripted(script, test)
    assert caplog.messages == []


def test_names_are_of_the_systems_random_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []

    def urandom(size: int) -> bytes:
        drawn.append(size)
        return bytes(range(size))

    monkeypatch.setattr(os, "urandom", urandom)

    async def test(service: Provider, log: ContentLogGroup) -> None:
        await log.write(LINE)
        assert json.loads(service.calls[0].body)["logStreamName"].endswith(bytes(range(16)).hex())

    scripted(OK, test)
    assert 16 in drawn
