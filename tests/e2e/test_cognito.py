"""Gateways whose users and keys are in Cognito: two processes on one pool, a stolen or forged directory, an outage."""

import concurrent.futures
import json
import re
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import program
from tests.mocks import cognito
from tests.mocks.cognito import Cognito
from tests.program import Program

from stile.core import keys
from stile.core.keys import Pepper

CHAT = {"model": "echo", "messages": [{"role": "user", "content": "hi"}]}
READ = "AdminGetUser"


@pytest.fixture(scope="module")
def pool(output: Path) -> Iterator[Cognito]:
    with cognito.running(output / "cognito") as running:
        yield running


@pytest.fixture(scope="module")
def environments(pool: Cognito) -> tuple[dict[str, str], dict[str, str]]:
    """Of two processes, which are told apart by their access keys."""
    return pool.environment(), pool.environment()


@pytest.fixture(scope="module")
def one(environments: tuple[dict[str, str], dict[str, str]], output: Path) -> Iterator[Program]:
    with program.administered(output / "one", **environments[0]) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def other(environments: tuple[dict[str, str], dict[str, str]], output: Path, one: Program) -> Iterator[Program]:
    """Another process on the same pool."""
    with program.running(output / "other", **environments[1]) as gateway:
        gateway.key = one.key
        yield gateway


def make_user(gateway: Program, **more: Any) -> Any:
    return gateway.ask("POST", "/api/users", {"email": f"{secrets.token_hex(8)}@example.com", **more}).json


def make_key(gateway: Program, user: Any, **more: Any) -> Any:
    return gateway.ask("POST", f"/api/users/{user['id']}/keys", {"name": "k", **more}).json


def call(gateway: Program, key: str) -> int:
    return gateway.ask("POST", "/v1/chat/completions", CHAT, key=key).status


# --- two processes ---


def test_keys_made_by_two_processes_at_once_are_all_there(one: Program, other: Program) -> None:
    user = make_user(one)
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda gateway: make_key(gateway, user), [one, other] * 4))
    held = one.ask("GET", f"/api/users/{user['id']}/keys").json["data"]
    assert len(held) == 8
    assert {key["id"] for key in held} == {key["id"] for key in made}
    assert {call(gateway, key["key"]) for gateway in (one, other) for key in made} == {200}


@pytest.mark.parametrize("order", ["1r1w2r2w", "1r2r1w2w", "1r2r2w1w", "2r1r1w2w", "2r1r2w1w", "2r2w1r1w"])
def test_two_admins_at_two_processes_in_any_order_make_two_keys(
    one: Program, other: Program, pool: Cognito, environments: tuple[dict[str, str], dict[str, str]], order: str
) -> None:
    user = make_user(one)
    # Two slots are free, so that both often take the same one.
    write(pool, user["id"], **{f"api_key_{slot:02d}": "taken" for slot in range(1, 19)})
    sides = {side: settings["AWS_ACCESS_KEY_ID"] for side, settings in zip("12", environments, strict=True)}
    operations = {"r": READ, "w": "AdminUpdateUserAttributes"}
    steps = [(sides[order[at]], operations[order[at + 1]]) for at in range(0, len(order), 2)]
    pool.order([(sides["1"], READ), (sides["2"], READ), *steps])  # each looks its caller's key up first
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        made = list(threads.map(lambda gateway: make_key(gateway, user), [one, other]))
    held = one.ask("GET", f"/api/users/{user['id']}/keys").json["data"]
    assert {key["id"] for key in held} == {key["id"] for key in made}
    assert len(held) == 2
    assert {call(gateway, key["key"]) for gateway in (one, other) for key in made} == {200}


def test_a_revoke_in_one_process_that_races_changes_in_the_other_holds(one: Program, other: Program) -> None:
    user = make_user(one)
    for verb, body in (("rotate", {"grace_period": "1h"}), ("suspend", None), ("resume", None)):
        made = make_key(one, user)
        with concurrent.futures.ThreadPoolExecutor(2) as threads:
            revoked = threads.submit(one.ask, "POST", f"/api/keys/{made['id']}/revoke")
            rival = threads.submit(other.ask, "POST", f"/api/keys/{made['id']}/{verb}", body)
        assert revoked.result().status == 200
        assert rival.result().status in {200, 409}
        assert one.ask("GET", f"/api/keys/{made['id']}").json["status"] == "revoked"
        texts = [made["key"], *([rival.result().json["key"]] if "key" in rival.result().json else [])]
        assert {call(one, text) for text in texts} == {401}


