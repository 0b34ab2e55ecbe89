"""Prices out of LiteLLM's map come to what LiteLLM itself reckons, for every model that it knows."""

import json
import subprocess
import sys
from typing import Any

import msgspec
import pytest
from tests.adapters.test_price_map import litellm_folder, packed

from stile.adapters import price_map
from stile.core.prices import Price, cost
from stile.core.usage import Usage

# Tokens in and out, on both sides of each bound at which prices change.
SIZES = [(1000, 100), (127_999, 7), (199_999, 7), (300_000, 5000), (1_100_000, 1)]
# What LiteLLM reckons in other ways than by the entry's rates, and what is done here instead.
OTHERWISE = {
    "off_peak_pricing": "cheaper at some hours; here always the full price",
    "regional_processing_uplift_multiplier_eu": "dearer in a region that the call does not tell",
}


def entries() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads((litellm_folder() / price_map._MAP).read_text())
    return found


def test_every_price_is_what_litellm_reckons() -> None:
    """Without caches and reasoning, where LiteLLM takes what has no price of its own for free."""
    asked: list[tuple[str, str, dict[str, Any], list[tuple[int, int]]]] = []
    for name, entry in entries().items():
        provider = price_map.family(str(entry.get("litellm_provider")))
        taken = name.startswith(f"{provider}/") or f"{provider}/{name}" not in entries()
        own = f"{provider}/{name.removeprefix(f'{provider}/')}"
        if entry.get("mode") in price_map._MODES and taken and own in packed() and not OTHERWISE.keys() & entry.keys():
            has_tiers = entry.get("tiered_pricing") or any("_above_" in field for field in entry)
            asked.append((own, name, entry, SIZES if has_tiers else SIZES[:1]))
    code = """
import json, sys
from litellm.litellm_core_utils.llm_cost_calc.utils import generic_cost_per_token
from litellm.types.utils import Usage
found = []
for _, name, entry, sizes in json.load(sys.stdin):
    found.append([sum(generic_cost_per_token(name, Usage(prompt_tokens=sent, completion_tokens=received,
        total_tokens=sent + received), entry["litellm_provider"], model_info=entry)) for sent, received in sizes])
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
    for (own, _, _, sizes), litellms in zip(asked, reckoned, strict=True):
        price = msgspec.json.decode(packed()[own], type=Price)
        ours = [cost(price, Usage(*used)) for used in sizes]
        if ours != pytest.approx(litellms, rel=1e-6, abs=1e-12):
            wrong.append((own, ours, litellms))
    assert wrong == []
