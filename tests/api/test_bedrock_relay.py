"""Providers beside OpenAI that speak its dialect: Bedrock with keys made of AWS's credentials, and Gemini. Before a
whole gateway; what the provider is sent is looked at byte by byte."""

import base64
import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from tests import program
from tests.mocks import bedrock, openai, provider
from tests.mocks.provider import Exchange, Provider, Script
from tests.program import Program

CHAT = "/v1/chat/completions"
MODEL = "openai.gpt-oss-20b-1:0"
BEDROCK = {"model": f"bedrock/{MODEL}", "aws_region_name": "us-west-2"}
PROCESS = {
    "AWS_ACCESS_KEY_ID": "AKIDPROCESS",
    "AWS_SECRET_ACCESS_KEY": "planted-process",
    "AWS_EC2_METADATA_DISABLED": "true",
}
ENTRY = {"aws_access_key_id": "AKIDENTRY", "aws_secret_access_key": "planted-entry", "aws_session_token": "planted/+="}
GEMINI = {"model": "gemini/gemini-2.5-flash", "api_key": "planted-gemini-key"}
HELLO: Any = [{"role": "user", "content": "Hello"}]
ANSWER = {"object": "chat.completion", "choices": [], "usage": openai.USAGE}
# As a client may write it: with its own spaces, numbers and escapes, and with fields that nobody here knows.
BODY = (
    b'{"model":"m","messages":[ {"role" : "user","content":[{"type":"text","text":"Gr\\u00fc\xc3\x9fe","cache_control":'
    b'{ "type":"ephemeral" }}]}],"prompt_cache_key":"a\\/b","prompt_cache_retention":"24h",'
    b'"x_new":{"b":1.50, "a":[1e3,null , 12345678901234567890]},"safety_identifier":"u"}'
)
# What STS answers to who assumes a role.
ASSUMED = b"""<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>
<AccessKeyId>AKIDASSUMED</AccessKeyId><SecretAccessKey>planted-assumed</SecretAccessKey>
<SessionToken>planted-token</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>
<AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/models/stile</Arn>
<AssumedRoleId>A:stile</AssumedRoleId></AssumedRoleUser></AssumeRoleResult></AssumeRoleResponse>"""


@contextlib.contextmanager
def serving(
    folder: Path, script: Script, params: Mapping[str, str], path: str, **environment: str
) -> Iterator[tuple[Program, Provider]]:
    """A gateway with one model, `m`, at `path` of a provider that follows the script. None of what either of them has
    of secrets may be in the gateway's output."""
    with provider.on_a_thread(script) as server:
        entry = {"model_name": "m", "litellm_params": {**params, "api_base": f"{server.url}{path}"}}
        (folder / "config.yaml").write_text(json.dumps({"model_list": [entry]}))
        settings = {"STILE_CONFIG": str(folder / "config.yaml"), **environment}
        with program.running(folder / "gateway", **settings) as gateway:
            yield gateway, server
            assert gateway.stop() == 0
            said = gateway.out.read_text() + gateway.err.read_text()
            assert "planted" not in said
            assert "bedrock-api-key" not in said
            made = [call.headers.get("authorization", "") for call in server.calls]
            assert not [key for key in made if key.removeprefix("Bearer ")[-40:] in said]


async def complete(exchange: Exchange) -> None:
    """Answers whole, or with a stream of OpenAI's."""
    if not exchange.call.json.get("stream"):
        await exchange.answer(200, json.dumps(ANSWER).encode())
        return
    await exchange.start("text/event-stream")
    for event in openai.events(usage=True):
        await exchange.chunk(event)
    await exchange.end()


def credential_in(authorization: str) -> list[str]:
    """Of a bearer key that was made: whose it is, its day, region and service."""
    kind, _, key = authorization.partition(" ")
    assert kind == "Bearer"
    assert key.startswith("bedrock-api-key-")
    packed = base64.b64decode(key.removeprefix("bedrock-api-key-"), validate=True).decode()
    return dict(parse_qsl(packed.partition("?")[2]))["X-Amz-Credential"].split("/")


@pytest.mark.parametrize(
    ("more", "signer"), [({}, "AKIDPROCESS"), (ENTRY, "AKIDENTRY")], ids=["the process's", "the entry's own"]
)
def test_bedrock_is_relayed_with_a_key_made_of_credentials(folder: Path, more: dict[str, str], signer: str) -> None:
    with serving(folder, complete, {**BEDROCK, **more}, "/openai/v1", **PROCESS) as (gateway, server):
        whole = gateway.ask("POST", CHAT, BODY)
        assert (whole.status, whole.json) == (200, ANSWER)
        stream = gateway.ask("POST", CHAT, BODY.replace(b"{", b'{"stream":true,', 1))
        assert stream.body.endswith(b"data: [DONE]\n\n")
        assert [call.path for call in server.calls] == ["/openai/v1/chat/completions"] * 2
        for call in server.calls:
            access_key, _, region, service, _ = credential_in(call.headers["authorization"])
            assert (access_key, region, service) == (signer, "us-west-2", "bedrock")
            assert "x-amz-date" not in call.headers
        for answer in (whole, stream):
            line = gateway.line_of(answer.headers["x-request-id"])
            assert (line["status"], line["target"]) == (200, f"bedrock/{MODEL}")
            assert (line["input_tokens"], line["output_tokens"]) == (11, 7)


