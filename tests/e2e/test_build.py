"""The artifact itself: what is in it, that nothing misses what was left out, and that it is made the same again."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.rie import ARTIFACT, ROOT
from tests.mocks import anthropic, bedrock, provider
from tools import build, prune

PACKAGE = ROOT / "build" / "lambda.zip"
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
# Only the artifact can be imported: no site-packages, no variables, no working folder.
BARE = [str(Path(sys.base_prefix) / "bin" / "python3"), "-I", "-S", "-c"]
ALONE = f"import sys; sys.path.insert(0, {str(ARTIFACT)!r})\n"

# Calls models through the gateway's own adapter, as it does it; answers what came back, and what it sent.
CALLS = """
import asyncio, json
import msgspec
from stile.adapters.upstream_litellm import LiteLLMUpstream
from stile.core.routes import Target
from stile.core.secret import Secret
from stile.ports import UpstreamRequest

async def main(provider, model, base, options, streams):
    upstream = LiteLLMUpstream(30)
    key = None if provider == "bedrock" else Secret("planted")
    way = {"api_base": base, "api_key": key, "options": options}
    target = Target(label=provider, provider=provider, model=model, via="litellm", **way)
    answers = []
    for stream in streams:
        body = {"model": "m", "stream": stream, "messages": [{"role": "user", "content": "hi"}]}
        fields = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in body.items()}
        answer = await upstream.send(UpstreamRequest("chat", target, fields, stream))
        data = answer.body if isinstance(answer.body, bytes) else b"".join([event async for event in answer.body])
        answers.append([answer.status, data.decode()])
    await upstream.close()
    print(json.dumps(answers))

asyncio.run(main(*json.loads(sys.argv[1])))
"""
# For every provider that LiteLLM translates for: which class does it, and what it makes of parameters and messages.
TRANSFORMS = """
import json, os, re
os.environ.update(LITELLM_LOCAL_MODEL_COST_MAP="True", OPENAI_API_KEY="x", AWS_REGION="eu-central-1")
import litellm
from litellm.types.utils import LlmProviders
from litellm.utils import ProviderConfigManager, get_optional_params
litellm.suppress_debug_info = True
from stile.core import providers

def of(name):
    try:
        model, found, _, _ = litellm.get_llm_provider(f"{name}/some-model", api_key="k", api_base="http://127.0.0.1:9")
        config = ProviderConfigManager.get_provider_chat_config(model, LlmProviders(found))
        params = get_optional_params(model=model, custom_llm_provider=found, max_tokens=5, stream=True, temperature=0)
        body = None
        if config is not None:
            body = config.transform_request(model, [{"role": "user", "content": "hi"}], dict(params), {}, {})
        return [found, type(config).__name__, sorted(params), re.sub(r"[0-9a-f-]{36}", "<uuid>", repr(body))]
    except Exception as error:
        assert not isinstance(error, (ImportError, FileNotFoundError)), (name, error)
        return [type(error).__name__, str(error)[:80]]

print(json.dumps({name: of(name) for name in sorted(providers.NAMES)}))
"""


GEMINI = {
    "candidates": [{"content": {"role": "model", "parts": [{"text": "hello"}]}, "finishReason": "STOP", "index": 0}],
    "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2},
}
COHERE = {
    "id": "1",
    "finish_reason": "COMPLETE",
    "message": {"role": "assistant", "content": [{"type": "text", "text": "hello"}]},
    "usage": {"tokens": {"input_tokens": 1, "output_tokens": 1}},
}


def alone(code: str, *arguments: str) -> str:
    """What a bare interpreter prints that has nothing but the artifact."""
    done = subprocess.run([*BARE, ALONE + code, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def called(name: str, model: str, script: provider.Script, options: dict[str, str], *streams: bool) -> list[str]:
    """What the artifact makes of a provider's answers."""
    with provider.on_a_thread(script) as server:
        answers = json.loads(alone(CALLS, json.dumps([name, model, server.url, options, streams])))
    assert [status for status, _ in answers] == [200] * len(streams), answers
    return [text for _, text in answers]


def said(answer: str) -> str:
    text: str = json.loads(answer)["choices"][0]["message"]["content"]
    return text


@pytest.mark.parametrize(
    ("name", "model", "script"),
    [
        ("anthropic", anthropic.MODEL, anthropic.chat),
        ("bedrock", "anthropic.claude-3-haiku-20240307-v1:0", bedrock.converse),
    ],
)
def test_translated_calls_and_streams_work_from_the_artifact_alone(
    name: str, model: str, script: provider.Script
) -> None:
    aws = {"aws_access_key_id": "AKIA", "aws_secret_access_key": "planted", "aws_region_name": "eu-west-1"}
    whole, streamed = called(name, model, script, aws if name == "bedrock" else {}, False, True)
    assert said(whole) == "".join(anthropic.WORDS)
    assert streamed.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize(("name", "model", "answer"), [("gemini", "gemini-x", GEMINI), ("cohere", "command-x", COHERE)])
def test_the_other_translated_providers_of_the_documents_work_too(
    name: str, model: str, answer: dict[str, Any]
) -> None:
    (whole,) = called(name, model, provider.status(200, answer), {}, False)
    assert said(whole) == "hello"


