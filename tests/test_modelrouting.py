"""How failures are met, as LiteLLM's configuration says it: what is taken, what is wrong, and on which line."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stile import modelfile, modelrouting
from stile.core.routes import Policy, Routes, Target
from stile.errors import ConfigError

NAME = "config.yaml"
TEAM = Path(__file__).parent / "events" / "litellm_config.yaml"
ENVIRONMENT = {
    "OPENAI_API_KEY": "planted-openai",
    "ANTHROPIC_API_KEY": "planted-anthropic",
    "GEMINI_API_KEY": "planted-gemini",
}
MODELS = """
model_list:
  - {model_name: a, litellm_params: {model: openai/a}}
  - {model_name: b, litellm_params: {model: openai/b}}
  - {model_name: c, litellm_params: {model: openai/c}}
"""  # its sections begin on line 6


def load(text: str, environment: Mapping[str, str] = ENVIRONMENT) -> modelfile.ModelFile:
    return modelfile.read(NAME, text.encode(), environment)


def faults(text: str) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        load(text)
    return [fault.removeprefix(NAME) for fault in refused.value.faults]


def warnings(text: str) -> list[str]:
    return [warning.removeprefix(NAME) for warning in load(text).warnings]


def router(said: str) -> modelfile.ModelFile:
    return load(f"{MODELS}router_settings: {{{said}}}\n")


def wrong(said: str) -> list[str]:
    return faults(f"{MODELS}router_settings: {{{said}}}\n")


def targets(*params: str, settings: str = "") -> list[Target]:
    """The targets of a model with these `litellm_params`."""
    entries = "".join(f"  - {{model_name: m, litellm_params: {{model: openai/m, {said}}}}}\n" for said in params)
    return list(load(f"model_list:\n{entries}{settings}").table["m"])


def test_without_settings_the_defaults_hold() -> None:
    policy = load(MODELS).policy
    assert policy == Policy()
    assert (policy.num_retries, policy.allowed_fails, policy.cooldown_time, policy.retry_after) == (2, 3, 5, 0)


def test_numbers_are_taken() -> None:
    policy = router("num_retries: 6, allowed_fails: 1, cooldown_time: 0.5, retry_after: 2").policy
    assert (policy.num_retries, policy.allowed_fails, policy.cooldown_time, policy.retry_after) == (6, 1, 0.5, 2)


def test_a_text_that_is_a_number_counts_and_null_says_nothing() -> None:
    policy = router("num_retries: '0', cooldown_time: '1e1', allowed_fails: null").policy
    assert (policy.num_retries, policy.cooldown_time, policy.allowed_fails) == (0, 10, 3)


def test_a_number_may_come_from_the_environment() -> None:
    found = load(f"{MODELS}router_settings: {{num_retries: os.environ/RETRIES}}\n", {"RETRIES": "4", **ENVIRONMENT})
    assert found.policy.num_retries == 4


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ("num_retries: -1", "num_retries must be a whole number of at least 0"),
        ("num_retries: 1.5", "num_retries must be a whole number of at least 0"),
        ("num_retries: many", "num_retries must be a whole number of at least 0"),
        ("num_retries: true", "num_retries must be a whole number of at least 0"),
        ("num_retries: .inf", "num_retries must be a whole number of at least 0"),
        ("num_retries: .nan", "num_retries must be a whole number of at least 0"),
        ("num_retries: [1]", "num_retries must be a whole number of at least 0"),
        ("allowed_fails: -2", "allowed_fails must be a whole number of at least 0"),
        ("cooldown_time: -0.1", "cooldown_time must be a number of at least 0"),
        ("cooldown_time: .inf", "cooldown_time must be a number of at least 0"),
        ("retry_after: soon", "retry_after must be a number of at least 0"),
        ("timeout: 0", "timeout must be more than 0 seconds"),
        ("timeout: -1", "timeout must be a number of at least 0"),
        ("stream_timeout: 0", "stream_timeout must be more than 0 seconds"),
        ("fallbacks: a", "fallbacks: must be a list of entries, as in - gpt-4o: [claude, gemini]"),
        ("fallbacks: [a]", "fallbacks: must be a list of entries, as in - gpt-4o: [claude, gemini]"),
        ("fallbacks: {a: [b]}", "fallbacks: must be a list of entries, as in - gpt-4o: [claude, gemini]"),
        ("fallbacks: [{a: []}]", "fallbacks of a must be a list of models' names"),
        ("fallbacks: [{a: [1]}]", "fallbacks of a must be a list of models' names"),
        ("fallbacks: [{a: {b: c}}]", "fallbacks of a must be a list of models' names"),
        ("default_fallbacks: {a: b}", "default_fallbacks must be a list of models' names"),
        ("default_fallbacks: [[a]]", "default_fallbacks must be a list of models' names"),
        ("model_group_alias: [a]", "model_group_alias: must be a mapping of names to models"),
        ("model_group_alias: {x: [a]}", "model_group_alias: x must be the name of a model"),
        ("model_group_alias: {x: {hidden: true}}", "model_group_alias: x must be the name of a model"),
        ("model_group_alias: {x: gone}", "model_group_alias: x: there is no model gone"),
        ("model_group_alias: {x: a, y: x}", "model_group_alias: y: there is no model x"),
        ("model_group_alias: {x: x}", "model_group_alias: x: there is no model x"),
        ("model_group_alias: {a: b}", "model_group_alias: a is a model of its own already"),
        ("routing_strategy: simple-shuffel", "routing_strategy 'simple-shuffel': did you mean simple-shuffle?"),
        ("routing_strategy: latency-based", "routing_strategy 'latency-based': did you mean latency-based-routing?"),
        ("routing_strategy: zzz", "routing_strategy 'zzz': unknown"),
        ("fallbacks: [{a: [gone]}]", "fallbacks: a: there is no model gone"),
        ("fallbacks: [{gone: [a]}]", "fallbacks: there is no model gone"),
        ("context_window_fallbacks: [{a: [gone]}]", "context_window_fallbacks: a: there is no model gone"),
        ("content_policy_fallbacks: [{a: [gone]}]", "content_policy_fallbacks: a: there is no model gone"),
        ("fallbacks: [{'*': [gone]}]", "fallbacks: *: there is no model gone"),
        ("default_fallbacks: [gone]", "default_fallbacks: *: there is no model gone"),
        ("default_fallbacks: gone", "default_fallbacks: *: there is no model gone"),
        ("fallbacks: [{a: [a]}]", "fallbacks: go round in a circle: a → a"),
        ("fallbacks: [{a: [b]}, {b: [a]}]", "fallbacks: go round in a circle: a → b → a"),
        ("fallbacks: [{a: [b]}, {b: [c]}, {c: [a]}]", "fallbacks: go round in a circle: a → b → c → a"),
        ("fallbacks: [{c: [a]}, {a: [b]}, {b: [a]}]", "fallbacks: go round in a circle: a → b → a"),
        (
            "context_window_fallbacks: [{a: [b]}, {b: [a]}]",
            "context_window_fallbacks: go round in a circle: a → b → a",
        ),
        ("num_retires: 2", "num_retires: unknown field; did you mean num_retries?"),
    ],
)
def test_a_fault_is_told_with_its_line(said: str, fault: str) -> None:
    assert wrong(said) == [f":6: {fault}"]


@pytest.mark.parametrize("said", ["[simple-shuffle]", "{a: b}", "5", "true"])
def test_a_strategy_that_is_no_text_is_told_so(said: str) -> None:
    (fault,) = wrong(f"routing_strategy: {said}")
    assert fault.startswith(":6: routing_strategy ")


odd = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.floats() | st.sampled_from(["a", "b", "*", "gone", "", "1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "*", "x"]), inner),
    max_leaves=6,
)
FIELDS = sorted(modelrouting._ROUTER)


@given(st.sampled_from(["router_settings", "litellm_settings"]), st.dictionaries(st.sampled_from(FIELDS), odd))
def test_no_settings_are_so_odd_that_they_are_not_told_what_is_wrong(section: str, said: dict[str, object]) -> None:
    text = f"{MODELS}{section}: {json.dumps(said)}\n"
    try:
        found = load(text)
    except ConfigError as refused:
        for fault in refused.faults:
            assert fault.startswith(f"{NAME}:6: ")
    else:
        for model in found.table:
            assert len(list(Routes(found.table, found.policy).followers(model))) < 4


@pytest.mark.parametrize("section", ["router_settings", "litellm_settings", "environment_variables"])
@pytest.mark.parametrize("said", ["5", "[a]", "text"])
def test_a_section_of_the_wrong_shape_is_told_so(section: str, said: str) -> None:
    assert f":6: {section} must be a mapping of names to values" in faults(f"{MODELS}{section}: {said}\n")


@pytest.mark.parametrize(
    "section", ["router_settings", "litellm_settings", "general_settings", "environment_variables"]
)
def test_a_section_of_which_all_is_commented_out_says_nothing(section: str) -> None:
    """As LiteLLM takes it."""
    assert load(f"{MODELS}{section}:\n  # num_retries: 3\n").policy == Policy()


def test_everything_that_is_wrong_is_told_at_once() -> None:
    text = """
