"""Access tokens of a Cognito user pool: from a token's text to who came with it, or to a refusal.

A token counts when a key of the pool has signed it by RS256, and its claims name this pool, one of the gateway's
clients, a user, and a time that is not over. Of its head `kid` alone is used, to find the key among those that the pool
publishes: no other algorithm, and no key or address that a token brings along (jwk, jku, x5c, x5u), is ever looked at.

The keys are fetched with the first token, one fetch at a time. An unknown `kid` has them fetched again, at most every
UNKNOWN_SECONDS; keys older than OLD_SECONDS are fetched again while they still serve. When the last fetch failed, who
comes with an unknown `kid` is told to come back, and not that the token is none.

A token says who came. Whether they are enabled, and what they may do, says the directory; that Cognito has revoked a
token is not seen here, it counts until it expires. No text of a token, a claim or a key is in an error or in the log.
"""

import asyncio
import base64
import logging
import math
import re
import time
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import msgspec

from stile import __version__
from stile.adapters.aws_client import CONNECT_SECONDS, domain
from stile.adapters.http_client import HttpClient
from stile.core.keys import is_user_id
from stile.errors import DirectoryUnavailable, InvalidKey
from stile.ports import Token

if TYPE_CHECKING:
    from jwt import PyJWK

SECONDS = 5  # for one fetch
UNKNOWN_SECONDS = 300
OLD_SECONDS = 24 * 60 * 60
ASK_AGAIN_SECONDS = 5  # while there are no keys at all
LEEWAY_SECONDS = 60  # by which Cognito's clock may be ahead
MAX_CHARACTERS = 8 * 1024
_MAX_BYTES = 64 * 1024  # of the list of keys, which has two and takes 1 KB
_MIN_BITS = 2048  # of a key: RFC 7518, section 3.3
_ALGORITHM = "RS256"
_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")  # RFC 7515, section 3.1
_HEADERS = [(b"accept", b"application/json"), (b"user-agent", f"stile/{__version__}".encode())]

_INSTEAD = "Sign in again, or send a key of this gateway as 'Authorization: Bearer sk-stile-…'."
_UNREADABLE = f"This is no access token that can be read. {_INSTEAD}"
_REFUSED = f"This is no access token for this gateway. {_INSTEAD}"
_EXPIRED = "This access token has expired. Sign in again."
_AWAY = "What access tokens are checked by cannot be had now. Try again, or send a key of this gateway."
_log = logging.getLogger("stile.cognito")

Seconds = Annotated[int, msgspec.Meta(lt=2**53)]  # whole numbers that a float can hold
T = TypeVar("T")


class _Head(msgspec.Struct):
    """`crit` would name extensions that must be understood; here none is."""

    alg: Literal["RS256"]
    kid: str
    crit: None = None


class _Claims(msgspec.Struct):
    exp: Seconds
    iss: str = ""
    purpose: str = msgspec.field(name="token_use", default="")
    client_id: str = ""
    sub: str = ""
    nbf: Seconds = 0
    iat: Seconds = 0


class _Key(msgspec.Struct):
    kty: str = ""
    kid: str = ""
    alg: str = _ALGORITHM
    use: str = "sig"
    n: str = ""
    e: str = ""


class _Keys(msgspec.Struct):
    keys: list[_Key]


