"""What every command has: the options that are common to all, its profile, its gateway, and how it shows a record."""

import os
import sys
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import click

from stile_cli import output
from stile_cli.failures import NotAllowed, WrongUse
from stile_cli.profiles import DEFAULT, Profile, Profiles

if TYPE_CHECKING:
    from stile_cli.rest import Gateway

Record = dict[str, Any]
F = TypeVar("F", bound=Callable[..., Any])


class Session:
    """One run of a command."""

    def __init__(self) -> None:
        self.json = False
        self.utc = False
        self.debug = False
        self.profile_name = os.environ.get("STILE_PROFILE") or DEFAULT
        self.profiles = Profiles()
        self._opened: list[Gateway] = []

    @cached_property
    def profile(self) -> Profile:
        """Whom to call, and with what."""
        return self.profiles.get(self.profile_name)

    @cached_property
    def gateway(self) -> "Gateway":
        """The profile's gateway, with its key. Raises WrongUse or NotAllowed where there is none."""
        if not self.profile.url:
            known = ", ".join(self.profiles.names())
            there = f" There is: {known}." if known and self.profile_name not in known.split(", ") else ""
            advice = "Run 'stile login URL', or set STILE_URL and STILE_API_KEY."
            raise WrongUse(f"No gateway is known to the profile {self.profile_name!r}.{there}", advice)
        if not self.profile.key:
            raise NotAllowed(f"No key is known for {self.profile.url}.", "Run 'stile login', or set STILE_API_KEY.")
        return self.open(self.profile.url, self.profile.key)

    def open(self, url: str, key: str = "") -> "Gateway":
        """A gateway; it is closed when the command ends."""
        from stile_cli.rest import Gateway  # a command that calls nobody does not pay for it

        gateway = Gateway(url, key)
        self._opened.append(gateway)
        return gateway

    def close(self) -> None:
        """Close what was opened."""
        for gateway in self._opened:
            gateway.close()

    def show(self, record: Record, pairs: Callable[[Record, "Session"], list[tuple[str, str]]]) -> None:
        """A record: as it is in JSON, else a field a line."""
        if self.json:
            output.put_json(record)
        else:
            output.fields(pairs(record, self))

    def moment(self, seconds: int | None, never: str = "never") -> str:
        """A time as this run shows it."""
        return output.moment(seconds, utc=self.utc, never=never)

    def confirm(self, question: str, *, yes: bool) -> None:
        """Ask before something is lost. Raises WrongUse where nobody can answer, and Abort for a no."""
        if yes:
            return
        if not sys.stdin.isatty():
            raise WrongUse(f"{question} Nobody is here to answer.", "Say --yes to do it.")
        click.confirm(output.plain(question), abort=True, err=True)


pass_session = click.make_pass_decorator(Session, ensure=True)


def _set(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def callback(context: click.Context, _: click.Parameter, value: Any) -> None:
        if value:
            setattr(context.ensure_object(Session), name, value)

    return callback


def common(command: F) -> F:
    """The options that each command has, and the program itself."""
    options = (
        click.option("--json", is_flag=True, expose_value=False, callback=_set("json"), help="Show the API's JSON."),
        click.option("--utc", is_flag=True, expose_value=False, callback=_set("utc"), help="Show exact times, in UTC."),
        click.option(
            "--profile",
            metavar="NAME",
            expose_value=False,
            callback=_set("profile_name"),
            help="Use another profile than 'default', or STILE_PROFILE's.",
        ),
        click.option("--debug", is_flag=True, expose_value=False, callback=_set("debug"), help="Show tracebacks."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def listed(text: str | None) -> list[str] | None:
    """A list with commas: `all` is null, None is absent."""
    if text is None or text == "all":
        return None
    return [name.strip() for name in text.split(",") if name.strip()]
