"""Providers' keys out of AWS Secrets Manager: a JSON object whose fields are read like environment variables.

What a field holds is in no fault and no log line.
"""

from typing import Any

import msgspec

from stile.adapters.aws_client import AwsClient, Service
from stile.adapters.aws_error import AwsError
from stile.errors import ConfigError
from stile.settings import SecretArn

_SERVICE = Service("secretsmanager", "SECRETS_MANAGER", "secretsmanager")
_ADVICE = {
    "AccessDeniedException": "allow secretsmanager:GetSecretValue on it, and kms:Decrypt where its key is your own",
    "ResourceNotFoundException": "there is no such secret, or it has no value yet",
}
_SHAPE = 'must be a JSON object of names and texts, as in {"OPENAI_API_KEY": "…"}'


class _Value(msgspec.Struct):
    text: str | None = msgspec.field(name="SecretString", default=None)


async def fetch(client: AwsClient, secret: SecretArn) -> dict[str, str]:
    """The secret's fields; an empty one counts as not there. Raises ConfigError, with what to do."""
    where = f"STILE_PROVIDER_SECRET_ARN: {secret}"
    try:
        value = await client.call(_SERVICE, secret.region, "GetSecretValue", {"SecretId": secret.arn}, _Value)
    except AwsError as error:
        raise ConfigError([f"{where} cannot be read ({error.told(_ADVICE)})"]) from error
    try:
        fields = msgspec.json.decode(value.text or "")
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