def test_a_revoke_elsewhere_holds_for_management_at_once(one: Program, other: Program) -> None:
    made = make_key(one, make_user(one))
    assert call(other, made["key"]) == 200
    assert one.ask("POST", f"/api/keys/{made['id']}/revoke").status == 200
    assert other.ask("GET", "/api/keys", key=made["key"]).status == 401
    assert call(other, made["key"]) == 401, "the management call has looked it up anew"


# --- what Cognito is asked ---


def test_a_known_key_asks_nothing_within_the_cache_time_and_a_made_up_one_never_does(
    one: Program, pool: Cognito
) -> None:
    made = make_key(one, make_user(one))
    assert call(one, made["key"]) == 200
    pool.calls.clear()
    assert {call(one, made["key"]) for _ in range(20)} == {200}
    forged = Pepper({1: b"x" * 32}).mint(keys.read_id(made["id"]), secrets.token_bytes(32))  # type: ignore[arg-type]
    for text in (forged, made["key"][:-1], made["key"].swapcase(), "sk-stile-x", made["id"]):
        assert call(one, text) == 401
        assert one.ask("GET", "/api/me", key=text).status == 401
    assert pool.calls == {}


def test_a_call_with_a_new_key_asks_once(other: Program, pool: Cognito) -> None:
    made = make_key(other, make_user(other))
    pool.calls.clear()
    assert [call(other, made["key"]) for _ in range(3)] == [200, 200, 200]
    assert pool.calls == {READ: 1}


# --- a directory that was stolen, or is written by somebody else ---


def dump(pool: Cognito) -> list[dict[str, str]]:
    """All attributes of all users, as whoever may read the pool has them."""
    with pool.aws.client("cognito-idp") as client:
        pages = client.get_paginator("list_users").paginate(UserPoolId=pool.pool_id)
        users = [user for page in pages for user in page["Users"]]
    return [{one["Name"]: one["Value"] for one in user["Attributes"]} for user in users]


def test_a_stolen_directory_and_the_source_let_nobody_in(one: Program, pool: Cognito) -> None:
    user = make_user(one)
    made = make_key(one, user)
    rotated = one.ask("POST", f"/api/keys/{made['id']}/rotate", {"grace_period": "1h"}).json
    stolen = next(attributes for attributes in dump(pool) if attributes["sub"] == user["id"])
    text = json.dumps(dump(pool))
    for key in (made["key"], rotated["key"], one.key):
        assert key.rsplit("-", 1)[1] not in text
    record = next(value for name, value in stolen.items() if name.startswith("custom:api_key"))
    digests = re.findall(r'"h":"([0-9a-f]{64})"', record)
    assert len(digests) == 2
    named = keys.read_id(made["id"])
    assert named is not None
    tried = [record, made["id"], *digests, record.rpartition(".")[2]]
    tried += [f"sk-stile-{made['id']}-{digest}"[:117].ljust(117, "0") for digest in digests]
    tried += [Pepper({1: digest.encode()}).mint(named, bytes.fromhex(digest)) for digest in digests]
    tried += [Pepper({1: bytes.fromhex(digest)}).mint(named, bytes.fromhex(digest)) for digest in digests]
    for attempt in tried:
        for header in ("authorization", "x-api-key"):
            value = f"Bearer {attempt}" if header == "authorization" else attempt
            assert one.ask("GET", "/v1/models", key=None, headers={header: value}).status == 401


def write(pool: Cognito, user_id: str, **attributes: str) -> None:
    """What somebody writes who may write to the pool."""
    with pool.aws.client("cognito-idp") as client:
        client.admin_update_user_attributes(
            UserPoolId=pool.pool_id,
            Username=next(one["email"] for one in dump(pool) if one["sub"] == user_id),
            UserAttributes=[{"Name": f"custom:{name}", "Value": value} for name, value in attributes.items()],
        )


