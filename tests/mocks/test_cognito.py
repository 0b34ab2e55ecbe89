"""The strict Cognito is strict, and makes the trouble that it is asked for: what other tests rest upon."""

import concurrent.futures
import contextlib
import http.client
import itertools
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError
from tests.mocks import cognito
from tests.mocks.cognito import Asked, Cognito

GET, UPDATE = "AdminGetUser", "AdminUpdateUserAttributes"
# Small letters read, capitals write.
ORDERS = [
    "".join(steps)
    for steps in itertools.permutations("aAbB")
    if steps.index("a") < steps.index("A") and steps.index("b") < steps.index("B")
]
SLOTS = [f"custom:api_key_{number:02d}" for number in range(1, 21)]


class Caller:
    """botocore's client, which sends what it is given, and once."""

    def __init__(self, pool: Cognito, key: str, secret: str) -> None:
        self.key = key
        self._pool_id = pool.pool_id
        self._client = botocore.session.get_session().create_client(
            "cognito-idp",
            "eu-west-1",
            endpoint_url=pool.url,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            config=Config(parameter_validation=False, retries={"total_max_attempts": 1}),
        )

    def __call__(self, operation: str, **asked: Any) -> Any:
        pool = {} if operation == "CreateUserPool" else {"UserPoolId": self._pool_id}
        return self._client._make_api_call(operation, {**pool, **asked})

    def make(self, **attributes: str) -> str:
        """A new user's address."""
        address = f"{secrets.token_hex(8)}@example.com"
        self("AdminCreateUser", Username=address, MessageAction="SUPPRESS", UserAttributes=listed(attributes))
        return address

    def update(self, address: str, **attributes: str) -> None:
        self(UPDATE, Username=address, UserAttributes=listed(attributes))

    def attributes(self, address: str) -> dict[str, str]:
        """The user's custom attributes."""
        said = self(GET, Username=address)["UserAttributes"]
        return {one["Name"]: one["Value"] for one in said if one["Name"].startswith("custom:")}

    def close(self) -> None:
        self._client.close()


def listed(attributes: dict[str, str]) -> list[dict[str, str]]:
    return [{"Name": f"custom:{name}", "Value": value} for name, value in attributes.items()]


@contextlib.contextmanager
def calling(pool: Cognito, key: tuple[str, str] | None = None) -> Iterator[Caller]:
    """A caller with a gateway's rights, or with this key."""
    if key is None:
        environment = pool.environment()
        key = environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"]
    caller = Caller(pool, *key)
    try:
        yield caller
    finally:
        caller.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cognito]:
    with cognito.running(tmp_path_factory.mktemp("aws")) as pool:
        yield pool


@pytest.fixture
def pool(running: Cognito) -> Iterator[Cognito]:
    yield running
    running.calm()


@pytest.fixture(scope="module")
def caller(running: Cognito) -> Iterator[Caller]:
    with calling(running) as made:
        yield made


@pytest.fixture(scope="module")
def other(running: Cognito) -> Iterator[Caller]:
    with calling(running) as made:
        yield made


@pytest.fixture(scope="module")
def admin(running: Cognito) -> Iterator[Caller]:
    """Somebody who may do anything, at the wrapper as well."""
    with calling(running, running.aws.key) as made:
        yield made


@pytest.fixture
def threads() -> Iterator[concurrent.futures.ThreadPoolExecutor]:
    with concurrent.futures.ThreadPoolExecutor(4) as made:
        yield made


def refused(call: Callable[[], object], code: str = "InvalidParameterException", status: int = 400) -> str:
    """The message of a refusal."""
    with pytest.raises(ClientError) as told:
        call()
    assert told.value.response["Error"]["Code"] == code
    assert told.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    return str(told.value.response["Error"]["Message"])


# --- what it refuses ---

