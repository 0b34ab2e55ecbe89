"""A model file's `router_settings`, and what LiteLLM reads of the same kind in `litellm_settings`.

Where a field stands in both, the one of `router_settings` counts.
"""

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import yaml

from stile.core.providers import ECHO
from stile.core.routes import ALL_MODELS, Occasion, Policy, Routes, Target
from stile.modelentries import Common
from stile.modelvalues import Numbers, is_true
from stile.yamlfile import YamlFile

_FALLBACKS: dict[str, Occasion] = {
    "fallbacks": "failure",
    "context_window_fallbacks": "context_window",
    "content_policy_fallbacks": "content_policy",
}
_BOTH = {"num_retries", "allowed_fails", "cooldown_time", "default_fallbacks", *_FALLBACKS}
_ROUTER = _BOTH | {"timeout", "stream_timeout", "retry_after", "routing_strategy", "model_group_alias"}
_LITELLM = _BOTH | {"request_timeout", "drop_params"}

# Those that only LiteLLM's own router or proxy has a use for.
_ROUTER_IGNORED = {
    "alerting_config",
    "allowed_fails_policy",
    "assistants_config",
    "cache_kwargs",
    "cache_responses",
    "caching_groups",
    "client_ttl",
    "debug_level",
    "default_litellm_params",
    "default_max_parallel_requests",
    "default_priority",
    "deployment_affinity_ttl_seconds",
    "disable_cooldowns",
    "enable_health_check_routing",
    "enable_pre_call_checks",
    "enable_tag_filtering",
    "enable_weighted_failover",
    "guardrail_list",
    "health_check_staleness_threshold",
    "ignore_invalid_deployments",
    "max_fallbacks",
    "max_retries",
    "model_group_affinity_config",
    "model_group_retry_policy",
    "optional_pre_call_checks",
    "polling_interval",
    "provider_budget_config",
    "redis_db",
    "redis_host",
    "redis_password",
    "redis_port",
    "redis_url",
    "retry_policy",
    "router_general_settings",
    "routing_groups",
    "routing_strategy_args",
    "search_tools",
    "set_verbose",
    "tag_filtering_match_any",
    "tag_routing_prefix",
}
_WHOLE = {"num_retries", "allowed_fails"}
_STRATEGY = "simple-shuffle"
_OTHER_STRATEGIES = {
    "least-busy",
    "latency-based-routing",
    "cost-based-routing",
    "usage-based-routing",
    "usage-based-routing-v2",
    "provider-budget-routing",
}


