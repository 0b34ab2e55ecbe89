"""The configuration as it is read at a start, and the secrets in it as they are renewed later.

The model file itself is read once; what it refers to may be rotated while the program runs.
"""

import logging
from collections.abc import Mapping
from pathlib import Path

import msgspec

from stile import modelfile
from stile.adapters import aws_configuration
from stile.modelfile import Findings, ModelFile
from stile.settings import Settings

_log = logging.getLogger("stile.secrets")


class _Secrets(msgspec.Struct, frozen=True):
    """What was fetched: the fields of the providers' secret, what the model file's references stand for, and why some
    stand for nothing."""

    fields: Mapping[str, str] = {}
    values: Mapping[str, str] = {}
    missing: Mapping[str, str] = {}


class Configuration:
    """`models`: the model file, if one is set. `environment`: what it and the providers are read from: the process's
    own with the fields of the providers' secret over it, for that secret was named for this alone, while an environment
    holds whatever a machine has."""

    def __init__(self, settings: Settings, environment: Mapping[str, str]) -> None:
        self.models: ModelFile | None = None
        self.environment = environment
        self._settings = settings
        self._own = environment
        self._content: bytes | None = None
        self._references: set[str] = set()
        self._secrets = _Secrets()

    @property
    def has_secrets(self) -> bool:
        """Whether anything of it is fetched, and may change."""
        return self._settings.provider_secret_arn is not None or bool(self._references)

    async def read(self) -> None:
        """Read all of it. Raises ConfigError with every fault."""
        self._adopt(await self._fetch())

    async def check(self) -> Findings | None:
        """What of the model file is honoured, without effect and wrong; None when there is no file. Raises ConfigError
        where it cannot be read at all."""
        found = await self._fetch()
        if self._content is None:
            return None
        environment = {**self._own, **found.fields}
        return modelfile.check(str(self._settings.config), self._content, environment, found.values, found.missing)

    async def _fetch(self) -> _Secrets:
        place = self._settings.config
        self._content, fields = await aws_configuration.fetch(self._settings, self._own)
        if isinstance(place, Path):
            self._content = modelfile.content_of(place)
        if self._content is not None:
            self._references = modelfile.references(str(place), self._content)
        return await self._resolved(fields)

    async def renew(self) -> bool:
        """Fetch the secrets anew; answers whether any has changed. What a reference stands for stays as it was while it
        cannot be fetched, and the log says why. Raises ConfigError, and then all stays as it was."""
        without_file = msgspec.structs.replace(self._settings, config=None)
        _, fields = await aws_configuration.fetch(without_file, self._own)
        found = await self._resolved(fields)
        if found.missing:
            told = "; ".join(f"{name}: {why}" for name, why in sorted(found.missing.items()))
            _log.warning("secrets of the configuration stay as they are: %s", told)
            found = _Secrets(fields, {**self._secrets.values, **found.values})
        if found == self._secrets:
            return False
        self._adopt(found)
        return True

    async def _resolved(self, fields: Mapping[str, str]) -> _Secrets:
        if not self._references:
            return _Secrets(fields)
        return _Secrets(fields, *await aws_configuration.resolve(self._references, self._own))

    def _adopt(self, found: _Secrets) -> None:
        environment = {**self._own, **found.fields}
        if self._content is not None:
            name = str(self._settings.config)
            self.models = modelfile.read(name, self._content, environment, found.values, found.missing)
        self.environment, self._secrets = environment, found