REFUSED: dict[str, tuple[dict[str, str], str]] = {
    "undeclared": ({"custom:nickname": "x"}, "user.custom:nickname: Attribute does not exist in the schema"),
    "another slot": ({"custom:api_key_21": "x"}, "Attribute does not exist in the schema"),
    "without its prefix": ({"role": "x"}, "user.role: Attribute does not exist in the schema"),
    "2,049 characters": ({"custom:policy": "x" * 2049}, "Member must have length less than or equal to 2048"),
    "a name of 33 characters": ({"custom:" + "x" * 26: "x"}, "Member must have length less than or equal to 32"),
    "no name": ({"": "x"}, "Member must have length greater than or equal to 1"),
    "sub": ({"sub": "x"}, "user.sub: Attribute cannot be updated"),
    "no address": ({"email": "nobody"}, "Invalid email address format"),
}


@pytest.mark.parametrize("operation", ["AdminCreateUser", UPDATE])
@pytest.mark.parametrize("what", REFUSED)
def test_attributes_that_no_user_can_have_are_refused_and_nothing_is_written(
    pool: Cognito, caller: Caller, operation: str, what: str
) -> None:
    bad, message = REFUSED[what]
    made = operation == "AdminCreateUser"
    address = f"{secrets.token_hex(8)}@example.com" if made else caller.make(policy="before")
    attributes = [{"Name": name, "Value": value} for name, value in {"custom:role": "r", **bad}.items()]
    told = refused(lambda: caller(operation, Username=address, UserAttributes=attributes))
    assert message in told
    with pool.aws.client("cognito-idp") as emulator:
        (found,) = emulator.list_users(UserPoolId=pool.pool_id, Filter=f'email = "{address}"')["Users"] or [None]
    if made:
        assert found is None
    else:
        assert caller.attributes(address) == {"custom:policy": "before"}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"Limit": 61}, "'limit' failed to satisfy constraint: Member must have value less than or equal to 60"),
        ({"Limit": -1}, "'limit' failed to satisfy constraint: Member must have value greater than or equal to 0"),
        ({"Filter": 'custom:role = "admin"'}, "Cannot search on attribute custom:role"),
        ({"Filter": 'email_verified = "true"'}, "Cannot search on attribute email_verified"),
        ({"Filter": "email = ann@example.com"}, "Error while parsing filter"),
        ({"Filter": 'email = "a" or email = "b"'}, "Error while parsing filter"),
        ({"Filter": 'email = "a"b"'}, "Error while parsing filter"),
        ({"Filter": 'email > "a"'}, "Error while parsing filter"),
        ({"Filter": f'email = "{"a" * 247}"'}, "Member must have length less than or equal to 256"),
        ({"PaginationToken": "nonsense"}, "Invalid pagination token given"),
        ({"PaginationToken": "non sense"}, "Member must satisfy regular expression pattern"),
        ({"PaginationToken": ""}, "Member must have length greater than or equal to 1"),
    ],
)
def test_lists_that_cognito_would_not_give_are_refused(caller: Caller, asked: dict[str, Any], message: str) -> None:
    assert message in refused(lambda: caller("ListUsers", **asked))


@pytest.mark.parametrize("operation", [GET, "AdminCreateUser", "AdminDisableUser", "AdminDeleteUser"])
@pytest.mark.parametrize("username", ["a" * 117 + "@example.com", "ann @example.com", ""])
def test_a_username_that_none_can_be_is_refused(caller: Caller, operation: str, username: str) -> None:
    assert "'username' failed to satisfy constraint" in refused(lambda: caller(operation, Username=username))


def test_what_is_missing_or_of_no_known_value_is_refused_all_at_once(caller: Caller) -> None:
    told = refused(lambda: caller("AdminCreateUser", MessageAction="SHOUT"))
    assert told.startswith("2 validation errors detected")
    assert "'username' failed to satisfy constraint: Member must not be null" in told
    assert "enum value set: [RESEND, SUPPRESS]" in told


def test_where_addresses_are_usernames_nothing_else_is(caller: Caller) -> None:
    assert "email" in refused(lambda: caller("AdminCreateUser", Username="ann"))


