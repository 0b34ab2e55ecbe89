"""Writes doc/log-schema.json: what a line of the log can be, from the records that lines are made of.

`make schema` calls it after a field has changed; a test holds the file to be fresh.
"""

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "doc" / "log-schema.json"
sys.path.insert(0, str(ROOT / "src" / "lambda"))

import msgspec  # noqa: E402 (the sources that are described)

from stile.telemetry.metrics import NAMESPACE, OF_MODELS, SERIES  # noqa: E402
from stile.telemetry.records import AuditRecord, CallRecord, TextRecord  # noqa: E402
from stile.telemetry.redaction import MAX_CLIENT, MAX_SHOWN  # noqa: E402

_BOUNDED = ("path", "model", "model_name", "model_served", "target", "mcp_method", "mcp_name", "mcp_version")
_METRIC = {
    "type": "object",
    "properties": {"Name": {"enum": list(SERIES)}, "Unit": {"enum": sorted({*SERIES.values()})}},
}
_DIRECTIVE = {
    "type": "object",
    "required": ["Namespace", "Dimensions", "Metrics"],
    "properties": {
        "Namespace": {"const": NAMESPACE},
        "Dimensions": {"enum": [[["stage"]], [["stage", "model_name"]]]},
        "Metrics": {"type": "array", "minItems": 1, "maxItems": len(SERIES), "items": _METRIC},
    },
}
_EMF = {
    "type": "object",
    "required": ["Timestamp", "CloudWatchMetrics"],
    "properties": {
        "Timestamp": {"type": "integer"},
        "CloudWatchMetrics": {"type": "array", "minItems": 1, "maxItems": 2, "items": _DIRECTIVE},
    },
    "description": f"CloudWatch's embedded metric format; of models: {', '.join(OF_MODELS)}.",
}


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a line."""
    kinds: list[type[msgspec.Struct]] = [CallRecord, AuditRecord, TextRecord]
    _, components = msgspec.json.schema_components(kinds, ref_template="#/$defs/{name}")
    del components["Emf"]  # described below, in full
    for name, kind in components.items():
        kind["title"], kind["description"] = name, "doc/api.md tells what each field means."
        kind["additionalProperties"] = False
        kind["required"] = _always(next(known for known in kinds if known.__name__ == name))
        for field in kind["properties"].values():
            field.pop("default", None)
    call = components["CallRecord"]["properties"]
    for name, bound in (*((name, MAX_SHOWN) for name in _BOUNDED), ("client", MAX_CLIENT)):
        for choice in (call[name], *call[name].get("anyOf", ())):
            if choice.get("type") == "string":
                choice["maxLength"] = bound
    call["_aws"] = _EMF
    call["trace_id"]["pattern"] = "^[0-9a-f]{32}$"
    call["request_id"]["pattern"] = "^req_[0-9a-f]{24}$"
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A line of Stile's log",
        "oneOf": [{"$ref": f"#/$defs/{kind.__name__}"} for kind in kinds],
        "$defs": components,
    }


def text() -> str:
    return json.dumps(schema(), indent=2) + "\n"


def _always(kind: type[msgspec.Struct]) -> list[str]:
    return [field.encode_name for field in msgspec.structs.fields(kind) if field.default is not msgspec.UNSET]


if __name__ == "__main__":
    PAGE.write_text(text())
