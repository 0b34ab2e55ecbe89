"""What models cost, from LiteLLM's map of them, without LiteLLM: the build packs what is needed of it into a small
file; where there is none, as on a laptop, the map is read out of the installed package, on a thread.

The map's entries: "model_prices_and_context_window.json" in LiteLLM's repository.
"""

import asyncio
import functools
import importlib.util
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from stile.core.prices import FIELDS, Price, Rates
from stile.core.routes import Target

PACKED = Path(__file__).parent.parent / "prices.json"
_MAP = "model_prices_and_context_window_backup.json"
_MODES = frozenset({"chat", "completion", "responses", "embedding"})
_TIERS = {thousands: f"_above_{thousands}k_tokens" for thousands in (128, 200, 256, 272, 512)}
# Where the map says more of a provider than its name.
_FAMILIES = {
    "bedrock_converse": "bedrock",
    "cohere_chat": "cohere",
    "text-completion-codestral": "codestral",
    "text-completion-openai": "openai",
}
_FAMILIES_AND_MORE = ("vertex_ai-", "fireworks_ai-")
_BEDROCKS_WAY = re.compile(
    r"^(?:converse|invoke|converse_like)/|^(?:us|eu|apac|au|jp|ca|us-gov|global)\.(?=[a-z0-9-]+\.)"
)
_AT_ONCE = frozenset({"xai"})  # their next tier begins with the number that it is named after
_MOST_FOUND = 4096  # callers may invent names


class PriceMap:
    """Prices by provider and model. `prices`: each price under `provider/model`, as JSON that is read when it is
    needed; None while the map is being read: then nothing has a price."""

    def __init__(self, prices: Mapping[str, msgspec.Raw] | None) -> None:
        self._prices = prices
        self._listed = functools.lru_cache(_MOST_FOUND)(self._look_up)

    @classmethod
    def packed(cls) -> "PriceMap":
        """What the build has packed; empty where it has packed nothing."""
        if not PACKED.is_file():
            return cls(None)
        return cls(msgspec.json.decode(PACKED.read_bytes(), type=dict[str, msgspec.Raw]))

    async def load(self) -> None:
        """Read LiteLLM's own map where nothing was packed."""
        if self._prices is None:
            found = importlib.util.find_spec("litellm")  # which does not import it
            if found is not None and found.origin is not None:
                packed = await asyncio.to_thread(pack, Path(found.origin).parent)
                self._prices = msgspec.json.decode(packed, type=dict[str, msgspec.Raw])
                self._listed.cache_clear()

    def find(self, target: Target, served: str | None) -> Price | None:
        """The price of a target's model: the configuration's, else the map's, where `served`, the name in the answer,
        is tried last; None where nothing says it."""
        if target.price is not None:
            return target.price
        price = self._listed(target.provider, target.priced_as or target.model)
        return price if price is not None or served is None else self._listed(target.provider, served)

    def _look_up(self, provider: str, model: str) -> Price | None:
        if self._prices is None:
            return None
        for name in _names(provider, model):
            if (found := self._prices.get(name)) is not None:
                return msgspec.json.decode(found, type=Price)
        return None


def pack(package: Path) -> bytes:
    """The map of LiteLLM's package in this folder, as JSON: `provider/model` to the fields of a Price."""
    entries = msgspec.json.decode((package / _MAP).read_bytes(), type=dict[str, _entry()])  # type: ignore[misc]
    return msgspec.json.encode(dict(_prices(entries)))


def _entry() -> Any:
    """An entry's type: just what is needed. The whole map as dictionaries would take ten times the room."""
    rates = [(name, float | None, None) for name in FIELDS]
    tier: Any = msgspec.defstruct("_Tier", [("range", list[float], []), *rates])
    own = [("litellm_provider", str, ""), ("mode", str | None, None), ("tiered_pricing", list[tier] | None, None)]
    above = [(f"{name}{suffix}", float | None, None) for name in FIELDS for suffix in _TIERS.values()]
    return msgspec.defstruct("_Entry", [*own, *rates, *above])


def _prices(entries: Mapping[str, Any]) -> Iterator[tuple[str, Price]]:
    """The price of each entry that is charged by token, under `provider/model`; an entry that is named so goes before
    one whose name leaves the provider out."""
    for name in sorted(entries):
        entry = entries[name]
        provider = family(entry.litellm_provider)
        own = name if name.startswith(f"{provider}/") else f"{provider}/{name}"
        charged = entry.input_cost_per_token is not None or entry.output_cost_per_token is not None
        if entry.mode in _MODES and charged and (own == name or own not in entries):
            yield own, _price(entry)


def family(provider: str) -> str:
    """The map's word for a provider as the model file writes it."""
    more = next((known for known in _FAMILIES_AND_MORE if provider.startswith(known)), None)
    return _FAMILIES.get(provider, provider) if more is None else more[:-1]


def _price(entry: Any) -> Price:
    base = _rates(entry, "", Rates(input=0, output=0))
    at_once = entry.litellm_provider in _AT_ONCE
    tiers = [
        (thousands * 1000 - at_once, _rates(entry, suffix, base))
        for thousands, suffix in _TIERS.items()
        if getattr(entry, f"input_cost_per_token{suffix}") is not None
    ]
    tiers += [(int(tier.range[0]), _rates(tier, "", base)) for tier in (entry.tiered_pricing or ())[1:]]
    return Price(base, sorted(tiers, reverse=True))


def _rates(said: msgspec.Struct, suffix: str, otherwise: Rates) -> Rates:
    found = {ours: getattr(said, f"{name}{suffix}") for name, ours in FIELDS.items()}
    return msgspec.structs.replace(otherwise, **{name: rate for name, rate in found.items() if rate is not None})


def _names(provider: str, model: str) -> Iterator[str]:
    yield model if model.startswith(f"{provider}/") else f"{provider}/{model}"
    if provider.startswith("bedrock"):
        yield f"{provider}/{_BEDROCKS_WAY.sub('', model)}"
