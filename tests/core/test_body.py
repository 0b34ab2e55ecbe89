"""Bodies: what was checked is what is written."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stile.core import body as bodies
from stile.errors import BadRequest

# What could point the gateway at another place, or have it act with other credentials.
CONFIGURED = [
    "api_base",
    "base_url",
    "api_key",
    "api_version",
    "api_type",
    "custom_llm_provider",
    "organization",
    "model_list",
    "fallbacks",
    "num_retries",
    "mock_response",
    "extra_headers",
    "headers",
    "aws_access_key_id",
    "aws_region_name",
    "aws_bedrock_runtime_endpoint",
    "aws_",
    "vertex_project",
    "vertex_credentials",
    "vertex_",
    "azure_ad_token",
    "azure_endpoint",
    "azure_",
]

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=30,
)


def is_configured(name: str) -> bool:
    return name in CONFIGURED or name.startswith(("aws_", "vertex_", "azure_"))


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max((depth_of(inner) for inner in value.values()), default=0)
    if isinstance(value, list):
        return 1 + max((depth_of(inner) for inner in value), default=0)
    return 0


@given(values, st.booleans())
def test_depth_is_how_deep_it_nests(value: Any, ascii_only: bool) -> None:
    assert bodies.depth(json.dumps(value, ensure_ascii=ascii_only).encode()) == depth_of(value)


@given(st.dictionaries(st.text(), values))
def test_fields_are_written_as_they_were_read(fields: dict[str, Any]) -> None:
    fields = {name: value for name, value in fields.items() if name not in bodies._KINDS and not is_configured(name)}
    assert json.loads(bodies.write(bodies.read(json.dumps(fields).encode()))) == fields


def test_of_duplicate_and_escaped_names_the_last_one_is_checked_and_sent() -> None:
    fields = bodies.read(b'{"model":"a","m\\u006fdel":"b"}')
    assert bodies.take(fields, "model", str, "") == "b"
    assert bodies.write(fields) == b'{"model":"b"}'


def test_null_counts_as_absent() -> None:
    fields = bodies.read(b'{"stream":null,"model":"a"}')
    assert bodies.take(fields, "stream", bool, default=False) is False


def test_a_wrong_value_names_its_field() -> None:
    fields = bodies.read(b'{"stream_options":{"include_usage":1}}')
    with pytest.raises(BadRequest, match="stream_options"):
        bodies.take(fields, "stream_options", dict[str, bool], {})


@pytest.mark.parametrize("value", ["http://169.254.169.254", None, 0, [], {}, False])
@pytest.mark.parametrize("name", CONFIGURED)
def test_what_the_configuration_says_is_refused_by_name_whatever_its_value(name: str, value: object) -> None:
    with pytest.raises(BadRequest, match=f"'{name}'") as refused:
        bodies.read(json.dumps({"model": "m", "messages": [], name: value}).encode())
    assert refused.value.status == 400
    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", name)


def test_a_name_is_refused_however_it_is_written() -> None:
    with pytest.raises(BadRequest, match="api_base"):
        bodies.read(b'{"api\\u005fbase":"http://x"}')


@pytest.mark.parametrize(
    "name",
    [
        "prompt_cache_key",
        "prompt_cache_retention",
        "cache_control",
        "safety_identifier",
        "extra_body",
        "timeout",
        "client",
        "metadata",
        "awsome",
        "vertex",
        "azure",
        "my_api_key",
        "x_headers",
        "API_BASE",
        "Api_Key",
        "api_base ",
        "apibase",
        "fallback",
        "temperature_",
    ],
)
def test_every_other_unknown_field_passes_untouched(name: str) -> None:
    body = json.dumps({"model": "m", name: {"a": [1, 2.50, None]}}, separators=(",", ":")).encode()
    assert bodies.write(bodies.read(body)) == body


@given(st.text(max_size=20), values)
def test_only_what_the_configuration_says_is_refused(name: str, value: Any) -> None:
    body = json.dumps({name: value}).encode()
    if is_configured(name):
        with pytest.raises(BadRequest, match="configuration"):
            bodies.read(body)
    elif name not in bodies._KINDS:
        assert json.loads(bodies.write(bodies.read(body))) == {name: value}


def test_the_same_names_deeper_in_are_the_providers_affair() -> None:
    body = b'{"model":"m","metadata":{"api_base":"http://x","headers":{}}}'
    assert bodies.write(bodies.read(body)) == body
