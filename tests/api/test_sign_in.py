"""Where clients find a sign-in, and what somebody who signed in at Cognito may do."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests import program
from tests.mocks import cognito
from tests.mocks.cognito import Cognito
from tests.program import Program
from tests.rpc import REVISIONS, Client

PASSWORD = "Planted-Pass-1-word!"
PAGES = "https://team.auth.eu-central-1.amazoncognito.com"
PUBLIC = "https://llm.example.com"
RESOURCE, SERVER = "/.well-known/oauth-protected-resource", "/.well-known/oauth-authorization-server"


@dataclass
class House:
    """A gateway whose people may sign in by one of two clients of its pool."""

    gateway: Program
    pool: Cognito
    client_id: str
    other_id: str

    def user(self, **fields: Any) -> str:
        """A new user's id, by their address."""
        email = f"person-{time.time_ns()}@example.com"
        made = self.gateway.ask("POST", "/api/users", {"email": email, **fields})
        assert made.status == 201, made.body
        with self.pool.aws.client("cognito-idp") as aws:
            aws.admin_set_user_password(UserPoolId=self.pool.pool_id, Username=email, Password=PASSWORD, Permanent=True)
        return email

    def token(self, email: str, client_id: str = "", kind: str = "AccessToken") -> str:
        """A token that Cognito gives after a sign-in."""
        with self.pool.aws.client("cognito-idp") as aws:
            found = aws.initiate_auth(
                ClientId=client_id or self.client_id,
                AuthFlow="USER_PASSWORD_AUTH",
                AuthParameters={"USERNAME": email, "PASSWORD": PASSWORD},
            )
        return str(found["AuthenticationResult"][kind])


@pytest.fixture(scope="module")
def house(output: Path) -> Iterator[House]:
    with cognito.running(output / "sign-in") as pool:
        with pool.aws.client("cognito-idp") as aws:
            ids = [
                aws.create_user_pool_client(
                    UserPoolId=pool.pool_id, ClientName=name, ExplicitAuthFlows=["ALLOW_USER_PASSWORD_AUTH"]
                )["UserPoolClient"]["ClientId"]
                for name in ("editors", "another")
            ]
        settings = pool.environment(
            STILE_COGNITO_DOMAIN=f"{PAGES}/", STILE_COGNITO_CLIENT_IDS=ids[0], STILE_PUBLIC_URL=f"{PUBLIC}/"
        )
        with program.administered(output / "signed-in", **settings) as gateway:
            yield House(gateway, pool, *ids)


@pytest.mark.parametrize("path", [RESOURCE, f"{RESOURCE}/mcp"])
def test_a_gateway_without_a_sign_in_names_none(gateway: Program, path: str) -> None:
    answer = gateway.ask("GET", path, key=None, headers={"host": "evil.example"})
    assert answer.json == {
        "resource": f"{gateway.base}/mcp",
        "bearer_methods_supported": ["header"],
        "resource_name": "Stile",
        "resource_documentation": f"{gateway.base}/docs",
    }
    assert gateway.ask("GET", SERVER, key=None).status == 404
    refused = gateway.ask("POST", "/mcp", {}, key=None, headers={"host": "evil.example", "x-forwarded-host": "evil"})
    assert refused.status == 401
    wanted = f'Bearer resource_metadata="{gateway.base}{RESOURCE}/mcp"'
    assert refused.headers["www-authenticate"] == wanted
    assert "www-authenticate" not in gateway.ask("GET", "/v1/models", key=None).headers


def test_a_client_is_led_from_the_refusal_to_the_pages(house: House) -> None:
    refused = house.gateway.ask("POST", "/mcp", {}, key="eyJhbGciOiJub25lIn0.e30.")
    assert refused.status == 401
    where = refused.headers["www-authenticate"].removeprefix('Bearer resource_metadata="').removesuffix('"')
    assert where == f"{PUBLIC}{RESOURCE}/mcp"
    resource = house.gateway.ask("GET", where.removeprefix(PUBLIC), key=None).json
    assert (resource["resource"], resource["authorization_servers"]) == (f"{PUBLIC}/mcp", [PUBLIC])
    server = house.gateway.ask("GET", SERVER, key=None).json
    assert server["issuer"] == PUBLIC
    assert server["authorization_endpoint"] == f"{PAGES}/oauth2/authorize"
    assert server["token_endpoint"] == f"{PAGES}/oauth2/token"
    assert server["code_challenge_methods_supported"] == ["S256"]


