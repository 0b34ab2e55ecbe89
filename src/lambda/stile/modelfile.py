"""The model file: LiteLLM's config.yaml dialect, read into targets and the policy of routing.

All faults are reported at once, each with its line. A field without effect here is named in a warning; one that looks
like a known name misspelt is a fault.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import msgspec
import yaml

from stile import modelentries
from stile.core.routes import Policy, Target
from stile.errors import ConfigError
from stile.modelrouting import Routing
from stile.yamlfile import YamlFile

_TOP = {"model_list", "router_settings", "litellm_settings", "environment_variables"}
_TOP_IGNORED = {"general_settings", "include", "credential_list", "callback_settings", "mcp_servers", "guardrails"}
_NOTHING: Mapping[str, str] = MappingProxyType({})


class ModelFile(msgspec.Struct, frozen=True):
    """What the file says: model name → targets, how failures are met, and what it says with and without effect."""

    table: Mapping[str, list[Target]]
    policy: Policy
    honoured: list[str]
    warnings: list[str]

    @property
    def summary(self) -> str:
        """One line for a start, which names each field without effect; `make check-config` names them all."""
        return (
            f"{len(self.honoured)} fields honoured, {len(self.warnings)} without effect; make check-config names them"
        )


class Findings(msgspec.Struct, frozen=True):
    """What has an effect in a file, what has none, and what is wrong: each with its line. `unknown`: what nobody knows,
    which has no effect either. `models`: None where something is wrong."""

    models: ModelFile | None
    honoured: list[str]
    without_effect: list[str]
    unknown: list[str]
    wrong: list[str]


def content_of(path: Path) -> bytes:
    """A file's content. Raises ConfigError."""
    try:
        return path.read_bytes()
    except OSError as fault:
        raise ConfigError([f"{path}: cannot be read ({fault})"]) from None


def references(name: str, content: bytes) -> set[str]:
    """The references to secrets in a file, which must be there before it is read. Raises ConfigError."""
    return YamlFile(name, content, {}, {}, {}).references()


def read(
    name: str,
    content: bytes,
    environment: Mapping[str, str],
    secrets: Mapping[str, str] = _NOTHING,
    missing: Mapping[str, str] = _NOTHING,
) -> ModelFile:
    """Read a file's content; faults say `name`. Raises ConfigError with every one of them.

    `secrets`: what its references stand for; `missing`: why others stand for nothing.
    """
    found = check(name, content, environment, secrets, missing)
    if found.models is None:
        raise ConfigError([*found.wrong, *found.unknown])  # what nobody knows may be why something is missing
    return found.models


def check(
    name: str,
    content: bytes,
    environment: Mapping[str, str],
    secrets: Mapping[str, str] = _NOTHING,
    missing: Mapping[str, str] = _NOTHING,
) -> Findings:
    """The same, telling everything there is to tell. Raises ConfigError for what is no YAML."""
    file = YamlFile(name, content, environment, secrets, missing)
    table, policy = _read(file)
    models = None if file.faults else ModelFile(table, policy, file.honoured, [*file.warnings, *file.unknown])
    return Findings(models, file.honoured, file.warnings, file.unknown, file.faults)


def _read(file: YamlFile) -> tuple[dict[str, list[Target]], Policy]:
    if file.root is None:
        file.faults.append(f"{file.name}: the file is empty; it needs a model_list")
        return {}, Policy()
    fields = file.mapping(file.root, "the file", _TOP | _TOP_IGNORED)
    for name in sorted(fields.keys() & _TOP_IGNORED):
        file.warn(fields[name], f"{name} has no effect here")
    if not file.is_empty(fields.get("environment_variables")):
        own = file.values(fields["environment_variables"], "environment_variables")
        file.environment = {**{key: str(value) for key, value in own.items()}, **file.environment}
        file.honour(fields["environment_variables"], "environment_variables")
    routing = Routing(file, fields.get("router_settings"), fields.get("litellm_settings"))
    entries = fields.get("model_list")
    if entries is None:
        if isinstance(file.root, yaml.MappingNode):
            file.fault(file.root, "model_list is missing")
        return {}, Policy()
    table = modelentries.read(file, entries, routing.common)
    return table, routing.policy(table)
