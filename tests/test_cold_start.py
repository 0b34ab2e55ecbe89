"""What a start and a relayed call import: asked of a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

from tests import program
from tests.mocks.openai import Upstream

ROOT = Path(__file__).parent.parent / "src" / "lambda"

CODE = """
import asyncio, os, sys
from stile import build, local, settings
from stile.telemetry.journal import Telemetry

async def main():
    known = settings.read(os.environ)
    configuration = await build.read_configuration(known, os.environ)
    async with build.gateway(known, configuration, Telemetry(known)) as gateway:
        key = await local._first_key(gateway)
        for stream in ("false", "true"):
            status = await call(gateway.app, key, b'{"model":"ok","stream":%s,"messages":[{}]}' % stream.encode())
            assert status == 200, status

async def call(app, key, body):
    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions",
             "headers": [(b"authorization", b"Bearer " + key.encode())]}
    sent = []
    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}
    async def send(message):
        sent.append(message)
    await app(scope, receive, send)
    return sent[0]["status"]

asyncio.run(main())
heavy = "aiohttp litellm openai pydantic httpx boto3 botocore starlette fastapi mcp mcp_types jwt cryptography".split()
print([name for name in heavy if name in sys.modules])
"""


def test_a_start_and_relayed_calls_import_neither_litellm_nor_the_sdk_of_mcp(folder: Path, upstream: Upstream) -> None:
    config = folder / "config.yaml"
    config.write_text(
        f"model_list:\n  - {{model_name: ok, litellm_params: {{model: openai/ok, api_base: '{upstream.base}'}}}}\n"
        "  - {model_name: claude, litellm_params: {model: anthropic/claude-sonnet-5, api_key: x}}\n"
    )
    env = program.environment(
        folder / "home", STILE_CONFIG=str(config), STILE_LOG_FILE=os.devnull, PYTHONPATH=str(ROOT)
    )
    shown = subprocess.run([sys.executable, "-c", CODE], env=env, capture_output=True, text=True, check=False)
    assert (shown.stderr, shown.stdout.strip()) == ("", "[]")
