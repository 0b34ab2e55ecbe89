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

from stile.core import providers, targets
from stile.core.providers import Provider
from stile.core.routes import Target
from stile.core.secret import Secret
from stile.errors import ConfigError
from stile.yamlfile import YamlFile

_CLIENTS_OWN = {"connection", "content-length", "expect", "host", "transfer-encoding", "upgrade"}
_CREDENTIAL = re.compile("key|secret|token|credentials")

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


class ModelFile(msgspec.Struct, frozen=True):
    """What the file says: model name → targets, and what it says without effect."""

    table: Mapping[str, list[Target]]
    warnings: list[str]


def load(path: Path, environment: Mapping[str, str]) -> ModelFile:
    """Read the file; raises ConfigError with every fault in it."""
    try:
        content = path.read_bytes()
    except OSError as fault:
        raise ConfigError([f"{path}: cannot be read ({fault})"]) from None
    return read(str(path), content, environment)


def read(name: str, content: bytes, environment: Mapping[str, str]) -> ModelFile:
    """The same of a file's content, wherever it comes from; faults say `name`."""
    file = YamlFile(name, content, environment)
    table = _Reader(file, environment).read(file.root)
    if file.root is None:
        file.faults.append(f"{name}: the file is empty; it needs a model_list")
    if file.faults:
        raise ConfigError([*file.faults, *file.unknown])
    return ModelFile(table, [*file.warnings, *file.unknown])


