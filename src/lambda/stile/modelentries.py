"""The entries of a model file's `model_list`, read into targets."""

import difflib
import hashlib
import math
import re
from collections.abc import Mapping
from typing import Any

import msgspec
import yaml

from stile.core import operations, providers, targets
from stile.core.operations import Operation
from stile.core.prices import FIELDS as PRICES
from stile.core.prices import Price, Rates
from stile.core.providers import Provider
from stile.core.routes import Target
from stile.core.secret import Secret
from stile.modelvalues import Numbers, is_true
from stile.yamlfile import YamlFile

_CLIENTS_OWN = {"connection", "content-length", "expect", "host", "transfer-encoding", "upgrade"}
_CREDENTIAL = re.compile("key|secret|token|credentials")
_UNSENDABLE = frozenset("\r\n\0")  # no header holds them, and keys are sent as headers

# litellm_params that say how to reach the target …
_HONOURED = {
    "model",
    "api_key",
    "api_base",
    "base_url",
    "extra_headers",
    "custom_llm_provider",
    "organization",
    "weight",
    "order",
    "rpm",
    "tpm",
    "timeout",
    "stream_timeout",
    "drop_params",
    *PRICES,
}
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
    "max_retries",
    "num_retries",
    "cooldown_time",
    "tags",
    "tag_regex",
    "itpm",
    "otpm",
    "max_parallel_requests",
    "use_in_pass_through",
    "use_chat_completions_api",
    "use_litellm_proxy",
    "mock_response",
    "merge_reasoning_content_in_choices",
    "additional_drop_params",
    "allowed_openai_params",
    "cache_control_injection_points",
    "configurable_clientside_auth_params",
    "litellm_credential_name",
    "keepalive_seconds",
    "max_budget",
    "budget_duration",
    "default_api_key_rpm_limit",
    "default_api_key_tpm_limit",
    "max_file_size_mb",
    "model_info",
    "litellm_trace_id",
    "azure_ad_token",
    "tiered_pricing",
}
# Credentials that a call to Bedrock is signed with, and those that only LiteLLM knows how to come by.
_SIGNING = {"aws_region_name", "aws_access_key_id", "aws_secret_access_key", "aws_session_token"}
_ASSUMING = {"aws_profile_name", "aws_role_name", "aws_session_name", "aws_web_identity_token"}
_ID_LENGTH = 12
_RESPONSES = "responses/"  # before the name of a model that has no chat, as in LiteLLM's openai/responses/gpt-5-codex
_PRICE = re.compile(r"\w*(_cost|_cost_per|cost_per_|_uplift_)\w*")
_PARAMS = _HONOURED | _OPTIONS | _DEFAULTS | _IGNORED
_ENTRY = {"model_name", "litellm_params", "model_info"}


class _Ranked(msgspec.Struct, frozen=True):
    """A target, and the numbers that may weigh it: LiteLLM takes the first kind that any target of the model has."""

    target: Target
    weights: tuple[float | None, float | None, float | None]


class Common(msgspec.Struct, frozen=True):
    """What holds for every entry that does not say otherwise. Times in seconds."""

    timeout: float | None = None
    stream_timeout: float | None = None
    drop_params: bool = False


def read(file: YamlFile, entries: yaml.Node, common: Common) -> dict[str, list[Target]]:
    """Model name → targets, none where all of them are faulty. Faults go to the file."""
    reader = _Reader(file, common)
    if not isinstance(entries, yaml.SequenceNode):
        file.fault(entries, "model_list must be a list")
        return {}
    for entry in entries.value:
        reader.add(entry)
    return {name: _weighed(found) for name, found in reader.table.items()}


