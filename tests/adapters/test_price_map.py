"""Prices out of LiteLLM's map, by the names that targets have. That they are LiteLLM's own is shown in
tests/e2e/test_prices.py."""

import asyncio
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
from stile.core.prices import Price, Rates
from stile.core.routes import Target

ROOT = Path(__file__).parent.parent.parent / "src" / "lambda"


@cache
def packed() -> dict[str, msgspec.Raw]:
    return msgspec.json.decode(pack(litellm_folder()), type=dict[str, msgspec.Raw])


@cache
def litellm_folder() -> Path:
    found = util.find_spec("litellm")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent


def target(model: str, **more: Any) -> Target:
    provider, _, name = model.partition("/")
    known = providers.get(provider)
    assert known is not None
    return msgspec.structs.replace(targets.make(known, name, base=None, key=None), **more)


def price_of(model: str, served: str | None = None, **more: Any) -> Price | None:
    return PriceMap(packed()).find(target(model, **more), served)


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