def test_an_address_is_the_same_in_any_case(caller: Caller, pool: Cognito) -> None:
    name = secrets.token_hex(8)
    written, asked = f"Ann-{name}@Example.com", f"aNN-{name}@example.COM"
    caller("AdminCreateUser", Username=written, MessageAction="SUPPRESS")
    refused(lambda: caller("AdminCreateUser", Username=asked), "UsernameExistsException")
    refused(lambda: caller("AdminCreateUser", Username=written), "UsernameExistsException")
    caller.update(asked, role="r")
    assert caller.attributes(asked) == caller.attributes(written) == {"custom:role": "r"}
    refused(lambda: caller(GET, Username=f"bob-{name}@example.com"), "UserNotFoundException")
    with calling(pool, pool.aws.user([{"Effect": "Deny", "Action": "*", "Resource": "*"}])) as nobody:
        refused(lambda: nobody(GET, Username=asked), "AccessDeniedException")


def test_an_attribute_that_cannot_be_changed_is_set_when_its_user_is_made(admin: Caller) -> None:
    schema = [
        {"Name": "fixed", "AttributeDataType": "String", "Mutable": False},
        {"Name": "short", "AttributeDataType": "String", "StringAttributeConstraints": {"MaxLength": "5"}},
    ]
    pool_id = admin("CreateUserPool", PoolName="other", Schema=schema)["UserPool"]["Id"]
    admin(
        "AdminCreateUser", UserPoolId=pool_id, Username="ann", UserAttributes=listed({"fixed": "x", "short": "12345"})
    )
    told = refused(lambda: admin(UPDATE, UserPoolId=pool_id, Username="ann", UserAttributes=listed({"fixed": "y"})))
    assert "user.custom:fixed: Attribute cannot be updated" in told
    told = refused(
        lambda: admin(UPDATE, UserPoolId=pool_id, Username="ann", UserAttributes=listed({"short": "123456"}))
    )
    assert "no longer than 5 characters" in told


def test_a_pool_has_at_most_50_attributes_with_names_of_at_most_20_characters(admin: Caller) -> None:
    def schema(*names: str) -> list[dict[str, str]]:
        return [{"Name": name, "AttributeDataType": "String"} for name in names]

    def numbered(count: int) -> list[str]:
        return [f"a{number}" for number in range(count)]

    told = refused(lambda: admin("CreateUserPool", PoolName="p", Schema=schema(*numbered(51))))
    assert "'schema' failed to satisfy constraint: Member must have length less than or equal to 50" in told
    told = refused(lambda: admin("CreateUserPool", PoolName="p", Schema=schema("x" * 21)))
    assert "'schema.1.member.name'" in told
    assert "less than or equal to 20" in told
    full = admin("CreateUserPool", PoolName="p", Schema=schema(*numbered(49), "x" * 20))["UserPool"]["Id"]
    told = refused(lambda: admin("AddCustomAttributes", UserPoolId=full, CustomAttributes=schema("one_more")))
    assert "at most 50" in told


# --- what it takes, and hands on ---


def test_what_is_right_goes_through(caller: Caller) -> None:
    values = {"role": "é" * 2048, **{name.removeprefix("custom:"): name for name in SLOTS}}
    address = caller.make(role="r")
    caller.update(address, **values)
    assert caller.attributes(address) == {f"custom:{name}": value for name, value in values.items()}
    sub = caller(GET, Username=address)["Username"]
    assert caller(GET, Username=sub)["Username"] == sub
    for asked in (f'email = "{address}"', f'sub = "{sub}"', f'email ^= "{address[:9]}"'):
        assert [user["Username"] for user in caller("ListUsers", Filter=asked, Limit=1)["Users"]] == [sub]
    first = caller("ListUsers", Limit=1)
    assert len(caller("ListUsers", Limit=60, PaginationToken=first.get("PaginationToken"))["Users"]) >= 1


def test_a_blank_value_deletes(caller: Caller) -> None:
    address = caller.make(role="r", policy="p")
    caller.update(address, role="")
    assert caller.attributes(address) == {"custom:policy": "p"}
    (user,) = caller("ListUsers", Filter=f'email = "{address}"')["Users"]
    assert "custom:role" not in {one["Name"] for one in user["Attributes"]}
    user = caller("AdminCreateUser", Username=f"x{address}", UserAttributes=listed({"role": "", "policy": "p"}))["User"]
    assert "custom:role" not in {one["Name"] for one in user["Attributes"]}


