"""What references stand for: from moto, with just the permissions that a test allows, and from a service that plays
what moto does not know. Every text that a service holds is planted, and may be in no fault."""

import asyncio
import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from tests.mocks import aws, provider
from tests.mocks.aws import REGION, Aws
from tests.mocks.provider import Call, Exchange, Script

from stile.adapters import aws_configuration

KEY = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "planted", "AWS_EC2_METADATA_DISABLED": "true"}


@pytest.fixture(scope="module")
def cloud() -> Iterator[Aws]:
    with tempfile.TemporaryDirectory() as folder, aws.running(Path(folder)) as running:
        yield running


@pytest.fixture(scope="module")
def allowed(cloud: Aws) -> dict[str, str]:
    """The environment of somebody who may read everything."""
    return cloud.allowing(secretsmanager_GetSecretValue="*", ssm_GetParameter="*")


def resolve(environment: Mapping[str, str], *wanted: str) -> tuple[dict[str, str], dict[str, str]]:
    values, whys = asyncio.run(aws_configuration.resolve(wanted, environment))
    assert values.keys() | whys.keys() == set(wanted)
    assert not values.keys() & whys.keys()
    assert "planted" not in str(whys)
    return values, whys


def resolved_by(script: Script, *wanted: str) -> tuple[dict[str, str], dict[str, str], list[Call]]:
    """The same from a service that plays this script, and what it was asked."""
    with provider.on_a_thread(script) as service:
        values, whys = resolve({**KEY, "AWS_REGION": REGION, "AWS_ENDPOINT_URL": service.url}, *wanted)
        return values, whys, service.calls


def parameter(cloud: Aws, name: str, value: str, kind: str = "SecureString", region: str = REGION) -> str:
    """Make a parameter; answers its ARN."""
    with cloud.client("ssm", region) as ssm:
        ssm.put_parameter(Name=name, Value=value, Type=kind)
        return str(ssm.get_parameter(Name=name)["Parameter"]["ARN"])


def test_secrets_and_parameters_are_found_by_name_and_by_arn(cloud: Aws, allowed: dict[str, str]) -> None:
    arn = cloud.keep("whole", "planted text")
    cloud.keep("fields", json.dumps({"A": "planted first", "B": "planted second", "N": 5}))
    secure = parameter(cloud, "/stile/secure", "planted parameter")
    parameter(cloud, "plain", "planted openly", "String")
    wanted = {
        "aws.secretsmanager/whole": "planted text",
        f"aws.secretsmanager/{arn}": "planted text",
        "aws.secretsmanager/fields#A": "planted first",
        "aws.secretsmanager/fields#B": "planted second",
        "aws.ssm//stile/secure": "planted parameter",
        f"aws.ssm/{secure}": "planted parameter",
        "aws.ssm/plain": "planted openly",
    }
    assert resolve(allowed, *wanted) == (wanted, {})


def test_an_arn_is_looked_up_in_its_own_region(cloud: Aws, allowed: dict[str, str]) -> None:
    secret = cloud.keep("far", json.dumps({"A": "planted far away"}), region="us-east-2")
    far = parameter(cloud, "/stile/far", "planted parameter far away", region="us-east-2")
    wanted = {
        f"aws.secretsmanager/{secret}#A": "planted far away",
        f"aws.ssm/{far}": "planted parameter far away",
    }
    assert resolve(allowed, *wanted) == (wanted, {})
    _, whys = resolve(allowed, "aws.secretsmanager/far#A", "aws.ssm//stile/far")
    assert len(whys) == 2, "by their names they are not found, for those are of this region"


def test_without_a_region_only_arns_are_found(cloud: Aws, allowed: dict[str, str]) -> None:
    nowhere = {name: value for name, value in allowed.items() if name != "AWS_REGION"}
    wanted = f"aws.secretsmanager/{cloud.keep('placed', 'planted there')}"
    values, whys = resolve(nowhere, wanted, "aws.secretsmanager/placed", "aws.ssm/plain")
    assert values == {wanted: "planted there"}
    assert set(whys.values()) == {"no region is set: write its ARN, or set AWS_REGION"}
    values, _ = resolve({**nowhere, "AWS_DEFAULT_REGION": REGION}, "aws.secretsmanager/placed")
    assert values == {"aws.secretsmanager/placed": "planted there"}


def test_what_has_no_value_says_why(cloud: Aws, allowed: dict[str, str]) -> None:
    cloud.keep("text", "planted-text")
    cloud.keep("list", '["planted"]')
    cloud.keep("binary", SecretBinary=b"planted")
    cloud.keep("odd", json.dumps({"number": 5, "empty": "", "null": None, "k": "planted-field"}))
    whys = {
        "aws.secretsmanager/text#A": "it is no JSON object, so it has no fields",
        "aws.secretsmanager/list#A": "it is no JSON object, so it has no fields",
        "aws.secretsmanager/odd#gone": "it has no field 'gone' that is a text",
        "aws.secretsmanager/odd#number": "it has no field 'number' that is a text",
        "aws.secretsmanager/odd#null": "it has no field 'null' that is a text",
        "aws.secretsmanager/odd#empty": "it is empty, or not a text",
        "aws.secretsmanager/binary": "it is empty, or not a text",
        "aws.ssm/": "a name or an ARN must follow aws.ssm/",
        "aws.ssm/a#b": "a parameter has no fields",
        "aws.secretsmanager/a#": "the name of a field must follow #",
    }
    assert resolve(allowed, *whys) == ({}, whys)


