"""The model file: LiteLLM's config.yaml dialect, `model_list` of it, read into routes.

All faults are reported at once, each with its line. A field without effect here is named in a warning; one that looks
like a known name misspelt is a fault.
"""

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

from stile.core import providers
from stile.core.routes import Target
from stile.core.secret import Secret
from stile.errors import ConfigError

_CREDENTIAL = re.compile("key|secret|token|credentials")
_FROM_ENVIRONMENT = "os.environ/"

# litellm_params that say how to reach the target …
_HONOURED = {"model", "api_key", "api_base", "base_url", "extra_headers", "custom_llm_provider", "organization"}
# … those that LiteLLM takes as arguments for translated providers …
_OPTIONS = {
    "api_version",
    "aws_region_name",
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
    "aws_profile_name",
    "aws_role_name",
    "aws_session_name",
    "aws_web_identity_token",
    "aws_bedrock_runtime_endpoint",
    "vertex_project",
    "vertex_location",
    "vertex_credentials",
    "region_name",
    "drop_params",
}
# … request parameters that hold for every call unless the call says otherwise …
_DEFAULTS = {
    "temperature",
    "top_p",
    "max_tokens",
    "max_completion_tokens",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "stop",
    "n",
    "user",
    "reasoning_effort",
    "dimensions",
    "encoding_format",
    "parallel_tool_calls",
    "service_tier",
    "verbosity",
}
# … and those that LiteLLM's own proxy or router reads, without effect here.
_IGNORED = {
    "rpm",
    "tpm",
    "weight",
    "order",
    "timeout",
    "stream_timeout",
    "max_retries",
    "num_retries",
    "tags",
    "input_cost_per_token",
    "output_cost_per_token",
    "max_parallel_requests",
    "use_in_pass_through",
    "mock_response",
    "merge_reasoning_content_in_choices",
    "max_budget",
    "budget_duration",
}
_PARAMS = _HONOURED | _OPTIONS | _DEFAULTS | _IGNORED
_ENTRY = {"model_name", "litellm_params", "model_info"}
_TOP = {"model_list"}
_TOP_IGNORED = {"router_settings", "litellm_settings", "general_settings", "environment_variables", "include"}
_STREAM_USAGE = {"always": True, "never": False}


class ModelFile(msgspec.Struct, frozen=True):
    """What the file says: model name → targets, and what it says without effect."""

    table: Mapping[str, list[Target]]
    warnings: list[str]


def load(path: Path, environment: Mapping[str, str]) -> ModelFile:
    """Read the file; raises ConfigError with every fault in it."""
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, UnicodeDecodeError) as fault:
        raise ConfigError([f"{path}: cannot be read ({fault})"]) from None
    except yaml.MarkedYAMLError as fault:
        line = f":{fault.problem_mark.line + 1}" if fault.problem_mark else ""
        raise ConfigError([f"{path}{line}: not YAML ({fault.problem})"]) from None
    except (yaml.YAMLError, RecursionError) as fault:
        raise ConfigError([f"{path}: not YAML ({fault})"]) from None
    reader = _Reader(path, environment)
    reader.top(node)
    if reader.faults:
        raise ConfigError([*reader.faults, *reader.unknown])
    return ModelFile(reader.table, [*reader.warnings, *reader.unknown])