def test_every_provider_is_transformed_for_as_with_nothing_left_out() -> None:
    whole = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT / 'src' / 'lambda')!r})\n{TRANSFORMS}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    expected: dict[str, Any] = json.loads(whole.stdout)
    assert json.loads(alone(TRANSFORMS)) == expected
    transformed = {name for name, found in expected.items() if len(found) == 4 and found[1] != "NoneType"}
    assert {"anthropic", "cohere", "vertex_ai", "perplexity", "databricks", "watsonx"} <= transformed
    assert len(transformed) > 60


def test_tokens_are_counted_and_costs_known_without_a_network() -> None:
    code = """
import os
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm
print(litellm.token_counter(model="gpt-4o", text="hello world"), litellm.cost_per_token("gpt-4o", 1000, 0)[0] > 0)
"""
    assert alone(code).split() == ["2", "True"]


def test_our_own_modules_have_their_sources_and_all_have_bytecode() -> None:
    sources = [
        path for path in ARTIFACT.rglob("*.py") if path.relative_to(ARTIFACT).parts[0] not in ("stile", "app.py")
    ]
    assert not sources
    for source in (ARTIFACT / "stile").rglob("*.py"):
        tag = sys.implementation.cache_tag
        assert (source.parent / "__pycache__" / f"{source.stem}.{tag}.pyc").is_file(), source


def test_bytecode_is_believed_and_names_the_place_on_lambda() -> None:
    pyc = next((ARTIFACT / "stile" / "__pycache__").glob("serverless.*.pyc")).read_bytes()
    assert int.from_bytes(pyc[4:8], "little") == 0b01  # PEP 552: by hash, unchecked
    assert b"/var/task/stile/serverless.py" in pyc
    assert str(ROOT).encode() not in pyc


def test_the_package_is_the_tree_and_its_bootstrap_can_be_run() -> None:
    with zipfile.ZipFile(PACKAGE) as package:
        entries = {entry.filename: entry for entry in package.infolist()}
    assert set(entries) == {str(path.relative_to(ARTIFACT)) for path in ARTIFACT.rglob("*") if path.is_file()}
    assert entries["bootstrap"].external_attr >> 16 == 0o100755
    assert entries["app.py"].external_attr >> 16 == 0o100644
    assert sum(entry.file_size for entry in entries.values()) < build.LIMIT_BYTES


def test_what_is_left_out_is_out() -> None:
    installed = {path.name.split("-")[0].replace("_", "-") for path in ARTIFACT.glob("*.dist-info")}
    assert not installed & prune.DISTRIBUTIONS.keys()
    assert {"litellm", "aiohttp", "msgspec"} <= installed
    assert not [pattern for pattern in prune.PATHS if pattern != "**/__pycache__" and list(ARTIFACT.glob(pattern))]


def copy_of_the_sources(folder: Path) -> Path:
    for name in ("src", "tools"):
        shutil.copytree(ROOT / name, folder / name)
    for name in ("Makefile", "requirements-dev.txt"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def make(folder: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = ["make", *arguments, f"ARCH={os.uname().machine.replace('aarch64', 'arm64')}"]
    env = {**os.environ, **environment}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False)


def test_the_same_sources_make_the_same_bytes_elsewhere(tmp_path: Path) -> None:
    folder = copy_of_the_sources(tmp_path)
    built = make(folder, "build", f"PYTHON={VERSION}")
    assert built.returncode == 0, built.stderr
    assert re.search(r"MB  in all, of 200$", built.stdout, re.MULTILINE)
    packages = [path.read_bytes() for path in (PACKAGE, folder / "build" / "lambda.zip")]
    assert hashlib.sha256(packages[0]).digest() == hashlib.sha256(packages[1]).digest()


def test_sam_gets_its_tree_with_the_model_file_packed(tmp_path: Path) -> None:
    folder = copy_of_the_sources(tmp_path)
    (folder / "config.yaml").write_text("model_list: []\n")
    artifacts = tmp_path / "artifacts"
    settings = {"ARTIFACTS_DIR": str(artifacts), "CONFIG": "config.yaml", "ALLOW_NO_PYC": "1"}
    built = make(folder, "build-Gateway", f"PYTHON={VERSION}", **settings)
    assert built.returncode == 0, built.stderr
    assert "WITHOUT BYTECODE" in built.stderr
    assert (artifacts / "config.yaml").read_text() == "model_list: []\n"
    assert (artifacts / "litellm" / "main.py").is_file()
    assert os.access(artifacts / "bootstrap", os.X_OK)


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["PYTHON=3.10"], {"PYENV_ROOT": "/nowhere"}, "is Python 3.10, which compiles the bytecode. Install it"),
        ([], {"PYTHON_BIN": "/nowhere/python3"}, "/nowhere/python3 is not Python 3.13"),
        ([f"PYTHON={VERSION}", "CONFIG=nowhere.yaml"], {}, "CONFIG=nowhere.yaml: there is no such file"),
    ],
)
def test_a_build_that_cannot_be_says_what_to_do(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], said: str
) -> None:
    built = make(copy_of_the_sources(tmp_path), "build", *arguments, **environment)
    assert built.returncode != 0
    assert said in built.stderr


def test_a_folder_that_holds_something_is_never_emptied(tmp_path: Path) -> None:
    folder = copy_of_the_sources(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    built = make(folder, "build-Gateway", f"PYTHON={VERSION}", ARTIFACTS_DIR=str(tmp_path / "mine"))
    assert built.returncode != 0
    assert "is not empty" in built.stderr
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
