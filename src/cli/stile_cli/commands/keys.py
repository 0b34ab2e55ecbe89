"""`stile keys`: keys, one's own or a user's."""

import re
import secrets
import sys
from dataclasses import replace
from typing import Any

import click

from stile_cli import output
from stile_cli.commands.users import path as user_path
from stile_cli.failures import NotFound, WrongUse
from stile_cli.session import Record, Session, common, listed, pass_session

_ID = re.compile(r"[0-9a-f]{48}")
_SPAN = re.compile(r"[0-9]+[smhdw]")
_COLUMNS = ("id", "name", "state", "scopes", "models", "made", "ends")
_EXPIRES = "When it ends: 90d, 12h, 30m; a moment as in 2027-01-31T12:00:00Z; or 'never'."


@click.group()
def keys() -> None:
    """Keys: one's own, or for admins those of a user."""


@keys.command("list")
@click.option("--user", metavar="USER", help="Whose keys, by id or email; one's own if absent.")
@common
@pass_session
def list_(session: Session, user: str | None) -> None:
    """List keys. A key's text is never shown again."""
    answer = session.gateway.get(_keys_path(session, user))
    if session.json:
        output.put_json(answer)
        return
    output.table(_COLUMNS, [_row(key, session) for key in answer["data"]], "There are no keys.")


@keys.command()
@click.option("--user", metavar="USER", help="For whom, by id or email; for oneself if absent.")
@click.option("--name", metavar="NAME", required=True, help="What it is for: laptop, ci …")
@click.option("--expires", metavar="WHEN", help=_EXPIRES)
@click.option("--models", metavar="A,B", help="The only models that it may use; 'all' for no bound.")
@click.option("--scopes", metavar="A,B", help="Of inference, mcp, keys, admin; the first three by default.")
@click.option("--tools", metavar="A,B", help="The only tools of MCP that it may use.")
@common
@pass_session
def create(session: Session, /, user: str | None, name: str, **bounds: str | None) -> None:
    """Make a key and show its text, this once.

    On standard output there is the key alone, so it can be piped on.

    \b
    stile keys create --name laptop --expires 90d
    stile keys create --user dev@example.com --name laptop --models gpt-5,echo --expires 90d
    """
    show_once(session, session.gateway.post(_keys_path(session, user), {"name": name, **_fields(bounds)}))


@keys.command()
@click.argument("key")
@common
@pass_session
def show(session: Session, key: str) -> None:
    """Show a key, named by its id, or by its name among one's own."""
    session.show(session.gateway.get(_path(session, key)), _pairs)


@keys.command()
@click.argument("key")
@click.option("--name", metavar="NAME", help="Another name.")
@click.option("--expires", metavar="WHEN", help=_EXPIRES)
@click.option("--models", metavar="A,B", help="The only models that it may use; 'all' for no bound.")
@click.option("--scopes", metavar="A,B", help="Of inference, mcp, keys, admin.")
@click.option("--tools", metavar="A,B", help="The only tools of MCP that it may use; 'all' for no bound.")
@common
@pass_session
def update(session: Session, /, key: str, name: str | None, **bounds: str | None) -> None:
    """Change a key's name, end or bounds.

    \b
    stile keys update laptop --models gpt-5 --expires 30d
    """
    change = {**({"name": name} if name else {}), **_fields(bounds)}
    if not change:
        raise WrongUse("Nothing to change.", "Give --name, --expires, --models, --scopes or --tools.")
    session.show(session.gateway.patch(_path(session, key), change), _pairs)


