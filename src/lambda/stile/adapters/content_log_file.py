"""The content log as a file that nobody but its owner can read: one line of JSON for each call.

What people write to models is more private than that they do, so the file is made with mode 0600, and one that others
could read is refused at the start. Trouble later (a full disk) costs the line, never the call.
"""

import os
import stat
from pathlib import Path

from stile.adapters.lost_lines import LostLines
from stile.errors import ConfigError

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_CLOSED = -1  # no descriptor: the number of one that was closed may be another file's by now


class ContentLogFile:
    """Appends to `path`, which is made, with its folder, when it is not there. Raises ConfigError."""

    def __init__(self, path: Path) -> None:
        self._out = _open(path)
        self._broken = False  # whether the last line stands there without its end
        self._lost = LostLines(f"STILE_CONTENT_LOG: {path}")

    async def write(self, line: bytes) -> None:
        """Keep one line: in one write, so that those of several processes stand one below the other."""
        data = b"%b%b\n" % (b"\n" if self._broken else b"", line)
        try:
            written = os.write(self._out, data)
        except OSError as fault:
            self._lost.add(f"{fault.strerror}; is the disk full?")
            return
        self._broken = written < len(data)
        if self._broken:
            self._lost.add("there was no room for all of it; is the disk full?")

    async def release(self) -> None:
        """There is nothing that goes stale."""

    async def close(self) -> None:
        out, self._out = self._out, _CLOSED
        if out != _CLOSED:
            os.close(out)


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Without O_NONBLOCK a pipe that nobody reads would hold the start up for ever; files do not know it.
        out = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o600)
    except OSError as fault:
        raise ConfigError([f"STILE_CONTENT_LOG: {path} cannot be written ({fault.strerror})"]) from None
    wrong = _fault_of(os.fstat(out))
    if wrong is not None:
        os.close(out)
        raise ConfigError([f"STILE_CONTENT_LOG: {path} {wrong.format(path=path)}"])
    return out


def _fault_of(found: os.stat_result) -> str | None:
    if not stat.S_ISREG(found.st_mode):
        return "is not a file; name one"
    if found.st_mode & _OTHERS:
        return f"can be read by others (its mode is {stat.S_IMODE(found.st_mode):04o}); run: chmod 600 {{path}}"
    return None