def test_signatures_and_policies_are_checked_behind_it(pool: Cognito, caller: Caller) -> None:
    address = caller.make()
    told = refused(
        lambda: caller("AdminSetUserPassword", Username=address, Password="Aa1!Aa1!", Permanent=True),
        "AccessDeniedException",
    )
    assert "cognito-idp:AdminSetUserPassword" in told
    with calling(pool, (caller.key, "another secret")) as forger:
        refused(lambda: forger(GET, Username=address), "InvalidSignatureException")
    with calling(pool, ("AKIANOBODY", "a secret")) as nobody:
        refused(lambda: nobody(GET, Username=address), "UnrecognizedClientException")


def test_other_services_are_behind_it_too(pool: Cognito) -> None:
    environment = pool.environment()
    client = botocore.session.get_session().create_client(
        "secretsmanager",
        "eu-west-1",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    )
    with contextlib.closing(client):
        assert len(client.get_secret_value(SecretId=environment["STILE_PEPPER_SECRET"])["SecretString"]) >= 32


# --- what it counts ---


def test_calls_are_counted_and_named_with_who_made_them(pool: Cognito, caller: Caller, other: Caller) -> None:
    address = caller.make()
    pool.calls.clear()
    pool.log.clear()
    caller.attributes(address)
    other.update(address, role="r")
    other("ListUsers", Filter='status = "Enabled"', Limit=1)
    refused(lambda: caller.update(address, unknown="x"))
    assert pool.calls == {GET: 1, UPDATE: 2, "ListUsers": 1}
    assert pool.log == [
        Asked(GET, address, caller.key),
        Asked(UPDATE, address, other.key),
        Asked("ListUsers", 'status = "Enabled"', other.key),
        Asked(UPDATE, address, caller.key),
    ]


def test_calls_at_once_are_all_counted_and_all_done(
    pool: Cognito, caller: Caller, threads: concurrent.futures.ThreadPoolExecutor
) -> None:
    address = caller.make()
    pool.calls.clear()
    list(threads.map(lambda name: caller.update(address, **{name.removeprefix("custom:"): "v"}), SLOTS))
    assert pool.calls == {UPDATE: 20}
    assert caller.attributes(address) == dict.fromkeys(SLOTS, "v")


# --- the trouble that it makes ---


def test_calls_are_throttled_as_often_as_asked_and_not_done(pool: Cognito, caller: Caller) -> None:
    address = caller.make()
    pool.throttled.clear()
    pool.throttle(UPDATE, 2)
    for _ in range(2):
        refused(lambda: caller.update(address, role="r"), "TooManyRequestsException")
        assert caller.attributes(address) == {}
    caller.update(address, role="r")
    assert caller.attributes(address) == {"custom:role": "r"}
    assert pool.throttled == {UPDATE: 2}


@pytest.mark.parametrize("status", [500, 503])
def test_calls_fail_as_often_as_asked_and_are_not_done(pool: Cognito, caller: Caller, status: int) -> None:
    address = caller.make()
    pool.fail(UPDATE, 1, status=status)
    refused(lambda: caller.update(address, role="r"), "InternalErrorException", status)
    assert caller.attributes(address) == {}
    caller.update(address, role="r")


@pytest.mark.parametrize("applied", [True, False])
def test_a_connection_breaks_before_or_after_the_call_is_done(pool: Cognito, caller: Caller, applied: bool) -> None:
    address = caller.make()
    pool.drop(UPDATE, 1, applied=applied)
    with pytest.raises(HTTPClientError):
        caller.update(address, role="r")
    assert caller.attributes(address) == ({"custom:role": "r"} if applied else {})
    caller.update(address, role="s")


@pytest.mark.parametrize("applied", [True, False])
def test_a_call_is_held_before_or_after_it_is_done_and_holds_nobody_else(
    pool: Cognito, caller: Caller, other: Caller, threads: concurrent.futures.ThreadPoolExecutor, applied: bool
) -> None:
    address = caller.make()
    gate = pool.delay(UPDATE, applied=applied)
    held = threads.submit(caller.update, address, role="r")
    gate.reached()
    assert other.attributes(address) == ({"custom:role": "r"} if applied else {})
    other.update(address, policy="p")
    assert not held.done()
    gate.open()
    held.result()
    assert caller.attributes(address) == {"custom:role": "r", "custom:policy": "p"}


