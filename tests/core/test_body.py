"""Bodies: what was checked is what is written."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stile.core import body as bodies
from stile.errors import BadRequest

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=30,
)


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
    for name in ("model", "messages", *bodies._KINDS):
        fields.pop(name, None)
    assert json.loads(bodies.write(bodies.read(json.dumps(fields).encode(), ()))) == fields


def test_of_duplicate_and_escaped_names_the_last_one_is_checked_and_sent() -> None:
    fields = bodies.read(b'{"model":"a","m\\u006fdel":"b"}', ("model",))
    assert bodies.take(fields, "model", str, "") == "b"
    assert bodies.write(fields) == b'{"model":"b"}'


def test_null_counts_as_absent() -> None:
    fields = bodies.read(b'{"stream":null,"model":"a"}', ())
    assert bodies.take(fields, "stream", bool, default=False) is False


def test_a_wrong_value_names_its_field() -> None:
    fields = bodies.read(b'{"stream_options":{"include_usage":1}}', ())
    with pytest.raises(BadRequest, match="stream_options"):
        bodies.take(fields, "stream_options", dict[str, bool], {})
