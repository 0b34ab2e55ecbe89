"""Translated calls through the whole gateway: the real SDK in front, providers of other dialects behind."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import openai
import pytest
from tests import leaks, program
from tests.mocks import anthropic, bedrock, provider
from tests.mocks.provider import Provider, Script
from tests.program import Program

HELLO: Any = [{"role": "user", "content": "Hello"}]
WORDS = "".join(anthropic.WORDS)

Story = Callable[[openai.AsyncOpenAI, Program, Provider], Awaitable[None]]


def play(folder: Path, script: Script, params: str, story: Story, **settings: str) -> None:
    """A gateway whose model `m` has these litellm_params, before a provider that follows the script."""

    async def main() -> None:
        async with provider.running(script) as server:
            config = folder / "config.yaml"
            config.write_text(
                f"model_list:\n  - model_name: m\n    litellm_params: {{{params}, api_base: '{server.url}'}}\n"
            )
            with program.running(folder, STILE_CONFIG=str(config), PLANTED=leaks.PROVIDER_KEY, **settings) as gateway:
                sdk = openai.AsyncOpenAI(base_url=f"{gateway.base}/v1", api_key=gateway.key, max_retries=0)
                async with sdk:
                    await story(sdk, gateway, server)
                assert gateway.stop() == 0
                assert gateway.err.read_text() == ""

    asyncio.run(main())


ANTHROPIC = f"model: anthropic/{anthropic.MODEL}, api_key: os.environ/PLANTED"
BEDROCK = (
    "model: bedrock/anthropic.claude-3-haiku-20240307-v1:0, aws_region_name: eu-west-1, aws_access_key_id: AKIA,"
    " aws_secret_access_key: os.environ/PLANTED"
)
BOTH = pytest.mark.parametrize(
    ("script", "params"), [(anthropic.chat, ANTHROPIC), (bedrock.converse, BEDROCK)], ids=["anthropic", "bedrock"]
)


@BOTH
def test_the_sdk_gets_answers_and_streams_through_litellm(folder: Path, script: Script, params: str) -> None:
    async def story(sdk: openai.AsyncOpenAI, gateway: Program, _: Provider) -> None:
        whole = await sdk.chat.completions.create(model="m", messages=HELLO)
        assert whole.choices[0].message.content == WORDS
        chunks = [chunk async for chunk in await sdk.chat.completions.create(model="m", messages=HELLO, stream=True)]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == WORDS
        lines = program.wait_for(lambda: calls if len(calls := gateway.calls()) == 2 else None, "two lines")
        used = [(line["input_tokens"], line["output_tokens"], line["stream"]) for line in lines]
        assert used == [(11, 7, False), (11, 7, True)]

    play(folder, script, params, story)


def test_what_would_lead_elsewhere_is_refused_before_anything_is_sent(folder: Path) -> None:
    async def story(sdk: openai.AsyncOpenAI, _: Program, server: Provider) -> None:
        image = {"type": "image_url", "image_url": {"url": "http://127.0.0.1:1/x.png"}}
        with pytest.raises(openai.BadRequestError, match="base64"):
            await sdk.chat.completions.create(model="m", messages=[{"role": "user", "content": [image]}])  # type: ignore[list-item,misc]
        for field in ("api_base", "headers", "mock_response", "fallbacks"):
            with pytest.raises(openai.BadRequestError, match=field):
                await sdk.chat.completions.create(model="m", messages=HELLO, extra_body={field: "http://127.0.0.1:1"})
        assert server.calls == []

    play(folder, anthropic.chat, ANTHROPIC, story)


def test_media_are_fetched_from_public_addresses_only_when_that_is_allowed(folder: Path) -> None:
    async def story(sdk: openai.AsyncOpenAI, _: Program, server: Provider) -> None:
        for url in (f"{server.url}/x.png", "http://[::1]/x.png", "http://169.254.169.254/latest/meta-data"):
            content: Any = [{"type": "image_url", "image_url": {"url": url}}]
            with pytest.raises(openai.BadRequestError, match="public"):
                await sdk.chat.completions.create(model="m", messages=[{"role": "user", "content": content}])
        assert server.calls == []

    play(folder, anthropic.chat, ANTHROPIC, story, STILE_FETCH_URLS="1")


def test_a_provider_that_refuses_is_told_with_its_status_and_without_its_key(folder: Path) -> None:
    async def story(sdk: openai.AsyncOpenAI, gateway: Program, _: Provider) -> None:
        with pytest.raises(openai.RateLimitError, match="slow down") as refused:
            await sdk.chat.completions.create(model="m", messages=HELLO)
        assert leaks.PROVIDER_KEY not in str(refused.value)
        line = gateway.line_of(refused.value.response.headers["x-request-id"])
        assert (line["status"], line["error"], line["target"]) == (
            429,
            "upstream_error",
            f"anthropic/{anthropic.MODEL}",
        )

    script = anthropic.error(429, "rate_limit_error", f"slow down, {leaks.PROVIDER_KEY}")
    play(folder, script, ANTHROPIC, story)
