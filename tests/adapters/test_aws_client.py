"""Signed calls: against moto, which checks the signatures, and against a scripted service that fails in every way."""

import asyncio
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.mocks import aws, provider
from tests.mocks.aws import REGION, Aws
from tests.mocks.provider import Exchange, Provider, Script

from stile.adapters.aws_client import AwsClient, Service
from stile.adapters.aws_error import AwsError

SOURCES = Path(__file__).parent.parent.parent / "src" / "lambda"
COGNITO = Service("cognito-idp", "COGNITO_IDENTITY_PROVIDER", "AWSCognitoIdentityProviderService")
KEY = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "planted"}
THROTTLED = {"__type": "TooManyRequestsException", "message": "Too many"}
MIB = 1024 * 1024


class User(msgspec.Struct):
    name: str = msgspec.field(name="Username", default="")


@pytest.fixture(scope="module")
def cloud() -> Iterator[Aws]:
    with tempfile.TemporaryDirectory() as folder, aws.running(Path(folder)) as running:
        yield running


@asynccontextmanager
async def client(environment: dict[str, str], **options: Any) -> AsyncIterator[AwsClient]:
    made = AwsClient(environment, **options)
    try:
        yield made
    finally:
        await made.close()


def at(service: Provider, **more: str) -> dict[str, str]:
    return {**KEY, "AWS_ENDPOINT_URL": service.url, **more}


async def user(of: AwsClient, name: str = "x") -> User:
    return await of.call(COGNITO, REGION, "AdminGetUser", {"UserPoolId": "p", "Username": name}, User)


async def model_file(of: AwsClient, limit: int = MIB) -> bytes:
    return await of.get_object("models", "config.yaml", region=REGION, limit=limit)


def scripted(script: Script, test: Callable[[Provider, AwsClient], Awaitable[None]], **options: Any) -> None:
    """Run a test against a service that plays this script."""

    async def run() -> None:
        async with provider.running(script) as service, client(at(service), **options) as made:
            await test(service, made)

    asyncio.run(run())


def in_turn(*scripts: Script) -> Script:
    """One script a call; the last one from then on."""
    left = list(scripts)

    async def script(exchange: Exchange) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(exchange)

    return script


OK = provider.status(200, {"Username": "ann"})


# --- the real shapes, by moto ---


@pytest.mark.parametrize("key", ["config.yaml", "a/b c/ü+%41~(1)/=&?#.yaml"])
def test_an_object_is_read_whatever_its_key(cloud: Aws, key: str) -> None:
    bucket = f"models-{len(key)}"
    cloud.store(bucket, key, b"content")

    async def test() -> None:
        async with client(cloud.allowing(s3_GetObject=f"arn:aws:s3:::{bucket}/*")) as made:
            assert await made.get_object(bucket, key, region=REGION, limit=7) == b"content"
            with pytest.raises(AwsError) as refused:
                await made.get_object(bucket, key, region=REGION, limit=6)
            assert refused.value.code == "TooLarge"

    asyncio.run(test())


def test_an_operation_answers_its_result_and_its_errors_by_name(cloud: Aws) -> None:
    with cloud.client("cognito-idp") as cognito:
        pool = cognito.create_user_pool(PoolName="p")["UserPool"]["Id"]
        cognito.admin_create_user(UserPoolId=pool, Username="ann")

    async def test() -> None:
        environment = cloud.allowing(**{"cognito-idp_AdminGetUser": "*"})
        async with client(environment) as made:
            found = await made.call(COGNITO, REGION, "AdminGetUser", {"UserPoolId": pool, "Username": "ann"}, User)
            assert found.name == "ann"
            with pytest.raises(AwsError) as refused:
                await made.call(COGNITO, REGION, "AdminGetUser", {"UserPoolId": pool, "Username": "bob"}, User)
            assert (refused.value.status, refused.value.code) == (400, "UserNotFoundException")
            assert refused.value.message == "User does not exist."
        async with client({**environment, "AWS_SECRET_ACCESS_KEY": "another"}) as made:
            with pytest.raises(AwsError) as refused:
                await user(made)
            assert (refused.value.status, refused.value.code) == (403, "SignatureDoesNotMatch")

    asyncio.run(test())


