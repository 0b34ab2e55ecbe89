"""A parameter's value out of the parameter store of AWS Systems Manager (SSM)."""

import msgspec

from stile.adapters.aws_client import AwsClient, Service

_SERVICE = Service("ssm", "SSM", "AmazonSSM")
ADVICE = {
    "AccessDeniedException": "allow ssm:GetParameter on it, and kms:Decrypt where its key is your own",
    "ParameterNotFound": "there is no such parameter",
}


class _Parameter(msgspec.Struct):
    text: str = msgspec.field(name="Value", default="")


class _Answer(msgspec.Struct):
    parameter: _Parameter = msgspec.field(name="Parameter")


async def fetch(client: AwsClient, name: str, region: str) -> str:
    """The value of a parameter, by name or ARN, decrypted. Raises AwsError; ADVICE says what to do."""
    asked = {"Name": name, "WithDecryption": True}
    return (await client.call(_SERVICE, region, "GetParameter", asked, _Answer)).parameter.text
