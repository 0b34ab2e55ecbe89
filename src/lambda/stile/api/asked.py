"""Reads what the management of users and keys is asked: bodies by their types, queries, durations and moments."""

import re
import time
from collections.abc import Mapping
from datetime import datetime
from typing import TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import UNSET, UnsetType

from stile.api.request import Request
from stile.api.shapes import END, LAST_MOMENT, Email, KeyChange
from stile.errors import BadRequest, Unprocessable
from stile.keyring import KeyFields

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_END = END.replace("\\", r"\\")  # as the decoder quotes it
_UNKNOWN = re.compile(r"unknown field `([^`]*)`")
_PLACE = re.compile(r" - at `(?:key in )?\$(?:\.?([^`]*))`$")

_FORMS = {
    "email": "'email' must be an e-mail address, as in ann@example.com.",
    "name": "'name' must have no control characters.",
    "expires_in": "'expires_in' must be a number of seconds, or a duration as in 90d, 12h or 30m.",
    "grace_period": "'grace_period' must be a number of seconds, or a duration as in 24h, 30m or 7d.",
    "token": "'token' must be hex digits, at least 64: make bootstrap-token makes one.",
}

T = TypeVar("T")


def body(request: Request, kind: type[T], *, optional: bool = False) -> T:
    """The request's body as `kind`. None at all is an empty object where it is `optional`.

    Raises BadRequest for what is no JSON, Unprocessable for an unknown field, a wrong type or value.
    """
    return read(request.body or (b"{}" if optional else b""), kind)


def read(text: bytes, kind: type[T]) -> T:
    """JSON as `kind`. Raises BadRequest for what is no JSON, Unprocessable for an unknown field, a wrong type or
    value."""
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.ValidationError as fault:
        _parse(text)  # a wrong type is found before the end of what is no JSON
        raise _unprocessable(str(fault)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise _no_json(fault) from None


def _parse(text: bytes) -> None:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise _no_json(fault) from None


def _no_json(fault: Exception) -> BadRequest:
    return BadRequest(f"The body is not JSON: {fault}.", code="invalid_json")


def query(request: Request, *known: str) -> Mapping[str, str]:
    """The query's fields. Raises Unprocessable for one that is not known, stands there twice or is no text."""
    found: dict[str, str] = {}
    try:
        pairs = parse_qsl(
            request.scope.get("query_string", b"").decode("ascii"), keep_blank_values=True, errors="strict"
        )
    except ValueError:
        raise Unprocessable("The query cannot be read.") from None
    for name, value in pairs:
        if name not in known or name in found:
            why = "stands in the query twice" if name in found else "is no field of this query"
            raise Unprocessable(f"'{name}' {why}.", code="unknown_parameter", param=name)
        found[name] = value
    return found


def whole(text: str, name: str, least: int, most: int) -> int:
    """A number out of a query. Raises Unprocessable."""
    if not text.isascii() or not text.isdigit() or len(text) > 9 or not least <= int(text) <= most:
        raise Unprocessable(f"'{name}' must be a whole number from {least} to {most}.", param=name)
    return int(text)


def email(text: str) -> str:
    """An address in the one form in which it is kept. Raises Unprocessable for what is none."""
    try:
        return msgspec.convert(text, Email).lower()
    except msgspec.ValidationError:
        raise Unprocessable(_FORMS["email"], param="email") from None


def seconds(duration: str | int) -> int:
    """A duration (`90d`, `1h`, `30s`, or a number of seconds) in seconds."""
    return duration if isinstance(duration, int) else int(duration[:-1]) * _UNITS[duration[-1]]


def within_bytes(text: str | UnsetType, name: str, most: int) -> None:
    """Raises Unprocessable for a text of more than `most` bytes of UTF-8."""
    if text is not UNSET and len(text.encode()) > most:
        raise Unprocessable(f"'{name}' must have at most {most} bytes of UTF-8.", param=name)


def key_fields(said: KeyChange) -> KeyFields:
    """What a body says of a key."""
    return KeyFields(
        name=said.name,
        scopes=UNSET if said.scopes is UNSET else tuple(dict.fromkeys(said.scopes)),
        models=UNSET if said.models is UNSET else said.models and tuple(said.models),
        tools=UNSET if said.tools is UNSET else said.tools and tuple(said.tools),
        metadata=said.metadata,
        expires=_expires(said),
    )


def _expires(said: KeyChange) -> int | UnsetType | None:
    if said.expires_in is UNSET:
        moment = said.expires_at
        return int(moment.timestamp()) if isinstance(moment, datetime) else moment
    if said.expires_at is not UNSET:
        raise Unprocessable("Either 'expires_in' or 'expires_at' says when a key ends, not both.", param="expires_in")
    ends = int(time.time()) + seconds(said.expires_in)
    if ends > LAST_MOMENT:
        raise Unprocessable("A key ends in the year 9999 at the latest, or never.", param="expires_in")
    return ends


def _unprocessable(fault: str) -> Unprocessable:
    unknown = _UNKNOWN.search(fault)
    place = _PLACE.search(fault)
    path = [part for part in (place[1] if place else "").split(".") if part]
    if unknown is None:
        form = _FORMS.get(path[-1]) if path and "matching regex" in fault else None
        return Unprocessable(form or f"{fault.replace(_END, '$')}.", param=".".join(path) or None)
    name = unknown[1]
    if name == "limits":
        return Unprocessable(
            "'limits' come with the usage ledger, which this version does not have.",
            code="unknown_parameter",
            param="limits",
        )
    return Unprocessable(f"There is no field '{name}' here.", code="unknown_parameter", param=".".join([*path, name]))
