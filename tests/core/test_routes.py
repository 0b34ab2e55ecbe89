"""Model names and their targets."""

from collections.abc import Sequence

import pytest

from stile.core import providers, targets
from stile.core.routes import Routes, Target


def target(model: str) -> Target:
    return Target(label=f"p/{model}", provider="p", model=model, via="relay")


def found_in(table: Routes, model: str) -> Sequence[Target]:
    group = table.find(model)
    assert group is not None
    return group.targets


def test_exact_names_come_before_patterns_and_longer_patterns_before_shorter() -> None:
    table = Routes({"a/*": [target("*")], "a/b/*": [target("deep-*")], "a/x": [target("exact")]})
    assert [found.model for found in found_in(table, "a/x")] == ["exact"]
    assert [found.model for found in found_in(table, "a/b/c")] == ["deep-c"]
    assert [found.label for found in found_in(table, "a/z")] == ["p/z"]
    assert not table.find("a/")
    assert not table.find("b")
    assert list(table.names) == ["a/x"]


@pytest.mark.parametrize("model", ["a/../x", "a/x?key=1", "a/x#", "a/x y", "a/x%2f", "a/é", "a/x\n"])
def test_a_pattern_takes_only_names_that_are_harmless_in_a_url(model: str) -> None:
    assert not Routes({"a/*": [target("*")]}).find(model)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("openai/gpt-4o", ("openai", "gpt-4o")),
        ("ollama_chat/llama3.2", ("ollama", "llama3.2")),
        ("openrouter/meta/llama", ("openrouter", "meta/llama")),
        ("gpt-4o", ("openai", "gpt-4o")),
        ("claude-sonnet-5", ("anthropic", "claude-sonnet-5")),
        ("something", (None, "something")),
    ],
)
def test_names_tell_their_provider(model: str, expected: tuple[str | None, str]) -> None:
    assert providers.split_model(model) == expected


@pytest.mark.parametrize("base", ["https://r.openai.azure.com", "https://r.openai.azure.com/openai/v1/"])
def test_azure_is_reached_at_its_v1_api(base: str) -> None:
    assert targets.address(providers.KNOWN["azure"], base) == "https://r.openai.azure.com/openai/v1"