class _Reader:
    """Makes targets of a file's entries."""

    def __init__(self, file: YamlFile, environment: Mapping[str, str]) -> None:
        self._file = file
        self._environment = environment

    def read(self, root: yaml.Node | None) -> dict[str, list[Target]]:
        table: dict[str, list[Target]] = {}
        fields = self._file.mapping(root, "the file", _TOP | _TOP_IGNORED) if root is not None else {}
        for name in fields.keys() & _TOP_IGNORED:
            self._file.warn(fields[name], f"{name} has no effect here yet")
        entries = fields.get("model_list")
        if entries is None and isinstance(root, yaml.MappingNode):
            self._file.fault(root, "model_list is missing")
        elif isinstance(entries, yaml.SequenceNode):
            for entry in entries.value:
                self._add(entry, table)
        elif entries is not None:
            self._file.fault(entries, "model_list must be a list")
        return table

    def _add(self, node: yaml.Node, table: dict[str, list[Target]]) -> None:
        fields = self._file.mapping(node, "an entry of model_list", _ENTRY)
        name = self._file.text(fields.get("model_name"))
        if name is None:
            self._file.fault(node, "model_name is missing or not a text")
        if "litellm_params" not in fields:
            self._file.fault(node, "litellm_params is missing")
            return
        info = self._file.values(fields["model_info"], "model_info") if "model_info" in fields else {}
        params = self._file.values(fields["litellm_params"], "litellm_params", _PARAMS)
        target = self._target(fields["litellm_params"], params, info)
        if target is None or name is None:
            return
        if "*" in name[:-1]:
            self._file.fault(node, f"model_name {name}: a * may only stand at the end")
        if name.endswith("*") and not target.model.endswith("*"):
            self._file.fault(node, f"model_name {name} is a pattern, so its model must end in * too")
        table.setdefault(name, []).append(target)

    def _target(self, node: yaml.Node, params: dict[str, Any], info: dict[str, Any]) -> Target | None:
        model = params.get("model")
        if not isinstance(model, str) or not model:
            self._file.fault(node, "litellm_params.model is missing or not a text")
            return None
        name, rest = providers.split_model(model)
        if "custom_llm_provider" in params:
            wanted = str(params["custom_llm_provider"])
            name, rest = providers.ALIASES.get(wanted, wanted), model.removeprefix(f"{wanted}/")
        if model == providers.ECHO:
            name = providers.ECHO
        if name is None:
            self._file.fault(node, f"model {model!r} names no provider; write provider/model, as in openai/{model}")
            return None
        provider = providers.get(name)
        if provider is None:
            near = difflib.get_close_matches(name, providers.NAMES, n=1)
            meant = f"; did you mean {near[0]}?" if near else ""
            self._file.fault(node, f"model {model!r}: there is no provider {name}{meant}")
            return None
        self._note_what_has_no_effect(node, provider, params)
        return self._build(node, provider, rest, params, info)

    def _note_what_has_no_effect(self, node: yaml.Node, provider: Provider, params: Mapping[str, Any]) -> None:
        without = params.keys() & (_IGNORED | _OPTIONS if provider.relayed else _IGNORED)
        for name in sorted(without):
            yet = " yet" if name in _IGNORED else f" for {provider.name}"
            self._file.warn(node, f"litellm_params.{name} has no effect here{yet}")

    def _build(
        self, node: yaml.Node, provider: Provider, model: str, params: dict[str, Any], info: dict[str, Any]
    ) -> Target | None:
        base = self._base(provider, params)
        headers = params.get("extra_headers") or {}
        usage = info.get("stream_usage")
        faults = [
            (usage not in ("always", "never", None), f"model_info.stream_usage must be always or never, not {usage!r}"),
            (not isinstance(headers, dict), "extra_headers must be a mapping of names to values"),
            (bool(own := _own_headers(headers)), f"extra_headers may not set {', '.join(own)}"),
            (
                provider.relayed and not (base or provider.base_url),
                f"api_base is missing: {provider.name} has no address of its own",
            ),
            (
                bool(base) and not str(base).startswith(("http://", "https://")),
                f"api_base must begin with http:// or https://, not {base!r}",
            ),
        ]
        told = [text for wrong, text in faults if wrong]
        for text in told:
            self._file.fault(node, text)
        if told:
            return None
        headers = {str(name).lower(): str(value) for name, value in headers.items()}
        if "organization" in params:
            headers.setdefault("openai-organization", str(params["organization"]))
        key = self._key(node, provider, params, base)
        return targets.make(
            provider,
            model,
            base=base,
            key=key,
            headers=headers,
            stream_usage=None if usage is None else usage == "always",
            options={name: _guarded(name, params[name]) for name in sorted(params.keys() & _OPTIONS)},
            defaults={name: params[name] for name in sorted(params.keys() & _DEFAULTS)},
        )

    def _base(self, provider: Provider, params: Mapping[str, Any]) -> str | None:
        named = params.get("api_base") or params.get("base_url") or self._first(provider.base_env)
        if named is None and provider.name == providers.OLLAMA:
            return targets.ollama_address(self._environment.get("OLLAMA_HOST", ""))
        return named if named is None else str(named)

    def _key(self, node: yaml.Node, provider: Provider, params: Mapping[str, Any], base: str | None) -> str | None:
        """The target's key. One out of the environment was given for the provider's own address: no other gets it."""
        if params.get("api_key"):
            return str(params["api_key"])
        if base is not None and not targets.is_own(provider, base) and base != self._first(provider.base_env):
            return None
        key = self._first(provider.key_env)
        if key is None and provider.key_env:
            self._file.warn(node, f"there is no key for {provider.name}: set api_key, or {provider.key_env[0]}")
        return key

    def _first(self, names: tuple[str, ...]) -> str | None:
        return next((value for name in names if (value := self._environment.get(name))), None)


def _own_headers(headers: Any) -> list[str]:
    """Those of the headers that only the HTTP client may set."""
    names = headers if isinstance(headers, dict) else ()
    return sorted(str(name) for name in names if str(name).lower() in _CLIENTS_OWN)


def _guarded(name: str, value: Any) -> Any:
    """An option's value, kept from being printed where its name says that it is a credential."""
    return Secret(value) if isinstance(value, str) and _CREDENTIAL.search(name) else value
