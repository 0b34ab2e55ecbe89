"""Which targets serve a model name, and which other models stand in for it.

Exact names come first, then the longest pattern that ends in `*`. An alias is another name of a model. Fallbacks are
models too: a chain holds a model and those that follow it, depth first, each once.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from stile.core.operations import Operation
from stile.core.prices import Price
from stile.core.secret import Secret, blotted

ALL_MODELS = "*"  # fallbacks under this name are those of every model without its own

_PLAIN = re.compile(r"[A-Za-z0-9._:/@+~-]{1,256}")

_MADE_KEY = re.compile(r"bedrock-api-key-[A-Za-z0-9+/=]+")  # made of credentials, and kept by nobody for long

Via = Literal["relay", "litellm", "echo"]
_TRANSLATED = frozenset({"chat", "embeddings"})
Occasion = Literal["failure", "context_window", "content_policy"]


class Target(msgspec.Struct, frozen=True):
    """One place that can answer. `label` is what logs call it; `model` the name that the provider is told.

    `id` names it alone among all targets, and stays the same for the same model file. `weight` (relative, 0 or more)
    and `order` (lower first) rank it among the targets of a model. `timeout` and `stream_timeout` in seconds.
    `aws_region`: its key is made from AWS's credentials for this region, unless it has one. `options` go to LiteLLM as
    keyword arguments (region, project, version …); `defaults` are request parameters that the configuration sets and a
    request may override. `drop_params`: parameters that it is known not to take are left out. `urls`: where it is asked
    what it takes as it is, which is relayed; what else it can do goes the way of `via`. `abilities`: what the
    configuration says that it can do, by LiteLLM's names. `price`: what the configuration says that it costs;
    `priced_as`: the model whose price it has.
    """

    label: str
    provider: str
    model: str
    via: Via
    id: str = ""
    api_base: str | None = None
    api_key: Secret | None = None
    key_header: str = "authorization"
    aws_region: str | None = None
    headers: Mapping[str, Secret] = {}
    stream_usage: bool | None = None
    options: Mapping[str, Any] = {}
    defaults: Mapping[str, Any] = {}
    drop_params: bool = False
    weight: float = 1
    order: float = math.inf
    timeout: float | None = None
    stream_timeout: float | None = None
    urls: Mapping[Operation, str] = {}
    abilities: Mapping[str, bool] = {}
    price: Price | None = None
    priced_as: str | None = None

    def way(self, operation: Operation) -> Via | None:
        """How it is asked for something; None when it has to be asked in another dialect, or cannot be at all."""
        if operation in self.urls:
            return "relay"
        return self.via if operation in _TRANSLATED and self.via != "relay" else None

    @property
    def only_responds(self) -> bool:
        """Whether it takes OpenAI's Responses and no chat: chats have to be said as such."""
        return "responses" in self.urls and "chat" not in self.urls

    @property
    def is_pattern(self) -> bool:
        """Whether it was named by a pattern: then callers choose its model, and may choose one that is not there."""
        return self.id.endswith("*")

    @property
    def secrets(self) -> list[str]:
        """All that nobody may see of it."""
        kept = [self.api_key, *self.headers.values(), *self.options.values()]
        return [value.reveal() for value in kept if isinstance(value, Secret)]

    def without_secrets(self, text: str) -> str:
        """`text` with every secret of this target blotted out, for what a provider says goes to callers."""
        return _MADE_KEY.sub("***", blotted(text, dict.fromkeys(self.secrets, "***")))


class Group(msgspec.Struct, frozen=True):
    """A model: its targets, in the order of the configuration. `name` is the one that it was found by."""

    name: str
    targets: Sequence[Target]


class Policy(msgspec.Struct, frozen=True):
    """How failures are met. Times in seconds.

    `fallbacks`: for each occasion, model (or pattern, or ALL_MODELS) → the models that follow it. `aliases`: other
    names of models; those in `hidden` are not listed.
    """

    num_retries: int = 2
    allowed_fails: int = 3
    cooldown_time: float = 5
    retry_after: float = 0
    fallbacks: Mapping[Occasion, Mapping[str, Sequence[str]]] = {}
    aliases: Mapping[str, str] = {}
    hidden: frozenset[str] = frozenset()


DEFAULT_POLICY = Policy()


class Routes:
    """Name or pattern → targets. In a pattern's target, `*` in the model stands for what matched."""

    def __init__(self, table: Mapping[str, Sequence[Target]], policy: Policy = DEFAULT_POLICY) -> None:
        self.policy = policy
        self.replace(table)

    def replace(self, table: Mapping[str, Sequence[Target]]) -> None:
        """Take another table for the same policy: the same models with renewed secrets."""
        self._table = {name: Group(name, tuple(targets)) for name, targets in table.items()}
        self._table |= {
            alias: Group(alias, self._table[model].targets)
            for alias, model in self.policy.aliases.items()
            if model in self._table
        }
        self.patterns = sorted((name for name in self._table if name.endswith("*")), key=len, reverse=True)

    @property
    def names(self) -> Iterable[str]:
        """The models that can be listed by name."""
        return [name for name in self._table if not name.endswith("*") and name not in self.policy.hidden]

    @property
    def groups(self) -> Iterable[Group]:
        """All models and patterns, aliases left out."""
        return [group for name, group in self._table.items() if name not in self.policy.aliases]

    def find(self, model: str) -> Group | None:
        """The model of this name; None when nothing serves it."""
        exact = self._table.get(model)
        if exact is not None:
            return exact
        if (target := self.policy.aliases.get(model)) is not None:
            return self.find(target)  # an alias of a model that a pattern serves
        if _PLAIN.fullmatch(model) is None or ".." in model:
            return None  # some providers are told the model in the URL: a caller must not write there
        pattern = self._pattern_of(model)
        if pattern is None:
            return None
        matched = model[len(pattern) - 1 :]
        return Group(model, [_fill(target, matched) for target in self._table[pattern].targets])

    def configured(self, model: str) -> str | None:
        """The name or pattern of the configuration that `model` falls under."""
        return model if model in self._table or model in self.policy.aliases else self._pattern_of(model)

    def meant(self, name: str) -> str:
        """The model that an alias stands for; any other name itself."""
        return self.policy.aliases.get(name, name)

    def followers(self, model: str, occasion: Occasion = "failure") -> Iterator[Group]:
        """The models that follow `model` when it fails, depth first, each once: those for the occasion if there are
        any, else those for any failure. What follows them are their own for any failure."""
        seen = {self.meant(model)}
        first = self.named(model, occasion) or self.named(model, "failure")
        waiting = list(reversed(first))
        while waiting:
            name = waiting.pop()
            group = self.find(name)
            if group is not None and self.meant(name) not in seen:
                seen.add(self.meant(name))
                yield group
                waiting += reversed(self.named(name, "failure"))

    def named(self, model: str, occasion: Occasion) -> Sequence[str]:
        """The models that the configuration names for an occasion, as it names them."""
        named = self.policy.fallbacks.get(occasion)
        if not named:
            return ()
        for name in (model, self.meant(model), self._pattern_of(model), ALL_MODELS):
            if name is not None and name in named:
                return named[name]
        return ()

    def _pattern_of(self, model: str) -> str | None:
        for pattern in self.patterns:
            if model.startswith(pattern[:-1]) and len(model) >= len(pattern):
                return pattern
        return None


def _fill(target: Target, matched: str) -> Target:
    return msgspec.structs.replace(
        target, label=target.label.replace("*", matched), model=target.model.replace("*", matched)
    )
