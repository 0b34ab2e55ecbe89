"""The program: its commands, and what becomes of a failure."""

import os
import sys
import traceback

import click

from stile_cli import __version__, output
from stile_cli.commands import account, chat, keys, mcp, models, users
from stile_cli.failures import Failure
from stile_cli.session import Session, common

_EPILOG = """\b
Exit codes: 0 done, 1 failed, 2 wrong use, 3 not allowed, 4 not found,
5 refused by a limit, 6 unreachable, 7 no Stile gateway, 130 stopped.
"""


@click.group(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="stile", message="%(prog)s %(version)s")
@common
def stile() -> None:
    """Users, keys, models and chats of a Stile gateway.

    \b
    stile login https://gateway.example.com
    stile keys create --name laptop --expires 90d
    stile chat "Hello" --model echo
    """


stile.add_command(account.login)
stile.add_command(account.logout)
stile.add_command(account.whoami)
stile.add_command(account.bootstrap)
stile.add_command(users.users)
stile.add_command(keys.keys)
stile.add_command(models.models)
stile.add_command(chat.chat)
stile.add_command(mcp.mcp)


def main() -> None:
    """Run the program and end it with its exit code."""
    session = Session()
    try:
        code = stile.main(obj=session, standalone_mode=False, prog_name="stile")
    except Failure as failure:
        code = _tell(failure, session)
    except click.ClickException as failure:
        failure.show()
        code = failure.exit_code
    except (click.Abort, KeyboardInterrupt):
        output.tell("Stopped; nothing more was done.")
        code = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read has gone, as `head` does
        code = 0
    except Exception as fault:
        if session.debug:
            traceback.print_exc()
        output.tell(f"stile: a fault of this program: {type(fault).__name__}. --debug shows more.")
        code = 1
    finally:
        session.close()
    sys.exit(code if isinstance(code, int) else 0)


def _tell(failure: Failure, session: Session) -> int:
    if session.debug:
        traceback.print_exception(failure)
    said = " ".join(part for part in (str(failure), failure.advice) if part)
    seen = f" ({failure.request_id})" if failure.request_id else ""
    output.tell(f"stile: {' '.join(said.split())}{seen}")
    return failure.exit_code