model_list:
  - model_name: a
    litellm_params: {model: opnai/gpt-4o}
  - model_name: b
    litellm_params:
      model: openai/b
      weight: -1
  - model_name: c
    litellm_params:
      model: openai/c
      api_key: os.environ/NOT_SET
router_settings:
  routing_strategy: simplest
  num_retries: -1
  fallbacks:
    - b: [gone]
  context_window_fallbacks:
    - b: [c]
    - c: [b]
  model_group_alias:
    x: nowhere
"""
    assert sorted(faults(text)) == sorted(
        [
            ":4: model 'opnai/gpt-4o': there is no provider opnai; did you mean openai?",
            ":8: weight must be a number of at least 0",
            ":12: the environment variable NOT_SET is not set",
            ":14: routing_strategy 'simplest': did you mean simple-shuffle?",
            ":15: num_retries must be a whole number of at least 0",
            ":17: fallbacks: b: there is no model gone",
            ":19: context_window_fallbacks: go round in a circle: b → c → b",
            ":22: model_group_alias: x: there is no model nowhere",
        ]
    )


def test_a_fallback_to_a_model_whose_entry_is_wrong_is_no_second_fault() -> None:
    entry = "  - {model_name: d, litellm_params: {model: opnai/d}}\n"
    text = f"{MODELS}{entry}router_settings: {{fallbacks: [{{a: [d]}}]}}\n"
    assert faults(text) == [":6: model 'opnai/d': there is no provider opnai; did you mean openai?"]


def test_each_circle_is_told_once_and_all_of_them() -> None:
    said = "fallbacks: [{a: [b, a]}, {b: [a, c]}, {c: [c]}], context_window_fallbacks: [{a: [a]}]"
    assert wrong(said) == [
        ":6: fallbacks: go round in a circle: a → b → a",
        ":6: fallbacks: go round in a circle: c → c",
        ":6: fallbacks: go round in a circle: a → a",
        ":6: context_window_fallbacks: go round in a circle: a → a",
    ]


def test_two_ways_to_the_same_model_are_no_circle() -> None:
    policy = router("fallbacks: [{a: [b, c]}, {b: [c]}], context_window_fallbacks: [{c: [a]}]").policy
    assert policy.fallbacks["failure"] == {"a": ["b", "c"], "b": ["c"]}


def test_everybodys_fallbacks_may_be_among_themselves() -> None:
    assert router("fallbacks: [{'*': [a, b]}]").policy.fallbacks == {"failure": {"*": ["a", "b"]}}


def test_a_default_fallback_that_is_not_there_is_told_where_it_stands() -> None:
    text = f"{MODELS}router_settings:\n  fallbacks: [{{a: [b]}}]\n  default_fallbacks: [gone]\n"
    assert faults(text) == [":8: default_fallbacks: *: there is no model gone"]


def test_fallbacks_of_each_kind_are_taken() -> None:
    found = router(
        "fallbacks: [{a: [b, c]}, {b: c}], context_window_fallbacks: [{a: [c]}], content_policy_fallbacks: [{a: [b]}]"
    )
    assert found.policy.fallbacks == {
        "failure": {"a": ["b", "c"], "b": ["c"]},
        "context_window": {"a": ["c"]},
        "content_policy": {"a": ["b"]},
    }


def test_default_fallbacks_are_those_of_every_model_without_its_own() -> None:
    found = router("default_fallbacks: [c], fallbacks: [{a: [b]}]")
    assert found.policy.fallbacks == {"failure": {"a": ["b"], "*": ["c"]}}
    assert [group.name for group in Routes(found.table, found.policy).followers("b")] == ["c"]


def test_fallbacks_for_all_come_before_default_fallbacks() -> None:
    assert router("default_fallbacks: [c], fallbacks: [{'*': [b]}]").policy.fallbacks == {"failure": {"*": ["b"]}}


@pytest.mark.parametrize("said", ["null", "[]"])
def test_no_fallbacks_are_none(said: str) -> None:
    assert not any(router(f"fallbacks: {said}, default_fallbacks: {said}").policy.fallbacks.values())


def test_a_fallback_may_be_a_pattern_an_alias_or_the_echo() -> None:
    text = (
        f"{MODELS}  - {{model_name: openai/*, litellm_params: {{model: openai/*}}}}\n"
        "router_settings:\n  model_group_alias: {x: b, y: openai/gpt-5}\n"
        "  fallbacks: [{a: [openai/gpt-4o, x, y, echo]}, {openai/*: [a]}, {x: [c]}, {openai/o3: [c]}]\n"
    )
    found = load(text)
    assert found.policy.fallbacks["failure"]["openai/*"] == ["a"]
    routes = Routes(found.table, found.policy)
    assert [group.name for group in routes.followers("openai/o4")] == ["a", "openai/gpt-4o", "x", "c", "openai/gpt-5"]


def test_aliases_have_two_forms() -> None:
    policy = router("model_group_alias: {x: a, y: {model: b, hidden: true}, z: {model: c, hidden: false}}").policy
    assert policy.aliases == {"x": "a", "y": "b", "z": "c"}
    assert policy.hidden == {"y"}


def test_litellms_own_section_is_read_too() -> None:
    text = (
        f"{MODELS}litellm_settings:\n  num_retries: 1\n  allowed_fails: 7\n  cooldown_time: 9\n"
        "  fallbacks: [{a: [b]}]\n  context_window_fallbacks: [{a: [c]}]\n  content_policy_fallbacks: [{b: [c]}]\n"
    )
    policy = load(text).policy
    assert (policy.num_retries, policy.allowed_fails, policy.cooldown_time) == (1, 7, 9)
    assert policy.fallbacks == {
        "failure": {"a": ["b"]},
        "context_window": {"a": ["c"]},
        "content_policy": {"b": ["c"]},
    }


@pytest.mark.parametrize("router_first", [True, False])
def test_where_both_sections_say_it_the_routers_counts(router_first: bool) -> None:
    sections = [
        "router_settings: {num_retries: 4, fallbacks: [{a: [b]}]}\n",
        "litellm_settings: {num_retries: 1, allowed_fails: 9, fallbacks: [{a: [c]}, {b: [c]}]}\n",
    ]
    policy = load(MODELS + "".join(sections if router_first else sections[::-1])).policy
    assert (policy.num_retries, policy.allowed_fails) == (4, 9)
    assert policy.fallbacks == {"failure": {"a": ["b"]}}


def test_a_wrong_value_is_told_at_the_line_of_the_section_that_counts() -> None:
    text = (
        f"{MODELS}litellm_settings:\n  fallbacks: [{{a: [gone]}}]\n  content_policy_fallbacks: [{{a: [gone]}}]\n"
        "router_settings:\n  content_policy_fallbacks: [{b: [lost]}]\n"
    )
    assert faults(text) == [
        ":7: fallbacks: a: there is no model gone",
        ":10: content_policy_fallbacks: b: there is no model lost",
    ]


def test_of_litellms_own_section_anything_else_only_warns() -> None:
    text = f"{MODELS}litellm_settings:\n  callbacks: [langfuse]\n  num_retrys: -5\n  cache: os.environ/NOT_SET\n"
    assert warnings(text) == [
        ":7: litellm_settings.callbacks has no effect here",
        ":8: litellm_settings.num_retrys has no effect here",
        ":9: litellm_settings.cache has no effect here",
    ]


def test_what_only_litellms_router_has_a_use_for_only_warns() -> None:
    text = f"{MODELS}router_settings:\n  redis_host: os.environ/NOT_SET\n  enable_pre_call_checks: true\n"
    assert warnings(text) == [
        ":7: router_settings.redis_host has no effect here",
        ":8: router_settings.enable_pre_call_checks has no effect here",
    ]


@pytest.mark.parametrize(
    "strategy",
    ["least-busy", "latency-based-routing", "cost-based-routing", "usage-based-routing", "usage-based-routing-v2"],
)
def test_other_strategies_work_as_the_one_that_there_is(strategy: str) -> None:
    text = f"{MODELS}router_settings:\n  routing_strategy: {strategy}\n"
    told = f":7: routing_strategy {strategy} works as simple-shuffle here: an instance sees no load"
    assert warnings(text) == [told]


def test_the_strategy_that_there_is_needs_no_word() -> None:
    assert warnings(f"{MODELS}router_settings: {{routing_strategy: simple-shuffle}}\n") == []


@pytest.mark.parametrize(
    ("settings", "params", "expected"),
    [
        ("", "", (None, None)),
        ("router_settings: {timeout: 60}", "", (60, None)),
        ("router_settings: {timeout: 60, stream_timeout: 5}", "", (60, 5)),
        ("router_settings: {stream_timeout: 5}", "", (None, 5)),
        ("litellm_settings: {request_timeout: 90}", "", (90, None)),
        ("router_settings: {timeout: 60}\nlitellm_settings: {request_timeout: 90}", "", (60, None)),
        ("router_settings: {timeout: 60, stream_timeout: 5}", "timeout: 7, stream_timeout: 2", (7, 2)),
        ("router_settings: {timeout: 60, stream_timeout: 5}", "stream_timeout: 2.5", (60, 2.5)),
        ("router_settings: {timeout: 60}", "timeout: 7", (7, None)),
        ("", "timeout: '7'", (7, None)),
        ("router_settings: {timeout: 60}", "timeout: null", (60, None)),
    ],
)
def test_timeouts_hold_for_all_and_are_overridden_by_each(
    settings: str, params: str, expected: tuple[float | None, float | None]
) -> None:
    (found,) = targets(params, settings=settings)
    assert (found.timeout, found.stream_timeout) == expected


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (["", ""], [1, 1]),
        (["weight: 3", "weight: 1"], [3, 1]),
        (["weight: 0.5", "weight: 0"], [0.5, 0]),
        (["weight: 2", ""], [2, 0]),
        (["rpm: 900", "rpm: 100"], [900, 100]),
        (["tpm: 20000", "tpm: 60000"], [20000, 60000]),
        (["rpm: 9, tpm: 1", "rpm: 1, tpm: 9"], [9, 1]),
        (["weight: 1, rpm: 9", "rpm: 1"], [1, 0]),
        (["rpm: 9", "weight: 1"], [0, 1]),
        (["tpm: 5", "rpm: 7"], [0, 7]),
        (["weight: 0, rpm: 3", "weight: 0, rpm: 4"], [3, 4]),
        (["weight: 0", "weight: 0"], [1, 1]),
        (["rpm: '10'", "rpm: null"], [10, 0]),
    ],
)
def test_weights_are_those_that_litellms_simple_shuffle_takes(params: list[str], expected: list[float]) -> None:
    assert [found.weight for found in targets(*params)] == expected


def test_order_is_taken_and_comes_last_where_it_is_not_said() -> None:
    first, second, third = targets("order: 1", "order: -2", "")
    assert second.order < first.order < third.order


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ("weight: -1", "weight must be a number of at least 0"),
        ("weight: heavy", "weight must be a number of at least 0"),
        ("rpm: -1", "rpm must be a number of at least 0"),
        ("tpm: .nan", "tpm must be a number of at least 0"),
        ("order: first", "order must be a number"),
        ("timeout: 0", "timeout must be more than 0 seconds"),
        ("stream_timeout: -3", "stream_timeout must be a number of at least 0"),
    ],
)
def test_a_wrong_number_of_an_entry_is_told_with_its_line(said: str, fault: str) -> None:
    assert faults(f"{MODELS}  - model_name: d\n    litellm_params:\n      model: openai/d\n      {said}\n") == [
        f":9: {fault}"
    ]


def test_ids_are_the_same_for_the_same_file_and_differ_within_it() -> None:
    entries = ["", "", "api_base: 'http://h/v1'"]
    first, again = targets(*entries), targets(*entries)
    assert [found.id for found in first] == [found.id for found in again]
    assert len({found.id for found in first}) == 3
    assert [found.id for found in targets(*entries, "temperature: 1")][:3] == [found.id for found in first]


def test_an_id_does_not_tell_and_does_not_depend_on_secrets() -> None:
    (one,), (other,) = targets("api_key: planted-1"), targets("api_key: planted-2")
    assert one.id == other.id


def test_an_own_id_is_kept() -> None:
    text = "model_list:\n  - {model_name: m, litellm_params: {model: openai/m}, model_info: {id: eu-1}}\n"
    assert [found.id for found in load(text).table["m"]] == ["eu-1"]


def test_an_id_that_stands_twice_is_a_fault() -> None:
    text = """model_list:
  - model_name: m
    litellm_params: {model: openai/m}
    model_info: {id: eu-1}
  - model_name: n
    litellm_params: {model: openai/n}
    model_info: {id: eu-1}
