"""Which targets serve a model name: exact names first, then the longest pattern that ends in `*`."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from stile.core.secret import Secret

_PLAIN = re.compile(r"[A-Za-z0-9._:/@+~-]+")

_LEAST_SECRET = 6  # shorter ones are no secrets, and replacing them would garble the text

Via = Literal["relay", "litellm", "echo"]


class Target(msgspec.Struct, frozen=True):
    """One place that can answer. `label` is what logs call it; `model` the name that the provider is told.

    `options` go to LiteLLM as keyword arguments (region, project, version …); `defaults` are request parameters that
    the configuration sets and a request may override.
    """

    label: str
    provider: str
    model: str
    via: Via
    api_base: str | None = None
    api_key: Secret | None = None
    key_header: str = "authorization"
    headers: Mapping[str, Secret] = {}
    stream_usage: bool | None = None
    options: Mapping[str, Any] = {}
    defaults: Mapping[str, Any] = {}

    def without_secrets(self, text: str) -> str:
        """`text` with every secret of this target blotted out, for what a provider says goes to callers."""
        kept = [self.api_key, *self.headers.values(), *self.options.values()]
        secrets = [value.reveal() for value in kept if isinstance(value, Secret)]
        for secret in sorted(secrets, key=len, reverse=True):
            if len(secret) >= _LEAST_SECRET:
                text = text.replace(secret, "***")
        return text


class Routes:
    """Name or pattern → targets. In a pattern's target, `*` in the model stands for what matched."""

    def __init__(self, table: Mapping[str, Sequence[Target]]) -> None:
        self._table = {name: tuple(targets) for name, targets in table.items()}
        self._patterns = sorted((name for name in table if name.endswith("*")), key=len, reverse=True)

    @property
    def names(self) -> Iterable[str]:
        """The models that can be listed by name."""
        return [name for name in self._table if not name.endswith("*")]

    def find(self, model: str) -> Sequence[Target]:
        """The targets of `model`; none when nothing serves it."""
        exact = self._table.get(model)
        if exact is not None:
            return exact
        if _PLAIN.fullmatch(model) is None or ".." in model:
            return ()  # some providers are told the model in the URL: a caller must not write there
        for pattern in self._patterns:
            start = pattern[:-1]
            if model.startswith(start) and len(model) > len(start):
                return [_fill(target, model[len(start) :]) for target in self._table[pattern]]
        return ()


def choose(targets: Sequence[Target], chance: float) -> Target:
    """One of several equal targets; `chance` is a random number in [0, 1)."""
    return targets[int(chance * len(targets))]


def _fill(target: Target, matched: str) -> Target:
    return msgspec.structs.replace(
        target, label=target.label.replace("*", matched), model=target.model.replace("*", matched)
    )
