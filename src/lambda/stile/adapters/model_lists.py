"""Asks a provider which models it has. A list that does not come in time is no list; it never fails anything."""

from collections.abc import Mapping

import aiohttp
import msgspec

from stile import __version__
from stile.adapters.http_body import read_up_to

SECONDS = 2
_MAX_BYTES = 8 * 1024 * 1024


class _Model(msgspec.Struct):
    """OpenAI, Anthropic: `id`. Ollama, Cohere: `name`."""

    id: str | None = None
    name: str | None = None


class _List(msgspec.Struct):
    data: list[_Model] | None = None
    models: list[_Model] | None = None


async def fetch(url: str, headers: Mapping[str, str]) -> list[str] | None:
    """Model names at `url`; None when there was no answer, or none that is a list of models."""
    timeout = aiohttp.ClientTimeout(total=SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, headers={"user-agent": f"stile/{__version__}"}) as session,
            session.get(url, headers=headers, allow_redirects=False) as response,
        ):
            if response.status != 200:
                return None
            answer = msgspec.json.decode(await read_up_to(response, _MAX_BYTES), type=_List)
    except (aiohttp.ClientError, OSError, ValueError, RecursionError):
        return None
    models = answer.data if answer.data is not None else answer.models
    if models is None:
        return None
    # Gemini's list says models/gemini-…, where calls say gemini-….
    return [name.removeprefix("models/") for model in models if (name := model.id or model.name)]