def test_calm_lets_go_what_is_held(
    pool: Cognito, caller: Caller, threads: concurrent.futures.ThreadPoolExecutor
) -> None:
    gate = pool.delay(GET, applied=False)
    pool.throttle(UPDATE, 1)
    address = caller.make()
    held = threads.submit(caller.attributes, address)
    gate.reached()
    pool.calm()
    assert held.result(cognito.HELD_SECONDS / 2) == {}
    caller.update(address, role="r")


def test_something_happens_between_a_read_and_a_write(pool: Cognito, caller: Caller, other: Caller) -> None:
    address = caller.make(role="first")
    seen: list[dict[str, str]] = []

    def rival() -> None:
        seen.append(other.attributes(address))
        other.update(address, role="rival", policy="p")

    pool.hook(UPDATE, rival)
    assert caller.attributes(address) == {"custom:role": "first"}
    caller.update(address, role="mine")
    assert seen == [{"custom:role": "first"}], "it ran once, and first"
    assert caller.attributes(address) == {"custom:role": "mine", "custom:policy": "p"}


class Clock:
    """Time that passes when it is told to."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


def test_a_bucket_is_shared_and_fills_again(
    pool: Cognito, caller: Caller, other: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(cognito, "time", clock)
    address = caller.make()
    pool.throttled.clear()
    pool.bucket(2)
    caller.attributes(address)
    other.attributes(address)
    for late in (caller, other):
        refused(lambda late=late: late.attributes(address), "TooManyRequestsException")  # type: ignore[misc]
    caller.update(address, role="r")
    clock.now = 0.5
    assert caller.attributes(address) == {"custom:role": "r"}
    refused(lambda: caller.attributes(address), "TooManyRequestsException")
    clock.now = 60
    for _ in range(2):
        caller.attributes(address)
    refused(lambda: caller.attributes(address), "TooManyRequestsException")
    assert pool.throttled == {GET: 4}


def read_and_write(caller: Caller, address: str, value: str) -> dict[str, str]:
    """What was read before the write."""
    before = caller.attributes(address)
    caller.update(address, role=value)
    return before


@pytest.mark.parametrize("steps", ORDERS)
def test_every_order_of_two_reads_and_writes_is_replayed(
    pool: Cognito, caller: Caller, other: Caller, threads: concurrent.futures.ThreadPoolExecutor, steps: str
) -> None:
    address = caller.make()
    sides = {"a": caller, "b": other}
    order = [(sides[step.lower()].key, GET if step.islower() else UPDATE) for step in steps]
    pool.log.clear()
    pool.order(order)
    told = {name: threads.submit(read_and_write, side, address, name) for name, side in sides.items()}
    for name, read in told.items():
        earlier = [step.lower() for step in steps[: steps.index(name)] if step.isupper()]
        assert read.result() == ({"custom:role": earlier[-1]} if earlier else {})
    assert [(asked.key, asked.operation) for asked in pool.log] == order
    written = [step.lower() for step in steps if step.isupper()]
    assert caller.attributes(address) == {"custom:role": written[-1]}, "and what comes after the list is free"


def test_a_turn_that_never_comes_is_not_waited_for_for_ever(
    pool: Cognito, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cognito, "TURN_SECONDS", 0.1)
    address = caller.make()
    pool.order([("nobody", GET), (caller.key, UPDATE)])
    assert caller.attributes(address) == {}, "what is in no list does not wait"
    caller.update(address, role="r")
    assert caller.attributes(address) == {"custom:role": "r"}


def test_connections_are_kept_until_it_hangs_up(pool: Cognito) -> None:
    connection = http.client.HTTPConnection(pool.url.removeprefix("http://"), timeout=cognito.HELD_SECONDS)
    with contextlib.closing(connection):
        for _ in range(2):
            connection.request("POST", "/", b"{}", {"x-amz-target": f"AWSCognitoIdentityProviderService.{GET}"})
            answer = connection.getresponse()
            assert answer.status == 400
            answer.read()
            kept = connection.sock
            assert kept is not None
        pool.calls.clear()
        pool.hang_up()
        assert kept.recv(1) == b""
    assert pool.calls == {}
