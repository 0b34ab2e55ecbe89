"""Signatures, held against botocore's; credentials, as the machine has them."""

import datetime
from typing import Any
from urllib.parse import parse_qsl, quote

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stile.adapters import aws_signature
from stile.adapters.aws_credentials import Credentials
from stile.core.secret import Secret

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
SEGMENT = TEXT.map(lambda text: quote(text, safe="~")).filter(lambda text: text not in (".", ".."))
PATH = st.lists(SEGMENT.filter(bool), max_size=4).map(lambda parts: "/" + "/".join(parts))
QUERY = st.lists(st.tuples(SEGMENT.filter(bool), SEGMENT), max_size=4).map(
    lambda pairs: "&".join(f"{name}={value}" for name, value in pairs)
)
# botocore takes the first of several values of a name.
NAMES_ONCE = st.dictionaries(SEGMENT.filter(bool), SEGMENT, max_size=4).map(
    lambda pairs: "&".join(f"{name}={value}" for name, value in pairs.items())
)
ORIGIN = st.sampled_from(
    ["https://a.eu-west-1.amazonaws.com", "http://127.0.0.1:5000", "https://a.example:443", "http://[::1]:80"]
)
HEADERS = st.dictionaries(
    st.sampled_from(["content-type", "x-amz-target", "x-amz-meta-a", "accept"]),
    st.text("aB ;=é", min_size=1, max_size=20).map(str.strip),
)
MOMENT = st.datetimes(datetime.datetime(2000, 1, 1), datetime.datetime(2099, 1, 1), timezones=st.just(datetime.UTC))  # noqa: DTZ001


@given(
    method=st.sampled_from(["GET", "POST"]),
    origin=ORIGIN,
    path=PATH,
    query=QUERY,
    headers=HEADERS,
    body=st.binary(max_size=40),
    service=st.sampled_from(["s3", "secretsmanager", "cognito-idp"]),
    token=st.none() | st.just("a-token"),
    now=MOMENT,
)
def test_the_signature_is_botocores(
    *,
    method: str,
    origin: str,
    path: str,
    query: str,
    headers: dict[str, str],
    body: bytes,
    service: str,
    token: str | None,
    now: datetime.datetime,
) -> None:
    url = f"{origin}{path}{'?' if query else ''}{query}"
    credentials = Credentials("AKIDEXAMPLE", Secret("wJalr/+secret"), Secret(token) if token else None)
    ours = aws_signature.sign(
        method, url, headers, body, service=service, region="eu-west-1", credentials=credentials, now=now
    )
    theirs = botocores(method, url, headers, body, service=service, token=token, now=now)
    assert ours == theirs


def botocores(
    method: str,
    url: str,
    headers: dict[str, str],
    body: bytes,
    *,
    service: str,
    token: str | None,
    now: datetime.datetime,
) -> dict[str, str]:
    signer: Any = botocore.auth.S3SigV4Auth if service == "s3" else botocore.auth.SigV4Auth
    request: Any = botocore.awsrequest.AWSRequest(method, url, headers=headers, data=body)
    credentials = botocore.credentials.Credentials("AKIDEXAMPLE", "wJalr/+secret", token)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.auth, "get_current_datetime", lambda: now)
        signer(credentials, service, "eu-west-1").add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}


@given(
    origin=ORIGIN,
    path=PATH,
    query=NAMES_ONCE,
    token=st.none() | st.just("a/token+=="),
    now=MOMENT,
    seconds=st.integers(1, 604800),
)
def test_the_signature_in_a_query_is_botocores(
    *, origin: str, path: str, query: str, token: str | None, now: datetime.datetime, seconds: int
) -> None:
    url = f"{origin}{path or '/'}{'?' if query else ''}{query}"
    credentials = Credentials("AKIDEXAMPLE", Secret("wJalr/+secret"), Secret(token) if token else None)
    ours = aws_signature.presign(
        "POST", url, service="bedrock", region="eu-west-1", credentials=credentials, now=now, seconds=seconds
    )
    request: Any = botocore.awsrequest.AWSRequest("POST", url)
    theirs = botocore.credentials.Credentials("AKIDEXAMPLE", "wJalr/+secret", token)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.auth, "get_current_datetime", lambda: now)
        botocore.auth.SigV4QueryAuth(theirs, "bedrock", "eu-west-1", expires=seconds).add_auth(request)
    assert parts_of(ours) == parts_of(request.url)
    assert ours.endswith(f"&X-Amz-Signature={dict(parse_qsl(ours))['X-Amz-Signature']}"), "what is signed is before it"


def parts_of(url: str) -> tuple[str, list[tuple[str, str]]]:
    """A URL without what makes no difference: the order of its query, and how it is encoded."""
    place, _, query = url.partition("?")
    return place, sorted(parse_qsl(query, keep_blank_values=True, strict_parsing=True))


def test_nothing_is_signed_where_there_are_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_PROFILE", "there-is-no-such-profile")
    assert aws_signature.headers("https://bedrock.eu-west-1.amazonaws.com/", "bedrock", "eu-west-1") == {}