class Routing:
    """What the two sections say. The models that it names are checked by `policy`, when all of them are known."""

    def __init__(self, file: YamlFile, router: yaml.Node | None, litellm: yaml.Node | None) -> None:
        self._file = file
        self._nodes: dict[str, yaml.Node] = {}
        self._values: dict[str, Any] = {}
        if litellm is not None and not file.is_empty(litellm):
            self._take("litellm_settings", litellm, _LITELLM, None)
        if router is not None and not file.is_empty(router):
            self._take("router_settings", router, _ROUTER, _ROUTER_IGNORED)
        numbers = Numbers(file, self._nodes, self._values)
        self._default = "fallbacks"  # the field that says those of all models
        self._check_strategy()
        self.common = Common(
            timeout=numbers.seconds("timeout") or numbers.seconds("request_timeout"),
            stream_timeout=numbers.seconds("stream_timeout"),
            drop_params=is_true(self._values.get("drop_params")),
        )
        self._numbers: dict[str, Any] = {
            name: int(found) if name in _WHOLE else found
            for name in ("num_retries", "allowed_fails", "cooldown_time", "retry_after")
            if (found := numbers.read(name, whole=name in _WHOLE)) is not None
        }

    def policy(self, table: Mapping[str, Sequence[Target]]) -> Policy:
        """How failures of these models are met. Faults go to the file."""
        aliases, hidden = self._aliases(table)
        fallbacks: dict[Occasion, dict[str, Sequence[str]]] = {
            occasion: self._fallbacks(name) for name, occasion in _FALLBACKS.items() if name in self._values
        }
        default = self._values.get("default_fallbacks")
        if default and ALL_MODELS not in fallbacks.setdefault("failure", {}):
            fallbacks["failure"][ALL_MODELS] = self._names(default, "default_fallbacks")
            self._default = "default_fallbacks"
        policy = Policy(fallbacks=fallbacks, aliases=aliases, hidden=hidden, **self._numbers)
        self._check(policy, Routes({ECHO: (), **table}, policy))
        return policy

    def _take(self, section: str, node: yaml.Node, known: Collection[str], ignored: Collection[str] | None) -> None:
        """Read a section; `ignored` None: any other name may stand in it, for LiteLLM takes any of its own there."""
        names = None if ignored is None else [*known, *ignored]
        nodes = self._file.mapping(node, section, names)
        values = self._file.resolve({name: place for name, place in nodes.items() if name in known})
        for name, place in nodes.items():
            if name in known:
                self._file.honour(place, f"{section}.{name}")
                self._nodes[name], self._values[name] = place, values.get(name)
            else:
                self._file.warn(place, f"{section}.{name} has no effect here")

    def _check_strategy(self) -> None:
        said = str(self._values.get("routing_strategy") or _STRATEGY)
        node = self._nodes.get("routing_strategy")
        if said == _STRATEGY or node is None:
            return
        if said in _OTHER_STRATEGIES:
            self._file.warn(node, f"routing_strategy {said} works as {_STRATEGY} here: an instance sees no load")
        else:
            near = difflib.get_close_matches(said, [_STRATEGY, *_OTHER_STRATEGIES], n=1)
            self._file.fault(node, f"routing_strategy {said!r}: {f'did you mean {near[0]}?' if near else 'unknown'}")

    def _aliases(self, table: Mapping[str, Sequence[Target]]) -> tuple[dict[str, str], frozenset[str]]:
        said, name = self._values.get("model_group_alias") or {}, "model_group_alias"
        if not isinstance(said, dict):
            self._fault(name, "must be a mapping of names to models")
            return {}, frozenset()
        aliases: dict[str, str] = {}
        hidden = set()
        for alias, value in said.items():
            model = value.get("model") if isinstance(value, dict) else value
            if not isinstance(model, str):
                self._fault(name, f"{alias} must be the name of a model")
            elif alias in table:
                self._fault(name, f"{alias} is a model of its own already")
            else:
                aliases[str(alias)] = model
                hidden |= {str(alias)} if isinstance(value, dict) and value.get("hidden") else set()
        return aliases, frozenset(hidden)

    def _fallbacks(self, name: str) -> dict[str, Sequence[str]]:
        said = self._values[name] or []
        if not isinstance(said, list) or not all(isinstance(entry, dict) for entry in said):
            self._fault(name, "must be a list of entries, as in - gpt-4o: [claude, gemini]")
            return {}
        named: dict[str, Sequence[str]] = {}
        for model, others in ((str(model), others) for entry in said for model, others in entry.items()):
            if model not in named:  # of two, LiteLLM takes the first
                named[model] = self._names(others, f"{name} of {model}")
        return named

    def _names(self, said: Any, what: str) -> Sequence[str]:
        names = [said] if isinstance(said, str) else said
        if isinstance(names, list) and names and all(isinstance(other, str) for other in names):
            return names
        self._fault(what.partition(" ")[0], f"{what} must be a list of models' names")
        return ()

    def _check(self, policy: Policy, routes: Routes) -> None:
        """That every name leads somewhere, and no chain back to its beginning."""
        for alias, model in policy.aliases.items():
            if model in policy.aliases or routes.find(model) is None:
                self._fault("model_group_alias", f"{alias}: there is no model {model}")
        for field, occasion in _FALLBACKS.items():
            named = policy.fallbacks.get(occasion, {})
            for model, others in named.items():
                what = self._default if model == ALL_MODELS and occasion == "failure" else field
                if model != ALL_MODELS and routes.find(model) is None and model not in routes.patterns:
                    self._fault(what, f"there is no model {model}")
                for other in others:
                    if routes.find(other) is None:
                        self._fault(what, f"{model}: there is no model {other}")
            meant = {routes.meant(model): [routes.meant(other) for other in others] for model, others in named.items()}
            for circle in _circles(meant):
                self._fault(field, f"go round in a circle: {' → '.join(circle)}")

    def _fault(self, field: str, text: str) -> None:
        self._file.fault(self._nodes[field], f"{field}: {text}" if not text.startswith(field) else text)


def _circles(named: Mapping[str, Sequence[str]]) -> Iterator[list[str]]:
    """Each circle once. Those for all models are left out: a model that is among them just does not follow itself."""
    done: set[str] = set()

    def follow(way: list[str]) -> Iterator[list[str]]:
        for other in named.get(way[-1], ()):
            if other in way:
                yield [*way[way.index(other) :], other]
            elif other not in done:
                yield from follow([*way, other])
        done.add(way[-1])

    for model in named:
        if model != ALL_MODELS and model not in done:
            yield from follow([model])
