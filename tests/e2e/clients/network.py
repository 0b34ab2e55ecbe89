"""A network with nothing in it but the machine itself, for programs that must not be able to reach any other.

`enter` starts a Python module in a network namespace of its own (Linux, network_namespaces(7)); there `raise_loopback`
brings up the only interface. It has a process namespace too, for some clients leave a daemon behind in a session of its
own: all of them end with the module, however that ends. Without the right to make namespaces nothing is run, and the
test fails.
"""

import array
import fcntl
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent.parent
_APART = ["unshare", "--net", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"]
_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914  # netdevice(7)
_IFF_UP = 0x1


def enter(module: str, *arguments: str, timeout: float) -> str:
    """Run a module to its end in a new network; answers what it printed. Fails when it fails."""
    works = (
        shutil.which(_APART[0]) and not subprocess.run([*_APART, "true"], capture_output=True, check=False).returncode
    )
    assert works, f"NOT RUN: no network apart can be made here ({' '.join(_APART)} does not work); nothing was tested"
    command = [*_APART, sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, f"{module} {' '.join(arguments)}: {done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    return done.stdout


def raise_loopback() -> None:
    """Bring the loopback interface up. Raises OSError when there is any other one: this would be no network apart."""
    names = {name for _, name in socket.if_nameindex()}
    if names != {"lo"}:
        raise OSError(f"this network has {', '.join(sorted(names))}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        asked = array.array("B", struct.pack("16sh22x", b"lo", 0))
        fcntl.ioctl(probe, _SIOCGIFFLAGS, asked)
        flags = struct.unpack_from("16xh", asked)[0]
        fcntl.ioctl(probe, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags | _IFF_UP))
