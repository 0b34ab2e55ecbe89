"""Who one is: `login`, `logout`, `whoami`, and `bootstrap` for the first admin."""

import sys

import click

from stile_cli import output
from stile_cli.commands import keys
from stile_cli.failures import WrongUse
from stile_cli.profiles import Profile
from stile_cli.session import Record, Session, common, pass_session


@click.command()
@click.argument("url", required=False)
@click.option("--key", metavar="KEY", help="The key; a shell's history keeps it, so rather let it be asked for.")
@click.option("--model", metavar="NAME", help="The model that 'stile chat' uses by default.")
@common
@pass_session
def login(session: Session, url: str | None, key: str | None, model: str | None) -> None:
    """Keep a gateway's URL and a key, after a look whether they work.

    The key is asked for, or read from standard input. It is kept in the system's keyring if there is one and the
    extra 'keyring' is installed, else in a file that only you can read.

    \b
    stile login https://gateway.example.com
    stile login http://127.0.0.1:4000 --profile laptop < key.txt
    """
    where = _url(session, url)
    gateway = session.open(where, key or _secret("API key", "the key"))
    me = gateway.get("/api/me")
    known = session.profiles.get(session.profile_name, {})
    kept = Profile(session.profile_name, gateway.url, gateway.key, model or known.model)
    place = session.profiles.put(kept)
    if session.json:
        output.put_json(me)
    output.tell(f"Logged in to {gateway.url} as {me['user']['email']} ({me['role']}). The key is in {place}.")


@click.command()
@common
@pass_session
def logout(session: Session) -> None:
    """Forget the profile and its key. The key itself goes on working: 'stile keys revoke' ends it."""
    there = session.profiles.forget(session.profile_name)
    if session.json:
        output.put_json({"profile": session.profile_name, "forgotten": there})
    known = f"The profile {session.profile_name!r} is"
    output.tell(f"{known} forgotten; its key still works." if there else f"{known} not there.")


@click.command()
@common
@pass_session
def whoami(session: Session) -> None:
    """Show who is calling, and with which key."""
    session.show(session.gateway.get("/api/me"), _me)


@click.command()
@click.argument("url", required=False)
@click.option("--email", metavar="ADDRESS", required=True, help="Whose account the first admin's is.")
@click.option("--token", metavar="TOKEN", help="The one-time token; asked for, or read from standard input, if absent.")
@common
@pass_session
def bootstrap(session: Session, url: str | None, email: str, token: str | None) -> None:
    """Become the first admin of a new gateway by its one-time token, and be logged in.

    \b
    stile bootstrap https://gateway.example.com --email you@example.com
    """
    gateway = session.open(_url(session, url))
    said = token or _secret("Bootstrap token", "the token")
    made = gateway.post("/api/bootstrap", {"token": said.strip(), "email": email})
    try:
        place = session.profiles.put(Profile(session.profile_name, gateway.url, made["key"]))
        output.tell(f"{made['user']['email']} is an admin of {gateway.url}. The key is in {place}.")
    finally:
        keys.show_once(session, made)  # the token is spent: nothing may keep the key from being seen


def _url(session: Session, url: str | None) -> str:
    where = url or session.profile.url
    if not where:
        raise WrongUse("Which gateway?", "Give its URL: 'stile login https://gateway.example.com'.")
    return where


def _secret(asked: str, name: str) -> str:
    if sys.stdin.isatty():
        said: str = click.prompt(asked, hide_input=True, err=True)
        return said.strip()
    said = sys.stdin.readline().strip()
    if not said:
        raise WrongUse(f"Standard input is empty where {name} was expected.", "Run it in a terminal, or pipe it in.")
    return said


def _me(record: Record, session: Session) -> list[tuple[str, str]]:
    user, key = record["user"], record["key"]
    return [
        ("user", user["email"]),
        ("id", user["id"]),
        ("role", record["role"]),
        ("gateway", session.profile.url),
        ("key", f"{key['name']} ({key['id']})"),
        ("scopes", ", ".join(record["scopes"])),
        ("models", output.names(key["models"])),
        ("ends", session.moment(key["expires_at"])),
    ]
