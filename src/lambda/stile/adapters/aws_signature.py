"""Signature Version 4: the headers, or the query, that make a request to AWS its sender's own.

Own code, because botocore's signer with its credentials costs 140 ms of a cold start and this nothing; the tests hold
the two equal. Paths and queries must be percent-encoded already, and a path may hold no dot segments.
"""

import functools
import hashlib
import hmac
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote, urlencode, urlsplit

from stile.adapters import aws_credentials
from stile.adapters.aws_credentials import Credentials, CredentialsError

_ALGORITHM = "AWS4-HMAC-SHA256"
_MOMENT = "%Y%m%dT%H%M%SZ"
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
    moment = now.strftime(_MOMENT)
    digest = hashlib.sha256(body).hexdigest()
    signed = {**headers, "x-amz-date": moment}
    if service == _S3:
        signed["x-amz-content-sha256"] = digest
    if credentials.token is not None:
        signed["x-amz-security-token"] = credentials.token.reveal()
    # The HTTP client sends the host itself, so it is signed but not answered.
    fields = {**signed, "host": _host(parts.scheme, parts.hostname or "", parts.port)}
    path = _path(parts.path, service)
    scope = _scope(now, region, service)
    request = _canonical(method, path, parts.query, fields, digest)
    signed["authorization"] = (
        f"{_ALGORITHM} Credential={credentials.access_key}/{scope}, SignedHeaders={_names(fields)}, "
        f"Signature={_signature(request, moment, scope, credentials)}"
    )
    return signed


def presign(
    method: str, url: str, *, service: str, region: str, credentials: Credentials, now: datetime, seconds: int
) -> str:
    """`url` with a query that signs the request without a body, for so many seconds."""
    parts = urlsplit(url)
    scope, moment = _scope(now, region, service), now.strftime(_MOMENT)
    fields = {"host": _host(parts.scheme, parts.hostname or "", parts.port)}
    added = {
        "X-Amz-Algorithm": _ALGORITHM,
        "X-Amz-Credential": f"{credentials.access_key}/{scope}",
        "X-Amz-Date": moment,
        "X-Amz-Expires": str(seconds),
        "X-Amz-SignedHeaders": _names(fields),
    }
    if credentials.token is not None:
        added["X-Amz-Security-Token"] = credentials.token.reveal()
    query = "&".join(filter(None, [parts.query, urlencode(added, safe="~", quote_via=quote)]))
    request = _canonical(method, _path(parts.path, service), query, fields, hashlib.sha256(b"").hexdigest())
    signature = _signature(request, moment, scope, credentials)
    return f"{parts.scheme}://{parts.netloc}{parts.path or '/'}?{query}&X-Amz-Signature={signature}"


def headers(url: str, service: str, region: str) -> Mapping[str, str]:
    """The headers that sign a GET of `url` with the credentials of this machine or role; none where there are none.

    Blocks while credentials are looked for; call it on a thread.
    """
    try:
        credentials = aws_credentials.find(os.environ)
    except CredentialsError:
        return {}
    return sign("GET", url, {}, b"", service=service, region=region, credentials=credentials, now=datetime.now(UTC))


def _scope(now: datetime, region: str, service: str) -> str:
    return f"{now:%Y%m%d}/{region}/{service}/aws4_request"


def _path(path: str, service: str) -> str:
    """The path as it is signed: only S3 takes one that is encoded once."""
    return (path or "/") if service == _S3 else quote(path or "/", safe="/~")


def _names(fields: Mapping[str, str]) -> str:
    return ";".join(sorted(fields))


def _canonical(method: str, path: str, query: str, fields: Mapping[str, str], digest: str) -> str:
    lines = [f"{name}:{' '.join(fields[name].split())}" for name in sorted(fields)]
    return "\n".join([method, path, _query(query), *lines, "", _names(fields), digest])


def _signature(request: str, moment: str, scope: str, credentials: Credentials) -> str:
    text = "\n".join([_ALGORITHM, moment, scope, hashlib.sha256(request.encode()).hexdigest()])
    key = functools.reduce(_hmac, scope.split("/"), f"AWS4{credentials.secret_key.reveal()}".encode())
    return _hmac(key, text).hex()


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")


def _host(scheme: str, name: str, port: int | None) -> str:
    host = f"[{name}]" if ":" in name else name
    return host if port in (None, _DEFAULT_PORTS.get(scheme)) else f"{host}:{port}"


def _query(query: str) -> str:
    pairs = sorted(pair.partition("=")[::2] for pair in query.split("&")) if query else []
    return "&".join(f"{name}={value}" for name, value in pairs)
