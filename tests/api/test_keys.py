"""Keys over REST: their life, what is refused, who may, and what holds at once."""

import concurrent.futures
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from tests.api.test_users import NOBODY, key_of, make
from tests.program import KEY, Answer, Program

from stile.core import keys
from stile.core.records import MAX_ATTRIBUTE_BYTES, KeyRecord, SecretHash

CHAT = {"model": "echo", "messages": [{"role": "user", "content": "hi"}]}


def works(gateway: Program, key: str) -> int:
    return gateway.ask("POST", "/v1/chat/completions", CHAT, key=key).status


def test_a_key_is_made_shown_listed_changed_and_deleted(gateway: Program) -> None:
    user = make(gateway)
    asked = {
        "name": "Grüße 🎉",
        "expires_in": "90d",
        "scopes": ["inference", "keys"],
        "models": ["echo", "a/*"],
        "tools": ["chat", "list_*"],
        "metadata": {"team": "x", "n": [1, None]},
    }
    answer = gateway.ask("POST", f"/api/users/{user['id']}/keys", asked)
    assert (answer.status, answer.headers["cache-control"]) == (201, "no-store")
    made = answer.json
    key = made.pop("key")
    assert KEY.fullmatch(key)
    assert made == {
        "id": made["id"],
        "user_id": user["id"],
        "name": "Grüße 🎉",
        "status": "active",
        "created_at": made["created_at"],
        "expires_at": pytest.approx(time.time() + 90 * 86_400, abs=60),
        "scopes": ["inference", "keys"],
        "models": ["echo", "a/*"],
        "tools": ["chat", "list_*"],
        "metadata": {"team": "x", "n": [1, None]},
        "previous_secret_expires_at": None,
    }
    assert works(gateway, key) == 200
    path = f"/api/keys/{made['id']}"
    assert gateway.ask("GET", path).json == made
    assert gateway.ask("GET", path, key=key).json == made, "one's own"
    assert gateway.ask("GET", f"/api/users/{user['id']}/keys").json == {"data": [made], "next_cursor": None}
    assert gateway.ask("GET", "/api/keys", key=key).json == {"data": [made], "next_cursor": None}
    change: dict[str, Any] = {"name": "other", "expires_at": None, "models": None, "tools": None, "metadata": {}}
    changed = gateway.ask("PATCH", path, change)
    assert changed.status == 200
    assert changed.json.pop("effective_by") == pytest.approx(time.time() + 60, abs=60)
    expected = {**made, "name": "other", "expires_at": None, "models": None, "tools": None, "metadata": {}}
    assert gateway.ask("GET", path).json == expected
    assert gateway.ask("DELETE", path).json == {"id": made["id"], "deleted": True}
    assert works(gateway, key) == 401
    assert gateway.ask("GET", f"/api/users/{user['id']}/keys").json["data"] == []


def test_a_new_key_has_three_scopes_and_never_ends(gateway: Program) -> None:
    made = key_of(gateway, make(gateway))
    assert (made["scopes"], made["models"], made["expires_at"]) == (["inference", "mcp", "keys"], None, None)


@pytest.mark.parametrize(
    "moment", [4_000_000_000, "2096-10-02T07:06:40Z", "2096-10-02T09:06:40+02:00"], ids=["epoch", "utc", "zone"]
)
def test_an_expiry_is_said_in_seconds_or_in_words(gateway: Program, moment: Any) -> None:
    assert key_of(gateway, make(gateway), expires_at=moment)["expires_at"] == 4_000_000_000


def test_rotation_lets_the_old_secret_live_for_a_while(gateway: Program) -> None:
    made = key_of(gateway, make(gateway))
    path = f"/api/keys/{made['id']}/rotate"
    first = gateway.ask("POST", path, {"grace_period": "1h"})
    assert first.status == 200
    assert first.json["id"] == made["id"]
    assert first.json["previous_secret_expires_at"] == pytest.approx(time.time() + 3600, abs=60)
    assert works(gateway, made["key"]) == works(gateway, first.json["key"]) == 200
    second = gateway.ask("POST", path, {"grace_period": 0}).json
    assert [works(gateway, key) for key in (made["key"], first.json["key"], second["key"])] == [401, 401, 200]
    default = gateway.ask("POST", path).json
    assert default["previous_secret_expires_at"] == pytest.approx(time.time() + 86_400, abs=60)
    revoked = gateway.ask("POST", f"/api/keys/{made['id']}/revoke").json
    assert (revoked["status"], revoked["previous_secret_expires_at"]) == ("revoked", None)
    assert [works(gateway, key) for key in (second["key"], default["key"])] == [401, 401], "all secrets of the key"


