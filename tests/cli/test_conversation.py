"""What is only there for a person at a terminal: a conversation, questions, tables. Through a pseudo-terminal."""

import fcntl
import os
import re
import select
import struct
import subprocess
import termios
import time
from pathlib import Path

import pytest
from tests.cli.terminal import Terminal, python
from tests.program import WAIT

# A terminal of one's own is what makes Ctrl-C a signal: tty_ioctl(4).
_AT_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)
_STYLE = re.compile(r"\x1b\[[0-9;]*m")


class Screen:
    """`stile` at a pseudo-terminal of 24 lines."""

    def __init__(self, terminal: Terminal, *arguments: str, columns: int = 80) -> None:
        self.seen = ""
        self._end, theirs = os.openpty()
        self.resize(columns)
        self._process = subprocess.Popen(
            [python(), "-c", _AT_TERMINAL, python(), "-m", "stile_cli", *arguments],
            env={**terminal.environment, "TERM": "xterm"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)

    def resize(self, columns: int) -> None:
        """Another width, as when a window is drawn smaller."""
        fcntl.ioctl(self._end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def wait_for(self, text: str) -> None:
        """Until this has been shown after all that was waited for before."""
        until = time.monotonic() + WAIT
        while text not in self.seen:
            assert time.monotonic() < until, f"{text!r} is not in {self.seen!r}"
            assert self._read(), f"{text!r} is not in {self.seen!r}"
        self.seen = self.seen.split(text, 1)[1]

    def type(self, keys: str) -> None:
        os.write(self._end, keys.encode())

    def interrupt(self, shown: str) -> None:
        """Ctrl-C until this is shown: Python does not notice one that comes just before it waits for a line."""
        until = time.monotonic() + WAIT
        while shown not in self.seen:
            assert time.monotonic() < until, f"{shown!r} is not in {self.seen!r}"
            self.type("\x03")
            if select.select([self._end], [], [], 1)[0]:
                self._read()
        self.seen = self.seen.split(shown, 1)[1]

    def ended(self) -> int:
        """The exit code, once it has ended."""
        while self._read():
            pass
        os.close(self._end)
        return self._process.wait(WAIT)

    def _read(self) -> bool:
        ready, _, _ = select.select([self._end], [], [], WAIT)
        assert ready, f"nothing came for {WAIT} s after {self.seen!r}"
        try:
            said = os.read(self._end, 65536)
        except OSError:  # Linux's way to say that nobody is at the other end any more
            return False
        self.seen += said.decode(errors="replace")
        return bool(said)


def test_a_conversation_goes_on_until_it_is_left(admin: Terminal) -> None:
    screen = Screen(admin, "chat", "-m", "echo")
    screen.wait_for("> ")
    screen.type("Hello\r")
    screen.wait_for("You said: Hello")
    screen.resize(30)
    screen.wait_for("> ")
    screen.type("/model nope\r")
    screen.wait_for("> ")
    screen.type("Who?\r")
    screen.wait_for("stile: ")
    screen.wait_for("> ")
    screen.interrupt("Stopped.")
    screen.wait_for("> ")
    screen.type("/help\r")
    screen.wait_for("/exit")
    screen.wait_for("> ")
    screen.type("\x04")
    assert screen.ended() == 0


def test_a_key_is_asked_for_and_not_shown(admin: Terminal, tmp_path: Path) -> None:
    key, base = admin.env["STILE_API_KEY"], admin.env["STILE_URL"]
    screen = Screen(Terminal(tmp_path), "login", base)
    screen.wait_for("API key: ")
    screen.type(f"{key}\r")
    screen.wait_for("Logged in")
    assert screen.ended() == 0
    assert key not in screen.seen


def test_a_no_destroys_nothing(admin: Terminal) -> None:
    admin.ok("keys", "create", "--name", "kept")
    screen = Screen(admin, "keys", "revoke", "kept")
    screen.wait_for("[y/N]")
    screen.type("n\r")
    assert screen.ended() == 130
    assert admin.record("keys", "show", "kept")["status"] == "active"
    screen = Screen(admin, "keys", "delete", "kept")
    screen.wait_for("[y/N]")
    screen.type("y\r")
    assert screen.ended() == 0
    assert admin.run("keys", "show", "kept").code == 4


@pytest.mark.parametrize("columns", [60, 130])
def test_tables_fit_the_terminal_and_ids_stay_whole(columns: int, admin: Terminal) -> None:
    screen = Screen(admin, "keys", "list", columns=columns)
    screen.wait_for("id")
    assert screen.ended() == 0
    shown = _STYLE.sub("", screen.seen)
    assert max(len(line) for line in shown.splitlines()) <= columns
    assert admin.record("whoami")["key"]["id"] in shown