@keys.command()
@click.argument("key")
@click.option("--grace", metavar="TIME", default="24h", show_default=True, help="How long the old text still works.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@common
@pass_session
def rotate(session: Session, key: str, grace: str, yes: bool) -> None:
    """Give a key a new text, and show it this once.

    \b
    stile keys rotate laptop --grace 1h
    """
    where = _path(session, key)
    session.confirm(f"Give {key} a new text? The old one works for {grace} more.", yes=yes)
    body = {"grace_period": int(grace) if grace.isdecimal() else grace}
    made = session.gateway.post(f"{where}/rotate", body, idempotency_key=secrets.token_hex(16))
    profile = session.profile
    if profile.key and session.profiles.get(profile.name, {}).key == profile.key and _is_own(session, made):
        try:
            place = session.profiles.put(replace(profile, key=made["key"]))
            output.tell(f"This profile uses that key: the new text is in {place}.")
        finally:
            show_once(session, made)  # whatever becomes of the profile, the text is seen
    else:
        show_once(session, made)


@keys.command()
@click.argument("key")
@common
@pass_session
def suspend(session: Session, key: str) -> None:
    """Keep a key out for a while; 'resume' lets it in again."""
    session.show(session.gateway.post(f"{_path(session, key)}/suspend"), _pairs)


@keys.command()
@click.argument("key")
@common
@pass_session
def resume(session: Session, key: str) -> None:
    """Let a suspended key in again."""
    session.show(session.gateway.post(f"{_path(session, key)}/resume"), _pairs)


@keys.command()
@click.argument("key")
@click.option("--yes", is_flag=True, help="Do not ask.")
@common
@pass_session
def revoke(session: Session, key: str, yes: bool) -> None:
    """End a key and all its texts, for good."""
    where = _path(session, key)
    session.confirm(f"End {key} for good?", yes=yes)
    session.show(session.gateway.post(f"{where}/revoke"), _pairs)


@keys.command()
@click.argument("key")
@click.option("--yes", is_flag=True, help="Do not ask.")
@common
@pass_session
def delete(session: Session, key: str, yes: bool) -> None:
    """Forget a key; its place is free again."""
    where = _path(session, key)
    session.confirm(f"Forget {key}? It ends at once.", yes=yes)
    gone = session.gateway.delete(where)
    if session.json:
        output.put_json(gone)
    output.tell(f"{key} is forgotten.")


def show_once(session: Session, made: Record) -> None:
    """A new key's text, and what is known of it."""
    if session.json:
        output.put_json(made)
        return
    for name, value in _pairs(made, session):
        output.tell(f"{name:7} {value}")
    output.put(made["key"])
    if sys.stdout.isatty():
        output.tell("Copy it now: it is shown this once, and kept nowhere.")


def _path(session: Session, key: str) -> str:
    """Where the API has a key that is named by id, or by its name among one's own."""
    if _ID.fullmatch(key):
        return f"/api/keys/{key}"
    named = [own["id"] for own in session.gateway.get("/api/keys")["data"] if own["name"] == key]
    if len(named) > 1:
        raise WrongUse(f"Several keys are called {key!r}: {', '.join(named)}.", "Give the id.")
    if not named:
        raise NotFound(f"No key of yours is called {key!r}.", "Give its id: 'stile keys list' shows them.")
    return f"/api/keys/{named[0]}"


def _keys_path(session: Session, user: str | None) -> str:
    return f"{user_path(session, user)}/keys" if user else "/api/keys"


def _fields(bounds: dict[str, str | None]) -> dict[str, Any]:
    """What the options say, as the API takes it."""
    found: dict[str, Any] = {
        name: listed(text) for name in ("models", "scopes", "tools") if (text := bounds[name]) is not None
    }
    expires = bounds["expires"]
    if expires == "never":
        found["expires_at"] = None
    elif expires is not None:
        found["expires_in" if _SPAN.fullmatch(expires) else "expires_at"] = expires
    return found


def _is_own(session: Session, made: Record) -> bool:
    """Whether the profile's key is a text of this key: its second part is the key's id."""
    return session.profile.key.removeprefix("sk-stile-").startswith(str(made["id"]))


def _row(key: Record, session: Session) -> list[str]:
    return [
        key["id"],
        key["name"],
        key["status"],
        ", ".join(key["scopes"]),
        output.names(key["models"]),
        session.moment(key["created_at"]),
        session.moment(key["expires_at"]),
    ]


def _pairs(key: Record, session: Session) -> list[tuple[str, str]]:
    return list(zip(_COLUMNS, _row(key, session), strict=True))
