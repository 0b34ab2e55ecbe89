"""What a translated target is known not to take is refused before anything is sent; hints are left out and named."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests import leaks, program
from tests.mocks import agent, anthropic, provider
from tests.stage import Stage

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "Hi"}]
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
SOUND = {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"n": 2}, "n"),
        ({"seed": 1, "presence_penalty": 1.0}, "seed"),
        ({"modalities": ["text", "audio"], "audio": {"voice": "a", "format": "wav"}}, "audio"),
        ({"messages": [{"role": "user", "content": [SOUND]}]}, "audio"),
    ],
)
def test_what_anthropic_cannot_do_is_refused_by_name(stage: Stage, fields: dict[str, Any], named: str) -> None:
    asked = len(stage.provider.calls)
    answer = stage.ask(CHAT, {"model": "translated", "messages": HELLO, **fields})
    assert answer.status == 400
    assert named in answer.error["message"]
    assert len(stage.provider.calls) == asked


def test_hints_are_left_out_and_named(stage: Stage) -> None:
    stage.says(anthropic.message())
    hints = {"store": True, "prompt_cache_key": "k", "service_tier": "flex", "client_metadata": {"a": "b"}}
    answer = stage.ask(CHAT, {"model": "translated", "messages": HELLO, **hints, "user": "ann"})
    assert (answer.status, answer.headers["x-stile-dropped"]) == (
        200,
        "client_metadata, prompt_cache_key, service_tier, store",
    )
    assert stage.heard.json["metadata"] == {"user_id": "ann"}


def test_images_reach_no_model_that_is_known_to_read_text_alone(folder: Path) -> None:
    """Unless the model file knows better."""
    with provider.on_a_thread(anthropic.chat) as upstream:
        params = {"model": "cohere/command-r", "api_base": upstream.url, "api_key": leaks.PROVIDER_KEY}
        entries = [
            {"model_name": "blind", "litellm_params": params},
            {"model_name": "seeing", "litellm_params": params, "model_info": {"supports_vision": True}},
        ]
        config = folder / "config.yaml"
        config.write_text(json.dumps({"model_list": entries, "router_settings": {"num_retries": 0}}))
        with program.running(folder, STILE_CONFIG=str(config)) as gateway:
            said = [{"role": "user", "content": [IMAGE]}]
            answer = gateway.ask("POST", CHAT, {"model": "blind", "messages": said})
            assert (answer.status, answer.error["code"]) == (400, "unsupported_content")
            assert "cohere/command-r does not take images" in answer.error["message"]
            assert upstream.calls == []
            gateway.ask("POST", CHAT, {"model": "seeing", "messages": said})
            assert len(upstream.calls) == 1


def test_relays_of_every_dialect_leave_litellm_alone(folder: Path) -> None:
    with provider.on_a_thread(provider.status(200, {"id": "x"})) as upstream:
        params = {"api_key": leaks.PROVIDER_KEY}
        takes = {"supported_endpoints": ["/v1/responses", "/v1/chat/completions"]}
        of_openai = {"model": "openai/x", "api_base": f"{upstream.url}/v1", **params}
        entries = [
            {"model_name": "openai", "litellm_params": of_openai, "model_info": takes},
            {"model_name": "claude", "litellm_params": {"model": "anthropic/x", "api_base": upstream.url, **params}},
        ]
        config = folder / "config.yaml"
        config.write_text(json.dumps({"model_list": entries}))
        with program.running(folder, STILE_CONFIG=str(config)) as gateway:
            for path, model, fields in (
                ("/v1/responses", "openai", {"input": "Hi"}),
                ("/v1/chat/completions", "openai", {"messages": HELLO}),
                ("/v1/messages", "claude", {"messages": HELLO, "max_tokens": 5}),
                ("/v1/messages/count_tokens", "claude", {"messages": HELLO}),
            ):
                assert gateway.ask("POST", path, {"model": model, **fields}).status == 200
            mapped = Path(f"/proc/{gateway.process.pid}/maps").read_text()
            assert "pydantic_core" not in mapped  # which LiteLLM cannot be imported without


def test_chats_and_messages_reach_a_model_that_only_responds(stage: Stage) -> None:
    """And are streamed as it speaks, though LiteLLM's map does not know the model."""
    sent = list(agent._responses(["Hel", "lo"], None)[0])
    stage.says(sent)
    answer = stage.ask(CHAT, {"model": "responds", "messages": HELLO, "stream": True})
    assert answer.status == 200
    chunks = [json.loads(line[6:]) for line in answer.body.decode().split("\n\n") if line.startswith("data: {")]
    said = [chunk["choices"][0]["delta"].get("content") for chunk in chunks if chunk["choices"]]
    assert [text for text in said if text] == ["Hel", "lo"]
    assert (stage.heard.path, stage.heard.json["stream"], stage.heard.json["model"]) == (
        "/v1/responses",
        True,
        "scripted",
    )
    stage.says(agent._responses(["Hello"], None)[1])
    answer = stage.ask("/v1/messages", {"model": "responds", "messages": HELLO, "max_tokens": 50})
    assert answer.json["content"] == [{"type": "text", "text": "Hello"}]
    assert stage.heard.json["max_output_tokens"] == 50
    assert stage.ask("/v1/responses", {"model": "responds", "input": "Hi"}).json["id"] == "resp_1"


def test_one_header_names_what_the_dialect_and_the_translator_left_out(stage: Stage) -> None:
    """The one leaves out the hint, the other what the model does not take."""
    stage.says(anthropic.message())
    answer = stage.ask(
        "/v1/responses", {"model": "lenient", "input": "Hi", "store": True, "text": {"verbosity": "low"}}
    )
    assert (answer.status, answer.headers["x-stile-dropped"]) == (200, "verbosity, store")
