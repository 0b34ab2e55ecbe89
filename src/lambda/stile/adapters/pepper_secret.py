"""The pepper as a secret of AWS Secrets Manager. What it holds is in no fault and no log line."""

from stile.adapters import secrets_manager
from stile.adapters.aws_client import AwsClient
from stile.adapters.aws_error import AwsError
from stile.core import keys
from stile.core.keys import Pepper
from stile.errors import ConfigError
from stile.settings import SecretId


async def fetch(client: AwsClient, secret: SecretId, region: str | None) -> Pepper:
    """The pepper. `region`: where a secret is that is named without one. Raises ConfigError, with what to do."""
    where = f"STILE_PEPPER_SECRET: {secret.text}"
    place = secret.region or region
    if place is None:
        raise ConfigError([f"{where} cannot be read without a region; set AWS_REGION, or give the secret's ARN"])
    try:
        text = await secrets_manager.fetch(client, secret.text, place)
    except AwsError as error:
        raise ConfigError([f"{where} cannot be read ({error.told(secrets_manager.ADVICE)})"]) from error
    try:
        return keys.read_pepper(text)
    except ValueError as fault:
        raise ConfigError([f"{where} is no pepper: {fault}"]) from None
