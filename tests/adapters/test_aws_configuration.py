"""The model file from S3 and providers' keys from Secrets Manager: from moto, and from a service that says no."""

import asyncio
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from tests.mocks import aws, provider
from tests.mocks.aws import REGION, Aws
from tests.mocks.provider import Exchange, Script

from stile import build, settings
from stile.adapters.model_file_s3 import MAX_BYTES
from stile.errors import ConfigError
from stile.modelfile import ModelFile

ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:keys-AbCdEf"
KEY = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "planted"}
MODELS = (
    b"model_list:\n  - model_name: m\n    litellm_params: {model: openai/a, api_key: os.environ/OPENAI_API_KEY}\n"
    b"  - model_name: n\n    litellm_params: {model: openai/a, api_key: os.environ/OTHER_KEY}\n"
)


@pytest.fixture(scope="module")
def cloud() -> Iterator[Aws]:
    with tempfile.TemporaryDirectory() as folder, aws.running(Path(folder)) as running:
        yield running


def read(environment: Mapping[str, str]) -> tuple[ModelFile | None, Mapping[str, str]]:
    configuration = asyncio.run(build.read_configuration(settings.read(environment), environment))
    return configuration.models, configuration.environment


def faults(environment: Mapping[str, str]) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        read(environment)
    assert "planted" not in "".join(refused.value.faults)
    return refused.value.faults


def refused_by(script: Script, **named: str) -> list[str]:
    """The faults of a start whose AWS plays this script."""

    async def run() -> list[str]:
        async with provider.running(script) as service:
            environment = {**KEY, "AWS_REGION": REGION, "AWS_ENDPOINT_URL": service.url, **named}
            with pytest.raises(ConfigError) as refused:
                await build.read_configuration(settings.read(environment), environment)
        assert "planted" not in "".join(refused.value.faults)
        return refused.value.faults

    return asyncio.run(run())


def key_of(models: ModelFile | None, name: str) -> str:
    assert models is not None
    key = models.table[name][0].api_key
    assert key is not None
    return key.reveal()


def test_both_are_read_and_the_secrets_fields_go_before_the_environments(cloud: Aws) -> None:
    secret = cloud.keep("both", json.dumps({"OPENAI_API_KEY": "from-the-secret", "OTHER_KEY": "", "user name": "x"}))
    environment = {
        **cloud.allowing(s3_GetObject="arn:aws:s3:::both/*", secretsmanager_GetSecretValue="*"),
        "STILE_CONFIG": cloud.store("both", "a/models.yaml", MODELS),
        "STILE_PROVIDER_SECRET_ARN": secret,
        "OPENAI_API_KEY": "from-the-environment",
        "OTHER_KEY": "also-from-the-environment",
    }
    before = dict(os.environ)
    models, complete = read(environment)
    assert key_of(models, "m") == "from-the-secret"
    assert key_of(models, "n") == "also-from-the-environment", "an empty field counts as not there"
    assert complete == {**environment, "OPENAI_API_KEY": "from-the-secret", "user name": "x"}
    assert dict(os.environ) == before


def test_a_secret_of_another_region_is_read_there_and_serves_a_file_of_this_machine(cloud: Aws, tmp_path: Path) -> None:
    secret = cloud.keep("far", '{"OPENAI_API_KEY": "a", "OTHER_KEY": "b"}', region="us-east-2")
    (tmp_path / "config.yaml").write_bytes(MODELS)
    models, _ = read(
        {
            **cloud.allowing(secretsmanager_GetSecretValue="*"),
            "STILE_CONFIG": str(tmp_path / "config.yaml"),
            "STILE_PROVIDER_SECRET_ARN": secret,
        }
    )
    assert key_of(models, "n") == "b"


def test_a_secret_alone_is_where_providers_are_found(cloud: Aws) -> None:
    allowed = cloud.allowing(secretsmanager_GetSecretValue="*")
    models, complete = read({**allowed, "STILE_PROVIDER_SECRET_ARN": cloud.keep("alone", '{"GROQ_API_KEY": "k"}')})
    assert models is None
    assert complete["GROQ_API_KEY"] == "k"