def test_a_repeated_rotation_never_answers_a_plaintext_twice(gateway: Program) -> None:
    made = key_of(gateway, make(gateway))
    path = f"/api/keys/{made['id']}/rotate"
    lost = gateway.ask("POST", path, {"grace_period": "1h"}, headers={"idempotency-key": "one"}).json
    again = gateway.ask("POST", path, {"grace_period": "2h"}, headers={"idempotency-key": "one"}).json
    assert again["key"] != lost["key"]
    assert again["previous_secret_expires_at"] == lost["previous_secret_expires_at"]
    assert [works(gateway, key) for key in (made["key"], lost["key"], again["key"])] == [200, 401, 200]


def test_a_suspended_key_rests_and_a_revoked_one_stays_revoked(gateway: Program) -> None:
    made = key_of(gateway, make(gateway))
    for verb, status, expected in (
        ("suspend", "suspended", 403),
        ("resume", "active", 200),
        ("suspend", "suspended", 403),
        ("revoke", "revoked", 401),
        ("revoke", "revoked", 401),
    ):
        answer = gateway.ask("POST", f"/api/keys/{made['id']}/{verb}")
        assert (answer.status, answer.json["status"]) == (200, status)
        assert works(gateway, made["key"]) == expected
    for call in (
        gateway.ask("POST", f"/api/keys/{made['id']}/resume"),
        gateway.ask("POST", f"/api/keys/{made['id']}/rotate"),
        gateway.ask("PATCH", f"/api/keys/{made['id']}", {"name": "x"}),
    ):
        assert (call.status, call.error["code"]) == (409, "key_revoked")


def test_a_twenty_first_key_is_a_409(gateway: Program) -> None:
    user = make(gateway)
    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        made = list(pool.map(lambda _: key_of(gateway, user), range(keys.SLOTS)))
    answer = gateway.ask("POST", f"/api/users/{user['id']}/keys", {"name": "one more"})
    assert (answer.status, answer.error["code"]) == (409, "too_many_keys")
    gateway.ask("DELETE", f"/api/keys/{made[7]['id']}")
    new = key_of(gateway, user)
    assert keys.read_id(new["id"]).slot == keys.read_id(made[7]["id"]).slot  # type: ignore[union-attr]
    assert works(gateway, made[7]["key"]) == 401, "a slot that is used again revives no key"


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        (b"{", 400, "invalid_json", None),
        (b'{"name": 5', 400, "invalid_json", None),
        (b"null", 422, "invalid_value", None),
        ({}, 422, "invalid_value", None),
        ({"name": ""}, 422, "invalid_value", "name"),
        ({"name": "n" * 129}, 422, "invalid_value", "name"),
        ({"name": "ü" * 65}, 422, "invalid_value", "name"),
        ({"name": "a\nb"}, 422, "invalid_value", "name"),
        ({"name": 5}, 422, "invalid_value", "name"),
        ({"name": "k", "expires_at": 1}, 422, "invalid_value", "expires_at"),
        ({"name": "k", "expires_at": "2020-01-01T00:00:00Z"}, 422, "invalid_value", "expires_at"),
        ({"name": "k", "expires_at": "2090-01-01T00:00:00"}, 422, "invalid_value", "expires_at"),
        ({"name": "k", "expires_in": "0s"}, 422, "invalid_value", "expires_in"),
        ({"name": "k", "expires_in": "999999999w"}, 422, "invalid_value", "expires_in"),
        ({"name": "k", "expires_in": "soon"}, 422, "invalid_value", "expires_in"),
        ({"name": "k", "expires_in": "1d", "expires_at": 4_000_000_000}, 422, "invalid_value", "expires_in"),
        ({"name": "k", "scopes": []}, 422, "invalid_value", "scopes"),
        ({"name": "k", "scopes": ["root"]}, 422, "invalid_value", "scopes[0]"),
        ({"name": "k", "scopes": ["admin"]}, 403, "scope_not_allowed", "scopes"),
        ({"name": "k", "models": []}, 422, "invalid_value", "models"),
        ({"name": "k", "tools": []}, 422, "invalid_value", "tools"),
        ({"name": "k", "metadata": []}, 422, "invalid_value", "metadata"),
        ({"name": "k", "metadata": {"a": "b" * 2048}}, 413, "record_too_large", None),
        ({"name": "k", "limits": {"rpm": 5}}, 422, "unknown_parameter", "limits"),
        ({"name": "k", "key": "sk-mine"}, 422, "unknown_parameter", "key"),
        ({"name": "k", "user_id": NOBODY}, 422, "unknown_parameter", "user_id"),
    ],
    ids=range(26),
)
def test_bad_input_gets_its_own_error_and_writes_nothing(  # noqa: PLR0917
    gateway: Program, keyless: Any, body: Any, status: int, code: str, param: str | None
) -> None:
    path = f"/api/users/{keyless['id']}/keys"
    answer = gateway.ask("POST", path, body)
    assert (answer.status, answer.error["code"], answer.error["param"]) == (status, code, param)
    assert gateway.ask("GET", path).json["data"] == []


