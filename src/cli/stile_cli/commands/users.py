"""`stile users`: people and machines that may have keys."""

import re
from typing import Any

import click

from stile_cli import output
from stile_cli.failures import NotFound, WrongUse
from stile_cli.session import Record, Session, common, listed, pass_session

_ID = re.compile(r"[0-9a-fA-F-]{36}")
_ROLE = click.Choice(["member", "admin"])


@click.group()
def users() -> None:
    """People and machines that may have keys. For admins."""


@users.command("list")
@common
@pass_session
def list_(session: Session) -> None:
    """List all users."""
    found = list(session.gateway.pages("/api/users", limit=60))
    if session.json:
        output.put_json({"data": found, "next_cursor": None})
        return
    columns = ("id", "email", "role", "state", "models", "made")
    output.table(columns, [_row(user, session) for user in found], "There are no users.")


@users.command()
@click.argument("email")
@click.option("--role", type=_ROLE, help="What they may do; 'member' by default.")
@click.option("--models", metavar="A,B", help="The models that all keys of theirs are bound to; 'all' for no bound.")
@click.option("--machine", is_flag=True, help="It is a service: nobody reads its mail.")
@click.option("--invite", is_flag=True, help="Let Cognito mail a first password.")
@common
@pass_session
def create(session: Session, email: str, role: str | None, models: str | None, machine: bool, invite: bool) -> None:
    """Make a user.

    \b
    stile users create dev@example.com
    stile users create ci@machine.invalid --machine --models "gpt-*,echo"
    """
    body: dict[str, Any] = {"email": email}
    if role:
        body["role"] = role
    if (names := listed(models)) is not None:
        body["policy"] = {"models": names}
    body |= {name: True for name, wanted in (("machine", machine), ("invite", invite)) if wanted}
    session.show(session.gateway.post("/api/users", body), _pairs)


@users.command()
@click.argument("user")
@common
@pass_session
def show(session: Session, user: str) -> None:
    """Show a user, named by id or by email."""
    session.show(session.gateway.get(path(session, user)), _pairs)


@users.command()
@click.argument("user")
@click.option("--role", type=_ROLE, help="Another role.")
@click.option("--models", metavar="A,B", help="The models that all keys of theirs are bound to; 'all' for no bound.")
@common
@pass_session
def update(session: Session, user: str, role: str | None, models: str | None) -> None:
    """Change a user's role or models.

    \b
    stile users update dev@example.com --role admin
    """
    change: dict[str, Any] = {}
    if role:
        change["role"] = role
    if models is not None:
        change["policy"] = {"models": listed(models)}
    if not change:
        raise WrongUse("Nothing to change.", "Give --role or --models.")
    session.show(session.gateway.patch(path(session, user), change), _pairs)


@users.command()
@click.argument("user")
@click.option("--yes", is_flag=True, help="Do not ask.")
@common
@pass_session
def disable(session: Session, user: str, yes: bool) -> None:
    """Keep a user and all keys of theirs out."""
    where = path(session, user)
    session.confirm(f"Keep {user} out, with every key of theirs?", yes=yes)
    session.show(session.gateway.patch(where, {"enabled": False}), _pairs)


@users.command()
@click.argument("user")
@common
@pass_session
def enable(session: Session, user: str) -> None:
    """Let a disabled user in again."""
    session.show(session.gateway.patch(path(session, user), {"enabled": True}), _pairs)


@users.command()
@click.argument("user")
@click.option("--yes", is_flag=True, help="Do not ask.")
@common
@pass_session
def delete(session: Session, user: str, yes: bool) -> None:
    """Forget a user and every key of theirs, for good."""
    where = path(session, user)
    session.confirm(f"Forget {user} and every key of theirs, for good?", yes=yes)
    gone = session.gateway.delete(where)
    if session.json:
        output.put_json(gone)
    output.tell(f"{user} is forgotten.")


def path(session: Session, user: str) -> str:
    """Where the API has a user who is named by id or by email. Raises NotFound."""
    if "@" not in user:
        if _ID.fullmatch(user) is None:
            raise WrongUse(f"{user!r} is neither an id nor an email.", "'stile users list' shows both.")
        return f"/api/users/{user}"
    found = session.gateway.get("/api/users", email=user)["data"]
    if not found:
        raise NotFound(f"There is no user {user}.", f"'stile users create {user}' makes one.")
    return f"/api/users/{found[0]['id']}"


def _row(user: Record, session: Session) -> list[str]:
    return [
        user["id"],
        user["email"],
        user["role"] or "-",
        _state(user),
        _models(user),
        session.moment(user["created_at"], "-"),
    ]


def _pairs(user: Record, session: Session) -> list[tuple[str, str]]:
    columns = ("id", "email", "role", "state", "models", "made")
    return list(zip(columns, _row(user, session), strict=True))


def _state(user: Record) -> str:
    return ("machine" if user["machine"] else "active") if user["enabled"] else "disabled"


def _models(user: Record) -> str:
    return output.names((user.get("policy") or {}).get("models"))