class CognitoTokens:
    """The Tokens port on one user pool, for tokens that were made for these clients. `clock` tells seconds since 1970.

    `environment` names another endpoint for the keys, as for all of AWS's services. The issuer stays what Cognito
    writes into its tokens, wherever the keys come from; its emulators write the same.
    """

    def __init__(
        self,
        pool_id: str,
        client_ids: Collection[str],
        environment: Mapping[str, str],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        region = pool_id.partition("_")[0]
        host = f"https://cognito-idp.{region}.{domain(region)}"
        named = environment.get("AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER") or environment.get("AWS_ENDPOINT_URL")
        self._issuer = f"{host}/{pool_id}"
        self._url = f"{(named or host).rstrip('/')}/{pool_id}/.well-known/jwks.json"
        self._pool_id = pool_id
        self._client_ids = frozenset(client_ids)
        self._clock = clock
        self._keys: Mapping[str, PyJWK] = {}
        self._fetched = -math.inf
        self._asked = -math.inf
        self._answered = False  # whether the last fetch has brought keys
        self._fetching: asyncio.Task[None] | None = None

    async def check(self, text: str) -> Token:
        """Who came with this token. Raises InvalidKey, DirectoryUnavailable."""
        head = _read_head(text)
        if head is None:
            raise InvalidKey(_UNREADABLE, "malformed")
        key = await self._key(head.kid)
        payload = _signed(text, key) if key is not None else None
        if payload is None:
            raise InvalidKey(_REFUSED, "unknown")
        claims = _decode(payload, _Claims)
        if claims is None:
            raise InvalidKey(_UNREADABLE, "malformed")
        return self._admit(claims)

    async def close(self) -> None:
        """Give up the fetch that is under way."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])

    def _admit(self, claims: _Claims) -> Token:
        now = self._clock()
        if (
            claims.iss != self._issuer
            or claims.purpose != "access"
            or claims.client_id not in self._client_ids
            or not is_user_id(claims.sub)
            or max(claims.nbf, claims.iat) > now + LEEWAY_SECONDS
        ):
            raise InvalidKey(_REFUSED, "unknown")
        if now >= claims.exp:
            raise InvalidKey(_EXPIRED, "expired")
        return Token(user_id=claims.sub, client_id=claims.client_id, expires=claims.exp)

    async def _key(self, kid: str) -> "PyJWK | None":
        """The pool's key of this name; None when it has none. Raises DirectoryUnavailable."""
        now = self._clock()
        key = self._keys.get(kid)
        if key is not None:
            if abs(now - self._fetched) >= OLD_SECONDS:
                self._fetch(now)
            return key
        fetch = self._fetch(now)
        if fetch is not None:
            # Not awaited itself: one caller who goes away must not end it for the others who wait.
            await asyncio.wait([fetch])
        key = self._keys.get(kid)
        if key is None and not self._answered:
            left = self._asked + self._pause() - self._clock()
            raise DirectoryUnavailable(_AWAY, headers=[("retry-after", str(max(1, math.ceil(left))))])
        return key

    def _pause(self) -> int:
        return UNKNOWN_SECONDS if self._keys else ASK_AGAIN_SECONDS

    def _fetch(self, now: float) -> "asyncio.Task[None] | None":
        """The fetch under way, or a new one; None when the last was a moment ago."""
        # A clock that was set back must not stop fetches for as long: hence the distance, whatever its sign.
        if self._fetching is None and abs(now - self._asked) >= self._pause():
            self._asked, self._answered = now, False
            self._fetching = asyncio.create_task(self._renew())
            self._fetching.add_done_callback(self._landed)
        return self._fetching

    def _landed(self, _: "asyncio.Task[None]") -> None:
        self._fetching = None

    async def _renew(self) -> None:
        try:
            async with asyncio.timeout(SECONDS):
                body = await self._get()
            keys = await asyncio.to_thread(_read_keys, body)
        except (OSError, ValueError) as error:
            why = str(error).rstrip(".") or f"there was no answer within {SECONDS} seconds"
            _log.warning("The keys of Cognito's user pool %s cannot be had: %s", self._pool_id, why)
            return
        self._keys, self._fetched, self._answered = keys, self._clock(), True

    async def _get(self) -> bytes:
        client = HttpClient(connect_seconds=CONNECT_SECONDS)
        try:
            answer = await client.get(self._url, _HEADERS)
            if answer.status != 200:
                raise ValueError(f"the answer has the status {answer.status}")
            body = await answer.read_up_to(_MAX_BYTES + 1)
        finally:
            await client.close()
        if len(body) > _MAX_BYTES:
            raise ValueError(f"the answer has more than {_MAX_BYTES} bytes")
        return body


def _read_head(text: str) -> _Head | None:
    """The head of a token that nobody has checked; None when it cannot be one."""
    parts = _COMPACT.fullmatch(text) if len(text) <= MAX_CHARACTERS else None
    if parts is None:
        return None
    try:
        head = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
    except ValueError:
        return None
    return _decode(head, _Head)


def _decode(text: bytes, kind: type[T]) -> T | None:
    """None, and not an error: those of the decoder may quote what they read."""
    try:
        return msgspec.json.decode(text, type=kind)
    except (ValueError, RecursionError):
        return None


def _read_keys(body: bytes) -> dict[str, "PyJWK"]:
    """The keys that may have signed a token, by their names. Raises ValueError when there is none.

    For a thread: the first call imports what a start must not wait for.
    """
    from jwt import PyJWK, PyJWTError  # noqa: PLC0415 (70 ms, and most gateways never see a token)

    found = _decode(body, _Keys)
    keys: dict[str, PyJWK] = {}
    for one in found.keys if found is not None else ():
        if (one.kty, one.alg, one.use) != ("RSA", _ALGORITHM, "sig") or not one.kid:
            continue
        try:
            key = PyJWK({"kty": one.kty, "n": one.n, "e": one.e}, _ALGORITHM)
        except PyJWTError:
            continue
        if key.key.key_size >= _MIN_BITS:
            keys[one.kid] = key
    if not keys:
        raise ValueError("the answer is no list with a key for RS256")
    return keys


def _signed(text: str, key: "PyJWK") -> bytes | None:
    """What a token says, if this key has signed it."""
    from jwt import PyJWS, PyJWTError  # noqa: PLC0415 (here already: reading the keys has imported it)

    try:
        return bytes(PyJWS([_ALGORITHM]).decode(text, key, [_ALGORITHM]))
    except PyJWTError:
        return None