class _Reader:
    """Makes targets of a file's entries."""

    def __init__(self, file: YamlFile, common: Common) -> None:
        self.table: dict[str, list[_Ranked]] = {}
        self._file = file
        self._common = common
        self._ids: set[str] = set()

    def add(self, node: yaml.Node) -> None:
        fields = self._file.mapping(node, "an entry of model_list", _ENTRY)
        name = self._file.text(fields.get("model_name"))
        if name is None:
            self._file.fault(node, "model_name is missing or not a text")
        else:
            self.table.setdefault(name, [])  # also where its target is faulty: others may name it
        if "litellm_params" not in fields:
            self._file.fault(node, "litellm_params is missing")
            return
        place = fields["litellm_params"]
        info = self._file.values(fields["model_info"], "model_info") if "model_info" in fields else {}
        nodes = self._file.mapping(place, "litellm_params", _PARAMS, like=_PRICE)
        params = self._file.resolve(nodes)
        numbers = Numbers(self._file, nodes, params)
        weights = (numbers.read("weight"), numbers.read("rpm"), numbers.read("tpm"))
        order = numbers.read("order", least=-math.inf)
        price = self._price(nodes, params, node, info)
        timeout, stream_timeout = numbers.seconds("timeout"), numbers.seconds("stream_timeout")
        target = self._target(place, nodes, params, info)
        if target is None or name is None:
            return
        for field in sorted(params.keys() & (_HONOURED | _DEFAULTS | (_OPTIONS if target.via == "litellm" else set()))):
            self._file.honour(nodes[field], f"{name}: litellm_params.{field}")
        if "*" in name[:-1]:
            self._file.fault(node, f"model_name {name}: a * may only stand at the end")
        if name.endswith("*") and not target.model.endswith("*"):
            self._file.fault(node, f"model_name {name} is a pattern, so its model must end in * too")
        group = self.table[name]
        target = msgspec.structs.replace(
            target,
            id=self._id(place, name, len(group), target, info),
            abilities={name: is_true(value) for name, value in info.items() if name.startswith("supports_")},
            drop_params=is_true(params.get("drop_params", self._common.drop_params)),
            order=math.inf if order is None else order,
            price=price,
            priced_as=str(info["base_model"]) if info.get("base_model") else None,
            timeout=timeout or self._common.timeout,
            stream_timeout=stream_timeout or self._common.stream_timeout,
        )
        group.append(_Ranked(target, weights))

    def _price(
        self, nodes: Mapping[str, yaml.Node], params: Mapping[str, Any], node: yaml.Node, info: Mapping[str, Any]
    ) -> Price | None:
        """What the entry says that the model costs; `model_info` goes before `litellm_params`, as the rarer place."""
        of_params = Numbers(self._file, nodes, params)
        of_info = Numbers(self._file, dict.fromkeys(info, node), info)
        said = {
            ours: rate
            for name, ours in PRICES.items()
            for rate in (of_info.read(name) if name in info else of_params.read(name),)
            if rate is not None
        }
        return Price(Rates(**{"input": 0.0, "output": 0.0, **said})) if said else None

    def _id(self, node: yaml.Node, name: str, place: int, target: Target, info: Mapping[str, Any]) -> str:
        """The target's own name: LiteLLM's `model_info.id`, or one that only depends on what stands here."""
        said = info.get("id")
        about = f"{name}\n{place}\n{target.label}\n{target.api_base}"
        own = str(said) if said else hashlib.sha256(about.encode()).hexdigest()[:_ID_LENGTH]
        if own in self._ids:
            self._file.fault(node, f"model_info.id {own} stands here twice")
        self._ids.add(own)
        return f"{own}*" if name.endswith("*") else own

    def _target(
        self, node: yaml.Node, nodes: Mapping[str, yaml.Node], params: dict[str, Any], info: dict[str, Any]
    ) -> Target | None:
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
            written = nodes["model"].value == model  # else its beginning would show some of what it stands for
            self._file.fault(node, f"model {model!r}: there is no provider {name if written else 'of its name'}{meant}")
            return None
        if name in (providers.BEDROCK, providers.BEDROCK_MANTLE):
            provider = self._bedrock(provider, rest, params)
        self._note_what_has_no_effect(nodes, provider, params)
        return self._build(node, provider, rest, params, info)

    def _bedrock(self, provider: Provider, model: str, params: Mapping[str, Any]) -> Provider:
        """Bedrock's endpoint for the model's own dialect, where it has one and its credentials are at hand."""
        region = params.get("aws_region_name") or self._first(("AWS_REGION", "AWS_DEFAULT_REGION"))
        if provider.name == providers.BEDROCK_MANTLE:
            anthropic = model.startswith("anthropic.") and region and not params.keys() & _ASSUMING
            return providers.bedrock_messages(str(region)) if anthropic else provider
        base = str(params.get("api_base") or "").rstrip("/")
        wanted = base.endswith(providers.BEDROCK_OPENAI_PATH) or (not base and model.startswith("openai."))
        if not wanted or not region or params.keys() & _ASSUMING:
            return provider
        return providers.bedrock_openai(str(region))

    def _note_what_has_no_effect(
        self, nodes: Mapping[str, yaml.Node], provider: Provider, params: Mapping[str, Any]
    ) -> None:
        signs = _SIGNING if provider.region is not None or provider.name == providers.BEDROCK else set()
        for name in sorted(params.keys() - _HONOURED - _DEFAULTS - signs):
            if name not in _OPTIONS:
                self._file.warn(nodes[name], f"litellm_params.{name} has no effect here")
            elif provider.relayed:
                self._file.warn(nodes[name], f"litellm_params.{name} has no effect here for {provider.name}")

    def _build(
        self, node: yaml.Node, provider: Provider, model: str, params: dict[str, Any], info: dict[str, Any]
    ) -> Target | None:
        base = self._base(provider, params)
        headers = params.get("extra_headers") or {}
        usage = info.get("stream_usage")
        takes = self._takes(node, info, provider)
        if provider.relayed and (model.startswith(_RESPONSES) or info.get("mode") == "responses"):
            model, takes = model.removeprefix(_RESPONSES), frozenset({"responses"})
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
        sent = {"api_key": key or "", **{f"header {name}": value for name, value in headers.items()}}
        if unsendable := [name for name, value in sent.items() if _UNSENDABLE.intersection(value.strip())]:
            self._file.fault(node, f"{', '.join(unsendable)} may not hold line breaks or NUL")
            return None
        return targets.make(
            provider,
            model,
            base=base,
            key=key,
            aws_region=provider.region,
            headers=headers,
            stream_usage=None if usage is None else usage == "always",
            options={name: _guarded(name, params[name]) for name in sorted(params.keys() & _OPTIONS)},
            defaults={name: params[name] for name in sorted(params.keys() & _DEFAULTS)},
            takes=takes,
        )

    def _takes(self, node: yaml.Node, info: dict[str, Any], provider: Provider) -> frozenset[Operation] | None:
        """What the entry says that the target is asked as it comes; None where it says nothing."""
        said = info.get("supported_endpoints")
        if said is None:
            return None
        if not isinstance(said, list) or not all(isinstance(path, str) for path in said):
            self._file.fault(node, "model_info.supported_endpoints must be a list of paths, as in [/v1/responses]")
            return None
        if not provider.relayed:
            self._file.warn(node, f"model_info.supported_endpoints has no effect here for {provider.name}")
            return None
        known = {path: operations.by_path(path) for path in said}
        for path, operation in known.items():
            if operation is None:
                self._file.warn(node, f"model_info.supported_endpoints: {path} is not served here")
        return frozenset(operation for operation in known.values() if operation is not None)

    def _base(self, provider: Provider, params: Mapping[str, Any]) -> str | None:
        named = params.get("api_base") or params.get("base_url") or self._first(provider.base_env)
        if named is None and provider.name == providers.OLLAMA:
            return targets.ollama_address(self._file.environment.get("OLLAMA_HOST", ""))
        return named if named is None else str(named)

    def _key(self, node: yaml.Node, provider: Provider, params: Mapping[str, Any], base: str | None) -> str | None:
        """The target's key. One out of the environment was given for the provider's own address: no other gets it."""
        if params.get("api_key"):
            return str(params["api_key"])
        if base is not None and not targets.is_own(provider, base) and base != self._first(provider.base_env):
            return None
        key = self._first(provider.key_env)
        if key is None and provider.key_env and provider.region is None:
            self._file.warn(node, f"there is no key for {provider.name}: set api_key, or {provider.key_env[0]}")
        return key

    def _first(self, names: tuple[str, ...]) -> str | None:
        return next((value for name in names if (value := self._file.environment.get(name))), None)


def _weighed(found: list[_Ranked]) -> list[Target]:
    """The targets with the weights that count, as LiteLLM's simple-shuffle chooses them."""
    for kind in range(3):
        weights = [ranked.weights[kind] or 0 for ranked in found]
        if any(weights):
            break
    else:
        weights = [1] * len(found)
    return [
        msgspec.structs.replace(ranked.target, weight=weight) for ranked, weight in zip(found, weights, strict=True)
    ]


def _own_headers(headers: Any) -> list[str]:
    """Those of the headers that only the HTTP client may set."""
    names = headers if isinstance(headers, dict) else ()
    return sorted(str(name) for name in names if str(name).lower() in _CLIENTS_OWN)


def _guarded(name: str, value: Any) -> Any:
    """An option's value, kept from being printed where its name says that it is a credential."""
    return Secret(value) if isinstance(value, str) and _CREDENTIAL.search(name) else value
