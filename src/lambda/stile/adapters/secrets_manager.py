"""A secret's text out of AWS Secrets Manager."""

import msgspec

from stile.adapters.aws_client import AwsClient, Service

_SERVICE = Service("secretsmanager", "SECRETS_MANAGER", "secretsmanager")
ADVICE = {
    "AccessDeniedException": "allow secretsmanager:GetSecretValue on it, and kms:Decrypt where its key is your own",
    "ResourceNotFoundException": "there is no such secret, or it has no value yet",
}


class _Value(msgspec.Struct):
    text: str | None = msgspec.field(name="SecretString", default=None)


async def fetch(client: AwsClient, secret: str, region: str) -> str:
    """The text of a secret, by name or ARN; empty for one that is binary. Raises AwsError; ADVICE says what to do."""
    return (await client.call(_SERVICE, region, "GetSecretValue", {"SecretId": secret}, _Value)).text or ""
