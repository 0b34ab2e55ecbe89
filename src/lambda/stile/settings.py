"""Everything that the environment says, read once into one frozen object; all faults are reported at once.

`SETTINGS` is the whole list: doc/config.md repeats it, and a test holds the two equal.
"""

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from stile.errors import ConfigError

MIB = 1024 * 1024

Directory = Literal["sqlite", "cognito"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["json", "pretty"]


class S3Object(msgspec.Struct, frozen=True):
    """Where a file is in S3."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


class SecretArn(msgspec.Struct, frozen=True):
    """A secret of AWS Secrets Manager, and the region that it is in."""

    arn: str
    region: str

    def __str__(self) -> str:
        return self.arn


class SecretId(msgspec.Struct, frozen=True):
    """A secret by its name or ARN; a name says nothing of the region."""

    text: str
    region: str | None


class LogGroup(msgspec.Struct, frozen=True):
    """A log group of CloudWatch."""

    name: str


class Settings(msgspec.Struct, frozen=True):
    """The environment's settings. Sizes in bytes, times in seconds."""

    home: Path
    host: str
    port: int
    config: Path | S3Object | None
    provider_secret_arn: SecretArn | None
    directory: Directory
    user_pool_id: str | None
    pepper_secret: SecretId | None
    bootstrap_sha256: str | None
    log_file: Path | None
    log: LogLevel
    log_format: LogFormat | None
    stage: str
    metrics_by_model: bool
    content_bytes: int
    content_log: Path | LogGroup | None
    max_body_bytes: int
    key_cache_seconds: int
    timeout_seconds: float
    keep_alive_seconds: float
    whole_keep_alive_seconds: float
    drain_seconds: float
    fetch_urls: bool
    cors_origins: frozenset[str]
    public_url: str | None
    cognito_domain: str | None
    cognito_client_ids: frozenset[str]


class _Setting(msgspec.Struct, frozen=True):
    default: str
    read: Callable[[str], Any]
    help: str


def _whole(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return int(text)

    return read


def _switch(text: str) -> bool:
    if text.lower() not in {"1", "true", "yes", "on", "0", "false", "no", "off", ""}:
        raise ValueError("must be 1 or 0")
    return text.lower() in {"1", "true", "yes", "on"}


def _path(text: str) -> Path | None:
    return Path(text).expanduser() if text else None


def _file(text: str) -> Path | S3Object | None:
    if not text.startswith("s3://"):
        return _path(text)
    found = re.fullmatch(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(.+)", text)
    if found is None:
        raise ValueError("must be s3://bucket/key")
    return S3Object(found[1], found[2])


def _secret(text: str) -> SecretArn | None:
    found = re.fullmatch(r"arn:[a-z-]+:secretsmanager:([a-z0-9-]+):\d{12}:secret:[\w/+=.@!-]+", text)
    if text and found is None:
        raise ValueError("must be a secret's whole ARN, arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME")
    return SecretArn(text, found[1]) if found else None


def _secret_id(text: str) -> SecretId | None:
    if text.startswith("arn:"):
        found = _secret(text)
        return SecretId(text, found.region) if found else None
    if re.fullmatch(r"[\w/+=.@!-]{0,512}", text) is None:
        raise ValueError("must be a secret's name or its whole ARN")
    return SecretId(text, None) if text else None


def _pool(text: str) -> str | None:
    if text and re.fullmatch(r"[\w-]{1,45}_[0-9a-zA-Z]+", text) is None:
        raise ValueError("must be a user pool's id, as in eu-central-1_AbCdEfGhI")
    return text or None


def _sha256(text: str) -> str | None:
    if text and re.fullmatch(r"[0-9a-fA-F]{64}", text) is None:
        raise ValueError("must be a SHA-256 in hex, 64 digits: make bootstrap-token makes a token and its SHA-256")
    return text.lower() or None


def _origins(text: str) -> frozenset[str]:
    named = frozenset(origin.strip() for origin in text.split(",") if origin.strip())
    if any(origin != "*" and re.fullmatch(r"[a-z][a-z0-9+.-]*://[^\s/,]+", origin) is None for origin in named):
        raise ValueError("must be origins with commas between them, as in https://app.example.com, or *")
    return named


def _url(text: str) -> str | None:
    if text and re.fullmatch(r"https?://[a-z0-9.-]+(:\d{1,5})?(/[\w./-]*)?", text) is None:
        raise ValueError("must be an address, as in https://llm.example.com")
    return text.rstrip("/") or None


def _client_ids(text: str) -> frozenset[str]:
    named = frozenset(client.strip() for client in text.split(",") if client.strip())
    if any(re.fullmatch(r"[\w+]{1,128}", client) is None for client in named):
        raise ValueError("must be ids of app clients with commas between them")
    return named


def _one_of(words: Sequence[str]) -> Callable[[str], str | None]:
    def read(text: str) -> str | None:
        if text and text not in words:
            raise ValueError(f"must be {' or '.join(words)}")
        return text or None

    return read


def _stage(text: str) -> str:
    if re.fullmatch(r"[\w./-]{1,255}", text, re.ASCII) is None:
        raise ValueError("must be letters, digits and ._/- alone")
    return text


def _content_log(text: str) -> Path | LogGroup | None:
    if not text.startswith("cloudwatch:"):
        return _path(text)
    group = text.removeprefix("cloudwatch:")
    if re.fullmatch(r"[\w./#-]{1,512}", group, re.ASCII) is None:
        raise ValueError("must be a file, or a log group as cloudwatch:/aws/lambda/stile-content")
    return LogGroup(group)


SETTINGS: dict[str, _Setting] = {
    "STILE_HOME": _Setting(".stile", _path, "folder of the embedded state: users, keys, pepper"),
    "STILE_HOST": _Setting("127.0.0.1", str, "address to listen on"),
    "STILE_PORT": _Setting("4000", _whole(0, 65535), "port to listen on; 0 takes a free one"),
    "STILE_CONFIG": _Setting(
        "", _file, "model file in LiteLLM's config.yaml dialect, or s3://bucket/key; without one, providers are found"
    ),
    "STILE_PROVIDER_SECRET_ARN": _Setting(
        "", _secret, "secret of AWS Secrets Manager whose fields are read like environment variables"
    ),
    "STILE_DIRECTORY": _Setting(
        "sqlite", _one_of(get_args(Directory)), "where users and keys are kept: in a file of STILE_HOME, or in Cognito"
    ),
    "STILE_USER_POOL_ID": _Setting("", _pool, "Cognito's user pool, with STILE_DIRECTORY=cognito"),
    "STILE_PEPPER_SECRET": _Setting(
        "", _secret_id, "secret of AWS Secrets Manager that is the pepper; without one it is a file of STILE_HOME"
    ),
    "STILE_BOOTSTRAP_SHA256": _Setting(
        "", _sha256, "SHA-256 of the one-time token that makes the first admin; without one the bootstrap is closed"
    ),
    "STILE_LOG_FILE": _Setting("", _path, "file for the JSON log lines; without one they go to standard output"),
    "STILE_LOG": _Setting(
        "info", _one_of(get_args(LogLevel)), "from which level up the program's own lines are written; calls always are"
    ),
    "STILE_LOG_FORMAT": _Setting(
        "", _one_of(get_args(LogFormat)), "json or pretty; without one, pretty on a terminal and JSON elsewhere"
    ),
    "STILE_STAGE": _Setting("local", _stage, "the deployment's name in its lines, and the dimension of its metrics"),
    "STILE_METRICS_BY_MODEL": _Setting(
        "0", _switch, "1: CloudWatch gets metrics of each configured model too, which cost money for each"
    ),
    "STILE_CONTENT_BYTES": _Setting(
        "0", _whole(0, 65536), "how much of each request and of each answer the content log keeps; 0: there is none"
    ),
    "STILE_CONTENT_LOG": _Setting(
        "", _content_log, "file of the content log, or cloudwatch:LOG_GROUP; without one, content.log in STILE_HOME"
    ),
    "STILE_MAX_BODY_BYTES": _Setting(str(32 * MIB), _whole(1024, 1024 * MIB), "largest request body"),
    "STILE_KEY_CACHE_SECONDS": _Setting(
        "60", _whole(0, 3600), "how long a checked key is believed without asking the directory"
    ),
    "STILE_TIMEOUT_SECONDS": _Setting("600", _whole(1, 3600), "longest time for one model call"),
    "STILE_KEEP_ALIVE_SECONDS": _Setting(
        "20", _whole(0, 300), "how long a stream may be silent before a comment goes out; 0: for ever"
    ),
    "STILE_WHOLE_KEEP_ALIVE_SECONDS": _Setting(
        "240", _whole(0, 3600), "how long a call without a stream may be silent before its head goes out; 0: for ever"
    ),
    "STILE_DRAIN_SECONDS": _Setting("10", _whole(0, 600), "how long a stop waits for calls in flight"),
    "STILE_FETCH_URLS": _Setting(
        "0", _switch, "1: media URLs of translated calls are fetched, from public addresses only; 0: refused"
    ),
    "STILE_CORS_ORIGINS": _Setting(
        "*", _origins, "origins of the web pages that may call, with commas between them; *: any"
    ),
    "STILE_PUBLIC_URL": _Setting(
        "", _url, "the gateway's own address as clients write it; without one, what the host knows"
    ),
    "STILE_COGNITO_DOMAIN": _Setting(
        "", _url, "address of Cognito's sign-in pages, which MCP clients are led to; without one, they use keys"
    ),
    "STILE_COGNITO_CLIENT_IDS": _Setting(
        "", _client_ids, "ids of the app clients whose access tokens are taken, with commas between them"
    ),
}

# The command line client's own variables may well be set in the same shell.
_OF_THE_CLIENT = {"STILE_URL", "STILE_API_KEY", "STILE_PROFILE"}


def read(environment: Mapping[str, str]) -> Settings:
    """The settings; raises ConfigError with every fault."""
    faults = []
    values: dict[str, Any] = {}
    for name in sorted(environment):
        if name.startswith("STILE_") and name not in SETTINGS and name not in _OF_THE_CLIENT:
            near = difflib.get_close_matches(name, SETTINGS, n=1)
            faults.append(f"{name}: no such setting" + (f"; did you mean {near[0]}?" if near else ""))
    for name, setting in SETTINGS.items():
        text = environment.get(name, "").strip() or setting.default
        try:
            values[name.removeprefix("STILE_").lower()] = setting.read(text)
        except ValueError as fault:
            faults.append(f"{name}: {fault} (it is {text!r})")
    if values.get("directory") == "cognito" and values.get("user_pool_id", "") is None:
        faults.append("STILE_USER_POOL_ID: must be set with STILE_DIRECTORY=cognito")
    if bool(values.get("cognito_domain")) != bool(values.get("cognito_client_ids")):
        faults.append("STILE_COGNITO_DOMAIN, STILE_COGNITO_CLIENT_IDS: must be set together, or not at all")
    if values.get("cognito_domain") and values.get("directory") == "sqlite":
        faults.append("STILE_COGNITO_DOMAIN: needs STILE_DIRECTORY=cognito")
    if faults:
        raise ConfigError(faults)
    return Settings(**values)
