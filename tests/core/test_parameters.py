"""Which of a request's parameters reach a translator."""

from typing import Any

import msgspec
import pytest
from openai.types import embedding_create_params
from openai.types.chat import completion_create_params

from stile.core import parameters
from stile.core.body import Fields
from stile.errors import BadRequest

# Arguments of LiteLLM's that would choose where a call goes, with what credentials, or what it answers.
ARGUMENTS = [
    "api_base",
    "api_key",
    "api_version",
    "api_type",
    "base_url",
    "client",
    "custom_llm_provider",
    "deployment_id",
    "extra_body",
    "extra_headers",
    "extra_query",
    "fallbacks",
    "headers",
    "litellm_params",
    "metadata_url",
    "mock_response",
    "mock_tool_calls",
    "model_list",
    "num_retries",
    "organization",
    "proxy",
    "shared_session",
    "ssl_verify",
    "timeout",
    "user_continue_message",
    "aws_region_name",
    "vertex_credentials",
]


def fields(**values: Any) -> Fields:
    return {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in values.items()}


def chat(_defaults: Any = None, **values: Any) -> dict[str, Any]:
    return parameters.read(fields(**values), parameters.CHAT, _defaults or {})


def test_every_published_chat_parameter_is_known() -> None:
    published = set(completion_create_params.CompletionCreateParamsBase.__annotations__) | {"stream"}
    assert published == parameters.CHAT - {"thinking"} | parameters.UNTRANSLATABLE


def test_every_published_embedding_parameter_is_known() -> None:
    assert set(embedding_create_params.EmbeddingCreateParams.__annotations__) == parameters.EMBEDDINGS


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_of_the_translator_are_refused_by_name(name: str) -> None:
    with pytest.raises(BadRequest) as refused:
        chat(model="m", messages=[], **{name: "x"})
    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", name)


def test_all_refused_names_are_listed_and_the_first_is_the_param() -> None:
    with pytest.raises(BadRequest, match="api_base, headers") as refused:
        chat(headers={}, api_base="http://x")
    assert refused.value.param == "api_base"


def test_a_request_overrides_the_configuration_and_null_leaves_it() -> None:
    assert chat({"temperature": 0.5, "seed": 1}, temperature=1, seed=None) == {"temperature": 1, "seed": 1}


def test_defaults_pass_the_same_list() -> None:
    assert chat({"api_base": "http://x", "messages": [], "top_p": 0.1}) == {"top_p": 0.1}


def test_hints_to_openai_and_values_that_say_nothing_are_left_out() -> None:
    hints = {"store": True, "metadata": {"a": "b"}, "prompt_cache_key": "k", "safety_identifier": "s"}
    nothing = {"n": 1, "presence_penalty": 0, "frequency_penalty": 0.0, "logprobs": False, "service_tier": "auto"}
    assert chat(**hints, **nothing, temperature=0) == {"temperature": 0}


def test_values_that_say_something_stay() -> None:
    said = {"n": 2, "presence_penalty": 0.5, "logprobs": True, "service_tier": "flex"}
    assert chat(**said) == said


def test_tools_are_functions_and_keep_only_their_own_fields() -> None:
    function = {"name": "look", "parameters": {"type": "object"}}
    tool = {"type": "function", "function": function, "server_url": "http://x", "googleSearch": {}}
    assert chat(tools=[tool]) == {"tools": [{"type": "function", "function": function}]}


@pytest.mark.parametrize(
    "tool",
    [{"type": "mcp", "server_url": "litellm_proxy/mcp"}, {"type": "web_search_20250305"}, {"googleSearch": {}}, 1],
)
def test_other_tools_are_refused(tool: object) -> None:
    with pytest.raises(BadRequest, match="must be of type") as refused:
        chat(tools=[tool])
    assert refused.value.param == "tools"


def dropped(_defaults: Any = None, **values: Any) -> dict[str, Any]:
    return parameters.read(fields(**values), parameters.CHAT, _defaults or {}, drop=True)


def test_where_parameters_may_be_dropped_unknown_ones_are_left_out() -> None:
    assert dropped(model="m", messages=[], top_k=5, thinking_budget=1, temperature=0) == {"temperature": 0}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_of_the_translator_are_never_passed_even_where_they_may_be_dropped(name: str) -> None:
    assert dropped(model="m", messages=[], **{name: "x"}) == {}


@pytest.mark.parametrize("others", [{}, {"top_k": 5}, {"zeta": 1}])
def test_a_check_of_the_content_is_never_dropped(others: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match="moderation") as refused:
        dropped(model="m", messages=[], moderation={"model": "omni"}, **others)
    assert refused.value.code == "unsupported_parameter"


def test_a_known_parameter_with_a_wrong_value_is_refused_all_the_same() -> None:
    with pytest.raises(BadRequest) as refused:
        dropped(model="m", tools=[{"type": "mcp"}])
    assert refused.value.param == "tools"


def test_defaults_and_the_requests_own_values_are_kept() -> None:
    assert dropped({"temperature": 0.5, "top_k": 3}, temperature=1, top_k=5, seed=2) == {"temperature": 1, "seed": 2}


def test_of_embeddings_too_unknown_parameters_are_dropped() -> None:
    said = fields(model="m", input="text", dimensions=3, temperature=1, truncate="END")
    assert parameters.read(said, parameters.EMBEDDINGS, {}, drop=True) == {"dimensions": 3}
    with pytest.raises(BadRequest, match="temperature, truncate"):
        parameters.read(said, parameters.EMBEDDINGS, {})
