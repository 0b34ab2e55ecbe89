"""Signature Version 4: the headers that make a request to AWS its sender's own.

Own code, because botocore's signer with its credentials costs 140 ms of a cold start and this nothing; the tests hold
the two equal. Paths and queries must be percent-encoded already, and a path may hold no dot segments.
"""

import functools
import hashlib
import hmac
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

from stile.adapters import aws_credentials
from stile.adapters.aws_credentials import Credentials, CredentialsError

_ALGORITHM = "AWS4-HMAC-SHA256"
_S3 = "s3"
_DEFAULT_PORTS = {"http": 80, "https": 443}


def sign(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    service: str,
    region: str,
    credentials: Credentials,
    now: datetime,
) -> dict[str, str]:
    """`headers` and those that sign the request; all of them must be sent. Names are in lower case."""
    parts = urlsplit(url)
    day, moment = now.strftime("%Y%m%d"), now.strftime("%Y%m%dT%H%M%SZ")
    digest = hashlib.sha256(body).hexdigest()
    signed = {**headers, "x-amz-date": moment}
    if service == _S3:
        signed["x-amz-content-sha256"] = digest
    if credentials.token is not None:
        signed["x-amz-security-token"] = credentials.token.reveal()
    # The HTTP client sends the host itself, so it is signed but not answered.
    fields = {**signed, "host": _host(parts.scheme, parts.hostname or "", parts.port)}
    names = ";".join(sorted(fields))
    path = parts.path or "/"
    request = "\n".join(
        [
            method,
            path if service == _S3 else quote(path, safe="/~"),  # only S3 takes a path that is encoded once
            _query(parts.query),
            *(f"{name}:{' '.join(fields[name].split())}" for name in sorted(fields)),
            "",
            names,
            digest,
        ]
    )
    scope = f"{day}/{region}/{service}/aws4_request"
    text = "\n".join([_ALGORITHM, moment, scope, hashlib.sha256(request.encode()).hexdigest()])
    key = functools.reduce(_hmac, scope.split("/"), f"AWS4{credentials.secret_key.reveal()}".encode())
    signed["authorization"] = (
        f"{_ALGORITHM} Credential={credentials.access_key}/{scope}, SignedHeaders={names}, "
        f"Signature={_hmac(key, text).hex()}"
    )
    return signed


def headers(url: str, service: str, region: str) -> Mapping[str, str]:
    """The headers that sign a GET of `url` with the credentials of this machine or role; none where there are none.

    Blocks while credentials are looked for; call it on a thread.
    """
    try:
        credentials = aws_credentials.find(os.environ)
    except CredentialsError:
        return {}
    return sign("GET", url, {}, b"", service=service, region=region, credentials=credentials, now=datetime.now(UTC))


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")


def _host(scheme: str, name: str, port: int | None) -> str:
    host = f"[{name}]" if ":" in name else name
    return host if port in (None, _DEFAULT_PORTS.get(scheme)) else f"{host}:{port}"


def _query(query: str) -> str:
    pairs = sorted(pair.partition("=")[::2] for pair in query.split("&")) if query else []
    return "&".join(f"{name}={value}" for name, value in pairs)
