"""The processes of the benchmark: nginx as the provider, and the servers under test.

Each listens on 127.0.0.1 only, is started on its core, and is stopped by its own handle, also when the benchmark is
interrupted; where the kernel can be asked to, also when it is killed.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.machine import rss
from bench.streams import Bed, Target, call_answer

ROOT = pathlib.Path(__file__).resolve().parent.parent
LITELLM = "litellm[proxy]==1.102.4"
KEY = re.compile(r"sk-stile-[A-Za-z0-9-]+")

GATEWAY = "Stile"
ROUTED = "Stile, routed"

_START_SECONDS = 60
_LAST_WORDS = 2000


class StartError(Exception):
    """A server did not come up; the message ends with its last words."""


@dataclass
class Server:
    """One server under test, running. `paths` and `models` have two entries: for calls and for streams.

    A `slow` one gets longer rounds: calls that are under way at the end of a round cost CPU and are not counted.
    """

    name: str
    log: str
    process: subprocess.Popen[bytes]
    port: int
    key: str
    paths: tuple[str, str] = ("/v1/chat/completions", "/v1/chat/completions")
    models: tuple[str, str] = ("bench", "bench-stream")
    slow: bool = False
    start_seconds: float = 0
    idle_mb: float = 0

    @property
    def pid(self) -> int:
        return self.process.pid

    def target(self, streams: bool) -> Target:
        return Target(self.port, self.paths[streams], self.key, self.models[streams])


@dataclass(frozen=True)
class Place:
    """Where servers run: a folder for their files, their core, the ports of both providers, and the one for streams."""

    folder: pathlib.Path
    core: int
    calls_port: int
    streams_port: int
    bed: Bed


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@contextlib.contextmanager
def nginx(folder: pathlib.Path, port: int, core: int) -> Iterator[subprocess.Popen[bytes]]:
    """The provider for calls: always the same answer, kept-alive connections, no log."""
    program = nginx_program()
    if program is None:
        raise StartError("nginx is not installed")
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = folder / "nginx.conf"
    config.write_text(f"""
daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log crit;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_timeout 3600s; keepalive_requests 1000000000; tcp_nodelay on; {temporary}
  server {{
    listen 127.0.0.1:{port};
    default_type application/json;
    location = /v1/chat/completions {{ return 200 '{call_answer().decode()}'; }}
  }}
}}
""")
    command = [program, "-p", str(folder), "-c", str(config), "-e", str(folder / "nginx.log")]
    with _process("nginx", command, core, folder, {}) as process:
        _wait(process, lambda: _listens(port), folder / "nginx.out")
        yield process


def nginx_program() -> str | None:
    """Debian keeps nginx where only root's PATH looks."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/local/sbin:/usr/sbin")


@contextlib.contextmanager
def bare(place: Place) -> Iterator[Server]:
    """The bare relay of bench/bare.py."""
    port = free_port()
    upstreams = [f"http://127.0.0.1:{port}/v1/chat/completions" for port in (place.calls_port, place.streams_port)]
    command = [sys.executable, str(ROOT / "bench" / "bare.py"), str(port), *upstreams]
    started = time.perf_counter()
    with _process("bare", command, place.core, place.folder, {}) as process:
        paths = ("/v1/chat/completions", "/streams/v1/chat/completions")
        yield _answering(Server("bare relay", "bare", process, port, "none", paths), place, started)


@contextlib.contextmanager
def gateway(place: Place) -> Iterator[Server]:
    """The gateway as `make run` starts it: with its keys, its directory and its log, in a folder of its own."""
    port = free_port()
    home = place.folder / "stile-home"
    home.mkdir()
    environment = {
        "STILE_HOME": str(home),
        "STILE_HOST": "127.0.0.1",
        "STILE_PORT": str(port),
        "STILE_CONFIG": str(_litellm_config(place, "stile.yaml", *_routing(place))),
    }
    command = [sys.executable, str(ROOT / "src" / "lambda" / "app.py")]
    started = time.perf_counter()
    with _process("stile", command, place.core, place.folder, environment) as process:
        output = place.folder / "stile.out"
        _wait(process, lambda: KEY.search(output.read_text()) is not None, output)
        key = KEY.search(output.read_text())
        assert key
        yield _answering(Server(GATEWAY, "stile", process, port, key[0]), place, started)


def routed(server: Server) -> Server:
    """The same process, asked for models that need routing: two processes of one program differ by more than that."""
    return dataclasses.replace(server, name=ROUTED, models=("routed", "routed-stream"))


