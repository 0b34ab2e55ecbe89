"""The model file as an object of S3."""

from collections.abc import Mapping

from stile.adapters.aws_client import AwsClient
from stile.adapters.aws_error import TOO_LARGE, AwsError
from stile.errors import ConfigError
from stile.settings import MIB, S3Object

MAX_BYTES = 5 * MIB

_ADVICE = {
    "AccessDenied": "allow s3:GetObject on it, and kms:Decrypt where its key is your own; S3 says the same of an object"
    " that is not there, unless s3:ListBucket is allowed too",
    "NoSuchBucket": "there is no such bucket",
    "NoSuchKey": "there is no such object",
    TOO_LARGE: "is it a model file?",
}


async def fetch(client: AwsClient, place: S3Object, environment: Mapping[str, str]) -> bytes:
    """The file's content. Raises ConfigError, with what to do."""
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    if not region:
        raise ConfigError([f"STILE_CONFIG: {place} cannot be read without a region; set AWS_REGION"])
    try:
        return await client.get_object(place.bucket, place.key, region=region, limit=MAX_BYTES)
    except AwsError as error:
        raise ConfigError([f"STILE_CONFIG: {place} cannot be read ({error.told(_ADVICE)})"]) from error