def test_a_key_that_the_entry_gives_goes_before_one_that_is_made(folder: Path) -> None:
    given = {**BEDROCK, "api_key": "planted-own-key"}
    with serving(folder, complete, given, "/openai/v1", **PROCESS) as (gateway, server):
        assert gateway.ask("POST", CHAT, BODY).status == 200
        assert server.last.headers["authorization"] == "Bearer planted-own-key"


def test_the_environments_key_for_bedrock_goes_to_no_other_address(folder: Path) -> None:
    environment = {**PROCESS, "AWS_BEARER_TOKEN_BEDROCK": "planted-key-of-the-environment"}
    with serving(folder, complete, BEDROCK, "/openai/v1", **environment) as (gateway, server):
        assert gateway.ask("POST", CHAT, BODY).status == 200
        assert credential_in(server.last.headers["authorization"])[0] == "AKIDPROCESS"


def test_a_key_that_was_made_is_in_no_answer_either(folder: Path) -> None:
    async def telling(exchange: Exchange) -> None:
        told = {"message": f"Not allowed: {exchange.call.headers['authorization']}", "type": "invalid_request_error"}
        await exchange.answer(403, json.dumps({"error": told}).encode())

    with serving(folder, telling, BEDROCK, "/openai/v1", **PROCESS) as (gateway, _):
        answer = gateway.ask("POST", CHAT, BODY)
        assert (answer.status, answer.error["message"]) == (403, "Not allowed: Bearer ***")


def test_without_credentials_the_call_says_what_is_missing(folder: Path) -> None:
    without = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_PROFILE": "there-is-no-such-profile"}
    with serving(folder, complete, BEDROCK, "/openai/v1", **without) as (gateway, server):
        answer = gateway.ask("POST", CHAT, BODY)
        assert answer.status == 502
        assert "cannot be called without AWS's credentials (" in answer.error["message"]
        assert server.calls == []


def test_credentials_that_must_be_asked_for_first_leave_it_to_litellm(folder: Path) -> None:
    """A role is assumed, and the call is signed with what that gave: no bearer key goes anywhere."""
    role = {"aws_role_name": "arn:aws:iam::123456789012:role/models", "aws_session_name": "stile"}

    async def script(exchange: Exchange) -> None:
        if b"Action=AssumeRole" in exchange.call.body:
            await exchange.answer(200, ASSUMED, {"content-type": "text/xml"})
        else:
            await bedrock.converse(exchange)

    with provider.on_a_thread(script) as sts:
        environment = {**PROCESS, "AWS_ENDPOINT_URL_STS": sts.url}
        with serving(folder, script, {**BEDROCK, **role}, "/openai/v1", **environment) as (gateway, server):
            assert gateway.ask("POST", CHAT, {"model": "m", "messages": HELLO}).status == 200
            assert [b"models" in call.body for call in sts.calls] == [True]
            assert "/chat/completions" not in server.last.path
            assert server.last.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIDASSUMED/")


def test_gemini_is_relayed_with_its_key_as_a_bearer(folder: Path) -> None:
    with serving(folder, complete, GEMINI, "/v1beta/openai/") as (gateway, server):
        whole = gateway.ask("POST", CHAT, BODY)
        assert (whole.status, whole.json) == (200, ANSWER)
        stream = gateway.ask("POST", CHAT, BODY.replace(b"{", b'{"stream":true,', 1))
        assert stream.body.endswith(b"data: [DONE]\n\n")
        for call in server.calls:
            assert call.path == "/v1beta/openai/chat/completions"
            assert call.headers["authorization"] == "Bearer planted-gemini-key"
            assert "x-goog-api-key" not in call.headers


@pytest.mark.parametrize(
    ("params", "told"), [(BEDROCK, MODEL), (GEMINI, "gemini-2.5-flash")], ids=["bedrock", "gemini"]
)
def test_all_but_the_models_name_goes_up_byte_for_byte(folder: Path, params: dict[str, str], told: str) -> None:
    with serving(folder, complete, params, "/openai/v1", **PROCESS) as (gateway, server):
        assert gateway.ask("POST", CHAT, BODY).status == 200
        sent = BODY.replace(b'"model":"m"', f'"model":"{told}"'.encode())
        assert server.last.body == sent
        assert gateway.ask("POST", CHAT, BODY.replace(b"{", b'{"stream":true,', 1)).status == 200
        streamed = sent.replace(b"{", b'{"stream":true,', 1)
        assert server.last.body == streamed[:-1] + b',"stream_options":{"include_usage":true}}'
