"""The environment's settings, and their documentation."""

import re
from pathlib import Path

import pytest

from stile import settings
from stile.errors import ConfigError
from stile.settings import S3Object, SecretArn

DOC = Path(__file__).parent.parent / "doc" / "config.md"


def test_without_an_environment_there_are_defaults() -> None:
    read = settings.read({})
    assert (read.host, read.port, read.home, read.config) == ("127.0.0.1", 4000, Path(".stile"), None)
    assert read.max_body_bytes == 32 * 1024 * 1024


def test_all_faults_are_told_at_once_with_the_nearest_name() -> None:
    wrong = {"STILE_PROT": "1", "STILE_PORT": "http", "STILE_MAX_BODY_BYTES": "5", "STILE_FETCH_URLS": "maybe"}
    with pytest.raises(ConfigError) as refused:
        settings.read(wrong)
    faults = refused.value.faults
    assert len(faults) == 4
    assert "did you mean STILE_PORT?" in faults[0]


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("config.yaml", Path("config.yaml")),
        ("s3:/config.yaml", Path("s3:/config.yaml")),
        ("s3://my.models-1/a b/config.yaml", S3Object("my.models-1", "a b/config.yaml")),
    ],
)
def test_the_model_file_is_on_this_machine_or_in_s3(text: str, read: object) -> None:
    config = settings.read({"STILE_CONFIG": text}).config
    assert config == read
    assert str(config) == text


def test_a_secret_knows_its_region() -> None:
    arn = "arn:aws-us-gov:secretsmanager:us-gov-west-1:123456789012:secret:team/keys-AbCdEf"
    assert settings.read({"STILE_PROVIDER_SECRET_ARN": arn}).provider_secret_arn == SecretArn(arn, "us-gov-west-1")


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("STILE_CONFIG", "s3://models", "must be s3://bucket/key"),
        ("STILE_CONFIG", "s3://models/", "must be s3://bucket/key"),
        ("STILE_CONFIG", "s3://Models/a", "must be s3://bucket/key"),
        ("STILE_PROVIDER_SECRET_ARN", "keys", "must be a secret's whole ARN"),
        ("STILE_PROVIDER_SECRET_ARN", "arn:aws:s3:::keys", "must be a secret's whole ARN"),
        ("STILE_DIRECTORY", "postgres", "must be sqlite or cognito"),
        ("STILE_USER_POOL_ID", "eu-central-1", "must be a user pool's id"),
        ("STILE_PEPPER_SECRET", "arn:aws:s3:::pepper", "must be a secret's whole ARN"),
        ("STILE_PEPPER_SECRET", "two words", "must be a secret's name"),
        ("STILE_BOOTSTRAP_SHA256", "abc", "must be a SHA-256 in hex, 64 digits: make bootstrap-token"),
    ],
)
def test_what_cannot_be_meant_is_told_with_what_can(name: str, text: str, told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        settings.read({name: text})
    (fault,) = refused.value.faults
    assert fault.startswith(f"{name}: {told}")
    assert fault.endswith(f"(it is {text!r})")


def test_cognito_needs_a_user_pool() -> None:
    with pytest.raises(ConfigError) as refused:
        settings.read({"STILE_DIRECTORY": "cognito"})
    assert refused.value.faults == ["STILE_USER_POOL_ID: must be set with STILE_DIRECTORY=cognito"]


def test_the_clients_own_variables_are_no_fault() -> None:
    of_clients = {"STILE_URL": "http://127.0.0.1:4000", "STILE_API_KEY": "x", "STILE_PROFILE": "y"}
    assert settings.read(of_clients) == settings.read({})


def test_every_setting_is_documented_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(STILE_\w+)` \| `?([^|`]*)`? \|", DOC.read_text(), re.MULTILINE))
    assert {name: default.strip() for name, default in rows.items()} == {
        name: setting.default for name, setting in settings.SETTINGS.items()
    }