# --- what is sent again, and what is not ---


def test_what_aws_throttles_is_sent_again() -> None:
    async def test(service: Provider, made: AwsClient) -> None:
        assert (await user(made)).name == "ann"
        assert len(service.calls) == 4
        assert len({call.body for call in service.calls}) == 1

    scripted(in_turn(*[provider.status(400, THROTTLED)] * 3, OK), test)


def test_what_aws_goes_on_to_throttle_is_given_up() -> None:
    async def test(service: Provider, made: AwsClient) -> None:
        with pytest.raises(AwsError) as refused:
            await user(made)
        assert (refused.value.code, len(service.calls)) == ("TooManyRequestsException", 4)

    scripted(provider.status(400, THROTTLED), test)


async def reset(exchange: Exchange) -> None:
    exchange.reset()


@pytest.mark.parametrize(
    "failure", [provider.status(503, {}), provider.status(500, {"__type": "InternalError"}), reset]
)
def test_a_servers_fault_is_tried_once_more(failure: Script) -> None:
    async def test(service: Provider, made: AwsClient) -> None:
        assert (await user(made)).name == "ann"
        assert len(service.calls) == 2

    scripted(in_turn(failure, OK), test)

    async def in_vain(service: Provider, made: AwsClient) -> None:
        with pytest.raises(AwsError):
            await user(made)
        assert len(service.calls) == 2

    scripted(failure, in_vain)


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (
            b'{"__type":"com.amazonaws.x#NotAuthorizedException","Message":"No\\n way"}',
            "NotAuthorizedException",
            "No way",
        ),
        (b'{"__type":"A","message":"' + b"a" * 1000 + b'"}', "A", "a" * 300),
        (b'{"__type":5}', "Status400", ""),
        (b"gibberish", "Status400", ""),
        (b"", "Status400", ""),
        (b"<Error><Code>X</Code><Message>a &lt; b</Message></Error>", "X", "a < b"),
        (b"<html>", "Status400", ""),
    ],
)
def test_an_error_is_read_in_every_shape_and_a_callers_fault_is_not_sent_again(
    body: bytes, code: str, message: str
) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.answer(400, body)

    async def test(service: Provider, made: AwsClient) -> None:
        with pytest.raises(AwsError) as refused:
            await user(made)
        assert (refused.value.code, refused.value.message, refused.value.status) == (code, message, 400)
        assert len(service.calls) == 1

    scripted(script, test)


def test_an_answer_that_never_comes_ends_with_the_time() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.hung_up()

    async def test(_: Provider, made: AwsClient) -> None:
        with pytest.raises(AwsError, match=r"within 0\.1 seconds") as refused:
            await user(made)
        assert refused.value.code == "TimedOut"

    scripted(script, test, seconds=0.1)


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({**KEY, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "Unreachable: connection refused; check the network"),
        ({**KEY, "AWS_ENDPOINT_URL": "127.0.0.1:9"}, "CannotBeSent: .*; check what of AWS stands in the environment"),
        ({**KEY, "AWS_ENDPOINT_URL": "localhost"}, "CannotBeSent: "),
        ({**KEY, "AWS_ENDPOINT_URL": "http://127.0.0.1:x"}, "CannotBeSent: "),
        ({**KEY, "AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_SESSION_TOKEN": "a\nplanted"}, "CannotBeSent: "),
    ],
)
def test_what_cannot_be_sent_is_told_without_secrets(environment: dict[str, str], told: str) -> None:
    async def test() -> None:
        async with client(environment) as made:
            with pytest.raises(AwsError) as refused:
                await user(made)
        assert re.match(told, refused.value.told({}))
        assert "planted" not in refused.value.told({})

    asyncio.run(test())