@pytest.fixture(scope="session")
def keyless(gateway: Program) -> Any:
    """A user who has no key."""
    return make(gateway)


def test_a_record_fits_up_to_its_last_byte(gateway: Program) -> None:
    user = make(gateway)
    key_id = keys.make_id(1, user["id"], 1, b"n" * keys.NONCE_BYTES).text
    empty = KeyRecord(key_id, (SecretHash("0" * 64),), "k", int(time.time()), metadata={"a": ""}, stamps=("0" * 8,))
    fits = MAX_ATTRIBUTE_BYTES - len(keys.Pepper({1: b"p" * 32}).seal("", "", msgspec.json.encode(empty).decode()))
    path = f"/api/users/{user['id']}/keys"
    over = gateway.ask("POST", path, {"name": "k", "metadata": {"a": "b" * (fits + 1)}})
    assert (over.status, over.error["code"]) == (413, "record_too_large")
    assert gateway.ask("GET", path).json["data"] == []
    made = gateway.ask("POST", path, {"name": "k", "metadata": {"a": "b" * fits}})
    assert made.status == 201
    assert works(gateway, made.json["key"]) == 200
    # A rotation needs more room than there is: the key goes on as it was.
    assert gateway.ask("POST", f"/api/keys/{made.json['id']}/rotate").error["code"] == "record_too_large"
    assert works(gateway, made.json["key"]) == 200


@pytest.mark.parametrize(
    "body", [{"grace_period": "31d"}, {"grace_period": -1}, {"grace_period": "1y"}, {"grace": "1h"}]
)
def test_a_grace_that_cannot_be_meant_is_a_422(gateway: Program, body: Any) -> None:
    made = key_of(gateway, make(gateway))
    assert gateway.ask("POST", f"/api/keys/{made['id']}/rotate", body).status == 422
    assert works(gateway, made["key"]) == 200


@pytest.mark.parametrize("shape", ["nonsense", "minted for nobody", "never minted", "another nonce", "slot 21"])
def test_an_unknown_key_is_a_404(gateway: Program, keyless: Any, shape: str) -> None:
    real = keys.make_id(1, keyless["id"], 5, b"n" * keys.NONCE_BYTES).text
    key_id = {
        "nonsense": "nonsense",
        "minted for nobody": keys.make_id(1, NOBODY, 5, b"n" * keys.NONCE_BYTES).text,
        "never minted": real,
        "another nonce": keys.read_id(gateway.key.split("-")[2]).text[:-1] + "!",  # type: ignore[union-attr]
        "slot 21": real[:34] + "15" + real[36:],
    }[shape]
    for method, path, body in (
        ("GET", "", None),
        ("PATCH", "", {"name": "x"}),
        ("DELETE", "", None),
        ("POST", "/rotate", None),
        ("POST", "/revoke", None),
        ("POST", "/suspend", None),
        ("POST", "/resume", None),
    ):
        answer = gateway.ask(method, f"/api/keys/{key_id}{path}", body)
        assert (answer.status, answer.error["code"]) == (404, "key_not_found"), (method, path)


