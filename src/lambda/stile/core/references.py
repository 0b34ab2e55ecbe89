"""References to secrets, as a model file writes them in place of a value.

`aws.secretsmanager/NAME`, `aws.secretsmanager/NAME#FIELD` (a field of a JSON object), `aws.ssm/NAME`: NAME is a name or
an ARN, and one of a parameter may begin with `/`.
"""

import re
from typing import Literal

import msgspec

Service = Literal["secretsmanager", "ssm"]

_PREFIXES: dict[str, Service] = {"aws.secretsmanager/": "secretsmanager", "aws.ssm/": "ssm"}
_ARNS: dict[Service, re.Pattern[str]] = {
    "secretsmanager": re.compile(r"arn:[a-z-]+:secretsmanager:([a-z0-9-]+):[0-9]{12}:secret:.+"),
    "ssm": re.compile(r"arn:[a-z-]+:ssm:([a-z0-9-]+):[0-9]{12}:parameter/.+"),
}
_FORMS: dict[Service, str] = {
    "secretsmanager": "arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME",
    "ssm": "arn:aws:ssm:REGION:ACCOUNT:parameter/NAME",
}


class Reference(msgspec.Struct, frozen=True):
    """Where a value is kept. `field`: of a JSON object; None for the whole text."""

    service: Service
    name: str
    field: str | None = None

    @property
    def region(self) -> str | None:
        """The region that an ARN tells; None for a name."""
        found = _ARNS[self.service].fullmatch(self.name)
        return found[1] if found else None


def is_reference(text: str) -> bool:
    return text.startswith(tuple(_PREFIXES))


def parse(text: str) -> Reference:
    """What a reference names. Raises ValueError, with what is wrong, for one that names nothing."""
    prefix = next(prefix for prefix in _PREFIXES if text.startswith(prefix))
    name, mark, field = text.removeprefix(prefix).partition("#")
    service = _PREFIXES[prefix]
    if not name:
        raise ValueError(f"a name or an ARN must follow {prefix}")
    if mark and (service == "ssm" or not field):
        raise ValueError("the name of a field must follow #" if not field else "a parameter has no fields")
    if name.startswith("arn:") and not _ARNS[service].fullmatch(name):
        raise ValueError(f"an ARN after {prefix} has the form {_FORMS[service]}")
    return Reference(service, name, field or None)
