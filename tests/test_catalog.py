"""Providers found in the environment."""

import asyncio
from collections.abc import Mapping

import pytest

from stile import sources
from stile.catalog import Catalog
from stile.core import targets
from stile.ports import Listing


def names(environment: Mapping[str, str]) -> list[str]:
    return [source.name for source in sources.find(environment)]


def test_credentials_in_the_environment_are_found() -> None:
    assert names({}) == ["ollama"]
    found = names(
        {
            "OPENAI_API_KEY": "a",
            "ANTHROPIC_API_KEY": "b",
            "GROQ_API_KEY": "c",
            "AWS_ACCESS_KEY_ID": "d",
            "AWS_REGION": "e",
        }
    )
    assert found == ["openai", "groq", "anthropic", "bedrock", "ollama"]


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("", "http://127.0.0.1:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("gpu", "http://gpu:11434"),
        ("gpu:8080", "http://gpu:8080"),
        ("http://gpu:8080/", "http://gpu:8080"),
        ("https://ollama.example.com", "https://ollama.example.com:443"),
        ("[::1]:11434", "http://[::1]:11434"),
        ("[::1]", "http://[::1]:11434"),
    ],
)
def test_ollama_is_where_its_own_variable_says(host: str, address: str) -> None:
    assert targets.ollama_address(host) == address


def test_lists_come_in_the_background_and_a_missing_one_fails_nothing() -> None:
    async def lists(listing: Listing) -> list[str] | None:
        assert listing.headers
        return ["gpt-4o"] if "api.openai.com" in listing.url else None

    async def story() -> None:
        served = Catalog({}, sources.find({"OPENAI_API_KEY": "a", "GROQ_API_KEY": "b"})[:2], lists)
        assert served.found() == {"openai": None, "groq": None}
        assert [model.id for model in served.models()] == ["echo"]
        await served.refresh()
        assert served.found() == {"openai": 1, "groq": None}
        assert [model.id for model in served.models()] == ["echo", "openai/gpt-4o"]
        group = served.routes.find("openai/not-listed")
        assert group is not None
        assert group.targets[0].model == "not-listed"
        await served.close()

    asyncio.run(story())


def test_an_entry_named_echo_replaces_it() -> None:
    async def lists(listing: Listing) -> list[str] | None:
        raise AssertionError(listing)

    target = sources.find({"OPENAI_API_KEY": "a"})[0].target
    assert target is not None
    group = Catalog({"echo": [target]}, [], lists).routes.find("echo")
    assert group is not None
    assert group.targets[0].provider == "openai"
