"""A model call's body: decoded one level, checked, and rebuilt from exactly what was checked.

`fields` maps each top-level name to its JSON as it came. Duplicate names collapse to the last one and escaped names are
read, so what was looked at is what is sent on. Deeper levels pass unread, but never deeper than MAX_DEPTH.
"""

import array
import functools
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from stile.errors import BadRequest

MAX_DEPTH = 200
MAX_FIELDS = 1000  # at the top level
MAX_ITEMS = 250_000  # arrays and objects at all levels: each costs a hundred times its bytes once it is read
MAX_VALUES = 1_000_000
MAX_NAME = 256

Fields = dict[str, msgspec.Raw]

_TO_SQUARE = bytes.maketrans(b"{}", b"[]")
_TO_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # up, and down as a signed byte has it
_SLICE = 256 * 1024
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_fields = msgspec.json.Decoder(Fields)

# Nobody can make the gateway call a place of their choosing: LiteLLM and its proxy take these from requests.
_CONFIGURED = frozenset(
    {
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
    }
)
_CONFIGURED_STARTS = ("aws_", "vertex_", "azure_")

# The first byte of a JSON value tells its type.
_STRING, _ARRAY, _OBJECT, _BOOLEAN, _NUMBER, _NULL = b'"', b"[", b"{", b"tf", b"-0123456789", b"n"
_NAMES = {_STRING: "a string", _ARRAY: "an array", _OBJECT: "an object", _BOOLEAN: "a boolean", _NUMBER: "a number"}
_KINDS: dict[str, tuple[bytes, ...]] = {
    "model": (_STRING,),
    "messages": (_ARRAY,),
    "input": (_STRING, _ARRAY),
    "stream": (_BOOLEAN, _NULL),
    "stream_options": (_OBJECT, _NULL),
    "tools": (_ARRAY, _NULL),
    "stop": (_STRING, _ARRAY, _NULL),
    "n": (_NUMBER, _NULL),
    "max_tokens": (_NUMBER, _NULL),
    "max_completion_tokens": (_NUMBER, _NULL),
    "max_output_tokens": (_NUMBER, _NULL),
    "top_logprobs": (_NUMBER, _NULL),
    "top_k": (_NUMBER, _NULL),
    "instructions": (_STRING, _ARRAY, _NULL),
    "system": (_STRING, _ARRAY, _NULL),
    "stop_sequences": (_ARRAY, _NULL),
    "temperature": (_NUMBER, _NULL),
    "top_p": (_NUMBER, _NULL),
    "presence_penalty": (_NUMBER, _NULL),
    "frequency_penalty": (_NUMBER, _NULL),
    "seed": (_NUMBER, _NULL),
    "dimensions": (_NUMBER, _NULL),
    "user": (_STRING, _NULL),
}
_ALLOWED = {name: frozenset(b"".join(kinds)) for name, kinds in _KINDS.items()}


def read(body: bytes) -> Fields:
    """The top-level fields of `body`; raises BadRequest for anything that is not a well-formed call."""
    brackets = body.count(b"[") + body.count(b"{")
    if brackets > MAX_ITEMS and _outside(body, b"[{") > MAX_ITEMS:
        raise BadRequest(f"The body holds more than {MAX_ITEMS} arrays and objects.", code="invalid_json")
    if body.count(b",") > MAX_VALUES and _outside(body, b",") > MAX_VALUES:
        raise BadRequest(f"The body holds more than {MAX_VALUES} values.", code="invalid_json")
    try:
        fields = _fields.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:
        raise BadRequest(f"The body is not a JSON object: {fault}.", code="invalid_json") from None
    except RecursionError:
        raise _too_deep() from None
    if len(fields) > MAX_FIELDS or (len(body) > _SLICE and max(map(len, fields)) > MAX_NAME):
        said = f"The body has more than {MAX_FIELDS} fields, or one with a name of over {MAX_NAME} letters."
        raise BadRequest(said, code="invalid_json")
    if brackets > MAX_DEPTH and depth(body) > MAX_DEPTH:
        raise _too_deep()
    check_names(fields)
    for name, value in fields.items():
        allowed = _ALLOWED.get(name)
        if allowed is not None and memoryview(value)[0] not in allowed:
            raise _wrong_type(name)
    return fields