def test_without_either_nothing_is_asked_for() -> None:
    assert read({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}) == (None, {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"})


def test_both_are_read_at_once_and_no_connection_is_left() -> None:
    async def run() -> None:
        both = asyncio.Event()
        gone = asyncio.Semaphore(0)
        asked = []

        async def script(exchange: Exchange) -> None:
            asked.append(exchange.call)
            if len(asked) == 2:
                both.set()
            await asyncio.wait_for(both.wait(), provider.SETTLED)
            secret = "x-amz-target" in exchange.call.headers
            text = json.dumps({"OPENAI_API_KEY": "a", "OTHER_KEY": "b"})
            await exchange.answer(200, json.dumps({"SecretString": text}).encode() if secret else MODELS)
            await exchange.hung_up()
            gone.release()

        async with provider.running(script) as service:
            environment = {**KEY, "AWS_REGION": REGION, "AWS_ENDPOINT_URL": service.url, **BOTH}
            models = (await build.read_configuration(settings.read(environment), environment)).models
            for _ in range(2):
                await asyncio.wait_for(gone.acquire(), provider.SETTLED)
        assert key_of(models, "n") == "b"

    asyncio.run(run())


BOTH = {"STILE_CONFIG": "s3://models/config.yaml", "STILE_PROVIDER_SECRET_ARN": ARN}


def test_faults_of_both_are_told_at_once() -> None:
    assert sorted(refused_by(provider.status(404, {"__type": "Gone", "message": "No"}), **BOTH)) == [
        "STILE_CONFIG: s3://models/config.yaml cannot be read (Gone: No)",
        f"STILE_PROVIDER_SECRET_ARN: {ARN} cannot be read (Gone: No)",
    ]


# --- what is wrong, and what to do ---


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("sk-planted", [' must be a JSON object of names and texts, as in {"OPENAI_API_KEY": "…"}']),
        ('["planted"]', [' must be a JSON object of names and texts, as in {"OPENAI_API_KEY": "…"}']),
        ("", [' must be a JSON object of names and texts, as in {"OPENAI_API_KEY": "…"}']),
        (None, [' must be a JSON object of names and texts, as in {"OPENAI_API_KEY": "…"}']),
        (
            '{"A": 5, "B": {"x": "planted"}, "C": "planted", "AWS_ACCESS_KEY_ID": "planted", "STILE_PORT": "planted"}',
            [
                ": 'A' must be a text",
                ": 'B' must be a text",
                ": 'AWS_ACCESS_KEY_ID' is a name of AWS's own; call it otherwise, and name it in the model file"
                " (os.environ/…)",
                ": 'STILE_PORT' is a setting, and settings are read from the environment alone",
            ],
        ),
    ],
)
def test_a_secret_of_the_wrong_shape_is_told_so_and_not_shown(value: str | None, told: list[str]) -> None:
    answer = {"ARN": ARN, "SecretBinary": "cGxhbnRlZA=="} if value is None else {"ARN": ARN, "SecretString": value}
    assert refused_by(provider.status(200, answer), STILE_PROVIDER_SECRET_ARN=ARN) == [
        f"STILE_PROVIDER_SECRET_ARN: {ARN}{fault}" for fault in told
    ]


def test_a_secret_that_is_not_there_or_may_not_be_read_is_told_with_what_to_do(cloud: Aws) -> None:
    allowed = cloud.allowing(secretsmanager_GetSecretValue="*")
    (fault,) = faults({**allowed, "STILE_PROVIDER_SECRET_ARN": ARN})
    assert "(ResourceNotFoundException: " in fault
    assert fault.endswith("; there is no such secret, or it has no value yet)")
    denied = {"__type": "AccessDeniedException", "Message": "User: x is not authorized to perform: y"}
    assert refused_by(provider.status(400, denied), STILE_PROVIDER_SECRET_ARN=ARN) == [
        f"STILE_PROVIDER_SECRET_ARN: {ARN} cannot be read (AccessDeniedException: User: x is not authorized to perform:"
        " y; allow secretsmanager:GetSecretValue on it, and kms:Decrypt where its key is your own)"
    ]
    expired = {"__type": "ExpiredTokenException", "message": "The security token included in the request is expired"}
    (fault,) = refused_by(provider.status(400, expired), STILE_PROVIDER_SECRET_ARN=ARN)
    assert fault.endswith("; AWS does not take these credentials; renew them)")


def test_an_object_that_is_not_there_or_may_not_be_read_is_told_with_what_to_do(cloud: Aws) -> None:
    cloud.store("mine", "config.yaml", MODELS)
    cloud.store("anothers", "config.yaml", MODELS)
    allowed = cloud.allowing(s3_GetObject="arn:aws:s3:::mine/*", s3_ListBucket="*")
    for place, told in (
        ("s3://mine/none.yaml", r"NoSuchKey: .*; there is no such object"),
        ("s3://nowhere/none.yaml", r"\w+: .*; (there is no such bucket|allow s3:GetObject .*)"),
        ("s3://anothers/config.yaml", r"AccessDenied: .*; allow s3:GetObject on it, .* s3:ListBucket is allowed too"),
    ):
        (fault,) = faults({**allowed, "STILE_CONFIG": place})
        assert re.fullmatch(rf"STILE_CONFIG: {place} cannot be read \({told}\)", fault)


def test_what_is_too_large_for_a_model_file_is_refused() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.answer(200, bytes(MAX_BYTES + 1))

    assert refused_by(script, STILE_CONFIG="s3://models/dump.sql") == [
        "STILE_CONFIG: s3://models/dump.sql cannot be read (TooLarge: there are more than 5242880 bytes;"
        " is it a model file?)"
    ]


def test_faults_in_the_file_name_the_object_and_the_line() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.answer(200, MODELS)

    assert refused_by(script, STILE_CONFIG="s3://models/a.yaml") == [
        "s3://models/a.yaml:3: the environment variable OPENAI_API_KEY is not set",
        "s3://models/a.yaml:5: the environment variable OTHER_KEY is not set",
    ]


def test_without_a_region_a_bucket_is_not_guessed() -> None:
    assert faults({**KEY, "STILE_CONFIG": "s3://models/a.yaml"}) == [
        "STILE_CONFIG: s3://models/a.yaml cannot be read without a region; set AWS_REGION"
    ]
