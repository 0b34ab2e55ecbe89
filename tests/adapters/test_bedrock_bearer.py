"""Bedrock's short-lived keys: what is in one, and how long it is kept."""

import asyncio
import base64
import datetime
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest

from stile.adapters import bedrock_bearer
from stile.adapters.aws_credentials import Credentials, CredentialsError
from stile.adapters.bedrock_bearer import KEPT_SECONDS, BedrockBearer
from stile.core.secret import Secret

OWN = {"AWS_ACCESS_KEY_ID": "AKIDOWN", "AWS_SECRET_ACCESS_KEY": "planted-own"}
OTHER = Credentials("AKIDOTHER", Secret("planted-other"), Secret("a/token+="))
NOW = datetime.datetime(2026, 11, 23, 12, 0, 1, tzinfo=datetime.UTC)
HERE, THERE = "eu-west-1", "us-east-1"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that are read, turned by hand; every key that is made later is another one."""
    seconds = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: seconds[0])

    class Moments(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> "Moments":
            return cls.fromtimestamp(NOW.timestamp() + seconds[0], tz)

    monkeypatch.setattr(bedrock_bearer, "datetime", Moments)
    return seconds


def unpacked(key: Secret) -> tuple[str, dict[str, str]]:
    """The request that a key is: where it goes, and its query."""
    text = key.reveal()
    assert text.startswith("bedrock-api-key-")
    packed = base64.b64decode(text.removeprefix("bedrock-api-key-"), validate=True).decode()
    request = urlsplit(f"https://{packed}")
    return f"{request.netloc}{request.path}", dict(parse_qsl(request.query, strict_parsing=True))


def region_of(key: Secret) -> str:
    return unpacked(key)[1]["X-Amz-Credential"].split("/")[2]


def signer_of(key: Secret) -> str:
    return unpacked(key)[1]["X-Amz-Credential"].split("/")[0]


def test_a_key_is_a_signed_request_that_holds_for_twelve_hours() -> None:
    place, query = unpacked(bedrock_bearer.make(HERE, OTHER, NOW))
    assert place == "bedrock.amazonaws.com/"
    assert len(query.pop("X-Amz-Signature")) == 64
    assert query == {
        "Action": "CallWithBearerToken",
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": "AKIDOTHER/20261123/eu-west-1/bedrock/aws4_request",
        "X-Amz-Date": "20261123T120001Z",
        "X-Amz-Expires": "43200",
        "X-Amz-Security-Token": "a/token+=",
        "X-Amz-SignedHeaders": "host",
        "Version": "1",
    }


def test_its_signature_is_botocores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: NOW)
    theirs = botocore.credentials.Credentials("AKIDOTHER", "planted-other", "a/token+=")
    url = "https://bedrock.amazonaws.com/?Action=CallWithBearerToken"
    request: Any = botocore.awsrequest.AWSRequest("POST", url, headers={"host": "bedrock.amazonaws.com"})
    botocore.auth.SigV4QueryAuth(theirs, "bedrock", HERE, expires=43200).add_auth(request)
    _, ours = unpacked(bedrock_bearer.make(HERE, OTHER, NOW))
    assert {name: value for name, value in ours.items() if name != "Version"} == dict(
        parse_qsl(urlsplit(request.url).query)
    )


def test_a_key_is_kept_for_minutes_and_then_made_anew(clock: list[float]) -> None:
    async def run() -> None:
        bearer = BedrockBearer(OWN)
        first = (await bearer.token(HERE)).reveal()
        clock[0] += KEPT_SECONDS - 1
        assert (await bearer.token(HERE)).reveal() == first
        clock[0] += 1
        assert (await bearer.token(HERE)).reveal() != first

    asyncio.run(run())


def test_each_region_and_each_credentials_have_a_key_of_their_own(clock: list[float]) -> None:
    async def run() -> None:
        bearer = BedrockBearer(OWN)
        keys = [await bearer.token(HERE), await bearer.token(THERE), await bearer.token(HERE, OTHER)]
        assert [(region_of(key), signer_of(key)) for key in keys] == [
            (HERE, "AKIDOWN"),
            (THERE, "AKIDOWN"),
            (HERE, "AKIDOTHER"),
        ]
        clock[0] += 1
        again = [await bearer.token(HERE), await bearer.token(THERE), await bearer.token(HERE, OTHER)]
        assert [key.reveal() for key in again] == [key.reveal() for key in keys], "none drives another out"

    asyncio.run(run())


def test_when_the_process_has_other_credentials_the_next_key_is_theirs() -> None:
    async def run() -> None:
        environment = dict(OWN)
        bearer = BedrockBearer(environment)
        assert signer_of(await bearer.token(HERE)) == "AKIDOWN"
        environment["AWS_ACCESS_KEY_ID"] = "AKIDROTATED"
        assert signer_of(await bearer.token(HERE)) == "AKIDROTATED"

    asyncio.run(run())


def test_a_corrected_secret_key_signs_at_once() -> None:
    async def run() -> None:
        bearer, wrong = BedrockBearer(OWN), Credentials("AKIDOTHER", Secret("planted-wrong"))
        assert (await bearer.token(HERE, wrong)).reveal() != (await bearer.token(HERE, OTHER)).reveal()

    asyncio.run(run())


def test_a_released_key_is_not_used_again(clock: list[float]) -> None:
    async def run() -> None:
        bearer = BedrockBearer(OWN)
        first = (await bearer.token(HERE)).reveal()
        clock[0] += 1
        bearer.release()
        assert (await bearer.token(HERE)).reveal() != first

    asyncio.run(run())


def test_after_a_release_credentials_are_looked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = tmp_path / "credentials"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(profile))

    def has(access_key: str) -> None:
        profile.write_text(f"[default]\naws_access_key_id={access_key}\naws_secret_access_key=planted\n")

    async def run() -> None:
        bearer = BedrockBearer({})
        has("AKIDFIRST")
        assert signer_of(await bearer.token(HERE)) == "AKIDFIRST"
        has("AKIDSECOND")
        assert signer_of(await bearer.token(HERE)) == "AKIDFIRST", "they are not read for each call"
        bearer.release()
        assert signer_of(await bearer.token(HERE)) == "AKIDSECOND"

    asyncio.run(run())


def test_a_key_is_not_printed() -> None:
    key = bedrock_bearer.make(HERE, OTHER, NOW)
    assert key.reveal() not in f"{key} {key!r}"


def test_without_credentials_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_PROFILE", "there-is-no-such-profile")
    with pytest.raises(CredentialsError, match="there-is-no-such-profile"):
        asyncio.run(BedrockBearer({}).token(HERE))
