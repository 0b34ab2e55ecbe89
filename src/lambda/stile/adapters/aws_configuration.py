"""What of the configuration is in AWS: the model file in S3, providers' keys in Secrets Manager and in SSM's parameter
store."""

import asyncio
from collections.abc import Collection, Coroutine, Mapping
from typing import Any, TypeVar

from stile.adapters import model_file_s3, provider_secret, secret_references
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


async def resolve(references: Collection[str], environment: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """What a model file's references to secrets stand for, and why some stand for nothing."""
    client = AwsClient(environment)
    try:
        return await secret_references.resolve(client, references, environment)
    finally:
        await client.close()


async def _nothing() -> None:
    """What is fetched where nothing is named."""
