"""Asks a provider which models it has. A list that does not come in time is no list; it never fails anything."""

import asyncio

import msgspec

from stile import __version__
from stile.adapters import aws_signature
from stile.adapters.http_client import HttpClient
from stile.ports import Listing

SECONDS = 2
_MAX_BYTES = 8 * 1024 * 1024


class _Model(msgspec.Struct):
    """OpenAI, Anthropic: `id`. Ollama, Cohere: `name`. Bedrock: `modelId`."""

    id: str | None = None
    name: str | None = None
    model_id: str | None = msgspec.field(name="modelId", default=None)


class _List(msgspec.Struct):
    data: list[_Model] | None = None
    models: list[_Model] | None = None
    summaries: list[_Model] | None = msgspec.field(name="modelSummaries", default=None)


async def fetch(listing: Listing) -> list[str] | None:
    """The names of the models listed; None when there was no answer, or none that is a list of models."""
    try:
        async with asyncio.timeout(SECONDS):
            answer = msgspec.json.decode(await _get(listing), type=_List)
    except (OSError, ValueError, RecursionError):
        return None
    models = next((models for models in (answer.data, answer.models, answer.summaries) if models is not None), None)
    if models is None:
        return None
    # Gemini's list says models/gemini-…, where calls say gemini-….
    return [name.removeprefix("models/") for model in models if (name := model.id or model.name or model.model_id)]


async def _get(listing: Listing) -> bytes:
    headers = {"user-agent": f"stile/{__version__}", **listing.headers}
    if listing.aws_region is not None:
        headers |= await asyncio.to_thread(aws_signature.headers, listing.url, "bedrock", listing.aws_region)
    client = HttpClient(connect_seconds=SECONDS)
    try:
        answer = await client.get(listing.url, [(name.encode(), value.encode()) for name, value in headers.items()])
        return await answer.read_up_to(_MAX_BYTES) if answer.status == 200 else b""
    finally:
        await client.close()
