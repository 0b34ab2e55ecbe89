"""Which providers there are to ask: found by credentials in the environment, or named by a model file."""

from collections.abc import Mapping

import msgspec

from stile.core import providers, targets
from stile.core.providers import Provider
from stile.core.routes import Target
from stile.ports import Listing

_ANTHROPIC_VERSION = "2023-06-01"
_AWS_REGION = ("AWS_REGION", "AWS_DEFAULT_REGION")
_AWS_CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")


class Source(msgspec.Struct, frozen=True):
    """A provider whose models can be listed. `listing` is None where there is no list to ask for.

    `target`: serves every model under the provider's name; None for one of the model file, which names its models.
    `must_answer`: it counts as found only once it has answered.
    """

    name: str
    listing: Listing | None
    target: Target | None = None
    must_answer: bool = False


def find(environment: Mapping[str, str]) -> list[Source]:
    """The providers whose credentials or addresses are in the environment, and a local Ollama that may be running."""
    sources = []
    for provider in providers.KNOWN.values():
        key, named = _first(environment, provider.key_env), _first(environment, provider.base_env)
        base = named or provider.base_url
        if (key is not None or named is not None) and (base is not None or not provider.relayed):
            sources.append(_serving(provider, key, base))
    region = _first(environment, _AWS_REGION)
    if region is not None and _first(environment, _AWS_CREDENTIALS) is not None:
        sources.append(_bedrock(region, environment))
    if not any(source.name == providers.OLLAMA for source in sources):
        sources.append(_ollama(environment.get("OLLAMA_HOST", "")))
    return sources


def of_table(table: Mapping[str, list[Target]]) -> list[Source]:
    """The providers that a model file's relayed targets name, one for each address."""
    by_address = {target.api_base: target for found in table.values() for target in found if target.via == "relay"}
    return [
        Source(f"{target.provider} at {address}", Listing(f"{address}/models", _headers(target)))
        for address, target in by_address.items()
        if target.aws_region is None  # Bedrock lists its models elsewhere
    ]


def _serving(provider: Provider, key: str | None, base: str | None) -> Source:
    target = targets.make(provider, "*", base=base, key=key)
    url = _list_url(provider, target.api_base)
    return Source(provider.name, Listing(url, _headers(target)) if url else None, target)


def _bedrock(region: str, environment: Mapping[str, str]) -> Source:
    provider = providers.KNOWN["bedrock"]
    base = environment.get("AWS_ENDPOINT_URL_BEDROCK") or f"https://bedrock.{region}.amazonaws.com"
    target = targets.make(provider, "*", base=None, key=None, options={"aws_region_name": region})
    return Source(provider.name, Listing(f"{base}/foundation-models", {}, aws_region=region), target)


def _ollama(host: str) -> Source:
    base = targets.ollama_address(host)
    source = _serving(providers.KNOWN[providers.OLLAMA], None, base)
    return msgspec.structs.replace(source, listing=Listing(f"{base}/api/tags", {}), must_answer=True)


def _list_url(provider: Provider, base: str | None) -> str | None:
    if base is None:
        return provider.list_url
    if provider.name == "anthropic":
        return f"{base.removesuffix('/v1')}/v1/models?limit=1000"
    return f"{base}/models"


def _headers(target: Target) -> dict[str, str]:
    headers = {name: value.reveal() for name, value in target.headers.items()}
    if target.api_key is not None:
        key = target.api_key.reveal()
        headers[target.key_header] = f"Bearer {key}" if target.key_header == "authorization" else key
    if target.provider == "anthropic":
        headers["anthropic-version"] = _ANTHROPIC_VERSION
    return headers


def _first(environment: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((value for name in names if (value := environment.get(name))), None)
