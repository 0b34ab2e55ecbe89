"""Which providers there are to ask: found by credentials in the environment, or named by a model file."""

from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

from stile.core import providers
from stile.core.providers import Provider
from stile.core.routes import Target
from stile.core.secret import Secret
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
    """The providers whose credentials are in the environment, and a local Ollama that may be running."""
    sources = []
    for provider in providers.KNOWN.values():
        key = _first(environment, provider.key_env)
        base = _first(environment, provider.base_env) or provider.base_url
        if key is not None and (base is not None or not provider.relayed):
            sources.append(_serving(provider, key, base))
    region = _first(environment, _AWS_REGION)
    if region is not None and _first(environment, _AWS_CREDENTIALS) is not None:
        sources.append(_bedrock(region, environment))
    sources.append(_ollama(environment.get("OLLAMA_HOST", "")))
    return sources


def of_table(table: Mapping[str, list[Target]]) -> list[Source]:
    """The providers that a model file's relayed targets name, one for each address."""
    by_address = {target.api_base: target for targets in table.values() for target in targets if target.via == "relay"}
    return [
        Source(f"{target.provider} at {address}", Listing(f"{address}/models", _headers(target)))
        for address, target in by_address.items()
    ]


def ollama_address(text: str) -> str:
    """Where Ollama answers, by its own variable OLLAMA_HOST: `host`, `host:port` or a URL; 11434 is its usual port."""
    parts = urlsplit(text if "://" in text else f"http://{text.strip() or '127.0.0.1'}")
    port = parts.port or ({"http": 80, "https": 443}.get(parts.scheme) if "://" in text else 11434)
    host = parts.hostname or ""
    if host in ("", "0.0.0.0"):  # noqa: S104 (it tells Ollama to listen everywhere, and is no address to call)
        host = "127.0.0.1"
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def _serving(provider: Provider, key: str | None, base: str | None) -> Source:
    if provider.name == "azure" and base is not None:
        base = providers.azure_v1(base)
    target = Target(
        label=f"{provider.name}/*",
        provider=provider.name,
        model="*",
        via="relay" if provider.relayed else "litellm",
        api_base=base.rstrip("/") if base else None,
        api_key=Secret(key) if key else None,
        key_header=provider.key_header,
        stream_usage=provider.stream_usage if base == provider.base_url else None,
    )
    url = _list_url(provider, target.api_base)
    return Source(provider.name, Listing(url, _headers(target)) if url else None, target)


def _bedrock(region: str, environment: Mapping[str, str]) -> Source:
    base = environment.get("AWS_ENDPOINT_URL_BEDROCK") or f"https://bedrock.{region}.amazonaws.com"
    target = Target(
        label="bedrock/*", provider="bedrock", model="*", via="litellm", options={"aws_region_name": region}
    )
    return Source("bedrock", Listing(f"{base}/foundation-models", {}, aws_region=region), target)


def _ollama(host: str) -> Source:
    address = ollama_address(host)
    source = _serving(providers.KNOWN["ollama"], None, f"{address}/v1")
    return msgspec.structs.replace(source, listing=Listing(f"{address}/api/tags", {}), must_answer=True)


def _list_url(provider: Provider, base: str | None) -> str | None:
    if base is None:
        return provider.list_url
    if provider.name == "anthropic":
        return f"{base.removesuffix('/v1')}/v1/models?limit=1000"
    return f"{base}/models"


def _headers(target: Target) -> dict[str, str]:
    headers = dict(target.headers)
    if target.api_key is not None:
        key = target.api_key.reveal()
        headers[target.key_header] = f"Bearer {key}" if target.key_header == "authorization" else key
    if target.provider == "anthropic":
        headers["anthropic-version"] = _ANTHROPIC_VERSION
    return headers


def _first(environment: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((value for name in names if (value := environment.get(name))), None)