def attribute_of(key_id: str) -> str:
    named = keys.read_id(key_id)
    assert named is not None
    return f"api_key_{named.slot:02d}"


def copied_role(_: dict[str, str], admins: dict[str, str], __: str) -> dict[str, str]:
    return {"role": admins["custom:role"]}


def edited_role(own: dict[str, str], _: dict[str, str], __: str) -> dict[str, str]:
    return {"role": own["custom:role"].replace("member", "admin")}


def plain_role(*_: object) -> dict[str, str]:
    return {"role": '{"role":"admin"}'}


def edited_scopes(own: dict[str, str], _: dict[str, str], name: str) -> dict[str, str]:
    return {name: own[f"custom:{name}"].replace('"name":"k"', '"name":"k","scopes":["admin","keys"]')}


def admins_record(_: dict[str, str], admins: dict[str, str], name: str) -> dict[str, str]:
    return {name: next(value for attribute, value in admins.items() if attribute.startswith("custom:api_key"))}


def policy_as_role(own: dict[str, str], _: dict[str, str], __: str) -> dict[str, str]:
    return {"role": own["custom:policy"]}


@pytest.mark.parametrize("forge", [copied_role, edited_role, plain_role, edited_scopes, admins_record, policy_as_role])
def test_who_writes_the_directory_gains_no_right(
    one: Program, pool: Cognito, forge: Callable[[dict[str, str], dict[str, str], str], dict[str, str]]
) -> None:
    user = make_user(one, policy={"models": ["echo"]})
    made = make_key(one, user)
    everybody = {attributes["sub"]: attributes for attributes in dump(pool)}
    admin = one.ask("GET", "/api/me").json["user"]["id"]
    forged = forge(everybody[user["id"]], everybody[admin], attribute_of(made["id"]))
    assert forged
    write(pool, user["id"], **forged)
    for method, path in (("GET", "/api/users"), ("GET", f"/api/users/{admin}/keys"), ("DELETE", f"/api/users/{admin}")):
        assert one.ask(method, path, key=made["key"]).status in {401, 403}
    assert one.ask("GET", "/api/me").status == 200
    lines = program.wait_for(
        lambda: [
            line for line in one.lines() if line.get("logger") == "stile.entries" and user["id"] in line["message"]
        ],
        "the tampering to be logged",
    )
    assert "tampering" in lines[0]["message"]


def test_a_record_that_was_moved_to_another_user_is_no_key(one: Program, pool: Cognito) -> None:
    rich, poor = make_user(one), make_user(one)
    made = make_key(one, rich)
    name = attribute_of(made["id"])
    record = next(attributes for attributes in dump(pool) if attributes["sub"] == rich["id"])[f"custom:{name}"]
    write(pool, poor["id"], **{name: record})
    assert one.ask("GET", f"/api/users/{poor['id']}/keys").json["data"] == []
    new = make_key(one, poor)
    assert attribute_of(new["id"]) != name, "what was tampered with is left for people to look at"


# --- Cognito slow or away ---


@pytest.fixture(scope="module")
def cacheless(pool: Cognito, output: Path, one: Program) -> Iterator[Program]:
    """A gateway that asks for each call."""
    with program.running(output / "cacheless", STILE_KEY_CACHE_SECONDS="0", **pool.environment()) as gateway:
        gateway.key = one.key
        yield gateway


def test_when_cognito_fails_known_callers_go_on_and_others_are_told_to_come_back(
    cacheless: Program, pool: Cognito
) -> None:
    user = make_user(cacheless)
    known, unknown = make_key(cacheless, user), make_key(cacheless, user)
    assert call(cacheless, known["key"]) == 200
    pool.fail(READ, 10_000, status=503)
    try:
        assert call(cacheless, known["key"]) == 200
        for answer in (
            cacheless.ask("POST", "/v1/chat/completions", CHAT, key=unknown["key"]),
            cacheless.ask("GET", "/api/me", key=known["key"]),
            cacheless.ask("POST", "/api/keys", {"name": "x"}, key=known["key"]),
        ):
            assert (answer.status, answer.error["code"]) == (503, "directory_unavailable")
            assert int(answer.headers["retry-after"]) >= 1
    finally:
        pool.calm()
    assert call(cacheless, unknown["key"]) == 200


