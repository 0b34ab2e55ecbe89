"""Providers' keys out of AWS Secrets Manager: a JSON object whose fields are read like environment variables.

What a field holds is in no fault and no log line.
"""

from typing import Any

import msgspec

from stile.adapters import secrets_manager
from stile.adapters.aws_client import AwsClient
from stile.adapters.aws_error import AwsError
from stile.errors import ConfigError
from stile.settings import SecretArn

_SHAPE = 'must be a JSON object of names and texts, as in {"OPENAI_API_KEY": "…"}'


async def fetch(client: AwsClient, secret: SecretArn) -> dict[str, str]:
    """The secret's fields; an empty one counts as not there. Raises ConfigError, with what to do."""
    where = f"STILE_PROVIDER_SECRET_ARN: {secret}"
    try:
        text = await secrets_manager.fetch(client, secret.arn, secret.region)
    except AwsError as error:
        raise ConfigError([f"{where} cannot be read ({error.told(secrets_manager.ADVICE)})"]) from error
    try:
        fields = msgspec.json.decode(text)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise ConfigError([f"{where} {_SHAPE}"])
    faults = [f"{where}: {name!r} {why}" for name, field in fields.items() if (why := _wrong(name, field))]
    if faults:
        raise ConfigError(faults)
    return {name: field for name, field in fields.items() if field}


def _wrong(name: str, field: Any) -> str | None:
    if name.startswith("AWS_"):  # it would look as if the gateway itself called AWS with it
        return "is a name of AWS's own; call it otherwise, and name it in the model file (os.environ/…)"
    if name.startswith("STILE_"):
        return "is a setting, and settings are read from the environment alone"
    return None if isinstance(field, str) else "must be a text"
