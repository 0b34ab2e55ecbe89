"""A YAML file whose every node knows its line: for configurations whose faults are told all at once, line by line."""

import datetime
import difflib
import re
from collections.abc import Collection, Mapping
from typing import Any

import yaml

from stile.core import references
from stile.core.secret import blotted
from stile.errors import ConfigError

_FROM_ENVIRONMENT = "os.environ/"
_NULL = "tag:yaml.org,2002:null"
_MERGE = "tag:yaml.org,2002:merge"


class YamlFile:
    """One file's content. `root` is its top node (None: empty). Raises ConfigError when it is no YAML that can be read.

    `name` is how faults name the file. `faults` stop the start, `warnings` do not; `unknown` names fields that have no
    effect, `honoured` those that have one. `secrets`: what the file's references to secrets stand for; `missing`: why
    others stand for nothing.
    """

    def __init__(
        self,
        name: str,
        content: bytes,
        environment: Mapping[str, str],
        secrets: Mapping[str, str],
        missing: Mapping[str, str],
    ) -> None:
        self.faults: list[str] = []
        self.warnings: list[str] = []
        self.unknown: list[str] = []
        self.honoured: list[str] = []
        self.environment = dict(environment)
        self.name = name
        self._secrets = secrets
        self._missing = missing
        self._written: dict[str, str] = {}  # what a value stands for in the file: no fault may show it
        try:
            self.root = yaml.compose(content.decode(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        except UnicodeDecodeError as fault:
            raise ConfigError([f"{name}: cannot be read ({fault})"]) from None
        except yaml.MarkedYAMLError as fault:
            line = f":{fault.problem_mark.line + 1}" if fault.problem_mark else ""
            raise ConfigError([f"{name}{line}: not YAML ({fault.problem})"]) from None
        except (yaml.YAMLError, RecursionError) as fault:
            raise ConfigError([f"{name}: not YAML ({fault})"]) from None

    def references(self) -> set[str]:
        """All references to secrets in the file."""
        found: set[str] = set()
        waiting = [self.root] if self.root is not None else []
        seen: set[int] = set()
        while waiting:
            node = waiting.pop()
            if id(node) in seen:  # an anchor may hold itself
                continue
            seen.add(id(node))
            if isinstance(node, yaml.ScalarNode) and references.is_reference(node.value):
                found.add(node.value)
            elif isinstance(node, yaml.SequenceNode):
                waiting += node.value
            elif isinstance(node, yaml.MappingNode):
                waiting += [value for _, value in node.value]
        return found

    def mapping(
        self,
        node: yaml.Node,
        what: str,
        known: Collection[str] | None = None,
        *,
        like: re.Pattern[str] | None = None,
    ) -> dict[str, yaml.Node]:
        """The node's fields, those of merged mappings (`<<`) under its own. `known`: the names that it may have, and
        `like` what others of them look like."""
        if not isinstance(node, yaml.MappingNode):
            self.fault(node, f"{what} must be a mapping of names to values")
            return {}
        own = [str(key.value) for key, _ in node.value if key.tag != _MERGE]
        for key, _ in node.value:
            if own.count(str(key.value)) > 1:
                self.fault(key, f"{key.value} stands here twice")
                own.remove(str(key.value))
        try:
            yaml.constructor.SafeConstructor().flatten_mapping(node)
        except yaml.MarkedYAMLError as fault:
            self.fault(node, f"{what}: {fault.problem}")
            return {}
        fields = {}
        for key, value in node.value:
            name = str(key.value)
            if known is None or name in known or (like is not None and like.fullmatch(name)):
                fields[name] = value
            else:
                self._name_unknown(key, name, known)
        return fields

    def values(self, node: yaml.Node, what: str, known: Collection[str] | None = None) -> dict[str, Any]:
        """The same as Python objects."""
        return self.resolve(self.mapping(node, what, known))

    def resolve(self, nodes: Mapping[str, yaml.Node]) -> dict[str, Any]:
        """Fields as Python objects: `os.environ/NAME` and references give way to what they name, dates to text."""
        constructor = yaml.constructor.SafeConstructor()
        values = {}
        for name, value in nodes.items():
            try:
                values[name] = self._resolve(value, constructor.construct_object(value, deep=True))
            except yaml.YAMLError as fault:
                self.fault(value, f"{name}: {fault}")
        return values

    def is_empty(self, node: yaml.Node | None) -> bool:
        """Whether a field is not there, or nothing stands in it: all of a section may be commented out."""
        return node is None or (isinstance(node, yaml.ScalarNode) and node.tag == _NULL)

    def text(self, node: yaml.Node | None) -> str | None:
        """A scalar's text; None for anything else, and for an empty one."""
        return node.value if isinstance(node, yaml.ScalarNode) and node.value else None

    def fault(self, node: yaml.Node, text: str) -> None:
        self.faults.append(self._at(node, text))

    def honour(self, node: yaml.Node, text: str) -> None:
        self.honoured.append(self._at(node, text))

    def warn(self, node: yaml.Node, text: str) -> None:
        self.warnings.append(self._at(node, text))

    def _resolve(self, node: yaml.Node, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: self._resolve(node, inner) for name, inner in value.items()}
        if isinstance(value, datetime.date):  # an unquoted 2024-10-21 is a version here, not a day
            return value.isoformat()
        if isinstance(value, list):
            return [self._resolve(node, inner) for inner in value]
        if isinstance(value, str) and references.is_reference(value):
            if value not in self._secrets:
                self.fault(node, f"{value}: {self._missing.get(value, 'it was not read')}")
            return self._kept(value, self._secrets.get(value))
        if not isinstance(value, str) or not value.startswith(_FROM_ENVIRONMENT):
            return value
        name = value.removeprefix(_FROM_ENVIRONMENT)
        if not self.environment.get(name):
            self.fault(node, f"the environment variable {name} is not set")
        return self._kept(value, self.environment.get(name))

    def _kept(self, written: str, value: str | None) -> str | None:
        if value is not None:
            self._written[value] = self._written[repr(value)[1:-1]] = written
        return value

    def _name_unknown(self, node: yaml.Node, name: str, known: Collection[str]) -> None:
        """Something like a known name is a slip of the pen, which must not pass; anything else has no effect."""
        near = difflib.get_close_matches(name, known, n=1)
        if near:
            self.fault(node, f"{name}: unknown field; did you mean {near[0]}?")
        else:
            self.unknown.append(self._at(node, f"{name}: unknown field, without effect here"))

    def _at(self, node: yaml.Node, text: str) -> str:
        return f"{self.name}:{node.start_mark.line + 1}: {blotted(text, self._written)}"
