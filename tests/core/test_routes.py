"""Model names and their targets."""

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stile.core import providers, targets
from stile.core.routes import Occasion, Policy, Routes, Target


def target(model: str) -> Target:
    return Target(label=f"p/{model}", provider="p", model=model, via="relay")


def models(*names: str) -> dict[str, list[Target]]:
    return {name: [target(name)] for name in names}


def following(**named: Sequence[str]) -> Policy:
    return Policy(fallbacks={"failure": named})


def chain(table: Routes, model: str, occasion: Occasion = "failure") -> list[str]:
    return [group.name for group in table.followers(model, occasion)]


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


def test_an_alias_is_another_name_of_the_same_targets() -> None:
    table = Routes(models("gpt-4o"), Policy(aliases={"gpt-4": "gpt-4o"}))
    group = table.find("gpt-4")
    assert group is not None
    assert group.name == "gpt-4"
    assert [found.model for found in group.targets] == ["gpt-4o"]
    assert [group.name for group in table.groups] == ["gpt-4o"]


def test_an_alias_may_be_of_a_model_that_a_pattern_serves() -> None:
    table = Routes({"openai/*": [target("*")]}, Policy(aliases={"best": "openai/gpt-4o"}))
    assert [found.model for found in found_in(table, "best")] == ["gpt-4o"]
    assert list(table.names) == []


def test_an_alias_of_nothing_leads_nowhere() -> None:
    assert Routes(models("a"), Policy(aliases={"b": "gone"})).find("b") is None


def test_hidden_aliases_are_served_and_not_listed() -> None:
    policy = Policy(aliases={"seen": "a", "unseen": "a"}, hidden=frozenset({"unseen"}))
    table = Routes(models("a"), policy)
    assert list(table.names) == ["a", "seen"]
    assert found_in(table, "unseen") == found_in(table, "a")


def test_a_table_is_replaced_whole_and_aliases_follow_it() -> None:
    table = Routes(models("a", "p/*"), Policy(aliases={"nick": "a"}))
    table.replace({"a": [target("renewed")], "b": [target("b")]})
    assert list(table.names) == ["a", "b", "nick"]
    assert [found.model for found in found_in(table, "nick")] == ["renewed"]
    assert table.patterns == []
    assert table.find("p/x") is None


def test_followers_come_depth_first_and_each_once() -> None:
    policy = following(a=["b", "e"], b=["c", "d"], c=["d"], d=["e"], e=["a", "b"])
    table = Routes(models("a", "b", "c", "d", "e"), policy)
    assert chain(table, "a") == ["b", "c", "d", "e"]
    assert chain(table, "c") == ["d", "e", "a", "b"]


def test_a_model_without_followers_has_none() -> None:
    assert chain(Routes(models("a", "b"), following(b=["a"])), "a") == []
    assert chain(Routes(models("a")), "a") == []


def test_followers_that_are_not_there_are_passed_over() -> None:
    assert chain(Routes(models("a", "c"), following(a=["gone", "c"], gone=["a"])), "a") == ["c"]


def test_an_occasions_own_followers_come_first_and_general_ones_follow_them() -> None:
    policy = Policy(fallbacks={"failure": {"a": ["b"], "long": ["b"]}, "context_window": {"a": ["long"]}})
    table = Routes(models("a", "b", "long"), policy)
    assert chain(table, "a") == ["b"]
    assert chain(table, "a", "context_window") == ["long", "b"]
    assert chain(table, "a", "content_policy") == ["b"]
    assert chain(table, "long", "context_window") == ["b"]


def test_an_alias_is_followed_by_its_models_followers_and_never_by_its_model() -> None:
    policy = Policy(
        aliases={"nick": "a", "other": "b"}, fallbacks={"failure": {"a": ["other", "nick"], "b": ["a", "c"]}}
    )
    table = Routes(models("a", "b", "c"), policy)
    assert chain(table, "nick") == ["other", "c"]
    assert chain(table, "a") == ["other", "c"]


def test_an_alias_may_have_followers_of_its_own() -> None:
    policy = Policy(aliases={"nick": "a"}, fallbacks={"failure": {"a": ["b"], "nick": ["c"]}})
    assert chain(Routes(models("a", "b", "c"), policy), "nick") == ["c"]


def test_a_models_own_followers_come_before_its_patterns_and_those_before_everybodys() -> None:
    named: Mapping[str, Sequence[str]] = {"p/*": ["b"], "p/own": ["c"], "*": ["d"]}
    table = Routes({"p/*": [target("*")], **models("b", "c", "d", "x")}, Policy(fallbacks={"failure": named}))
    assert chain(table, "p/own") == ["c", "d"]
    assert chain(table, "p/any") == ["b", "d"]
    assert chain(table, "x") == ["d"]
    assert chain(table, "d") == []


def test_a_follower_may_be_one_that_a_pattern_serves() -> None:
    table = Routes({"p/*": [target("*")], **models("a")}, following(a=["p/x", "p/y"]))
    assert [group.targets[0].model for group in table.followers("a")] == ["x", "y"]


@given(st.dictionaries(st.sampled_from("abcdef*"), st.lists(st.sampled_from("abcdefz"), max_size=4), max_size=7))
def test_no_chain_is_endless_whatever_follows_whatever(named: dict[str, list[str]]) -> None:
    found = chain(Routes(models(*"abcdef"), Policy(fallbacks={"failure": named})), "a")
    assert len(found) == len(set(found))
    assert set(found) <= set("bcdef")


@pytest.mark.parametrize(("name", "is_pattern"), [("3f2a*", True), ("3f2a", False), ("", False)])
def test_a_target_of_a_pattern_is_known_by_its_id(name: str, is_pattern: bool) -> None:
    assert Target(label="l", provider="p", model="m", via="relay", id=name).is_pattern is is_pattern


def test_what_a_pattern_makes_keeps_the_targets_id_and_weights() -> None:
    one = Target(label="p/*", provider="p", model="*", via="relay", id="x*", weight=3, order=1, timeout=9)
    (found,) = found_in(Routes({"p/*": [one]}), "p/m")
    assert (found.label, found.model, found.id, found.weight, found.order, found.timeout) == ("p/m", "m", "x*", 3, 1, 9)