@pytest.mark.parametrize("revision", REVISIONS)
def test_who_signed_in_uses_models_and_manages_nothing(house: House, revision: str) -> None:
    token = house.token(house.user(policy={"tools": ["chat", "list_*"], "models": ["echo"]}))
    client = Client(house.gateway, revision, token)
    assert client.tools() == ["chat", "list_models"]
    answer = client.ask("tools/call", {"name": "chat", "arguments": {"model": "echo", "prompt": "Hi"}})
    assert answer.json["result"]["isError"] is False
    line = house.gateway.line_of(answer.headers["x-request-id"])
    assert (line["key_id"], line["status"]) == (f"client:{house.client_id}", 200)
    assert client.error("tools/call", {"name": "list_keys", "arguments": {}})[1] == -32602
    for method, path in (("GET", "/api/keys"), ("POST", "/api/keys"), ("GET", "/api/users")):
        assert house.gateway.ask(method, path, {"name": "x"}, key=token).status == 403
    assert token not in house.gateway.out.read_text()


def test_an_admin_who_signed_in_manages_nothing_either(house: House) -> None:
    token = house.token(house.user(role="admin"))
    assert house.gateway.ask("GET", "/api/users", key=token).status == 403
    assert Client(house.gateway, REVISIONS[0], token).tools() == ["chat", "embed", "list_models"]


def test_other_tokens_are_refused(house: House) -> None:
    email = house.user()
    others = [house.token(email, kind="IdToken"), house.token(email, house.other_id), house.token(email)[:-4] + "AAAA"]
    for token in others:
        answer = Client(house.gateway, REVISIONS[2], token).ask("tools/list")
        assert (answer.status, answer.json["error"]["data"]["code"]) == (401, "invalid_api_key")
        assert "www-authenticate" in answer.headers
        assert token not in answer.body.decode()


def test_a_person_of_the_pool_without_a_role_stays_out(house: House) -> None:
    email = f"stranger-{time.time_ns()}@example.com"
    with house.pool.aws.client("cognito-idp") as aws:
        name = {"UserPoolId": house.pool.pool_id, "Username": email}
        attributes = [{"Name": "email", "Value": email}, {"Name": "email_verified", "Value": "true"}]
        aws.admin_create_user(**name, UserAttributes=attributes, MessageAction="SUPPRESS")
        aws.admin_set_user_password(**name, Password=PASSWORD, Permanent=True)
    answer = Client(house.gateway, REVISIONS[0], house.token(email)).ask("tools/list")
    assert (answer.status, answer.json["error"]["data"]["code"]) == (403, "forbidden")
    assert "Ask an admin" in answer.json["error"]["message"]


def test_a_change_of_the_user_holds_at_once_where_it_was_made(house: House) -> None:
    email = house.user()
    client = Client(house.gateway, REVISIONS[2], house.token(email))
    assert client.tools() == ["chat", "embed", "list_models"]
    (user,) = house.gateway.ask("GET", f"/api/users?email={email}").json["data"]
    path = f"/api/users/{user['id']}"
    assert house.gateway.ask("PATCH", path, {"policy": {"tools": ["embed"]}}).status == 200
    assert client.tools() == ["embed"]
    assert house.gateway.ask("PATCH", path, {"enabled": False}).status == 200
    answer = client.ask("tools/list")
    assert (answer.status, answer.json["error"]["data"]["code"]) == (403, "user_disabled")
    assert house.gateway.ask("DELETE", path).status == 200
    assert client.ask("tools/list").status == 403


def test_without_named_clients_a_token_is_no_key(gateway: Program, house: House) -> None:
    answer = gateway.ask("GET", "/v1/models", key=house.token(house.user()))
    assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"STILE_COGNITO_DOMAIN": PAGES}, "must be set together"),
        ({"STILE_COGNITO_CLIENT_IDS": "abc"}, "must be set together"),
        ({"STILE_COGNITO_DOMAIN": PAGES, "STILE_COGNITO_CLIENT_IDS": "abc"}, "needs STILE_DIRECTORY=cognito"),
        ({"STILE_COGNITO_CLIENT_IDS": "a b"}, "must be ids of app clients"),
        ({"STILE_PUBLIC_URL": "llm.example.com"}, "must be an address"),
    ],
    ids=range(5),
)
def test_settings_that_do_not_go_together_stop_the_start(folder: Path, settings: dict[str, str], said: str) -> None:
    ended = program.run(env=program.environment(folder / "home", **settings))
    assert ended.returncode == 1
    assert said in ended.stderr


def test_the_address_in_a_function_is_what_the_front_door_says() -> None:
    from stile.hosts import lambda_event  # noqa: PLC0415

    def base(**context: Any) -> Any:
        event = {"httpMethod": "POST", "path": "/mcp", "headers": {"Host": "evil.example"}, "requestContext": context}
        return lambda_event.read(json.dumps(event).encode()).scope["extensions"]["aws.lambda"]["base_url"]

    api = "abc.execute-api.eu-central-1.amazonaws.com"
    assert base(domainName=api, stage="prod", path="/prod/mcp") == f"https://{api}/prod"
    assert base(domainName=api, stage="prod") == f"https://{api}/prod"
    assert base(domainName="llm.example.com", stage="prod", path="/mcp") == PUBLIC
    assert base(domainName="llm.example.com", stage="prod", path="/team/mcp") == f"{PUBLIC}/team"
    assert base() is None
