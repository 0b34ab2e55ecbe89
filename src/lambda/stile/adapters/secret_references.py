"""What a model file's references to secrets stand for: values out of Secrets Manager and of SSM's parameter store.

What one holds is in no fault and no log line.
"""

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from stile.adapters import parameter_store, secrets_manager
from stile.adapters.aws_client import AwsClient
from stile.adapters.aws_error import AwsError
from stile.core import references
from stile.core.references import Reference

_AT_ONCE = 10
_NO_REGION = "no region is set: write its ARN, or set AWS_REGION"


class _UnreadableError(Exception):
    """The text says why, to people."""


async def resolve(
    client: AwsClient, wanted: Collection[str], environment: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Reference → value, and reference → why it has none. One secret is fetched once, however many name it."""
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    few = asyncio.Semaphore(_AT_ONCE)
    texts: dict[tuple[str, str], asyncio.Task[str]] = {}

    async def fetch(reference: Reference) -> str:
        where = reference.region or region
        if where is None:
            raise _UnreadableError(_NO_REGION)
        async with few:
            return await _fetch(client, reference, where)

    def text_of(reference: Reference) -> "asyncio.Task[str]":
        place = (reference.service, reference.name)
        if place not in texts:
            texts[place] = asyncio.create_task(fetch(reference))
        return texts[place]

    values, whys = {}, {}
    parsed: dict[str, Reference] = {}
    for said in wanted:
        try:
            parsed[said] = references.parse(said)
        except ValueError as fault:
            whys[said] = str(fault)
    await asyncio.gather(*(text_of(reference) for reference in parsed.values()), return_exceptions=True)
    for said, reference in parsed.items():
        try:
            values[said] = _part(await text_of(reference), reference)
        except _UnreadableError as fault:
            whys[said] = str(fault)
    return values, whys


async def _fetch(client: AwsClient, reference: Reference, region: str) -> str:
    adviser, fetch = (
        (parameter_store.ADVICE, parameter_store.fetch)
        if reference.service == "ssm"
        else (secrets_manager.ADVICE, secrets_manager.fetch)
    )
    try:
        return await fetch(client, reference.name, region)
    except AwsError as error:
        raise _UnreadableError(f"it cannot be read ({error.told(adviser)})") from error


def _part(text: str, reference: Reference) -> str:
    found: Any = text
    if reference.field is not None:
        try:
            fields = msgspec.json.decode(text)
        except (ValueError, RecursionError):
            fields = None
        if not isinstance(fields, dict):
            raise _UnreadableError("it is no JSON object, so it has no fields")
        found = fields.get(reference.field)
    if found == "":
        raise _UnreadableError("it is empty, or not a text")
    if not isinstance(found, str):
        raise _UnreadableError(f"it has no field {reference.field!r} that is a text")
    return found