def test_an_empty_answer_is_a_result_and_any_other_that_does_not_fit_is_not() -> None:
    async def empty(exchange: Exchange) -> None:
        await exchange.answer(200, b"")

    async def test(service: Provider, made: AwsClient) -> None:
        assert (await user(made)).name == ""
        for _ in range(2):
            with pytest.raises(AwsError, match="AdminGetUser") as refused:
                await user(made)
            assert "planted" not in str(refused.value)
        assert len(service.calls) == 3

    planted = provider.status(200, {"Username": ["planted"]})
    scripted(in_turn(empty, planted, lambda exchange: exchange.answer(200, b"planted")), test)


def test_an_object_without_end_is_not_read_to_its_end() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.start("text/plain")
        while True:
            await exchange.chunk(bytes(65536))

    async def test(_: Provider, made: AwsClient) -> None:
        with pytest.raises(AwsError, match="more than 1048576 bytes") as refused:
            await model_file(made)
        assert refused.value.code == "TooLarge"

    scripted(script, test)


# --- where it goes ---


@pytest.mark.parametrize(
    ("bucket", "region", "url"),
    [
        ("models", "eu-west-1", "https://models.s3.eu-west-1.amazonaws.com/a%20b%2B%3D%26"),
        ("my.models", "eu-west-1", "https://s3.eu-west-1.amazonaws.com/my.models/a%20b%2B%3D%26"),
        ("models", "cn-north-1", "https://models.s3.cn-north-1.amazonaws.com.cn/a%20b%2B%3D%26"),
        ("models", "us-gov-west-1", "https://models.s3.us-gov-west-1.amazonaws.com/a%20b%2B%3D%26"),
    ],
)
def test_a_bucket_has_its_own_host_where_certificates_reach_it(bucket: str, region: str, url: str) -> None:
    async def test() -> None:
        async with client(KEY) as made:
            assert made._get(bucket, "a b+=&", region, 1).url == url

    asyncio.run(test())


ELSEWHERE = "us-east-2"
MOVED = {
    "a redirect": (301, b"<Error><Code>PermanentRedirect</Code></Error>", {"x-amz-bucket-region": ELSEWHERE}),
    "a scope that is wrong": (
        400,
        f"<Error><Code>AuthorizationHeaderMalformed</Code><Region>{ELSEWHERE}</Region></Error>".encode(),
        {},
    ),
}


@pytest.mark.parametrize("moved", MOVED.values(), ids=MOVED)
def test_a_bucket_of_another_region_is_read_there(moved: tuple[int, bytes, dict[str, str]]) -> None:
    async def script(exchange: Exchange) -> None:
        if f"/{ELSEWHERE}/s3/" in exchange.call.headers["authorization"]:
            await exchange.answer(200, b"content")
        else:
            await exchange.answer(*moved)

    async def test(service: Provider, made: AwsClient) -> None:
        assert await model_file(made) == b"content"
        assert len(service.calls) == 2

    scripted(script, test)


def test_a_bucket_that_is_always_elsewhere_is_asked_for_twice() -> None:
    async def script(exchange: Exchange) -> None:
        asked = exchange.call.headers["authorization"].split("/")[2]
        await exchange.answer(301, b"", {"x-amz-bucket-region": f"{asked}-x"})

    async def test(service: Provider, made: AwsClient) -> None:
        with pytest.raises(AwsError):
            await model_file(made)
        assert len(service.calls) == 2

    scripted(script, test)


def test_a_services_own_endpoint_goes_before_the_one_for_all() -> None:
    async def test() -> None:
        async with provider.running(OK) as cognito, provider.running(OK) as others:
            environment = at(others, AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER=f"{cognito.url}/")
            async with client(environment) as made:
                await user(made)
                await model_file(made)
            assert [call.path for call in cognito.calls] == ["/"]
            assert [call.path for call in others.calls] == ["/models/config.yaml"]

    asyncio.run(test())


