"""References to secrets, as a model file writes them in place of a value.

`aws.secretsmanager/NAME`, `aws.secretsmanager/NAME#FIELD` (a field of a JSON object), `aws.ssm/NAME`: NAME is a name or
an ARN, and one of a parameter may begin with `/`.
"""

from typing import Literal

import msgspec

Service = Literal["secretsmanager", "ssm"]

_PREFIXES: dict[str, Service] = {"aws.secretsmanager/": "secretsmanager", "aws.ssm/": "ssm"}


class Reference(msgspec.Struct, frozen=True):
    """Where a value is kept. `field`: of a JSON object; None for the whole text."""

    service: Service
    name: str
    field: str | None = None

    @property
    def region(self) -> str | None:
        """The region that an ARN tells; None for a name."""
        parts = self.name.split(":")
        return parts[3] if parts[0] == "arn" and len(parts) > 5 and parts[3] else None


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
    return Reference(service, name, field or None)