def test_one_that_is_not_there_is_told_and_the_others_are_read(cloud: Aws, allowed: dict[str, str]) -> None:
    cloud.keep("there", "planted, and there")
    values, whys = resolve(allowed, "aws.secretsmanager/nowhere", "aws.ssm/nowhere", "aws.secretsmanager/there")
    assert values == {"aws.secretsmanager/there": "planted, and there"}
    assert "there is no such secret" in whys["aws.secretsmanager/nowhere"]
    assert "there is no such parameter" in whys["aws.ssm/nowhere"]


def test_a_missing_permission_is_named(cloud: Aws) -> None:
    cloud.keep("forbidden", "planted")
    parameter(cloud, "forbidden", "planted")
    _, whys = resolve(cloud.allowing(s3_GetObject="*"), "aws.secretsmanager/forbidden", "aws.ssm/forbidden")
    assert "not authorized to perform: secretsmanager:GetSecretValue" in whys["aws.secretsmanager/forbidden"]
    assert "not authorized to perform: ssm:GetParameter" in whys["aws.ssm/forbidden"]


def test_what_to_do_about_a_missing_permission_is_told() -> None:
    refusal = provider.status(400, {"__type": "AccessDeniedException", "message": "No"})
    _, whys, _ = resolved_by(refusal, "aws.secretsmanager/x", "aws.ssm/x")
    assert "allow secretsmanager:GetSecretValue on it, and kms:Decrypt" in whys["aws.secretsmanager/x"]
    assert "allow ssm:GetParameter on it, and kms:Decrypt" in whys["aws.ssm/x"]


def test_a_secret_that_several_name_is_fetched_once() -> None:
    answer = provider.status(200, {"SecretString": '{"A": "planted 1", "B": "planted 2"}'})
    wanted = {"aws.secretsmanager/x#A": "planted 1", "aws.secretsmanager/x#B": "planted 2"}
    values, whys, calls = resolved_by(answer, *wanted, "aws.secretsmanager/x#C")
    assert values == wanted
    assert whys == {"aws.secretsmanager/x#C": "it has no field 'C' that is a text"}
    assert [call.json for call in calls] == [{"SecretId": "x"}]


def test_a_secret_and_a_parameter_of_one_name_are_two() -> None:
    async def script(exchange: Exchange) -> None:
        of_parameter = exchange.call.headers["x-amz-target"] == "AmazonSSM.GetParameter"
        answer = {"Parameter": {"Value": "planted p"}} if of_parameter else {"SecretString": "planted s"}
        await exchange.answer(200, json.dumps(answer).encode())

    wanted = {"aws.secretsmanager/x": "planted s", "aws.ssm/x": "planted p"}
    values, _, calls = resolved_by(script, *wanted)
    assert values == wanted
    asked = {call.headers["x-amz-target"]: call.json for call in calls}
    assert asked == {
        "secretsmanager.GetSecretValue": {"SecretId": "x"},
        "AmazonSSM.GetParameter": {"Name": "x", "WithDecryption": True},
    }


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ({"SecretString": "", "Parameter": {"Value": ""}}, "it is empty, or not a text"),
        ({"Parameter": {}}, "it is empty, or not a text"),
        ({"SecretString": ["planted"], "Parameter": "planted"}, "is not what it should be"),
    ],
    ids=["empty", "without a value", "of another form"],
)
def test_an_answer_without_a_text_is_no_value(answer: dict[str, object], why: str) -> None:
    values, whys, _ = resolved_by(provider.status(200, answer), "aws.secretsmanager/x", "aws.ssm/x")
    assert values == {}
    assert all(why in said for said in whys.values()), whys


def test_many_are_fetched_a_few_at_a_time() -> None:
    under_way = most = 0
    crowd = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        if under_way == 10:
            crowd.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(crowd.wait(), provider.SETTLED)
        under_way -= 1
        await exchange.answer(200, json.dumps({"SecretString": exchange.call.json["SecretId"]}).encode())

    wanted = {f"aws.secretsmanager/planted-{number}": f"planted-{number}" for number in range(25)}
    values, whys, _ = resolved_by(script, *wanted)
    assert (values, whys, most) == (wanted, {}, 10)


def test_where_aws_is_not_reached_the_network_is_named() -> None:
    environment = {**KEY, "AWS_REGION": REGION, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    _, whys = resolve(environment, "aws.secretsmanager/x", "aws.ssm/x")
    assert all("check the network" in why for why in whys.values()), whys
