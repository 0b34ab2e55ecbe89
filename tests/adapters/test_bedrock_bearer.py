"""Bedrock's short-lived keys: what is in one, and how long it is kept."""

import asyncio
import base64
import datetime
import time
from urllib.parse import parse_qs, urlsplit

import pytest

from stile.adapters import bedrock_bearer
from stile.adapters.aws_credentials import Credentials, CredentialsError
from stile.adapters.bedrock_bearer import BedrockBearer
from stile.core.secret import Secret

OWN = {"AWS_ACCESS_KEY_ID": "AKIDOWN", "AWS_SECRET_ACCESS_KEY": "planted-own"}
OTHER = Credentials("AKIDOTHER", Secret("planted-other"), Secret("a/token+="))
NOW = datetime.datetime(2026, 11, 23, 12, 0, 1, tzinfo=datetime.UTC)


def unpacked(key: Secret) -> tuple[str, dict[str, list[str]]]:
    text = key.reveal()
    assert text.startswith("bedrock-api-key-")
    request = urlsplit("https://" + base64.b64decode(text.removeprefix("bedrock-api-key-")).decode())
    return f"{request.netloc}{request.path}", parse_qs(request.query)


def test_a_key_is_a_signed_request_that_holds_for_twelve_hours() -> None:
    place, query = unpacked(bedrock_bearer.make("eu-west-1", OTHER, NOW))
    assert place == "bedrock.amazonaws.com/"
    assert query["Action"] == ["CallWithBearerToken"]
    assert query["X-Amz-Credential"] == ["AKIDOTHER/20261123/eu-west-1/bedrock/aws4_request"]
    assert query["X-Amz-Security-Token"] == ["a/token+="]
    assert (query["X-Amz-Expires"], query["Version"]) == (["43200"], ["1"])


def test_a_key_is_made_for_each_region_and_credentials_and_then_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, str]] = []

    def make(region: str, credentials: Credentials, _: datetime.datetime) -> Secret:
        made.append((region, credentials.access_key))
        return Secret(f"{len(made)}")

    clock = [1000.0]
    monkeypatch.setattr(bedrock_bearer, "make", make)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    async def run() -> None:
        bearer = BedrockBearer(OWN)
        assert [(await bearer.token("eu-west-1")).reveal() for _ in range(2)] == ["1", "1"]
        assert (await bearer.token("us-east-1")).reveal() == "2"
        assert (await bearer.token("eu-west-1", OTHER)).reveal() == "3"
        clock[0] += bedrock_bearer.KEPT_SECONDS - 1
        assert (await bearer.token("eu-west-1")).reveal() == "1"
        clock[0] += 1
        assert (await bearer.token("eu-west-1")).reveal() == "4"
        bearer.release()
        assert (await bearer.token("eu-west-1")).reveal() == "5"

    asyncio.run(run())
    assert made == [(region, key) for region, key in made if region in ("eu-west-1", "us-east-1")]
    assert made[2] == ("eu-west-1", "AKIDOTHER")


def test_without_credentials_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_PROFILE", "there-is-no-such-profile")
    with pytest.raises(CredentialsError):
        asyncio.run(BedrockBearer({}).token("eu-west-1"))
