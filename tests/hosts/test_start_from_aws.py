"""`make run` with its model file in S3 and providers' keys in Secrets Manager, against moto."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import leaks, program
from tests.mocks import aws
from tests.mocks.aws import Aws
from tests.mocks.openai import Upstream

ASK = {"model": "ok", "messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    with aws.running(tmp_path_factory.mktemp("aws")) as running:
        yield running


def test_a_call_goes_up_with_the_key_of_the_secret(folder: Path, cloud: Aws, upstream: Upstream) -> None:
    models = (
        f"model_list:\n  - model_name: ok\n    litellm_params: {{model: openai/ok, api_base: '{upstream.base}',"
        " api_key: os.environ/TEAM_KEY}\n"
    )
    environment = {
        **cloud.allowing(s3_GetObject="arn:aws:s3:::models/*", secretsmanager_GetSecretValue="*"),
        "STILE_CONFIG": cloud.store("models", "config.yaml", models.encode()),
        "STILE_PROVIDER_SECRET_ARN": cloud.keep("keys", json.dumps({"TEAM_KEY": leaks.PROVIDER_KEY})),
        "TEAM_KEY": "of-the-environment",
    }
    with program.running(folder, **environment) as gateway:
        assert gateway.ask("POST", "/v1/chat/completions", ASK).status == 200
        assert upstream.last("ok").headers["authorization"] == f"Bearer {leaks.PROVIDER_KEY}"
        assert "openai: 1 model: ok" in gateway.out.read_text()


def test_a_start_that_aws_refuses_tells_every_fault_in_a_line_and_exits_with_1(folder: Path, cloud: Aws) -> None:
    secret = cloud.keep("plain", leaks.PROVIDER_KEY)
    environment = program.environment(
        folder / "home",
        **cloud.allowing(secretsmanager_GetSecretValue="*"),
        STILE_CONFIG="s3://nobodys/config.yaml",
        STILE_PROVIDER_SECRET_ARN=secret,
    )
    ended = program.run(env=environment)
    assert (ended.returncode, ended.stdout) == (1, "")
    faults = sorted(ended.stderr.splitlines())
    assert [fault.partition(" cannot")[0] for fault in faults][:1] == ["stile: STILE_CONFIG: s3://nobodys/config.yaml"]
    assert faults[1:] == [
        f"stile: STILE_PROVIDER_SECRET_ARN: {secret} must be a JSON object of names and texts,"
        ' as in {"OPENAI_API_KEY": "…"}'
    ]
    assert not leaks.find(ended.stderr)
    assert not (folder / "home").exists()
