"""Secrets of a configuration that are fetched anew: each by itself."""

import asyncio
import json
import logging
from pathlib import Path

import pytest
from tests.mocks import provider
from tests.mocks.provider import Exchange

from stile import settings
from stile.configuration import Configuration

OLD, NEW = "planted-old", "planted-new"


def test_a_secret_that_is_gone_keeps_its_value_and_holds_no_other_one_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = {"gone": OLD, "rotated": OLD}

    async def script(exchange: Exchange) -> None:
        text = kept.get(exchange.call.json["SecretId"])
        said = {"SecretString": text} if text else {"__type": "ResourceNotFoundException", "message": "none"}
        await exchange.answer(200 if text else 400, json.dumps(said).encode())

    async def run(environment: dict[str, str]) -> None:
        configuration = Configuration(settings.read(environment), environment)
        await configuration.read()
        assert keys(configuration) == [OLD, OLD]
        del kept["gone"]
        assert not await configuration.renew()
        kept["rotated"] = NEW
        assert await configuration.renew()
        assert keys(configuration) == [OLD, NEW]
        assert not await configuration.renew()

    with provider.on_a_thread(script) as service, caplog.at_level(logging.WARNING, "stile.secrets"):
        entries = [
            {"model_name": name, "litellm_params": {"model": "openai/x", "api_key": f"aws.secretsmanager/{name}"}}
            for name in kept
        ]
        (tmp_path / "config.yaml").write_text(json.dumps({"model_list": entries}))
        asyncio.run(
            run(
                {
                    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
                    "AWS_SECRET_ACCESS_KEY": "planted",
                    "AWS_REGION": "eu-west-1",
                    "AWS_ENDPOINT_URL": service.url,
                    "STILE_CONFIG": str(tmp_path / "config.yaml"),
                }
            )
        )
    assert len(caplog.records) == 3
    assert all("aws.secretsmanager/gone: it cannot be read (" in line for line in caplog.messages)
    assert "planted" not in caplog.text


def keys(configuration: Configuration) -> list[str]:
    assert configuration.models is not None
    found = [target.api_key for targets in configuration.models.table.values() for target in targets]
    return [key.reveal() for key in found if key is not None]