# --- connections and credentials ---


def test_connections_are_kept_until_they_are_let_go() -> None:
    async def test(_: Provider, made: AwsClient) -> None:
        await user(made)
        await model_file(made)
        first = set(made._http._open)
        assert len(first) == 1
        await made.release()
        await user(made)
        assert not first & made._http._open

    scripted(OK, test)


def served(seconds: float, number: int) -> dict[str, str]:
    """What the credentials' endpoint of a container, or of a SnapStart function, answers."""
    until = datetime.now(UTC) + timedelta(seconds=seconds)
    return {
        "AccessKeyId": f"AKID{number}",
        "SecretAccessKey": "planted",
        "Token": f"token-{number}",
        "Expiration": until.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


@pytest.mark.parametrize(("seconds", "different"), [(3600, 2), (300, 4)])
def test_credentials_of_a_role_are_renewed_before_they_end_and_after_they_are_let_go(
    monkeypatch: pytest.MonkeyPatch, seconds: float, different: int
) -> None:
    numbers = iter(range(1, 100))

    async def serve(exchange: Exchange) -> None:
        await exchange.answer(200, json.dumps(served(seconds, next(numbers))).encode())

    async def test() -> None:
        async with provider.running(serve) as credentials, provider.running(OK) as service:
            for name in KEY:
                monkeypatch.delenv(name, raising=False)
            monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", credentials.url)
            async with client({"AWS_ENDPOINT_URL": service.url}) as made:
                await asyncio.gather(user(made), user(made))
                await user(made)
                await made.release()
                await user(made)
            tokens = [call.headers["x-amz-security-token"] for call in service.calls]
            assert (len(tokens), len(set(tokens))) == (4, different)
            assert tokens[2] != tokens[3] == f"token-{len(credentials.calls)}"

    asyncio.run(test())


def test_without_credentials_it_is_said_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*KEY, "AWS_PROFILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    async def test() -> None:
        async with client({}) as made:
            with pytest.raises(AwsError, match="set AWS_PROFILE, or AWS_ACCESS_KEY_ID") as refused:
                await user(made)
            assert refused.value.code == "NoCredentials"
            monkeypatch.setenv("AWS_PROFILE", "nobody")
            with pytest.raises(AwsError, match="nobody"):
                await user(made)

    asyncio.run(test())


@pytest.mark.parametrize(("seconds", "answered"), [(3600, 1), (300, 0)])
def test_credentials_of_a_profile_serve_until_they_must_be_renewed_and_cannot_be(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seconds: float, answered: int
) -> None:
    (tmp_path / "once.json").write_text(json.dumps({**served(seconds, 1), "Version": 1, "SessionToken": "token-1"}))
    once = f"sh -c 'cat {tmp_path}/once.json && rm {tmp_path}/once.json'"
    (tmp_path / "config").write_text(f"[profile team]\ncredential_process = {once}\n")
    for name in KEY:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_PROFILE", "team")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")

    async def test() -> None:
        async with provider.running(OK) as service, client({"AWS_ENDPOINT_URL": service.url}) as made:
            for _ in range(answered):
                await user(made)
            await made.release()
            with pytest.raises(AwsError, match="custom-process") as refused:
                await user(made)
            assert refused.value.code == "NoCredentials"
            assert [call.headers["x-amz-security-token"] for call in service.calls] == ["token-1"] * answered

    asyncio.run(test())


def test_with_credentials_in_the_environment_a_call_imports_neither_botocore_nor_another_http_client() -> None:
    code = (
        "import sys\nfrom stile.adapters import aws_client, aws_configuration\n"
        "print([name for name in ('botocore', 'boto3', 'aiohttp') if name in sys.modules])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=SOURCES, capture_output=True, text=True, check=True, env={}
    )
    assert shown.stdout.strip() == "[]"
