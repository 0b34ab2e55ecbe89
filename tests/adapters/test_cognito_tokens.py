"""Access tokens of Cognito: moto's own, and every forgery that a test's own keys allow, against a list of keys on a
socket that counts who asks."""

import asyncio
import base64
import hashlib
import hmac
import http.server
import json
import logging
import math
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.mocks import cognito

from stile.adapters import cognito_tokens
from stile.adapters.cognito_tokens import CognitoTokens
from stile.errors import DirectoryUnavailable, InvalidKey
from stile.ports import Token

ROOT = Path(__file__).parent.parent.parent / "src" / "lambda"
SETTLED = 20  # seconds after which a test counts as failed
POOL, CLIENT = "eu-west-1_Ab1Cd2Ef3", "7planted1client2of3the4gateway"
ISSUER = f"https://cognito-idp.eu-west-1.amazonaws.com/{POOL}"
USER = "0f5a3c1e-6f0b-4c0e-9a52-6f1d5f4e2b11"
PATH = f"/{POOL}/.well-known/jwks.json"
NOW = 1_800_000_000
DAY = 24 * 60 * 60
SECRET = "planted-in-a-claim"

Story = Callable[[CognitoTokens], Awaitable[None]]


class Clock:
    """Stands still until a test sets it."""

    def __init__(self) -> None:
        self.now: float = NOW

    def __call__(self) -> float:
        return self.now


class Published:
    """What a pool publishes, and how. `asked` holds the requests' paths; while the gate is shut, none is answered."""

    def __init__(self) -> None:
        self.body = b""
        self.status = 200
        self.endless = False
        self.asked: list[str] = []
        self.reached = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()
        self.url = ""

    def show(self, *keys: Mapping[str, Any]) -> None:
        self.body = json.dumps({"keys": keys}).encode()

    async def come(self) -> None:
        """Wait until one more request is there."""
        assert await asyncio.to_thread(self.reached.acquire, timeout=SETTLED)


class Server(http.server.ThreadingHTTPServer):
    published = Published()


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        published = self.server.published
        published.asked.append(self.requestline.split()[1])  # as it was sent
        published.reached.release()
        published.gate.wait(SETTLED)
        try:
            self.send_response(published.status)
            if not published.endless:
                self.send_header("content-length", str(len(published.body)))
            self.end_headers()
            self.wfile.write(published.body)
            while published.endless:
                self.wfile.write(b" " * 65536)
        except OSError:  # who asked may have gone
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def published(server: Server) -> Iterator[Published]:
    server.published = state = Published()
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield state
    state.endless = False
    state.gate.set()


class Keys:
    """Three pairs of keys, which take a second to make."""

    def __init__(self) -> None:
        self.own, self.other, self.next = (rsa.generate_private_key(65537, 2048) for _ in range(3))


@pytest.fixture(scope="module")
def keys() -> Keys:
    return Keys()