class _Reader:
    """Walks the YAML nodes, which know their lines, and collects targets, faults and warnings."""

    def __init__(self, path: Path, environment: Mapping[str, str]) -> None:
        self.table: dict[str, list[Target]] = {}
        self.faults: list[str] = []
        self.warnings: list[str] = []
        self.unknown: list[str] = []
        self._path = path
        self._environment = environment

    def top(self, node: yaml.Node | None) -> None:
        if node is None:
            self.faults.append(f"{self._path}: the file is empty; it needs a model_list")
            return
        fields = self._mapping(node, "the file", _TOP | _TOP_IGNORED)
        for name in fields.keys() & _TOP_IGNORED:
            self._warn(fields[name], f"{name} has no effect here yet")
        if "model_list" not in fields:
            self._fault(node, "model_list is missing")
        elif not isinstance(fields["model_list"], yaml.SequenceNode):
            self._fault(fields["model_list"], "model_list must be a list")
        else:
            for entry in fields["model_list"].value:
                self._entry(entry)

    def _entry(self, node: yaml.Node) -> None:
        fields = self._mapping(node, "an entry of model_list", _ENTRY)
        name = self._text(fields.get("model_name"))
        if name is None:
            self._fault(node, "model_name is missing or not a text")
        if "litellm_params" not in fields:
            self._fault(node, "litellm_params is missing")
            return
        info = self._values(fields["model_info"], "model_info", None) if "model_info" in fields else {}
        params = self._values(fields["litellm_params"], "litellm_params", _PARAMS)
        target = self._target(fields["litellm_params"], params, info)
        if target is not None and name is not None:
            if name.endswith("*") and not target.model.endswith("*"):
                self._fault(node, f"model_name {name} is a pattern, so its model must end in * too")
            self.table.setdefault(name, []).append(target)

    def _target(self, node: yaml.Node, params: dict[str, Any], info: dict[str, Any]) -> Target | None:
        model = params.get("model")
        if not isinstance(model, str) or not model:
            self._fault(node, "litellm_params.model is missing or not a text")
            return None
        provider_name, name = providers.split_model(model)
        if "custom_llm_provider" in params:
            wanted = str(params["custom_llm_provider"])
            provider_name, name = providers.ALIASES.get(wanted, wanted), model.removeprefix(f"{wanted}/")
        if provider_name is None and model != providers.ECHO:
            self._fault(node, f"model {model!r} names no provider; write provider/model, as in openai/{model}")
            return None
        for ignored in sorted(params.keys() & _IGNORED):
            self._warn(node, f"litellm_params.{ignored} has no effect here yet")
        return self._build(node, providers.get(provider_name or providers.ECHO), name, params, info)

    def _build(
        self, node: yaml.Node, provider: providers.Provider, model: str, params: dict[str, Any], info: dict[str, Any]
    ) -> Target | None:
        named = params.get("api_base") or params.get("base_url")
        base = named or self._first(provider.base_env) or provider.base_url
        # A key out of the environment was given for the provider's own address: no other one gets it.
        key = params.get("api_key") or (None if named and named != provider.base_url else self._first(provider.key_env))
        usage = info.get("stream_usage")
        if usage is not None and usage not in _STREAM_USAGE:
            self._fault(node, f"model_info.stream_usage must be always or never, not {usage!r}")
        if provider.relayed and base is None:
            self._fault(node, f"api_base is missing: {provider.name} has no address of its own")
            return None
        if base is not None and not str(base).startswith(("http://", "https://")):
            self._fault(node, f"api_base must begin with http:// or https://, not {base!r}")
            return None
        own_address = base == provider.base_url
        headers = {str(name): str(value) for name, value in (params.get("extra_headers") or {}).items()}
        if "organization" in params:
            headers.setdefault("openai-organization", str(params["organization"]))
        return Target(
            label=f"{provider.name}/{model}",
            provider=provider.name,
            model=model,
            via="echo" if provider.name == providers.ECHO else "relay" if provider.relayed else "litellm",
            api_base=providers.azure_v1(str(base))
            if provider.name == "azure"
            else str(base).rstrip("/")
            if base
            else None,
            api_key=Secret(str(key)) if key else None,
            key_header=provider.key_header,
            headers=headers,
            stream_usage=_STREAM_USAGE.get(
                str(usage), provider.stream_usage if own_address or provider.name != "openai" else None
            ),
            options={name: _guarded(name, params[name]) for name in sorted(params.keys() & _OPTIONS)},
            defaults={name: params[name] for name in sorted(params.keys() & _DEFAULTS)},
        )

    def _values(self, node: yaml.Node, what: str, known: set[str] | None) -> dict[str, Any]:
        """A mapping's values as Python objects, with `os.environ/NAME` replaced by what it names."""
        constructor = yaml.constructor.SafeConstructor()
        values = {}
        for name, value in self._mapping(node, what, known).items():
            try:
                values[name] = self._resolve(value, constructor.construct_object(value, deep=True))
            except yaml.YAMLError as fault:
                self._fault(value, f"{name}: {fault}")
        return values

    def _resolve(self, node: yaml.Node, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: self._resolve(node, inner) for name, inner in value.items()}
        if not isinstance(value, str) or not value.startswith(_FROM_ENVIRONMENT):
            return value
        name = value.removeprefix(_FROM_ENVIRONMENT)
        if not self._environment.get(name):
            self._fault(node, f"the environment variable {name} is not set")
        return self._environment.get(name)

    def _mapping(self, node: yaml.Node, what: str, known: set[str] | None) -> dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            self._fault(node, f"{what} must be a mapping of names to values")
            return {}
        fields = {}
        for key, value in node.value:
            name = str(key.value)
            if known is not None and name not in known:
                self._unknown(key, name, known)
            elif name in fields:
                self._fault(key, f"{name} stands here twice")
            else:
                fields[name] = value
        return fields

    def _unknown(self, node: yaml.Node, name: str, known: set[str]) -> None:
        """Something like a known name is a slip of the pen, which must not pass; anything else has no effect."""
        near = difflib.get_close_matches(name, known, n=1)
        if near:
            self._fault(node, f"{name}: unknown field; did you mean {near[0]}?")
        else:
            self.unknown.append(self._at(node, f"{name}: unknown field, without effect here"))

    def _text(self, node: yaml.Node | None) -> str | None:
        return node.value if isinstance(node, yaml.ScalarNode) and node.value else None

    def _first(self, names: tuple[str, ...]) -> str | None:
        return next((value for name in names if (value := self._environment.get(name))), None)

    def _fault(self, node: yaml.Node, text: str) -> None:
        self.faults.append(self._at(node, text))

    def _warn(self, node: yaml.Node, text: str) -> None:
        self.warnings.append(self._at(node, text))

    def _at(self, node: yaml.Node, text: str) -> str:
        return f"{self._path}:{node.start_mark.line + 1}: {text}"


def _guarded(name: str, value: Any) -> Any:
    """An option's value, kept from being printed where its name says that it is a credential."""
    return Secret(value) if isinstance(value, str) and _CREDENTIAL.search(name) else value
