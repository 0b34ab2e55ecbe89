"""LiteLLM's config.yaml dialect."""

from pathlib import Path

import pytest

from stile import modelfile
from stile.core.routes import Target
from stile.errors import ConfigError

ENVIRONMENT = {"OPENAI_API_KEY": "sk-openai", "ANTHROPIC_API_KEY": "sk-ant", "MY_KEY": "mine"}


def load(tmp_path: Path, text: str) -> modelfile.ModelFile:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return modelfile.read(str(path), modelfile.content_of(path), ENVIRONMENT)


def faults(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        load(tmp_path, text)
    return [fault.removeprefix(str(tmp_path / "config.yaml")) for fault in refused.value.faults]


def one(tmp_path: Path, params: str, info: str = "{}") -> Target:
    text = f"model_list:\n  - model_name: m\n    litellm_params: {params}\n    model_info: {info}\n"
    return load(tmp_path, text).table["m"][0]


def key_of(target: Target) -> str | None:
    return target.api_key.reveal() if target.api_key else None


def test_a_provider_of_openais_dialect_is_relayed(tmp_path: Path) -> None:
    target = one(tmp_path, "{model: openai/gpt-4o, api_key: os.environ/MY_KEY}")
    assert (target.via, target.model, target.label) == ("relay", "gpt-4o", "openai/gpt-4o")
    assert target.api_base == "https://api.openai.com/v1"
    assert key_of(target) == "mine"
    assert target.stream_usage is True
    assert "mine" not in repr(target)


def test_a_key_from_the_environment_goes_to_the_providers_own_address_only(tmp_path: Path) -> None:
    assert key_of(one(tmp_path, "{model: openai/gpt-4o}")) == "sk-openai"
    assert key_of(one(tmp_path, "{model: openai/gpt-4o, api_base: 'https://api.openai.com/v1/'}")) == "sk-openai"
    assert key_of(one(tmp_path, "{model: openai/m, api_base: http://127.0.0.1:8000/v1}")) is None


def test_other_providers_are_translated(tmp_path: Path) -> None:
    target = one(tmp_path, "{model: bedrock/anthropic.claude-sonnet-5, aws_region_name: eu-west-1}")
    assert (target.via, target.provider, target.model) == ("litellm", "bedrock", "anthropic.claude-sonnet-5")
    assert target.options == {"aws_region_name": "eu-west-1"}


def test_azure_sends_its_key_in_its_own_header(tmp_path: Path) -> None:
    target = one(tmp_path, "{model: azure/dep, api_base: 'https://r.openai.azure.com', api_key: k}")
    assert (target.api_base, target.key_header) == ("https://r.openai.azure.com/openai/v1", "api-key")


@pytest.mark.parametrize(
    ("said", "expected"), [("{}", None), ("{stream_usage: always}", True), ("{stream_usage: never}", False)]
)
def test_whether_usage_is_asked_of_an_unknown_server_can_be_said(
    tmp_path: Path, said: str, expected: bool | None
) -> None:
    assert one(tmp_path, "{model: openai/m, api_base: 'http://h/v1'}", said).stream_usage is expected


def test_request_parameters_become_defaults(tmp_path: Path) -> None:
    assert one(tmp_path, "{model: openai/m, temperature: 0.2}").defaults == {"temperature": 0.2}


def test_merged_mappings_count_as_written(tmp_path: Path) -> None:
    text = (
        "model_list:\n  - model_name: a\n    litellm_params: &base\n      model: openai/a\n      api_base: http://h/v1\n"
        "      api_key: k\n  - model_name: b\n    litellm_params: {<<: *base, model: openai/b}\n"
    )
    second = load(tmp_path, text).table["b"][0]
    assert (second.model, second.api_base, key_of(second)) == ("b", "http://h/v1", "k")


def test_ollama_is_named_by_its_server_alone(tmp_path: Path) -> None:
    target = one(tmp_path, "{model: ollama_chat/llama3.2, api_base: 'http://gpu:11434'}")
    assert (target.api_base, target.model) == ("http://gpu:11434/v1", "llama3.2")
    assert one(tmp_path, "{model: ollama/llama3.2}").api_base == "http://127.0.0.1:11434/v1"


def test_what_a_target_holds_of_secrets_is_never_printed(tmp_path: Path) -> None:
    target = one(
        tmp_path,
        "{model: bedrock/m, api_key: planted-one, aws_secret_access_key: planted-two,"
        " extra_headers: {X-T: planted-three}}",
    )
    assert "planted" not in repr(target)
    assert target.without_secrets("planted-one planted-two planted-three") == "*** *** ***"
    assert target.headers.keys() == {"x-t"}


def test_a_version_that_yaml_takes_for_a_date_stays_a_version(tmp_path: Path) -> None:
    assert one(tmp_path, "{model: azure_ai/m, api_version: 2024-10-21}").options == {"api_version": "2024-10-21"}


def test_headers_that_only_the_client_may_set_are_refused(tmp_path: Path) -> None:
    text = "model_list:\n  - {model_name: m, litellm_params: {model: openai/a, extra_headers: {Host: x}}}\n"
    assert faults(tmp_path, text) == [":2: extra_headers may not set Host"]


@pytest.mark.parametrize(
    ("params", "what"), [("api_key: %s", "api_key"), ("api_key: k, extra_headers: {X-T: %s}", "header x-t")]
)
@pytest.mark.parametrize("text", [r'"planted\nb"', r'"planted\rb"', r'"planted\0b"'])
def test_a_key_that_no_header_can_hold_is_refused_without_being_shown(
    tmp_path: Path, params: str, what: str, text: str
) -> None:
    written = f"model_list:\n  - {{model_name: m, litellm_params: {{model: openai/a, {params % text}}}}}\n"
    assert faults(tmp_path, written) == [f":2: {what} may not hold line breaks or NUL"]


def test_a_line_break_after_a_key_is_no_part_of_it(tmp_path: Path) -> None:
    assert key_of(one(tmp_path, r'{model: openai/a, api_key: "k\n"}')) == "k"


def test_a_provider_without_a_key_is_named(tmp_path: Path) -> None:
    text = "model_list:\n  - {model_name: m, litellm_params: {model: groq/a}}\n"
    assert load(tmp_path, text).warnings[0].endswith("there is no key for groq: set api_key, or GROQ_API_KEY")


def test_several_entries_of_one_name_are_all_targets(tmp_path: Path) -> None:
    text = "model_list:\n" + "  - {model_name: m, litellm_params: {model: openai/a}}\n" * 2
    assert len(load(tmp_path, text).table["m"]) == 2


def test_what_has_no_effect_is_named_in_a_warning(tmp_path: Path) -> None:
    text = (
        "model_list:\n  - model_name: m\n    litellm_params: {model: openai/a, tags: [x], input_cost_per_image: 1}\n"
        "router_settings: {redis_host: x}\ngeneral_settings: {}\nlitellm_settings: {num_retires: 1}\n"
    )
    warnings = [warning.removeprefix(str(tmp_path / "config.yaml")) for warning in load(tmp_path, text).warnings]
    assert sorted(warnings) == [
        ":3: litellm_params.input_cost_per_image has no effect here",
        ":3: litellm_params.tags has no effect here",
        ":4: router_settings.redis_host has no effect here",
        ":5: general_settings has no effect here",
        ":6: litellm_settings.num_retires has no effect here",
    ]


def test_unknown_fields_are_named_and_stop_nothing_unless_they_look_misspelt(tmp_path: Path) -> None:
    text = "model_list:\n  - {model_name: m, litellm_params: {model: openai/a, zzz: 1}}\n"
    assert load(tmp_path, text).warnings[0].endswith(":2: zzz: unknown field, without effect here")
    assert len(faults(tmp_path, text.replace("model: openai/a", "model: none"))) == 2


def test_every_fault_is_told_at_once_with_its_line(tmp_path: Path) -> None:
    text = """model_list:
  - model_name: a
    litellm_params:
      model: openai/x
      api_bse: http://h
  - litellm_params: {model: openai/y}
  - model_name: c
  - model_name: d
    litellm_params: {model: unknown}
  - model_name: e
    litellm_params: {model: openai/x, api_key: os.environ/NOT_SET}
  - model_name: f
    litellm_params: {model: openai/x, api_base: ftp://h}
  - model_name: g
    litellm_params: {model: hosted_vllm/x}
  - model_name: h
    litellm_params: {model: openai/x}
    model_info: {stream_usage: [sometimes]}
  - model_name: i
    litellm_params: {model: opnai/x}
  - model_name: j
    litellm_params: {model: openai/x, extra_headers: 5}
  - model_name: k*l
    litellm_params: {model: openai/x, temperature: 1, temperature: 2}
modle_list: []
"""
    assert faults(tmp_path, text) == [
        ":25: modle_list: unknown field; did you mean model_list?",
        ":5: api_bse: unknown field; did you mean api_base?",
        ":6: model_name is missing or not a text",
        ":7: litellm_params is missing",
        ":9: model 'unknown' names no provider; write provider/model, as in openai/unknown",
        ":11: the environment variable NOT_SET is not set",
        ":13: api_base must begin with http:// or https://, not 'ftp://h'",
        ":15: api_base is missing: hosted_vllm has no address of its own",
        ":17: model_info.stream_usage must be always or never, not ['sometimes']",
        ":20: model 'opnai/x': there is no provider opnai; did you mean openai?",
        ":22: extra_headers must be a mapping of names to values",
        ":24: temperature stands here twice",
        ":23: model_name k*l: a * may only stand at the end",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", ": the file is empty; it needs a model_list"),
        ("- a\n", ":1: the file must be a mapping of names to values"),
        ("model_list: 5\n", ":1: model_list must be a list"),
        ("model_list:\n  - [\n", ":3: not YAML"),
        ("a: !!python/object:os.system x\n", ":1: model_list is missing"),
    ],
)
def test_a_file_of_the_wrong_shape_is_told_so(tmp_path: Path, text: str, fault: str) -> None:
    assert faults(tmp_path, text)[0].startswith(fault)


def test_a_file_that_cannot_be_read_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        modelfile.content_of(tmp_path / "none.yaml")