def coded(data: bytes | object) -> str:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def number(value: int) -> str:
    return coded(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def public(key: rsa.RSAPrivateKey, kid: str = "own", **more: Any) -> dict[str, Any]:
    """The key as Cognito lists it."""
    numbers = key.public_key().public_numbers()
    return {
        "alg": "RS256",
        "e": number(numbers.e),
        "kid": kid,
        "kty": "RSA",
        "n": number(numbers.n),
        "use": "sig",
    } | more


def claims(**more: Any) -> dict[str, Any]:
    """What Cognito says of somebody who has signed in; None leaves a claim out."""
    said = {
        "sub": USER,
        "iss": ISSUER,
        "client_id": CLIENT,
        "origin_jti": str(uuid.UUID(int=1)),
        "token_use": "access",
        "scope": "openid",
        "auth_time": NOW - 10,
        "exp": NOW + 3600,
        "iat": NOW - 10,
        "jti": str(uuid.UUID(int=2)),
        "username": SECRET,
    } | more
    return {name: value for name, value in said.items() if value is not None}


def token(key: rsa.RSAPrivateKey, head: object = None, said: object = None) -> str:
    """Signed by RS256, whatever its head says."""
    unsigned = f"{coded(head or {'kid': 'own', 'alg': 'RS256'})}.{coded(said or claims())}"
    return f"{unsigned}.{coded(key.sign(unsigned.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def by_secret(secret: bytes, head: object) -> str:
    """Signed by HS256."""
    unsigned = f"{coded(head)}.{coded(claims())}"
    return f"{unsigned}.{coded(hmac.digest(secret, unsigned.encode(), hashlib.sha256))}"


def play(published: Published, story: Story, clock: Callable[[], float] | None = None, url: str | None = None) -> None:
    async def main() -> None:
        environment = {"AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER": url or published.url}
        tokens = CognitoTokens(POOL, [CLIENT], environment, clock=clock or Clock())
        try:
            await asyncio.wait_for(story(tokens), SETTLED)
        finally:
            await tokens.close()

    asyncio.run(main())


async def refused(tokens: CognitoTokens, text: str) -> str:
    """Why; the caller is told what to do, and none of what was sent."""
    with pytest.raises(InvalidKey) as caught:
        await tokens.check(text)
    told = caught.value
    assert "Sign in again" in told.message
    assert (told.__cause__, told.__context__) == (None, None)
    assert not [part for part in (SECRET, USER, CLIENT, ISSUER, text) if part and part in repr(told)]
    return told.reason


async def away(tokens: CognitoTokens, text: str) -> int:
    """After how many seconds the caller may come back."""
    with pytest.raises(DirectoryUnavailable) as caught:
        await tokens.check(text)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    assert "Try again" in caught.value.message
    return int(dict(caught.value.headers)["retry-after"])


def reason_for(published: Published, keys: Keys, text: str) -> str:
    """Why a token is refused by a gateway that has taken a good one before."""
    found: list[str] = []

    async def story(tokens: CognitoTokens) -> None:
        assert (await tokens.check(token(keys.own))).user_id == USER
        found.append(await refused(tokens, text))

    published.show(public(keys.own))
    play(published, story)
    return found[0]


# What Cognito itself has signed


def test_a_token_of_a_pool_tells_who_came(tmp_path: Path) -> None:
    """moto names the issuer as Cognito does, and publishes its keys at the same path."""
    with cognito.running(tmp_path) as pool:
        with pool.aws.client("cognito-idp") as client:
            made = client.create_user_pool_client(
                UserPoolId=pool.pool_id, ClientName="editor", ExplicitAuthFlows=["ALLOW_USER_PASSWORD_AUTH"]
            )["UserPoolClient"]["ClientId"]
            name, password = {"UserPoolId": pool.pool_id, "Username": "ada@example.com"}, "Planted-Pass-1-word!"
            user = client.admin_create_user(**name, MessageAction="SUPPRESS")["User"]
            client.admin_set_user_password(**name, Password=password, Permanent=True)
            signed_in = client.initiate_auth(
                ClientId=made,
                AuthFlow="USER_PASSWORD_AUTH",
                AuthParameters={"USERNAME": "ada@example.com", "PASSWORD": password},
            )["AuthenticationResult"]
        sub = next(one["Value"] for one in user["Attributes"] if one["Name"] == "sub")
        payload = signed_in["AccessToken"].split(".")[1]
        ends = json.loads(base64.urlsafe_b64decode(payload + "=="))["exp"]

        async def main() -> None:
            at = pool.environment()
            tokens = CognitoTokens(pool.pool_id, [made], at)
            assert await tokens.check(signed_in["AccessToken"]) == Token(user_id=sub, client_id=made, expires=ends)
            assert await refused(tokens, signed_in["IdToken"]) == "unknown"
            assert await refused(tokens, signed_in["RefreshToken"]) == "malformed"
            late = CognitoTokens(pool.pool_id, [made], at, clock=lambda: ends)
            assert await refused(late, signed_in["AccessToken"]) == "expired"
            foreign = CognitoTokens(pool.pool_id, ["another"], at)
            assert await refused(foreign, signed_in["AccessToken"]) == "unknown"

        asyncio.run(main())


def test_a_good_token_tells_user_client_and_end(published: Published, keys: Keys) -> None:
    async def story(tokens: CognitoTokens) -> None:
        assert await tokens.check(token(keys.own)) == Token(user_id=USER, client_id=CLIENT, expires=NOW + 3600)

    published.show(public(keys.other, "other"), public(keys.own))
    play(published, story)
    assert published.asked == [PATH]


@pytest.mark.parametrize(
    ("pool_id", "host"),
    [
        ("us-east-1_x", "cognito-idp.us-east-1.amazonaws.com"),
        ("cn-north-1_x", "cognito-idp.cn-north-1.amazonaws.com.cn"),
        ("eusc-de-east-1_x", "cognito-idp.eusc-de-east-1.amazonaws.eu"),
    ],
)
def test_each_partition_has_its_own_domain(pool_id: str, host: str, published: Published, keys: Keys) -> None:
    async def main() -> None:
        assert CognitoTokens(pool_id, [CLIENT], {})._url == f"https://{host}/{pool_id}/.well-known/jwks.json"
        tokens = CognitoTokens(pool_id, [CLIENT], {"AWS_ENDPOINT_URL": f"{published.url}/"}, clock=Clock())
        assert await tokens.check(token(keys.own, said=claims(iss=f"https://{host}/{pool_id}")))
        assert await refused(tokens, token(keys.own)) == "unknown"

    published.show(public(keys.own))
    asyncio.run(main())
    assert published.asked == [f"/{pool_id}/.well-known/jwks.json"]


# Signatures


@pytest.mark.parametrize(
    "alg", ["none", "None", "NONE", "", "RS384", "RS512", "PS256", "HS256", "rs256", None, 1, ["RS256"]]
)
def test_no_algorithm_but_rs256_is_taken_however_it_is_signed(alg: object, published: Published, keys: Keys) -> None:
    assert reason_for(published, keys, token(keys.own, {"kid": "own", "alg": alg})) == "malformed"


def test_a_head_without_algorithm_or_key_is_malformed(published: Published, keys: Keys) -> None:
    assert reason_for(published, keys, token(keys.own, {"kid": "own"})) == "malformed"
    assert reason_for(published, keys, token(keys.own, {"alg": "RS256"})) == "malformed"
    assert reason_for(published, keys, token(keys.own, {"alg": "RS256", "kid": 1})) == "malformed"


def test_a_token_without_signature_is_malformed(published: Published, keys: Keys) -> None:
    for alg in ("none", "RS256"):
        unsigned = f"{coded({'kid': 'own', 'alg': alg})}.{coded(claims())}"
        for text in (unsigned, f"{unsigned}."):
            assert reason_for(published, keys, text) == "malformed"


def test_the_public_key_is_no_secret_to_sign_with(published: Published, keys: Keys) -> None:
    own = keys.own.public_key()
    pem = own.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    der = own.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    for secret in (pem, pem.strip(), der, json.dumps(public(keys.own)).encode(), b""):
        assert reason_for(published, keys, by_secret(secret, {"kid": "own", "alg": "HS256"})) == "malformed"
        assert reason_for(published, keys, by_secret(secret, {"kid": "own", "alg": "RS256"})) == "unknown"


def test_a_key_that_the_token_brings_along_is_not_used(published: Published, keys: Keys) -> None:
    elsewhere = f"{published.url}/elsewhere"
    for brought in ({"jwk": public(keys.other)}, {"jku": elsewhere}, {"x5u": elsewhere}, {"x5c": [coded(b"x")]}):
        head = {"kid": "own", "alg": "RS256", **brought}
        assert reason_for(published, keys, token(keys.other, head)) == "unknown"
        assert reason_for(published, keys, token(keys.other, {**head, "kid": "new"})) == "unknown"
    assert set(published.asked) == {PATH}


def test_another_key_another_payload_or_a_changed_signature_is_refused(published: Published, keys: Keys) -> None:
    good = token(keys.own)
    head, said, signature = good.split(".")
    assert reason_for(published, keys, token(keys.other)) == "unknown"
    assert reason_for(published, keys, f"{head}.{coded(claims(sub=str(uuid.uuid4())))}.{signature}") == "unknown"
    assert reason_for(published, keys, f"{coded({'alg': 'RS256', 'kid': 'own'})}.{said}.{signature}") == "unknown"
    raw = base64.urlsafe_b64decode(signature + "==")
    for changed in (raw[:-1], raw + b"\0", b"\0" + raw, raw[::-1], bytes(256), b"\0", b"\xff" * 256, raw * 2):
        assert reason_for(published, keys, f"{head}.{said}.{coded(changed)}") == "unknown"


def test_a_signature_by_another_scheme_with_the_same_key_is_refused(published: Published, keys: Keys) -> None:
    unsigned = f"{coded({'kid': 'own', 'alg': 'RS256'})}.{coded(claims())}"
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    for signature in (
        keys.own.sign(unsigned.encode(), pss, hashes.SHA256()),
        keys.own.sign(unsigned.encode(), padding.PKCS1v15(), hashes.SHA384()),
    ):
        assert reason_for(published, keys, f"{unsigned}.{coded(signature)}") == "unknown"


def test_a_signature_with_loose_last_bits_is_refused(published: Published, keys: Keys) -> None:
    """Base64 has more than one spelling of the same bytes; a token has one."""
    good = token(keys.own)
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    loose = good[:-1] + letters[letters.index(good[-1]) + 1]
    assert base64.urlsafe_b64decode(loose.split(".")[2] + "==") == base64.urlsafe_b64decode(good.split(".")[2] + "==")
    assert reason_for(published, keys, loose) == "unknown"


@pytest.mark.parametrize("head", [{"crit": ["exp"]}, {"crit": ["b64"], "b64": True}, {"crit": []}, {"crit": "b64"}])
def test_extensions_that_must_be_understood_are_refused(head: dict[str, Any], published: Published, keys: Keys) -> None:
    assert reason_for(published, keys, token(keys.own, {"kid": "own", "alg": "RS256", **head})) == "malformed"


def test_a_payload_that_stands_beside_the_token_is_refused(published: Published, keys: Keys) -> None:
    assert reason_for(published, keys, token(keys.own, {"kid": "own", "alg": "RS256", "b64": False})) == "unknown"


def test_of_names_that_come_twice_the_last_counts(published: Published, keys: Keys) -> None:
    """RFC 7519, section 4. Both readers of the head must agree on it."""
    twice = b'{"kid":"own","alg":"%s","alg":"%s"}'
    assert reason_for(published, keys, token(keys.own, twice % (b"RS256", b"none"))) == "malformed"
    said = json.dumps(claims()).encode()[:-1]
    assert reason_for(published, keys, token(keys.own, said=said + b',"token_use":"id"}')) == "unknown"
    assert reason_for(published, keys, token(keys.own, said=said + b',"exp":%d}' % NOW)) == "expired"
    other = b'{"kid":"own","kid":"other","alg":"RS256"}'

    async def story(tokens: CognitoTokens) -> None:
        assert await tokens.check(token(keys.other, other))
        assert await refused(tokens, token(keys.own, other)) == "unknown"

    published.show(public(keys.own), public(keys.other, "other"))
    play(published, story)


# Claims


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"iss": f"{ISSUER}/"}, "unknown"),
        ({"iss": ISSUER.upper()}, "unknown"),
        ({"iss": f"{ISSUER}x"}, "unknown"),
        ({"iss": ISSUER.replace("https", "http")}, "unknown"),
        ({"iss": ISSUER.replace("eu-west-1", "eu-west-2")}, "unknown"),
        ({"iss": f"https://example.com/{POOL}"}, "unknown"),
        ({"iss": ""}, "unknown"),
        ({"iss": None}, "unknown"),
        ({"iss": [ISSUER]}, "malformed"),
        ({"token_use": "id"}, "unknown"),
        ({"token_use": "id", "client_id": None, "aud": CLIENT}, "unknown"),
        ({"token_use": "Access"}, "unknown"),
        ({"token_use": None}, "unknown"),
        ({"token_use": ["access"]}, "malformed"),
        ({"client_id": "another"}, "unknown"),
        ({"client_id": CLIENT.upper()}, "unknown"),
        ({"client_id": CLIENT[:-1]}, "unknown"),
        ({"client_id": ""}, "unknown"),
        ({"client_id": None}, "unknown"),
        ({"client_id": None, "aud": CLIENT}, "unknown"),
        ({"client_id": [CLIENT]}, "malformed"),
        ({"sub": "ada@example.com"}, "unknown"),
        ({"sub": USER.upper()}, "unknown"),
        ({"sub": USER.replace("-", "")}, "unknown"),
        ({"sub": f"{{{USER}}}"}, "unknown"),
        ({"sub": f"urn:uuid:{USER}"}, "unknown"),
        ({"sub": f"{USER}\n"}, "unknown"),
        ({"sub": ""}, "unknown"),
        ({"sub": None}, "unknown"),
        ({"sub": 1}, "malformed"),
        ({"exp": NOW}, "expired"),
        ({"exp": NOW - 1}, "expired"),
        ({"exp": 0}, "expired"),
        ({"exp": -(2**62)}, "expired"),
        ({"exp": None}, "malformed"),
        ({"exp": str(NOW + 3600)}, "malformed"),
        ({"exp": True}, "malformed"),
        ({"exp": 10**400}, "malformed"),
        ({"exp": math.nan}, "malformed"),
        ({"exp": math.inf}, "malformed"),
        ({"nbf": NOW + 61}, "unknown"),
        ({"nbf": str(NOW)}, "malformed"),
        ({"iat": NOW + 61}, "unknown"),
        ({"iat": 2**53 - 1}, "unknown"),
        ({"iat": [NOW]}, "malformed"),
        ({"iat": 2**53}, "malformed"),
        ({"exp": NOW - 1, "client_id": "another"}, "unknown"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_signed_token_with_a_wrong_claim_is_refused(
    more: dict[str, Any], reason: str, published: Published, keys: Keys
) -> None:
    assert reason_for(published, keys, token(keys.own, said=claims(**more))) == reason


@pytest.mark.parametrize("more", [{"nbf": NOW + 60}, {"iat": NOW + 60}, {"iat": None}, {"exp": NOW + 1}, {"nbf": 0}])
def test_clocks_that_differ_a_little_do_no_harm(more: dict[str, Any], published: Published, keys: Keys) -> None:
    async def story(tokens: CognitoTokens) -> None:
        assert (await tokens.check(token(keys.own, said=claims(**more)))).user_id == USER

    published.show(public(keys.own))
    play(published, story)


def test_a_token_that_was_good_ends_with_its_time(published: Published, keys: Keys) -> None:
    clock = Clock()

    async def story(tokens: CognitoTokens) -> None:
        text = token(keys.own)
        clock.now = NOW + 3599.9
        assert await tokens.check(text)
        clock.now = NOW + 3600
        assert await refused(tokens, text) == "expired"

    published.show(public(keys.own))
    play(published, story, clock)


def test_without_clients_nobody_comes_in(published: Published, keys: Keys) -> None:
    async def main() -> None:
        tokens = CognitoTokens(POOL, [], {"AWS_ENDPOINT_URL": published.url}, clock=Clock())
        assert await refused(tokens, token(keys.own)) == "unknown"
        assert await refused(tokens, token(keys.own, said=claims(client_id=None))) == "unknown"

    published.show(public(keys.own))
    asyncio.run(main())


# Texts that are no token


def junk(key: rsa.RSAPrivateKey) -> dict[str, str]:
    good = token(key)
    head, said, signature = good.split(".")
    right = {"kid": "own", "alg": "RS256"}
    return {
        "nothing": "",
        "dots": "..",
        "one part": head,
        "two parts": f"{head}.{said}",
        "no head": f".{said}.{signature}",
        "no payload": f"{head}..{signature}",
        "four parts": f"{good}.{signature}",
        "five parts, as if encrypted": f"{head}.{said}.{signature}.{said}.{signature}",
        "twice": f"{good} {good}",
        "a comma between two": f"{good},{good}",
        "a blank before": f" {good}",
        "a line's end": f"{good}\n",
        "a line's end inside": f"{head}.\n{said}.{signature}",
        "NUL": f"{good}\0",
        "padding": f"{good}==",
        "the other alphabet": good.replace("-", "+").replace("_", "/") + "+/",
        "not base64": f"{head}.{said}.%%%",
        "not ASCII": f"{head}.{said}.{signature[:-1]}é",
        "digits of another script": f"{head}.{said}.٣٣٣",
        "half a surrogate": f"{head}.{said}.\ud800",
        "a key of the gateway": "sk-stile-" + "0" * 48 + "-" + "a" * 59,
        "a head of one letter": f"a.{said}.{signature}",
        "a head that is a list": token(key, [right]),
        "a head that is a text": token(key, "RS256"),
        "a head with a mark before it": token(key, b"\xef\xbb\xbf" + json.dumps(right).encode()),
        "a head with more after it": token(key, json.dumps(right).encode() + b"{}"),
        "a head that is not UTF-8": token(key, b'{"kid":"\xff","alg":"RS256"}'),
        "a head cut short": token(key, b'{"kid":"own","alg":"RS256"'),
        "a head of brackets": token(key, b"[" * 5000),
        "a payload of brackets": token(key, said=b"[" * 5000),
        "a payload that is a list": token(key, said=[claims()]),
        "a payload that is a number": token(key, said=b"1"),
        "a payload that is no JSON": token(key, said=b"<html>"),
        "a payload that is not UTF-8": token(key, said=b'{"exp":1,"iss":"\xff"}'),
        "a number of 5,000 digits": token(key, said=b'{"exp":' + b"1" * 5000 + b"}"),
        "a key's name of 1 MB": token(key, {"kid": "k" * 1_000_000, "alg": "RS256"}),
        "1 MB of dots": "." * 1_000_000,
        "1 MB of letters": "a" * 1_000_000,
        "a letter too long": f"{head}.{said}.".ljust(8 * 1024 + 1, "a"),
    }


@pytest.mark.parametrize("name", list(junk(rsa.generate_private_key(65537, 1024))))
def test_what_is_no_token_is_malformed(name: str, published: Published, keys: Keys) -> None:
    assert reason_for(published, keys, junk(keys.own)[name]) == "malformed"


def test_depth_breaks_nothing(published: Published, keys: Keys) -> None:
    """How much of it is too much for a reader depends on Python's version."""
    deep = b"[" * 1200 + b"]" * 1200
    head = b'{"kid":"own","alg":"RS256","x":%s}' % deep
    assert reason_for(published, keys, token(keys.other, head)) in ("malformed", "unknown")
    assert reason_for(published, keys, token(keys.own, said=b'{"exp":1,"x":%s}' % deep)) in ("malformed", "unknown")


def test_a_text_cut_anywhere_is_refused(published: Published, keys: Keys) -> None:
    good = token(keys.own)

    async def story(tokens: CognitoTokens) -> None:
        assert await tokens.check(good)
        for length in range(0, len(good), 7):
            assert await refused(tokens, good[:length]) in ("malformed", "unknown")

    published.show(public(keys.own))
    play(published, story)
    assert published.asked == [PATH]


def test_the_longest_text_is_still_read(published: Published, keys: Keys) -> None:
    async def story(tokens: CognitoTokens) -> None:
        room = 8 * 1024 - len(token(keys.own, said=claims(scope="")))
        text = token(keys.own, said=claims(scope="a" * (room * 3 // 4)))
        assert 8 * 1024 - 4 < len(text) <= 8 * 1024
        assert await tokens.check(text)

    published.show(public(keys.own))
    play(published, story)


def test_texts_that_cannot_be_tokens_have_no_keys_fetched(published: Published, keys: Keys) -> None:
    async def story(tokens: CognitoTokens) -> None:
        for text in ("", "a.b.c", token(keys.own, {"kid": "own", "alg": "none"}), "a" * 10_000):
            assert await refused(tokens, text) == "malformed"

    play(published, story)
    assert published.asked == []


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_changed_in_a_token_it_is_refused_and_nothing_breaks(keys: Keys, data: st.DataObject) -> None:
    good = token(keys.own)
    at, length = data.draw(st.integers(0, len(good) - 1)), data.draw(st.integers(0, 4))
    put = data.draw(st.text(max_size=4) | st.text("AZaz09-_.=", max_size=4))
    text = good[:at] + put + good[at + length :]

    async def main() -> None:
        tokens = CognitoTokens(POOL, [CLIENT], {}, clock=Clock())
        tokens._keys, tokens._fetched, tokens._asked, tokens._answered = known, NOW, NOW, True
        if text != good:
            assert await refused(tokens, text) in ("malformed", "unknown")

    known = cognito_tokens._read_keys(json.dumps({"keys": [public(keys.own)]}).encode())
    asyncio.run(main())


# The pool's keys


def test_many_who_come_at_once_have_the_keys_fetched_once(published: Published, keys: Keys) -> None:
    """However long that takes."""
    clock = Clock()

    async def story(tokens: CognitoTokens) -> None:
        checks = [asyncio.create_task(tokens.check(token(keys.own))) for _ in range(50)]
        await published.come()
        clock.now = NOW + 301
        checks += [asyncio.create_task(tokens.check(token(keys.own))) for _ in range(50)]
        await asyncio.sleep(0)
        published.gate.set()
        assert {one.user_id for one in await asyncio.gather(*checks)} == {USER}

    published.show(public(keys.own))
    published.gate.clear()
    play(published, story, clock)
    assert published.asked == [PATH]


def test_who_goes_away_does_not_take_the_keys_from_those_who_wait(published: Published, keys: Keys) -> None:
    async def story(tokens: CognitoTokens) -> None:
        first, second = (asyncio.create_task(tokens.check(token(keys.own))) for _ in range(2))
        await published.come()
        first.cancel()
        await asyncio.wait([first])
        published.gate.set()
        assert (await second).user_id == USER

    published.show(public(keys.own))
    published.gate.clear()
    play(published, story)
    assert published.asked == [PATH]


def test_unknown_keys_have_them_fetched_once_in_five_minutes(published: Published, keys: Keys) -> None:
    clock = Clock()

    async def flood(tokens: CognitoTokens) -> None:
        names = [coded(os.urandom(32)) for _ in range(20)]
        await asyncio.gather(*(refused(tokens, token(keys.other, {"kid": kid, "alg": "RS256"})) for kid in names))

    async def story(tokens: CognitoTokens) -> None:
        for later, fetches in [(0, 1), (1, 1), (299, 1), (300, 2), (301, 2), (599, 2), (600, 3)]:
            clock.now = NOW + later
            await flood(tokens)
            assert await tokens.check(token(keys.own))
            assert len(published.asked) == fetches

    published.show(public(keys.own))
    play(published, story, clock)


def test_a_clock_that_was_set_back_does_not_stop_the_fetches(published: Published, keys: Keys) -> None:
    clock = Clock()

    async def story(tokens: CognitoTokens) -> None:
        clock.now = NOW + 1000 * DAY
        assert await refused(tokens, token(keys.own)) == "unknown"
        clock.now = NOW
        published.show(public(keys.own))
        assert await tokens.check(token(keys.own))

    published.show(public(keys.other, "other"))
    play(published, story, clock)
    assert published.asked == [PATH, PATH]


def test_a_key_that_the_pool_begins_to_use_is_found_and_an_old_one_is_forgotten(
    published: Published, keys: Keys
) -> None:
    clock = Clock()
    renewed = token(keys.next, {"kid": "next", "alg": "RS256"})

    async def story(tokens: CognitoTokens) -> None:
        assert await tokens.check(token(keys.own))
        published.show(public(keys.next, "next"))
        assert await refused(tokens, renewed) == "unknown"
        clock.now = NOW + 300
        assert await tokens.check(renewed)
        assert await refused(tokens, token(keys.own)) == "unknown"

    published.show(public(keys.own))
    play(published, story, clock)
    assert published.asked == [PATH, PATH]


def test_keys_of_a_day_serve_while_they_are_fetched_again(published: Published, keys: Keys) -> None:
    clock = Clock()
    lasting = token(keys.own, said=claims(exp=NOW + 9 * DAY))

    async def story(tokens: CognitoTokens) -> None:
        assert await tokens.check(lasting)
        await published.come()
        clock.now = NOW + DAY - 1
        assert await tokens.check(lasting)
        assert published.asked == [PATH]
        published.gate.clear()
        published.show(public(keys.next, "next"))
        clock.now = NOW + DAY
        for _ in range(5):
            assert await tokens.check(lasting)
        await published.come()
        assert await tokens.check(lasting)
        fetching = tokens._fetching
        assert fetching is not None
        published.gate.set()
        await asyncio.wait([fetching])
        assert await refused(tokens, lasting) == "unknown"
        assert published.asked == [PATH, PATH]

    published.show(public(keys.own))
    play(published, story, clock)


def test_keys_of_a_day_go_on_when_there_are_no_newer_ones(published: Published, keys: Keys) -> None:
    clock = Clock()
    lasting = token(keys.own, said=claims(exp=NOW + 9 * DAY))
    unknown = token(keys.next, {"kid": "next", "alg": "RS256"}, claims(exp=NOW + 9 * DAY))

    async def story(tokens: CognitoTokens) -> None:
        assert await tokens.check(lasting)
        published.status = 500
        clock.now = NOW + DAY
        assert await tokens.check(lasting)
        assert await away(tokens, unknown) == 300
        clock.now = NOW + DAY + 299
        assert await tokens.check(lasting)
        assert await away(tokens, unknown) == 1
        assert len(published.asked) == 2
        published.status = 200
        clock.now = NOW + DAY + 300
        assert await refused(tokens, unknown) == "unknown"
        assert await tokens.check(lasting)
        assert len(published.asked) == 3

    published.show(public(keys.own))
    play(published, story, clock)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        b"{}",
        b'{"keys":[]}',
        b'{"keys":null}',
        b'{"keys":[1]}',
        b'{"keys":[{}]}',
        b'{"keys":[{"kid":1}]}',
        b'{"keys":' + b"[" * 30_000,
        b"\xff" * 100,
    ],
    ids=lambda body: repr(body[:20]),
)
def test_what_is_no_list_of_keys_refuses_nobody(body: bytes, published: Published, keys: Keys) -> None:
    async def story(tokens: CognitoTokens) -> None:
        assert await away(tokens, token(keys.own)) == 5

    published.body = body
    play(published, story)


def weak(key: rsa.RSAPrivateKey) -> list[dict[str, Any]]:
    """Keys that may not have signed a token."""
    own, curve = public(key), ec.generate_private_key(ec.SECP256R1()).public_key().public_numbers()
    short = rsa.generate_private_key(65537, 1024)
    return [
        public(short),
        public(key, kid=""),
        {name: value for name, value in own.items() if name != "kid"},
        {**own, "alg": "RS512"},
        {**own, "alg": "HS256"},
        {**own, "use": "enc"},
        {**own, "kty": "oct", "k": coded(b"secret")},
        {"kty": "EC", "kid": "own", "crv": "P-256", "x": number(curve.x), "y": number(curve.y)},
        {**own, "n": ""},
        {**own, "n": "%%%"},
        {**own, "n": coded(b"\0" * 256)},
        {**own, "e": ""},
        {**own, "e": number(1)},
        {**own, "e": number(2)},
    ]


def test_only_keys_that_rs256_may_use_are_used(published: Published, keys: Keys) -> None:
    other = token(keys.other, {"kid": "other", "alg": "RS256"})

    async def story(tokens: CognitoTokens) -> None:
        assert (await tokens.check(other)).user_id == USER
        assert await refused(tokens, token(keys.own)) == "unknown"
        assert await refused(tokens, token(keys.own, {"kid": "", "alg": "RS256"})) == "unknown"

    for key in weak(keys.own):
        published.show(key, public(keys.other, "other"))
        play(published, story)


def test_a_private_key_in_the_list_is_taken_as_its_public_half(published: Published, keys: Keys) -> None:
    async def story(tokens: CognitoTokens) -> None:
        assert await tokens.check(token(keys.own))

    published.show(public(keys.own, d="AQAB"))
    play(published, story)


def test_nobody_there_is_told_apart_from_a_wrong_token(published: Published, keys: Keys) -> None:
    async def story(tokens: CognitoTokens) -> None:
        assert await away(tokens, token(keys.own)) == 5
        assert await refused(tokens, "a.b.c") == "malformed"

    play(published, story, url="http://127.0.0.1:9")


@pytest.mark.parametrize("status", [302, 304, 400, 403, 404, 500, 503])
def test_an_answer_that_is_none_refuses_nobody(status: int, published: Published, keys: Keys) -> None:
    async def story(tokens: CognitoTokens) -> None:
        assert await away(tokens, token(keys.own)) == 5

    published.show(public(keys.own))
    published.status = status
    play(published, story)


def test_without_keys_a_fetch_is_tried_again_after_seconds(published: Published, keys: Keys) -> None:
    clock = Clock()

    async def story(tokens: CognitoTokens) -> None:
        for later, wait in [(0, 5), (1, 4), (4.9, 1)]:
            clock.now = NOW + later
            assert await away(tokens, token(keys.own)) == wait
        assert len(published.asked) == 1
        published.status = 200
        clock.now = NOW + 5
        assert await tokens.check(token(keys.own))

    published.show(public(keys.own))
    published.status = 503
    play(published, story, clock)
    assert len(published.asked) == 2


def test_a_list_that_is_too_long_is_not_read_to_its_end(
    published: Published, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(tokens: CognitoTokens) -> None:
        assert await away(tokens, token(keys.own)) == 5

    published.show(public(keys.own, x="a" * 64 * 1024))
    play(published, story)
    published.show(public(keys.own))
    published.endless = True
    play(published, story)
    assert caplog.text.count("the answer has more than 65536 bytes") == 2


def test_a_list_that_does_not_come_is_not_waited_for(
    published: Published, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cognito_tokens, "SECONDS", 0.2)

    async def story(tokens: CognitoTokens) -> None:
        assert await away(tokens, token(keys.own)) == 5

    published.gate.clear()
    play(published, story)


def test_closing_ends_a_fetch_under_way(published: Published, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cognito_tokens, "SECONDS", 10 * SETTLED)

    async def story(tokens: CognitoTokens) -> None:
        check = asyncio.create_task(tokens.check(token(keys.own)))
        await published.come()
        await tokens.close()
        with pytest.raises(DirectoryUnavailable):
            await check

    published.gate.clear()
    play(published, story)


# What stays inside


def test_neither_log_nor_error_shows_what_was_sent_or_published(
    published: Published, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    good, odd = token(keys.own), token(keys.own, {"kid": "own", "alg": SECRET})
    sent = [
        token(keys.other),
        token(keys.own, {"kid": SECRET, "alg": "RS256"}),
        token(keys.own, said=claims(iss=SECRET)),
        token(keys.own, said=claims(exp=SECRET)),
        token(keys.own, said=claims(exp=NOW)),
    ]

    async def story(tokens: CognitoTokens) -> None:
        for text in (good, *sent):
            await away(tokens, text)
        published.show(public(keys.own))
        clock.now = NOW + 5
        assert await tokens.check(good)
        for text in (odd, *sent):
            await refused(tokens, text)

    caplog.set_level(logging.DEBUG)
    published.show(public(keys.own, use=[SECRET]))
    play(published, story, clock)
    said = [record.getMessage() for record in caplog.records if record.name.startswith("stile")]
    assert said == [f"The keys of Cognito's user pool {POOL} cannot be had: the answer is no list with a key for RS256"]
    parts = {part for text in (good, odd, *sent) for part in text.split(".")} | {
        SECRET,
        USER,
        CLIENT,
        public(keys.own)["n"],
    }
    shown = "\n".join([*(record.getMessage() for record in caplog.records), caplog.text])
    assert not [part for part in parts if part in shown]


IMPORTS = """
import asyncio, os, sys, threading
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name in ("jwt", "cryptography"):
            print(name, threading.current_thread() is threading.main_thread())
sys.meta_path.insert(0, Watch())
from stile.adapters.cognito_tokens import CognitoTokens
from stile.errors import InvalidKey

async def main():
    tokens = CognitoTokens(os.environ["POOL"], [os.environ["CLIENT"]], os.environ)
    try:
        await tokens.check("a.b.c")
    except InvalidKey:
        print("refused")
    print((await tokens.check(os.environ["TOKEN"])).user_id)

asyncio.run(main())
"""


def test_the_first_token_alone_imports_what_checks_it_and_on_a_thread(published: Published, keys: Keys) -> None:
    published.show(public(keys.own))
    env = {
        "PYTHONPATH": str(ROOT),
        "AWS_ENDPOINT_URL": published.url,
        "POOL": POOL,
        "CLIENT": CLIENT,
        "TOKEN": token(keys.own, said=claims(exp=2**40, iat=0)),
    }
    shown = subprocess.run([sys.executable, "-c", IMPORTS], env=env, capture_output=True, text=True, check=False)
    assert shown.stderr == ""
    assert shown.stdout.split("\n") == ["refused", "jwt False", "cryptography False", USER, ""]