def test_a_crowd_is_paced_and_nobody_is_told_that_a_good_key_is_bad(cacheless: Program, pool: Cognito) -> None:
    made = [make_key(cacheless, make_user(cacheless)) for _ in range(3)]
    pool.bucket(30)
    try:
        began = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(20) as threads:
            told = list(threads.map(lambda key: call(cacheless, key["key"]), made * 30))
        assert set(told) <= {200, 503}
        assert told.count(200) >= 60
        assert time.monotonic() - began < program.WAIT
    finally:
        pool.calm()


# --- starts ---


def refused(folder: Path, **settings: str) -> list[str]:
    ended = program.run(env=program.environment(folder / "home", **settings))
    assert (ended.returncode, ended.stdout) == (1, "")
    return ended.stderr.splitlines()


def test_a_start_makes_no_user_and_prints_no_key(folder: Path, pool: Cognito) -> None:
    before = len(dump(pool))
    with program.running(folder, **pool.environment()) as gateway:
        assert "POST /api/bootstrap" in gateway.out.read_text()
        assert gateway.key == ""
        assert not gateway.home.exists()
    assert len(dump(pool)) == before
    assert refused(folder, STILE_DIRECTORY="cognito") == [
        "stile: STILE_USER_POOL_ID: must be set with STILE_DIRECTORY=cognito"
    ]
    made = program.run("key", env=program.environment(folder / "home", **pool.environment()))
    assert made.returncode == 1
    assert "POST /api/users/{id}/keys" in made.stderr


def test_what_is_wrong_with_pool_and_pepper_is_told_at_once(folder: Path, pool: Cognito) -> None:
    with pool.aws.client("cognito-idp") as client:
        bare = client.create_user_pool(PoolName="bare")["UserPool"]["Id"]
    pool.aws.keep("short", "too short")
    faults = refused(folder, **pool.environment(STILE_USER_POOL_ID=bare, STILE_PEPPER_SECRET="short"))
    assert len(faults) == 23
    assert "STILE_PEPPER_SECRET: short is no pepper" in faults[0]
    assert "lacks the attribute custom:role" in faults[1]
    assert "too short" not in "".join(faults)
    (fault,) = refused(folder, **pool.environment(STILE_PEPPER_SECRET="nowhere"))
    assert "there is no such secret" in fault
    faults = refused(folder, **pool.environment(AWS_SECRET_ACCESS_KEY="another"))
    assert ["cannot be" in fault for fault in faults] == [True, True]


def test_a_pepper_of_this_machine_is_made_for_an_empty_pool_only(folder: Path, pool: Cognito) -> None:
    empty = cognito.make_pool(pool.aws)
    settings = pool.environment(STILE_USER_POOL_ID=empty, STILE_PEPPER_SECRET="")
    with program.administered(folder, **settings) as gateway:
        assert [path.name for path in gateway.home.iterdir()] == ["pepper.json"]
        assert gateway.home.joinpath("pepper.json").stat().st_mode & 0o777 == 0o600
        key = gateway.key
    with program.running(folder, **settings) as gateway:
        assert call(gateway, key) == 200
    (folder / "home" / "pepper.json").unlink()
    (fault,) = refused(folder, **settings)
    assert "the pepper is missing, and the user pool has users" in fault
    assert not (folder / "home" / "pepper.json").exists()


def test_a_pepper_secret_may_hold_versions(folder: Path, pool: Cognito) -> None:
    empty = cognito.make_pool(pool.aws)
    pool.aws.keep("versions", "p" * 40)
    settings = pool.environment(STILE_USER_POOL_ID=empty, STILE_PEPPER_SECRET="versions")
    with program.administered(folder, **settings) as gateway:
        old = gateway.key
    with pool.aws.client("secretsmanager") as client:
        client.put_secret_value(SecretId="versions", SecretString=json.dumps({"1": "p" * 40, "2": "q" * 40}))
    with program.running(folder, **settings) as gateway:
        gateway.key = old
        assert call(gateway, old) == 200
        new = gateway.ask("POST", "/api/keys", {"name": "second"}).json
        assert new["id"][:2] == "02"
        assert call(gateway, new["key"]) == 200
