"""What of the configuration is in AWS, read at once: the model file in S3, providers' keys in Secrets Manager."""

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from stile.adapters import model_file_s3, provider_secret
from stile.adapters.aws_client import AwsClient
from stile.errors import ConfigError
from stile.settings import S3Object, Settings

T = TypeVar("T")


async def fetch(settings: Settings, environment: Mapping[str, str]) -> tuple[bytes | None, Mapping[str, str]]:
    """The model file's content and the secret's fields, as far as the settings name them. Raises ConfigError."""
    config, secret = settings.config, settings.provider_secret_arn
    client = AwsClient(environment)
    faults: list[str] = []

    async def heeded(fetching: Coroutine[Any, Any, T | None]) -> T | None:
        try:
            return await fetching
        except ConfigError as error:
            faults.extend(error.faults)
            return None

    try:
        content, fields = await asyncio.gather(
            heeded(model_file_s3.fetch(client, config, environment) if isinstance(config, S3Object) else _nothing()),
            heeded(provider_secret.fetch(client, secret) if secret else _nothing()),
        )
    finally:
        await client.close()
    if faults:
        raise ConfigError(faults)
    return content, fields or {}


async def _nothing() -> None:
    """What is fetched where nothing is named."""
