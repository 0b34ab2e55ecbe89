"""Prices out of LiteLLM's map: the same as LiteLLM's own reckoning, for every model that it knows."""

import asyncio
import json
import random
import subprocess
import sys
from functools import cache
from importlib import util
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stile.adapters import price_map
from stile.adapters.price_map import PriceMap, pack
from stile.core import providers, targets
from stile.core.prices import Price, Rates, cost
from stile.core.routes import Target
from stile.core.usage import Usage

ROOT = Path(__file__).parent.parent.parent / "src" / "lambda"
# What LiteLLM reckons in other ways than by the entry's rates, and what is done here instead.
OTHERWISE = {
    "off_peak_pricing": "cheaper at some hours; here always the full price",
    "regional_processing_uplift_multiplier_eu": "dearer in a region that the call does not tell",
}


@cache
def packed() -> dict[str, msgspec.Raw]:
    return msgspec.json.decode(pack(litellm_folder()), type=dict[str, msgspec.Raw])


@cache
def litellm_folder() -> Path:
    found = util.find_spec("litellm")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent


def entries() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads((litellm_folder() / price_map._MAP).read_text())
    return found


def target(model: str, **more: Any) -> Target:
    provider, _, name = model.partition("/")
    known = providers.get(provider)
    assert known is not None
    return msgspec.structs.replace(targets.make(known, name, base=None, key=None), **more)


def price_of(model: str, served: str | None = None, **more: Any) -> Price | None:
    return PriceMap(packed()).find(target(model, **more), served)


def test_every_price_is_what_litellm_reckons() -> None:
    """Without caches and reasoning, where LiteLLM takes what has no price of its own for free."""
    asked: list[tuple[str, str, dict[str, Any]]] = []
    for name, entry in entries().items():
        provider = price_map.family(str(entry.get("litellm_provider")))
        taken = name.startswith(f"{provider}/") or f"{provider}/{name}" not in entries()
        own = f"{provider}/{name.removeprefix(f'{provider}/')}"
        if entry.get("mode") in price_map._MODES and taken and own in packed() and not OTHERWISE.keys() & entry.keys():
            asked.append((own, name, entry))
    code = """
import json, sys
from litellm.litellm_core_utils.llm_cost_calc.utils import generic_cost_per_token
from litellm.types.utils import Usage
found = []
for _, name, entry in json.load(sys.stdin):
    found.append([sum(generic_cost_per_token(name, Usage(prompt_tokens=sent, completion_tokens=received,
        total_tokens=sent + received), entry["litellm_provider"], model_info=entry))
        for sent, received in ((1000, 100), (127_999, 7), (300_000, 5000), (1_100_000, 1))])
json.dump(found, sys.stdout)
"""
    shown = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=True,
    )
    reckoned = json.loads(shown.stdout)
    assert len(asked) > 2500
    wrong = []
    for (own, _, _), litellms in zip(asked, reckoned, strict=True):
        price = msgspec.json.decode(packed()[own], type=Price)
        ours = [cost(price, Usage(*used)) for used in ((1000, 100), (127_999, 7), (300_000, 5000), (1_100_000, 1))]
        if ours != pytest.approx(litellms, rel=1e-6, abs=1e-12):
            wrong.append((own, ours, litellms))
    assert wrong == []


@pytest.mark.parametrize(
    ("model", "rates"),
    [
        ("openai/gpt-4o", (2.5e-6, 10e-6, 1.25e-6)),
        ("azure/gpt-4o", (2.5e-6, 10e-6, 1.25e-6)),
        ("anthropic/claude-sonnet-4-5", (3e-6, 15e-6, 0.3e-6)),
        ("bedrock/anthropic.claude-3-haiku-20240307-v1:0", (0.25e-6, 1.25e-6, 0.025e-6)),
        ("bedrock/converse/anthropic.claude-3-haiku-20240307-v1:0", (0.25e-6, 1.25e-6, 0.025e-6)),
        ("ollama/llama3", (0, 0, None)),
    ],
)
def test_models_are_found_by_the_names_that_targets_have(model: str, rates: tuple[float, float, float | None]) -> None:
    price = price_of(model)
    assert price is not None
    assert (price.rates.input, price.rates.output, price.rates.cached) == rates


def test_the_name_in_the_answer_helps_where_the_targets_own_says_nothing() -> None:
    assert price_of("azure/our-deployment") is None
    assert price_of("azure/our-deployment", "gpt-4o-2024-08-06") == price_of("azure/gpt-4o-2024-08-06") is not None
    assert price_of("azure/our-deployment", priced_as="gpt-4o") == price_of("azure/gpt-4o")
    assert price_of("openai/gpt-4o", "gpt-4o-mini") == price_of("openai/gpt-4o")


def test_the_configurations_price_goes_before_all_others() -> None:
    own = Price(Rates(input=1, output=2))
    assert price_of("openai/gpt-4o", price=own) is own


def test_nothing_is_made_up() -> None:
    assert price_of("openai/nobody-knows-this") is None
    assert price_of("hosted_vllm/gpt-4o") is None  # another's model of that name
    assert price_of("echo/echo") is None


def test_callers_who_invent_names_do_not_fill_the_memory() -> None:
    prices = PriceMap(packed())
    asked = target("openai/gpt-4o")
    for number in range(price_map._MOST_FOUND + 100):
        prices.find(msgspec.structs.replace(asked, model=f"made-up-{random.random()}-{number}"), None)
    assert prices._listed.cache_info().currsize == price_map._MOST_FOUND


def test_without_a_packed_file_the_installed_map_is_read_and_litellm_is_not_imported() -> None:
    code = """
import asyncio, sys
from stile.adapters.price_map import PriceMap
from stile.core import providers, targets
prices = PriceMap.packed()
target = targets.make(providers.get("openai"), "gpt-4o", base=None, key=None)
assert prices.find(target, None) is None
asyncio.run(prices.load())
assert prices.find(target, None).rates.output == 10e-6
assert "litellm" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT)}, check=True)


def test_what_is_packed_is_small_and_always_the_same() -> None:
    one = pack(litellm_folder())
    assert one == pack(litellm_folder())
    assert len(one) < 400_000


def test_the_packed_file_is_read_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "prices.json"
    file.write_bytes(b'{"openai/gpt-4o":[[1,2],[]]}')
    monkeypatch.setattr(price_map, "PACKED", file)
    prices = PriceMap.packed()
    asyncio.run(prices.load())
    found = prices.find(target("openai/gpt-4o"), None)
    assert found is not None
    assert found.rates == Rates(input=1, output=2)
