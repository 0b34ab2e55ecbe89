"""Signed calls to AWS over connections that are kept: JSON 1.1 for its services, GET for S3.

Every call has a bounded time, and one that fails in passing is sent again: once after a server's fault or a lost
connection, a few times where AWS asks to slow down, after a pause of random length, so that a crowd comes apart.
Endpoints are named as for AWS's own SDKs: AWS_ENDPOINT_URL_<SERVICE>, or AWS_ENDPOINT_URL for all.
"""

import asyncio
import itertools
import secrets
from collections.abc import Awaitable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

import msgspec

from stile import __version__
from stile.adapters import aws_error
from stile.adapters.aws_credentials import CredentialsError, CredentialSource
from stile.adapters.aws_error import AwsError
from stile.adapters.aws_signature import sign
from stile.adapters.http_client import HttpAnswer, HttpClient

CONNECT_SECONDS = 3
SECONDS = 8  # of the 10 that Lambda gives a start
_PAUSE_SECONDS = 0.2  # the longest before the first repetition; it doubles with each
_MAX_BYTES = 8 * 1024 * 1024  # a page of users with all their attributes stays below it
_USER_AGENT = ("user-agent", f"stile/{__version__}")  # not signed: a proxy may change it
_DOMAINS = {"cn-": "amazonaws.com.cn", "eusc-": "amazonaws.eu"}  # by the region's beginning; all others: amazonaws.com
_random = secrets.SystemRandom()  # a generator's state would be the same in all that are made from one snapshot

T = TypeVar("T")


class Service(NamedTuple):
    """A service that speaks JSON 1.1: its name in addresses and signatures, in AWS_ENDPOINT_URL_…, and that of its
    operations."""

    name: str
    variable: str
    target: str


class _Request(NamedTuple):
    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    service: str
    region: str
    limit: int
    once: bool = False


class AwsClient:
    """Made inside the event loop that it is used in. `environment` names credentials and endpoints."""

    def __init__(self, environment: Mapping[str, str], *, seconds: float = SECONDS) -> None:
        self._environment = environment
        self._seconds = seconds
        self._credentials = CredentialSource(environment)
        self._http = HttpClient(connect_seconds=min(CONNECT_SECONDS, seconds))

    async def call(
        self,
        service: Service,
        region: str,
        operation: str,
        asked: Mapping[str, Any],
        kind: type[T],
        *,
        within: float | None = None,
        once: bool = False,
    ) -> T:
        """Call an operation; answers its result as `kind`. Raises AwsError.

        `within`: so many seconds and without repetition, for who has rules of their own on what may be sent again.
        `once`: not even where a kept connection was dead.
        """
        url = self._endpoint(service.variable) or f"https://{service.name}.{region}.{domain(region)}"
        headers = {"content-type": "application/x-amz-json-1.1", "x-amz-target": f"{service.target}.{operation}"}
        body = msgspec.json.encode(asked)
        request = _Request("POST", f"{url}/", headers, body, service.name, region, _MAX_BYTES, once)
        if within is None:
            said = await self._bounded(self._try(request), self._seconds)
        else:
            said = await self._bounded(self._once(request), within)
        try:
            return msgspec.json.decode(said or b"{}", type=kind)
        except (ValueError, RecursionError):
            raise AwsError(aws_error.UNREADABLE, f"the answer to {operation} is not what it should be") from None

    async def get_object(self, bucket: str, key: str, *, region: str, limit: int) -> bytes:
        """An object of S3, from its bucket's own region where that is another one. Raises AwsError."""
        try:
            return await self._bounded(self._try(self._get(bucket, key, region, limit)), self._seconds)
        except AwsError as error:
            if error.region in (None, region):
                raise
            return await self._bounded(self._try(self._get(bucket, key, str(error.region), limit)), self._seconds)

    async def release(self) -> None:
        """Let go of idle connections and of credentials; the next call makes them anew."""
        self._http.release()
        self._credentials.release()

    async def close(self) -> None:
        """Close connections."""
        await self._http.close()

    def _get(self, bucket: str, key: str, region: str, limit: int) -> _Request:
        """A bucket has a host of its own, unless a certificate's wildcard does not reach it, or there are no names."""
        host, path = f"s3.{region}.{domain(region)}", quote(key, safe="/~")
        own = self._endpoint("S3")
        if own is not None or "." in bucket:
            url = f"{own or f'https://{host}'}/{bucket}/{path}"
        else:
            url = f"https://{bucket}.{host}/{path}"
        return _Request("GET", url, {}, b"", "s3", region, limit)

    def _endpoint(self, variable: str) -> str | None:
        named = self._environment.get(f"AWS_ENDPOINT_URL_{variable}") or self._environment.get("AWS_ENDPOINT_URL")
        return named.rstrip("/") if named else None

    async def _bounded(self, sending: Awaitable[bytes], seconds: float) -> bytes:
        try:
            async with asyncio.timeout(seconds):
                return await sending
        except TimeoutError:
            raise AwsError(aws_error.TIMED_OUT, f"there was no answer within {seconds:.3g} seconds") from None

    async def _try(self, request: _Request) -> bytes:
        for attempt in itertools.count():
            try:
                return await self._once(request)
            except AwsError as error:
                if attempt >= error.retries:
                    raise
            await asyncio.sleep(_random.uniform(0, _PAUSE_SECONDS * 2**attempt))
        raise AssertionError("itertools.count never ends")

    async def _once(self, request: _Request) -> bytes:
        try:
            answer = await self._ask(request)
            body = await answer.read_up_to(request.limit + 1)
        except CredentialsError as error:
            raise AwsError(aws_error.NO_CREDENTIALS, str(error)) from error
        except OSError as error:
            raise AwsError(aws_error.UNREACHABLE, str(error).rstrip(".")) from error
        except ValueError as error:  # of an endpoint or credentials that are none
            raise AwsError(aws_error.CANNOT_BE_SENT, str(error).rstrip(".")) from error
        if answer.status >= 300:
            raise aws_error.read(answer.status, answer.headers, body)
        if len(body) > request.limit:
            raise AwsError(aws_error.TOO_LARGE, f"there are more than {request.limit} bytes")
        return body

    async def _ask(self, request: _Request) -> HttpAnswer:
        signed = sign(
            request.method,
            request.url,
            request.headers,
            request.body,
            service=request.service,
            region=request.region,
            credentials=await self._credentials.get(),
            now=datetime.now(UTC),
        )
        headers = [(name.encode(), value.encode()) for name, value in (*signed.items(), _USER_AGENT)]
        if request.method == "GET":
            return await self._http.get(request.url, headers)
        return await self._http.post(request.url, headers, request.body, once=request.once)


def domain(region: str) -> str:
    return next((domain for start, domain in _DOMAINS.items() if region.startswith(start)), "amazonaws.com")