"""
    assert faults(text) == [":6: model_info.id eu-1 stands here twice"]


def test_a_patterns_target_shows_in_its_id() -> None:
    text = "model_list:\n  - {model_name: openai/*, litellm_params: {model: openai/*}, model_info: {id: all}}\n"
    assert [found.is_pattern for found in load(text).table["openai/*"]] == [True]
    assert [found.is_pattern for found in targets("")] == [False]


@pytest.mark.parametrize(
    ("settings", "params", "expected"),
    [
        ("", "", False),
        ("", "drop_params: true", True),
        ("litellm_settings: {drop_params: true}", "", True),
        ("litellm_settings: {drop_params: true}", "drop_params: false", False),
        ("litellm_settings: {drop_params: false}", "drop_params: true", True),
    ],
)
def test_whether_parameters_are_dropped_holds_for_all_and_is_overridden_by_each(
    settings: str, params: str, expected: bool
) -> None:
    (found,) = targets(params, settings=settings)
    assert found.drop_params is expected


def test_environment_variables_of_the_file_stand_under_those_of_the_process() -> None:
    text = (
        "model_list:\n"
        "  - {model_name: m, litellm_params: {model: openai/m, api_key: os.environ/FROM_FILE}}\n"
        "  - {model_name: m, litellm_params: {model: openai/m, api_key: os.environ/FROM_BOTH}}\n"
        "environment_variables: {FROM_FILE: one, FROM_BOTH: two}\n"
    )
    found = load(text, {"FROM_BOTH": "three"}).table["m"]
    assert [target.api_key.reveal() for target in found if target.api_key] == ["one", "three"]


# ---- a team's configuration, unchanged

TEAMS_ENVIRONMENT = ENVIRONMENT | {
    "AZURE_API_BASE_EU": "https://acme-eu.openai.azure.com/",
    "AZURE_API_KEY_EU": "planted-azure-eu",
    "AZURE_API_BASE_US": "https://acme-us.openai.azure.com",
    "AZURE_API_KEY_US": "planted-azure-us",
    "BEDROCK_ACCESS_KEY_ID": "planted-bedrock-id",
    "BEDROCK_SECRET_ACCESS_KEY": "planted-bedrock-secret",
}


@pytest.fixture(scope="module")
def team() -> modelfile.ModelFile:
    return modelfile.read(NAME, TEAM.read_bytes(), TEAMS_ENVIRONMENT)


def test_a_teams_models_are_all_there(team: modelfile.ModelFile) -> None:
    assert {name: [(target.via, target.label) for target in found] for name, found in team.table.items()} == {
        "gpt-4o": [
            ("relay", "azure/gpt-4o-2024-11-20"),
            ("relay", "azure/gpt-4o-2024-11-20"),
            ("relay", "openai/gpt-4o"),
        ],
        "gpt-4o-mini": [("relay", "openai/gpt-4o-mini")],
        "o3": [("relay", "openai/o3")],
        "claude-sonnet": [
            ("litellm", "anthropic/claude-sonnet-4-5-20250929"),
            ("litellm", "bedrock/eu.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ],
        "claude-haiku": [("litellm", "bedrock/eu.anthropic.claude-haiku-4-5-20251001-v1:0")],
        "gpt-oss": [("relay", "bedrock/openai.gpt-oss-120b-1:0")],
        "gemini-pro": [("relay", "gemini/gemini-2.5-pro")],
        "gemini-flash": [("relay", "gemini/gemini-2.5-flash")],
        "text-embedding-3-large": [("relay", "azure/text-embedding-3-large")],
        "openai/*": [("relay", "openai/*")],
    }


def test_a_teams_targets_are_weighed_ordered_and_timed(team: modelfile.ModelFile) -> None:
    eu, us, openai = team.table["gpt-4o"]
    assert [found.weight for found in (eu, us, openai)] == [900, 300, 500]
    assert openai.order == 2 < eu.order == us.order
    assert [found.id for found in (eu, us)] == ["azure-eu-gpt-4o", "azure-us-gpt-4o"]
    assert (eu.timeout, eu.stream_timeout) == (120, 20)
    assert (us.timeout, us.stream_timeout) == (300, 30)
    assert team.table["o3"][0].timeout == 900
    assert (team.table["gemini-pro"][0].timeout, team.table["gemini-pro"][0].stream_timeout) == (300, 45)
    assert [found.weight for found in team.table["claude-sonnet"]] == [3, 1]
    assert [found.drop_params for found in team.table["claude-sonnet"]] == [True, False]


def test_a_teams_targets_are_reached_with_their_own_addresses_and_keys(team: modelfile.ModelFile) -> None:
    eu, us, openai = team.table["gpt-4o"]
    bases = [(found.api_base, found.key_header) for found in (eu, us, openai)]
    assert bases == [
        ("https://acme-eu.openai.azure.com/openai/v1", "api-key"),
        ("https://acme-us.openai.azure.com/openai/v1", "api-key"),
        ("https://api.openai.com/v1", "authorization"),
    ]
    keys = [found.api_key.reveal() for found in (eu, us, openai) if found.api_key]
    assert keys == ["planted-azure-eu", "planted-azure-us", "planted-openai"]
    assert openai.headers.keys() == {"openai-organization"}
    assert team.table["claude-sonnet"][0].headers.keys() == {"anthropic-beta"}
    (oss,) = team.table["gpt-oss"]
    assert (oss.api_base, oss.aws_region) == ("https://bedrock-runtime.us-west-2.amazonaws.com/openai/v1", "us-west-2")
    (haiku,) = team.table["claude-haiku"]
    assert haiku.options["aws_region_name"] == "eu-central-1"
    assert haiku.defaults == {"max_tokens": 8192}
    assert team.table["o3"][0].defaults == {"reasoning_effort": "medium"}
    assert team.table["gemini-flash"][0].defaults == {"temperature": 0.2}
    assert team.table["text-embedding-3-large"][0].defaults == {"dimensions": 1024}
    assert "planted" not in repr(team)


def test_a_teams_policy_is_the_routers_with_litellms_under_it(team: modelfile.ModelFile) -> None:
    assert team.policy == Policy(
        num_retries=3,
        allowed_fails=2,
        cooldown_time=30,
        retry_after=1,
        fallbacks={
            "failure": {
                "gpt-4o": ["claude-sonnet", "gemini-pro"],
                "gpt-4o-mini": ["gemini-flash", "claude-haiku"],
                "claude-sonnet": ["gemini-pro"],
                "o3": ["openai/gpt-5"],
                "*": ["gpt-4o-mini"],
            },
            "context_window": {
                "gpt-4o": ["gemini-pro"],
                "gpt-4o-mini": ["gemini-flash"],
                "claude-sonnet": ["gemini-pro"],
            },
            "content_policy": {"gpt-4o": ["claude-sonnet"]},
        },
        aliases={"gpt-4": "gpt-4o", "gpt-4-turbo": "gpt-4o"},
        hidden=frozenset({"gpt-4-turbo"}),
    )


def test_a_teams_fallbacks_follow_each_other(team: modelfile.ModelFile) -> None:
    routes = Routes(team.table, team.policy)
    names = [group.name for group in routes.followers("gpt-4-turbo")]
    assert names == ["claude-sonnet", "gemini-pro", "gpt-4o-mini", "gemini-flash", "claude-haiku"]
    assert next(group.name for group in routes.followers("o3")) == "openai/gpt-5"
    assert [group.name for group in routes.followers("gpt-4", "content_policy")][:2] == ["claude-sonnet", "gemini-pro"]
    assert "gpt-4-turbo" not in routes.names
    assert "gpt-4" in routes.names


def test_a_teams_warnings_only_name_what_has_no_effect(team: modelfile.ModelFile) -> None:
    told = [warning.split(": ", 1)[1] for warning in team.warnings]
    assert sorted(set(told)) == sorted(
        [
            "general_settings has no effect here",
            "litellm_params.api_version has no effect here for azure",
            "litellm_params.max_retries has no effect here",
            "litellm_params.tags has no effect here",
            "litellm_settings.cache has no effect here",
            "litellm_settings.cache_params has no effect here",
            "litellm_settings.callbacks has no effect here",
            "litellm_settings.failure_callback has no effect here",
            "litellm_settings.json_logs has no effect here",
            "litellm_settings.set_verbose has no effect here",
            "litellm_settings.success_callback has no effect here",
            "router_settings.enable_pre_call_checks has no effect here",
            "router_settings.redis_host has no effect here",
            "router_settings.redis_password has no effect here",
            "router_settings.redis_port has no effect here",
            "routing_strategy usage-based-routing-v2 works as simple-shuffle here: an instance sees no load",
        ]
    )


def test_a_teams_missing_variables_are_all_told() -> None:
    with pytest.raises(ConfigError) as refused:
        modelfile.read(NAME, TEAM.read_bytes(), {})
    told = {fault.split(": ", 1)[1] for fault in refused.value.faults}
    assert told >= {f"the environment variable {name} is not set" for name in TEAMS_ENVIRONMENT}
