"""Writes doc/cli.md from the commands of `stile` themselves: `make schema`."""

import sys
from collections.abc import Iterator
from pathlib import Path

import click

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "src" / "cli"))

from stile_cli.main import stile  # noqa: E402

PAGE = ROOT / "doc" / "cli.md"
_HEAD = """# Command line

`stile` manages users and keys of a gateway and calls its models, over the [REST API](api.md) alone: it speaks with the
gateway and with nobody else, and needs nothing of AWS.

```sh
pipx install ./src/cli          # or: uv tool install ./src/cli
stile login http://127.0.0.1:4000
stile chat "Hello" --model echo
```

**Where the key is.** With the extra (`pipx install './src/cli[keyring]'`) in the system's keyring, if there is one;
else in `profiles.toml`, which only you can read, in the system's folder for it (on Linux `~/.config/stile`).
`STILE_URL` and `STILE_API_KEY` come before the file, `STILE_PROFILE` names another profile than `default`. The file's
key is never sent to another URL than its own.

**For programs.** `--json` puts the API's record alone on standard output; whatever else is said goes to standard error.
A new key's text is alone on standard output too. Without a terminal, lists have a row a line, with tabs. What destroys
asks first; `--yes` does not.

| exit code | meaning |
|---:|---|
| 0 | done |
| 1 | the gateway failed, or something else did |
| 2 | the command, or a value in it, is wrong |
| 3 | the key is not taken, or may not do this (401, 403) |
| 4 | there is no such user, key or model |
| 5 | refused by a limit |
| 6 | the gateway cannot be reached |
| 7 | what answers is no Stile gateway |
| 130 | stopped by Ctrl-C, or by a no |

**Completion** in the shell: `eval "$(_STILE_COMPLETE=bash_source stile)"`, or `zsh_source`; in fish
`_STILE_COMPLETE=fish_source stile | source`.

The rest of this page is what `--help` says.
"""


def text() -> str:
    """The whole page."""
    parts = [_HEAD]
    for path, command in _commands(stile, ("stile",)):
        context = click.Context(command, info_name=" ".join(path), max_content_width=100, terminal_width=100)
        shown = command.get_help(context)
        parts.append(f"## {' '.join(path)}\n\n```text\n{shown}\n```\n")
    return "\n".join(parts)


def _commands(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from _commands(below, (*path, name))


if __name__ == "__main__":
    PAGE.write_text(text())