def require(fields: Fields, names: tuple[str, ...]) -> None:
    """Raises BadRequest for the first of these that is absent."""
    for name in names:
        if name not in fields:
            raise BadRequest(f"Missing required parameter: '{name}'.", code="missing_required_parameter", param=name)


def take(fields: Fields, name: str, kind: Any, default: Any) -> Any:
    """One field decoded as `kind`; `default` when it is absent or null. Raises BadRequest when it is something else."""
    raw = fields.get(name)
    if raw is None:
        return default
    try:
        value = _decoder(kind).decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:
        raise BadRequest(f"Invalid value for '{name}': {fault}.", code="invalid_value", param=name) from None
    return default if value is None else value


@functools.cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind | None)


def write(fields: Fields) -> bytes:
    """The body that holds exactly these fields."""
    return msgspec.json.encode(fields)


def depth(data: bytes) -> int:
    """How deeply arrays and objects nest in well-formed JSON, MAX_DEPTH + 1 standing for anything deeper.

    Strings are dropped by cutting at the quotes that are left when escapes are gone; then one level of empty pairs
    goes in each round. All of it runs in C: 40 KB of chat takes some 50 µs.
    """
    bare = _bare(data)
    if len(bare) > _SLICE:
        return _depth_of_large(bare)
    brackets = b"".join(bare.split(b'"')[::2]).translate(_TO_SQUARE, _NOT_BRACKETS)
    levels = 0
    while brackets and levels <= MAX_DEPTH:
        brackets = brackets.replace(b"[]", b"")
        levels += 1
    return levels


def check_names(names: Iterable[str]) -> None:
    """Raises BadRequest for a name that only the configuration may set."""
    for name in names:
        if name in _CONFIGURED or name.startswith(_CONFIGURED_STARTS):
            raise BadRequest(
                f"'{name}' is the configuration's to say, not a request's.", code="unsupported_parameter", param=name
            )


def _depth_of_large(bare: bytes) -> int:
    """The same in slices, in one pass: neither the time nor the memory that it takes grows with what is nested how."""
    level = deepest = 0
    for outside in _outside_strings(bare):
        steps = array.array("b", outside.translate(_TO_STEPS, _NOT_BRACKETS))
        deepest = max(deepest, *itertools.accumulate(steps, initial=level)) if steps else deepest
        level += sum(steps)
        if deepest > MAX_DEPTH:
            return MAX_DEPTH + 1
    return deepest


def _outside(data: bytes, marks: bytes) -> int:
    """How often any of these marks stands outside of strings."""
    others = bytes(set(range(256)) - set(marks))
    return sum(len(outside.translate(None, others)) for outside in _outside_strings(_bare(data)))


def _bare(data: bytes) -> bytes:
    """JSON without escapes, so that each quote begins or ends a string."""
    return data.replace(b"\\\\", b"").replace(b'\\"', b"")


def _outside_strings(bare: bytes) -> Iterator[bytes]:
    """What stands outside of strings, slice by slice."""
    inside = 0
    for start in range(0, len(bare), _SLICE):
        pieces = bare[start : start + _SLICE].split(b'"')
        yield b"".join(pieces[inside::2])
        inside ^= (len(pieces) - 1) & 1


def _wrong_type(name: str) -> BadRequest:
    wanted = " or ".join(_NAMES[kind] for kind in _KINDS[name] if kind in _NAMES)
    return BadRequest(f"Invalid type for '{name}': expected {wanted}.", code="invalid_type", param=name)


def _too_deep() -> BadRequest:
    return BadRequest(f"The body nests deeper than {MAX_DEPTH} levels.", code="invalid_json")
