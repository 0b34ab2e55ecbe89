"""Every provider from the pruned artifact alone: what was left out of LiteLLM and its dependencies, nobody misses."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from tests.e2e import artifact
from tests.mocks import anthropic, bedrock, provider

from stile.core import providers

# Calls models through the gateway's own adapter, as it does it, and prints what comes back. No other address than the
# scripted provider's can be found.
CALLS = """
import asyncio, json, socket
import msgspec
from stile.adapters.upstream_litellm import LiteLLMUpstream
from stile.core.routes import Target
from stile.core.secret import Secret
from stile.errors import PublicError
from stile.ports import UpstreamRequest

look_up = socket.getaddrinfo

def look_up_here(host, *arguments, **options):
    if host not in ("127.0.0.1", b"127.0.0.1"):
        raise socket.gaierror(socket.EAI_NONAME, "there is no network")
    return look_up(host, *arguments, **options)

socket.getaddrinfo = look_up_here

async def call(upstream, base, provider, model, operation, stream):
    key = None if provider == "bedrock" else Secret("planted")
    way = {"via": "litellm", "api_base": base, "api_key": key, "options": {}}
    target = Target(label=provider, provider=provider, model=model, **way)
    chat = {"messages": [{"role": "user", "content": "hi"}], "stream": stream}
    body = {"model": "m", **({"input": ["hi"]} if operation == "embeddings" else chat)}
    fields = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in body.items()}
    try:
        answer = await upstream.send(UpstreamRequest(operation, target, fields, stream))
        data = answer.body if isinstance(answer.body, bytes) else b"".join([event async for event in answer.body])
        return [answer.status, data.decode()]
    except PublicError as error:
        return [type(error).__name__, str(error)]

async def main(base, calls):
    upstream = LiteLLMUpstream(30)
    print(json.dumps([await call(upstream, base, *what) for what in calls]))
    await upstream.close()

asyncio.run(main(*json.loads(sys.argv[1])))
"""
# For every provider that LiteLLM translates for: which class does it, and what it makes of parameters and messages.
TRANSFORMS = """
import json, os, re
os.environ["OPENAI_API_KEY"] = "x"
import litellm
from litellm.types.utils import LlmProviders
from litellm.utils import ProviderConfigManager, get_optional_params
litellm.suppress_debug_info = True
from stile.core import providers

def of(name):
    try:
        model, found, _, _ = litellm.get_llm_provider(f"{name}/some-model", api_key="k", api_base="http://127.0.0.1:9")
        config = ProviderConfigManager.get_provider_chat_config(model, LlmProviders(found))
        params = get_optional_params(model=model, custom_llm_provider=found, max_tokens=5, stream=True, temperature=0)
        body = None
        if config is not None:
            body = config.transform_request(model, [{"role": "user", "content": "hi"}], dict(params), {}, {})
        return [found, type(config).__name__, sorted(params), re.sub(r"[0-9a-f-]{36}", "<uuid>", repr(body))]
    except Exception as error:
        assert not isinstance(error, (ImportError, FileNotFoundError)), (name, error)
        return [type(error).__name__, str(error)[:80]]

print(json.dumps({name: of(name) for name in sorted(providers.NAMES)}))
"""
CLIENTS = """
import boto3
for service in sys.argv[1:]:
    print(boto3.client(service, region_name="eu-central-1").meta.endpoint_url)