@contextlib.contextmanager
def litellm(place: Place) -> Iterator[Server]:
    """LiteLLM's proxy: one worker, a master key, no database."""
    program = litellm_environment() / "bin" / "litellm"
    port = free_port()
    config = _litellm_config(place, "litellm.yaml", {"general_settings": {"master_key": "sk-bench"}})
    command = [str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--num_workers", "1", "--telemetry", "False"]
    environment = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION"}
    started = time.perf_counter()
    with _process("litellm", command, place.core, place.folder, environment) as process:
        yield _answering(Server("LiteLLM proxy", "litellm", process, port, "sk-bench", slow=True), place, started)


def litellm_environment() -> pathlib.Path:
    """Its environment, made first if there is none: beside the project's own, named by version and interpreter."""
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "stile"
    version = LITELLM.partition("==")[2]
    folder = cache / f"bench-litellm-{version}-py{sys.version_info.major}.{sys.version_info.minor}"
    ready = folder / ".ready"
    if not ready.exists():
        print(f"Installing {LITELLM} for the comparison (once; two minutes) …", file=sys.stderr, flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        install = ["-m", "pip", "install", "-qq", "--disable-pip-version-check", LITELLM]
        subprocess.run([folder / "bin" / "python", *install], check=True)
        subprocess.run([folder / "bin" / "python", "-m", "compileall", "-q", "-j", "0", folder / "lib"], check=False)
        ready.touch()
    return folder


def _routing(place: Place) -> tuple[Mapping[str, object], list[Mapping[str, object]]]:
    """A hundred models beside the plain ones: two weighted targets for each, time-outs, and fallbacks that no call
    needs."""
    names = ["routed", "routed-stream", *(f"model-{number}" for number in range(98))]
    entries = [_entry(name, place, weight=weight, timeout=60, stream_timeout=30) for name in names for weight in (1, 2)]
    fallbacks = [{name: names[2:5]} for name in names if name not in names[2:5]]
    return {"router_settings": {"num_retries": 2, "allowed_fails": 3, "fallbacks": fallbacks}}, entries


def _entry(model: str, place: Place, **more: object) -> Mapping[str, object]:
    port = place.streams_port if model.endswith("-stream") else place.calls_port
    params = {"model": "openai/bench", "api_base": f"http://127.0.0.1:{port}/v1", "api_key": "x", **more}
    return {"model_name": model, "litellm_params": params}


def _litellm_config(
    place: Place, name: str, more: Mapping[str, object], entries: Sequence[Mapping[str, object]] = ()
) -> pathlib.Path:
    """A config in LiteLLM's dialect with both plain models, and `entries` beside them; JSON is YAML too."""
    plain = [_entry(model, place) for model in ("bench", "bench-stream")]
    config = place.folder / name
    config.write_text(json.dumps({"model_list": [*plain, *entries], **more}, indent=2))
    return config


@contextlib.contextmanager
def _process(
    name: str, command: list[str], core: int, folder: pathlib.Path, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """A process on one core, in a session of its own, its output in `<name>.out`; it ends when the block does."""
    guard = shutil.which("setpriv")
    prefix = [guard, "--pdeathsig", "TERM"] if guard else []
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("STILE_", "LITELLM_"))}
    own = os.sched_getaffinity(0)
    with (folder / f"{name}.out").open("wb") as output:
        os.sched_setaffinity(0, {core})  # children inherit it, from their first instruction on
        try:
            process = subprocess.Popen(
                [*prefix, *command],
                cwd=folder,
                env={**inherited, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        finally:
            os.sched_setaffinity(0, own)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answering(server: Server, place: Place, started: float) -> Server:
    """The server, once it has answered a call; with the seconds that took since `started`, and its memory then."""
    output = place.folder / f"{server.log}.out"
    _wait(server.process, lambda: place.bed.answers(server.target(streams=False)), output)
    server.start_seconds = time.perf_counter() - started
    server.idle_mb = rss(server.pid)
    return server


def _wait(process: subprocess.Popen[bytes], ready: Callable[[], bool], output: pathlib.Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while not ready():
        if process.poll() is not None or time.monotonic() > until:
            words = output.read_text(errors="replace")[-_LAST_WORDS:]
            raise StartError(f"{output.stem} did not start (exit code {process.poll()}):\n{words}")
        time.sleep(0.01)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
