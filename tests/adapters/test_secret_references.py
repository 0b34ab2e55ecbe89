"""What references stand for: from moto, with just the permissions that a test allows."""

import asyncio
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from tests.mocks import aws, provider
from tests.mocks.aws import REGION, Aws
from tests.mocks.provider import Exchange

from stile.adapters import aws_configuration
from stile.core import references
from stile.core.references import Reference

KEY = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "planted", "AWS_EC2_METADATA_DISABLED": "true"}


@pytest.fixture(scope="module")
def cloud() -> Iterator[Aws]:
    with tempfile.TemporaryDirectory() as folder, aws.running(Path(folder)) as running:
        yield running


def resolve(environment: Mapping[str, str], *wanted: str) -> tuple[dict[str, str], dict[str, str]]:
    values, whys = asyncio.run(aws_configuration.resolve(wanted, environment))
    assert values.keys() | whys.keys() == set(wanted)
    assert not values.keys() & whys.keys()
    assert "planted" not in str(whys)
    return values, whys


def parameter(cloud: Aws, name: str, value: str, kind: str = "SecureString") -> str:
    with cloud.client("ssm") as ssm:
        ssm.put_parameter(Name=name, Value=value, Type=kind)
        return str(ssm.get_parameter(Name=name)["Parameter"]["ARN"])


def test_secrets_and_parameters_are_found_by_name_and_by_arn(cloud: Aws) -> None:
    allowed = cloud.allowing(secretsmanager_GetSecretValue="*", ssm_GetParameter="*")
    elsewhere = cloud.keep("elsewhere", "far away", region="us-east-1")
    cloud.keep("whole", "the text")
    cloud.keep("fields", json.dumps({"A": "first", "B": "second", "N": 5}))
    arn = parameter(cloud, "/stile/secure", "a parameter")
    parameter(cloud, "plain", "not secret", "String")
    wanted = {
        "aws.secretsmanager/whole": "the text",
        "aws.secretsmanager/fields#A": "first",
        "aws.secretsmanager/fields#B": "second",
        f"aws.secretsmanager/{elsewhere}": "far away",
        "aws.ssm//stile/secure": "a parameter",
        f"aws.ssm/{arn}": "a parameter",
        "aws.ssm/plain": "not secret",
    }
    assert resolve(allowed, *wanted) == (wanted, {})


def test_what_has_no_value_says_why(cloud: Aws) -> None:
    allowed = cloud.allowing(secretsmanager_GetSecretValue="*", ssm_GetParameter="*")
    cloud.keep("text", "planted-text")
    cloud.keep("odd", json.dumps({"number": 5, "empty": "", "k": "planted-field"}))
    values, whys = resolve(
        allowed,
        "aws.secretsmanager/text#A",
        "aws.secretsmanager/odd#gone",
        "aws.secretsmanager/odd#number",
        "aws.secretsmanager/odd#empty",
        "aws.secretsmanager/nowhere",
        "aws.ssm/nowhere",
        "aws.ssm/",
        "aws.ssm/a#b",
        "aws.secretsmanager/a#",
    )
    assert values == {}
    assert whys["aws.secretsmanager/text#A"] == "it is no JSON object, so it has no fields"
    assert whys["aws.secretsmanager/odd#gone"] == "it has no field 'gone' that is a text"
    assert whys["aws.secretsmanager/odd#number"] == "it has no field 'number' that is a text"
    assert whys["aws.secretsmanager/odd#empty"] == "it is empty, or not a text"
    assert "there is no such secret" in whys["aws.secretsmanager/nowhere"]
    assert "there is no such parameter" in whys["aws.ssm/nowhere"]
    assert whys["aws.ssm/"] == "a name or an ARN must follow aws.ssm/"
    assert whys["aws.ssm/a#b"] == "a parameter has no fields"
    assert whys["aws.secretsmanager/a#"] == "the name of a field must follow #"


def test_a_missing_permission_is_named(cloud: Aws) -> None:
    _, whys = resolve(cloud.allowing(s3_GetObject="*"), "aws.secretsmanager/whole", "aws.ssm/plain")
    assert "not authorized to perform: secretsmanager:GetSecretValue" in whys["aws.secretsmanager/whole"]
    assert "not authorized to perform: ssm:GetParameter" in whys["aws.ssm/plain"]


def test_what_to_do_about_a_missing_permission_is_told() -> None:
    async def run() -> None:
        refusal = provider.status(400, {"__type": "AccessDeniedException", "message": "No"})
        async with provider.running(refusal) as service:
            environment = {**KEY, "AWS_REGION": REGION, "AWS_ENDPOINT_URL": service.url}
            _, whys = await aws_configuration.resolve(["aws.secretsmanager/x", "aws.ssm/x"], environment)
        assert "allow secretsmanager:GetSecretValue on it" in whys["aws.secretsmanager/x"]
        assert "allow ssm:GetParameter on it" in whys["aws.ssm/x"]

    asyncio.run(run())


def test_without_a_region_only_arns_are_found() -> None:
    _, whys = resolve(KEY, "aws.secretsmanager/whole", "aws.ssm/plain")
    assert set(whys.values()) == {"no region is set: write its ARN, or set AWS_REGION"}


def test_a_secret_that_several_name_is_fetched_once() -> None:
    async def run() -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.answer(200, json.dumps({"SecretString": '{"A": "1", "B": "2"}'}).encode())

        async with provider.running(script) as service:
            environment = {**KEY, "AWS_REGION": REGION, "AWS_ENDPOINT_URL": service.url}
            wanted = ["aws.secretsmanager/x#A", "aws.secretsmanager/x#B"]
            values, whys = await aws_configuration.resolve(wanted, environment)
            assert (values, whys) == (dict(zip(wanted, "12", strict=True)), {})
            assert len(service.calls) == 1

    asyncio.run(run())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("aws.secretsmanager/a/b", Reference("secretsmanager", "a/b")),
        ("aws.secretsmanager/a#F", Reference("secretsmanager", "a", "F")),
        ("aws.ssm//a/b", Reference("ssm", "/a/b")),
    ],
)
def test_a_reference_says_where_its_value_is(text: str, expected: Reference) -> None:
    assert references.is_reference(text)
    assert references.parse(text) == expected
    assert expected.region is None


def test_an_arn_tells_its_region() -> None:
    secret = references.parse("aws.secretsmanager/arn:aws:secretsmanager:eu-west-1:123456789012:secret:a-AbCdEf#F")
    assert (secret.region, secret.field) == ("eu-west-1", "F")
    assert references.parse("aws.ssm/arn:aws:ssm:us-east-1:123456789012:parameter/a").region == "us-east-1"


@pytest.mark.parametrize("text", ["sk-key", "aws.s3/x", "os.environ/aws.ssm/x", "aws.ssm"])
def test_other_texts_are_no_references(text: str) -> None:
    assert not references.is_reference(text)