"""
COUNTS = """
import litellm
print(litellm.token_counter(model="gpt-4o", text="hello world"), litellm.cost_per_token("gpt-4o", 1000, 0)[0] > 0)
"""

COHERE = {
    "id": "1",
    "finish_reason": "COMPLETE",
    "message": {"role": "assistant", "content": [{"type": "text", "text": "hello"}]},
    "usage": {"tokens": {"input_tokens": 1, "output_tokens": 1}},
}
OPENAI = {
    "id": "1",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}
WORDS = "".join(anthropic.WORDS)
# What the documents name as translated: a model, what the provider answers, what it says.
TRANSLATED = {
    "anthropic": (anthropic.MODEL, anthropic.chat, WORDS),
    "bedrock": ("anthropic.claude-3-haiku-20240307-v1:0", bedrock.converse, WORDS),
    "cohere": ("command-x", provider.status(200, COHERE), "hello"),
}
# A name and a time that are new with each call.
_NEW = re.compile(r'[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{32}|(?<="created":)\d+')

What = tuple[str, str, str, bool]  # provider, model, operation, whether as a stream
Run = Callable[..., str]


def called(run: Run, script: provider.Script, *calls: What) -> tuple[list[Any], list[tuple[str, str]]]:
    """What `run` makes of a provider's answers, and what it sent, without what is new with each call."""
    with provider.on_a_thread(script) as server:
        answers = json.loads(run(CALLS, json.dumps([server.url, calls])))
    # Only what holds the caller's words: LiteLLM's questions about a model come from the background, or do not come.
    sent = [(call.path, _same(call.body.decode(), server.url)) for call in server.calls if b"hi" in call.body]
    return [[status, _same(text, server.url)] for status, text in answers], sent


def _same(text: str, url: str) -> str:
    return _NEW.sub("0", text.replace(url, "URL").replace(url.removeprefix("http://"), "HOST"))


def test_the_translated_providers_of_the_documents_are_those_tested_here() -> None:
    assert TRANSLATED.keys() == {name for name, known in providers.KNOWN.items() if not known.relayed}


@pytest.mark.parametrize("name", TRANSLATED)
def test_a_translated_call_works_from_the_artifact_alone(name: str) -> None:
    model, script, said = TRANSLATED[name]
    ((status, answer),), _ = called(artifact.alone, script, (name, model, "chat", False))
    assert status == 200, answer
    assert json.loads(answer)["choices"][0]["message"]["content"] == said


@pytest.mark.parametrize("name", ["anthropic", "bedrock"])
def test_a_translated_stream_works_from_the_artifact_alone(name: str) -> None:
    model, script, said = TRANSLATED[name]
    ((status, answer),), _ = called(artifact.alone, script, (name, model, "chat", True))
    assert status == 200, answer
    assert "".join(re.findall(r'"content":"(.*?)"', answer)) == said
    assert answer.endswith("data: [DONE]\n\n")


def test_translated_embeddings_work_from_the_artifact_alone() -> None:
    model = "amazon.titan-embed-text-v2:0"
    ((status, answer),), _ = called(artifact.alone, bedrock.converse, ("bedrock", model, "embeddings", False))
    assert status == 200, answer
    assert json.loads(answer)["data"][0]["embedding"] == bedrock.EMBEDDING


def test_every_provider_sends_and_answers_as_with_nothing_left_out() -> None:
    kinds = [("chat", False), ("chat", True), ("embeddings", False)]
    calls = [(name, "some-model", *kind) for name in sorted(providers.NAMES) for kind in kinds]
    answers, sent = called(artifact.alone, provider.status(200, OPENAI), *calls)
    expected, sent_with_all = called(artifact.with_nothing_left_out, provider.status(200, OPENAI), *calls)
    for call, answer, other in zip(calls, answers, expected, strict=True):
        assert answer == other, call
    assert sent == sent_with_all
    assert len(sent) > 180
    assert sum(status == 200 for status, _ in answers) > 150  # the others want an answer or credentials of their own


def test_every_provider_is_transformed_for_as_with_nothing_left_out() -> None:
    expected: dict[str, Any] = json.loads(artifact.with_nothing_left_out(TRANSFORMS))
    assert json.loads(artifact.alone(TRANSFORMS)) == expected
    transformed = {name for name, found in expected.items() if len(found) == 4 and found[1] != "NoneType"}
    assert {"anthropic", "cohere", "vertex_ai", "perplexity", "databricks", "watsonx"} <= transformed
    assert len(transformed) > 60


def test_the_services_of_aws_that_credentials_and_providers_need_are_known() -> None:
    services = ["bedrock", "bedrock-runtime", "sagemaker-runtime", "sso", "sso-oidc", "sts"]
    addresses = artifact.alone(CLIENTS, *services)
    assert addresses == artifact.with_nothing_left_out(CLIENTS, *services)
    assert "https://sts.eu-central-1.amazonaws.com" in addresses


def test_tokens_are_counted_and_costs_known_without_a_network() -> None:
    assert artifact.alone(COUNTS).split() == ["2", "True"]
