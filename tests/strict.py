"""Answers held to the types that OpenAI's and Anthropic's own packages ship, strictly: what is required is there,
nothing has another type. The packages themselves take anything, and look at nothing.

Fields that the types do not name may stand there: providers add some.
"""

import types
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from typing_extensions import TypeAliasType

_UNIONS = (Union, types.UnionType)


def faults(value: Any, kind: Any, where: str = "$") -> list[str]:
    """What is wrong with `value` as JSON of a type; empty when nothing is."""
    if isinstance(kind, TypeAliasType):
        return faults(value, kind.__value__, where)
    origin = get_origin(kind)
    if origin is Annotated:
        return faults(value, get_args(kind)[0], where)
    if origin in _UNIONS:
        return _of_union(value, get_args(kind), where)
    if origin is Literal:
        same = [said for said in get_args(kind) if type(said) is type(value) and said == value]
        return [] if same else [f"{where}: {value!r} is none of {get_args(kind)}"]
    if origin in (list, Sequence):
        return _of_list(value, get_args(kind)[0], where)
    if origin in (dict, Mapping):
        return _of_dict(value, get_args(kind)[1], where)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return _of_model(value, kind, where)
    return _of_plain(value, kind, where)


def check(value: Any, kind: Any) -> None:
    """Fails unless `value` is JSON of this type."""
    found = faults(value, kind)
    assert not found, f"{found} in {value}"


def _of_union(value: Any, kinds: tuple[Any, ...], where: str) -> list[str]:
    said = value.get("type") if isinstance(value, dict) else None
    alike = [kind for kind in kinds if said is not None and _says(kind, said)]
    tries = [faults(value, kind, where) for kind in alike or kinds]
    return [] if [] in tries else min(tries, key=len)


def _says(kind: Any, said: str) -> bool:
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    fields = kind.model_fields if isinstance(kind, type) and issubclass(kind, BaseModel) else {}
    return "type" in fields and said in get_args(fields["type"].annotation)


def _of_list(value: Any, kind: Any, where: str) -> list[str]:
    if not isinstance(value, list):
        return [f"{where}: {value!r} is no array"]
    return [fault for place, item in enumerate(value) for fault in faults(item, kind, f"{where}[{place}]")]


def _of_dict(value: Any, kind: Any, where: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{where}: {value!r} is no object"]
    return [fault for name, item in value.items() for fault in faults(item, kind, f"{where}.{name}")]


def _of_model(value: Any, kind: type[BaseModel], where: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{where}: {value!r} is no {kind.__name__}"]
    found = []
    for name, field in kind.model_fields.items():
        name = field.alias or name  # noqa: PLW2901 (the name that JSON has)
        if name in value:
            found += faults(value[name], field.annotation, f"{where}.{name}")
        elif field.is_required():
            found.append(f"{where}: {kind.__name__} has no {name}")
    return found


def _of_time(value: Any, where: str) -> list[str]:
    try:
        datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return [f"{where}: {value!r} is no time"]
    return []


def _of_plain(value: Any, kind: Any, where: str) -> list[str]:
    if kind in (Any, object):
        return []
    if kind is datetime:
        return _of_time(value, where)
    if kind is float:
        right = isinstance(value, int | float) and not isinstance(value, bool)
    elif kind is int:
        right = isinstance(value, int) and not isinstance(value, bool)
    else:
        right = value is None if kind is type(None) else isinstance(value, kind)
    return [] if right else [f"{where}: {value!r} is no {getattr(kind, '__name__', kind)}"]