def test_members_manage_their_own_keys_and_no_others(gateway: Program) -> None:
    mine, other = key_of(gateway, make(gateway)), key_of(gateway, make(gateway))
    own = gateway.ask("POST", "/api/keys", {"name": "mine, too"}, key=mine["key"])
    assert (own.status, own.json["user_id"]) == (201, mine["user_id"])
    assert works(gateway, own.json["key"]) == 200
    assert gateway.ask("POST", f"/api/keys/{own.json['id']}/revoke", key=mine["key"]).status == 200
    for method, path, body in (
        ("GET", f"/api/keys/{other['id']}", None),
        ("PATCH", f"/api/keys/{other['id']}", {"name": "x"}),
        ("DELETE", f"/api/keys/{other['id']}", None),
        ("POST", f"/api/keys/{other['id']}/rotate", None),
        ("POST", f"/api/keys/{other['id']}/revoke", None),
        ("GET", f"/api/users/{other['user_id']}/keys", None),
        ("POST", f"/api/users/{other['user_id']}/keys", {"name": "x"}),
    ):
        answer = gateway.ask(method, path, body, key=mine["key"])
        assert (answer.status, answer.error["code"]) == (403, "admin_required"), (method, path)
    assert works(gateway, other["key"]) == 200


def test_a_key_without_the_scope_keys_manages_none(gateway: Program) -> None:
    made = key_of(gateway, make(gateway), scopes=["inference"])
    for method, path in (("GET", "/api/keys"), ("POST", f"/api/keys/{made['id']}/rotate")):
        answer = gateway.ask(method, path, key=made["key"])
        assert (answer.status, answer.error["code"]) == (403, "missing_scope")


def case_flipped(key: str) -> str:
    return key[:-30] + key[-30:].swapcase()


@pytest.mark.parametrize(
    "forge",
    [
        lambda key: key[:-1],
        lambda key: f"{key}x",
        case_flipped,
        str.upper,
        lambda key: key[:-1] + ("0" if key[-1] != "0" else "1"),
        lambda key: key.split("-")[2],
        lambda key: f"sk-stile-{key.split('-')[2]}-{'0' * 59}",
    ],
    ids=["truncated", "longer", "case", "upper", "tag", "id alone", "no secret"],
)
def test_a_key_that_is_not_quite_right_is_a_401(gateway: Program, forge: Callable[[str], str]) -> None:
    for call in (("GET", "/v1/models"), ("GET", "/api/me"), ("POST", "/api/keys")):
        answer: Answer = gateway.ask(*call, key=forge(gateway.key))
        assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
        assert gateway.line_of(answer.headers["x-request-id"])["refused"] in {"malformed", "unminted"}


# --- holes that were found in other gateways ---


def test_a_host_header_chooses_no_path(gateway: Program) -> None:
    for host in ("x/health?", "127.0.0.1/health", "/api/users", "localhost:4000/key/generate?x="):
        answer = gateway.ask("GET", "/api/users", key=None, headers={"host": host})
        assert answer.status in {400, 401}
        assert b'"data"' not in answer.body


@pytest.mark.parametrize(
    "path",
    [
        "//api/users",
        "/api/users/",
        "/API/users",
        "/api//users",
        "/v1/../api/users",
        "/health/../api/users",
        "/health;/api/users",
        "/api/users%2f",
    ],
)
def test_no_other_spelling_of_a_path_avoids_the_key(gateway: Program, path: str) -> None:
    assert gateway.ask("GET", path, key=None).status in {401, 404}


def test_a_key_in_the_query_or_a_cookie_is_no_key(gateway: Program) -> None:
    key = gateway.key
    assert gateway.ask("GET", f"/api/users?key={key}&api_key={key}&access_token={key}", key=None).status == 401
    assert gateway.ask("GET", "/api/users", key=None, headers={"cookie": f"token={key}; key={key}"}).status == 401


def test_a_verb_in_a_header_or_the_body_changes_nothing(gateway: Program) -> None:
    made = key_of(gateway, make(gateway))
    override = {"x-http-method-override": "DELETE", "x-method-override": "DELETE", "x-original-url": "/api/users"}
    assert gateway.ask("GET", f"/api/keys/{made['id']}", headers=override).json["id"] == made["id"]
    assert gateway.ask("GET", f"/api/keys/{made['id']}").status == 200
