"""How a provider is reached: its address in the form that calls need, its key's header, what it takes. One place for
targets of the model file and for those that were found."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from stile.core.operations import ANTHROPIC, OPENAI_LIKE, PATHS, Operation
from stile.core.providers import ECHO, OLLAMA_PORT, Provider
from stile.core.routes import Target
from stile.core.secret import Secret


def make(
    provider: Provider,
    model: str,
    *,
    base: str | None,
    key: str | None,
    aws_region: str | None = None,
    headers: Mapping[str, str] | None = None,
    stream_usage: bool | None = None,
    options: Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] | None = None,
    takes: frozenset[Operation] | None = None,
) -> Target:
    """A target of `provider`; `base` is an address as people write it, None the provider's own.

    `aws_region`: where a key is made from AWS's credentials when none is given. `stream_usage` and `takes` None: as far
    as they are known. Of a server that only speaks like OpenAI, nothing is known.
    """
    foreign = base is not None and provider.name == "openai" and not is_own(provider, base)
    if takes is None:
        takes = OPENAI_LIKE if foreign else provider.takes
    return Target(
        label=f"{provider.name}/{model}" if provider.name != ECHO else ECHO,
        id=f"{provider.name}/{model}",
        provider=provider.name,
        model=model,
        via="echo" if provider.name == ECHO else "relay" if provider.relayed and "chat" in takes else "litellm",
        api_base=address(provider, base or provider.base_url),
        api_key=Secret(key.strip()) if key else None,
        key_header=provider.key_header,
        aws_region=None if key else aws_region,
        headers={name: Secret(value.strip()) for name, value in (headers or {}).items()},
        stream_usage=stream_usage if stream_usage is not None or foreign else provider.stream_usage,
        options=options or {},
        defaults=defaults or {},
        urls=_urls(provider, base, takes),
    )


def _urls(provider: Provider, base: str | None, takes: frozenset[Operation]) -> Mapping[Operation, str]:
    """Where the target is asked for each of what it takes as it is."""
    where = address(provider, base or provider.base_url) if provider.relayed else provider.relay_url
    if provider.takes <= ANTHROPIC and base is not None:  # the server alone, the versioned address, or the whole path
        where = base.rstrip("/").removesuffix("/messages").removesuffix("/v1") + "/v1"
    return {operation: f"{where}{PATHS[operation]}" for operation in sorted(takes)} if where else {}


def address(provider: Provider, base: str | None) -> str | None:
    """`base` as calls need it: without a slash at the end, and with the path that people leave out."""
    if base is None:
        return None
    base = base.rstrip("/")
    if provider.name == "azure":  # the v1 API below a resource's address, whichever of its forms is given
        return base.removesuffix("/v1").removesuffix("/openai") + "/openai/v1"
    if provider.name == "ollama":  # LiteLLM's configurations name the server alone
        return base.removesuffix("/v1") + "/v1"
    return base


def is_own(provider: Provider, base: str) -> bool:
    """Whether the address is the provider's own one."""
    return provider.base_url is not None and base.rstrip("/") == provider.base_url


def ollama_address(text: str) -> str:
    """Where Ollama answers, by its own variable OLLAMA_HOST: `host`, `host:port` or a URL."""
    parts = urlsplit(text if "://" in text else f"http://{text.strip() or '127.0.0.1'}")
    port = parts.port or ({"http": 80, "https": 443}.get(parts.scheme) if "://" in text else OLLAMA_PORT)
    host = parts.hostname or ""
    if host in ("", "0.0.0.0"):  # noqa: S104 (it tells Ollama to listen everywhere, and is no address to call)
        host = "127.0.0.1"
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}"
