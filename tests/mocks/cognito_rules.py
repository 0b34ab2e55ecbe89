"""What real Cognito refuses and its emulators let pass.

Part of it AWS publishes: botocore's model of the service says how long, how many, how spelled. The rest, what a pool's
schema allows and what can be searched, stands in the documentation alone.
"""

import functools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import botocore.session

_LONGEST = 2048  # characters of a value
_MAX_CUSTOM = 50  # attributes of a pool
_STANDARD = (
    "address", "birthdate", "email", "email_verified", "family_name", "gender", "given_name", "locale", "middle_name",
    "name", "nickname", "phone_number", "phone_number_verified", "picture", "preferred_username", "profile",
    "updated_at", "website", "zoneinfo",
)  # fmt: skip
_SEARCHABLE = {
    "username", "email", "phone_number", "name", "given_name", "family_name", "preferred_username",
    "cognito:user_status", "status", "sub",
}  # fmt: skip
_FILTER = re.compile(r"""([\w:]+)\s*\^?=\s*"((?:[^"\\]|\\.)*)\"""")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_DENIED = re.compile(rb"<Code>(\w+)</Code><Message>(.*?)</Message>", re.DOTALL)
_DENIALS = {  # which the emulator says in XML
    "AccessDenied": "AccessDeniedException",
    "InvalidClientTokenId": "UnrecognizedClientException",
    "SignatureDoesNotMatch": "InvalidSignatureException",
}
# The model's patterns are Java's: letters, marks, symbols, numbers and punctuation is all but blanks and controls.
_VISIBLE = r"\p{L}\p{M}\p{S}\p{N}\p{P}", r"\x21-\x7e\xa1-\U0010ffff"


@dataclass
class Refused(Exception):
    """What Cognito answers instead."""

    code: str
    message: str
    status: int = 400

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        said = json.dumps({"__type": self.code, "message": self.message}).encode()
        return self.status, {"content-type": "application/x-amz-json-1.1"}, said


@dataclass(frozen=True)
class Attribute:
    """What a schema says of one."""

    mutable: bool = True
    longest: int = _LONGEST


@dataclass(frozen=True)
class Pool:
    """What DescribeUserPool says of a pool, as far as it decides what is refused."""

    attributes: Mapping[str, Attribute]
    any_case: bool  # whether ANN@example.com is ann@example.com

    @staticmethod
    def read(described: Mapping[str, Any]) -> "Pool":
        declared = {
            one["Name"]: Attribute(
                one.get("Mutable", True),
                int((one.get("StringAttributeConstraints") or {}).get("MaxLength", _LONGEST)),
            )
            for one in described["SchemaAttributes"]
        }
        return Pool(
            {**dict.fromkeys(_STANDARD, Attribute()), **declared, "sub": Attribute(mutable=False)},
            "email" in described.get("UsernameAttributes", ())
            and not described.get("UsernameConfiguration", {}).get("CaseSensitive", True),
        )


def check_request(operation: str, asked: Mapping[str, Any]) -> None:
    """Raises Refused for what no pool takes."""
    if operation not in _model().operation_names:
        return  # the emulator says that it knows none such
    wrong = list(_violations(_model().operation_model(operation).input_shape, asked, ""))
    if wrong:
        counted = f"{len(wrong)} validation error{'s' if len(wrong) > 1 else ''} detected"
        raise _invalid(f"{counted}: {'; '.join(wrong)}")
    if operation == "ListUsers" and asked.get("Filter"):
        found = _FILTER.fullmatch(asked["Filter"])
        if found is None:
            raise _invalid("Error while parsing filter.")
        if found[1] not in _SEARCHABLE:
            raise _invalid(f"Cannot search on attribute {found[1]}")


def check_addition(pool: Pool, asked: Mapping[str, Any]) -> None:
    """Raises Refused for more attributes than a pool can have."""
    there = sum(name.startswith("custom:") for name in pool.attributes)
    if there + len(asked["CustomAttributes"]) > _MAX_CUSTOM:
        raise _invalid(f"A user pool has at most {_MAX_CUSTOM} custom attributes")


def check_attributes(pool: Pool, asked: Mapping[str, Any], *, made: bool) -> None:
    """Raises Refused for what this pool's schema does not allow. `made`: the user is only being created."""
    for attribute in asked.get("UserAttributes") or ():
        name, value = attribute["Name"], attribute.get("Value", "")
        declared = pool.attributes.get(name)
        if declared is None:
            raise _invalid(f"user.{name}: Attribute does not exist in the schema.\n")
        if name == "sub" or not (made or declared.mutable):
            raise _invalid(f"user.{name}: Attribute cannot be updated.\n")
        if len(value) > declared.longest:
            raise _invalid(f"user.{name}: String must be no longer than {declared.longest} characters")
        if name == "email" and value and not _EMAIL.fullmatch(value):
            raise _invalid("Invalid email address format.")


def denied(said: bytes) -> Refused | None:
    """What Cognito says to a caller who may not."""
    found = _DENIED.search(said)
    code = _DENIALS.get(found[1].decode()) if found else None
    return Refused(code, found[2].decode()) if found and code else None


def without_blanks(said: Any) -> Any:
    """An answer without the attributes that a blank value has deleted."""
    if isinstance(said, list):
        return [without_blanks(one) for one in said if not (isinstance(one, dict) and one.get("Value") == "")]
    if isinstance(said, dict):
        return {name: without_blanks(value) for name, value in said.items()}
    return said


def _invalid(message: str) -> Refused:
    return Refused("InvalidParameterException", message)


@functools.cache
def _model() -> Any:
    return botocore.session.get_session().get_service_model("cognito-idp")


def _violations(shape: Any, value: Any, path: str) -> Iterator[str]:
    """What is wrong with a value, in the words that Cognito has for it."""
    if shape.type_name == "structure":
        for name, member in shape.members.items():
            within = f"{path}{'.' if path else ''}{name[0].lower()}{name[1:]}"
            if value.get(name) is not None:
                yield from _violations(member, value[name], within)
            elif name in shape.required_members:
                yield f"Value at '{within}' failed to satisfy constraint: Member must not be null"
        return
    if shape.type_name == "list":
        for number, one in enumerate(value, 1):
            yield from _violations(shape.member, one, f"{path}.{number}.member")
    yield from (f"Value at '{path}' failed to satisfy constraint: Member must {must}" for must in _broken(shape, value))


def _broken(shape: Any, value: Any) -> Iterator[str]:
    said = shape.metadata
    if shape.type_name in {"string", "list", "integer"}:
        size, what = (value, "value") if shape.type_name == "integer" else (len(value), "length")
        if size > said.get("max", size):
            yield f"have {what} less than or equal to {said['max']}"
        if size < said.get("min", size):
            yield f"have {what} greater than or equal to {said['min']}"
    if value not in said.get("enum", [value]):
        yield f"satisfy enum value set: [{', '.join(said['enum'])}]"
    if "pattern" in said and not re.fullmatch(said["pattern"].replace(*_VISIBLE), value):
        yield f"satisfy regular expression pattern: {said['pattern']}"
