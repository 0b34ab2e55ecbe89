"""`make check-config`: what of a model file is honoured, has no effect, or is wrong."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests import program

FILE = """model_list:
  - model_name: gpt-4o
    litellm_params:
      model: openai/gpt-4o
      api_key: os.environ/MY_KEY
      weight: 2
      tags: [fast]
router_settings:
  num_retries: 3
  redis_host: cache
litellm_settings:
  callbacks: [langfuse]
"""
WRONG = FILE.replace("weight: 2", "weight: -1").replace("num_retries: 3", "fallbacks: [{gpt-4o: [claude]}]")


@pytest.fixture
def file(folder: Path) -> Path:
    return folder / "config.yaml"


def check(folder: Path, *arguments: str, **environment: str) -> Any:
    return program.run("check-config", *arguments, env=program.environment(folder / "home", **environment))


def test_each_field_is_told_with_its_line(folder: Path, file: Path) -> None:
    file.write_text(FILE)
    ended = check(folder, str(file), MY_KEY="planted-key")
    assert (ended.returncode, ended.stderr) == (0, "")
    honoured, without = ended.stdout.split("Without effect:\n")
    assert f"  {file}:6: gpt-4o: litellm_params.weight\n" in honoured
    assert f"  {file}:9: router_settings.num_retries\n" in honoured
    assert f"  {file}:7: litellm_params.tags has no effect here\n" in without
    assert f"  {file}:10: router_settings.redis_host has no effect here\n" in without
    assert f"  {file}:12: litellm_settings.callbacks has no effect here\n" in without
    assert ended.stdout.endswith(f"{file}: fine (models: 1, targets: 1, providers: 1).\n")
    assert "planted" not in ended.stdout
    assert not (folder / "home").exists(), "nothing is made by looking"


def test_everything_wrong_is_told_at_once_and_the_exit_says_so(folder: Path, file: Path) -> None:
    file.write_text(WRONG)
    ended = check(folder, STILE_CONFIG=str(file))
    assert ended.returncode == 1
    wrong = ended.stdout.split("Wrong:\n")[1]
    assert f"  {file}:5: the environment variable MY_KEY is not set\n" in wrong
    assert f"  {file}:6: weight must be a number of at least 0\n" in wrong
    assert wrong.endswith(f"{file}: a start would refuse it.\n")


def test_a_start_refuses_the_same(folder: Path, file: Path) -> None:
    file.write_text(WRONG.replace("weight: -1", "weight: 1"))
    ended = program.run(env=program.environment(folder / "home", STILE_CONFIG=str(file), MY_KEY="x"))
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"stile: {file}:9: fallbacks: gpt-4o: there is no model claude\n")


def test_programs_read_it_as_json(folder: Path, file: Path) -> None:
    file.write_text(FILE)
    told = json.loads(check(folder, str(file), "--json", MY_KEY="x").stdout)
    assert (told["ok"], told["models"], told["targets"], told["providers"], told["wrong"]) == (True, 1, 1, 1, [])
    assert told["without_effect"]
    told = json.loads(check(folder, "--json", str(file)).stdout)
    assert (told["ok"], len(told["wrong"])) == (False, 1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "there is no model file to check"),
        (["nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["a.yaml", "b.yaml"], "usage: app.py check-config"),
        (["--jsn"], "usage: app.py check-config"),
    ],
)
def test_what_cannot_be_checked_is_told(folder: Path, arguments: list[str], said: str) -> None:
    ended = check(folder, *arguments)
    assert ended.returncode == 1
    assert said in ended.stderr


def test_a_start_counts_what_has_an_effect_and_names_what_has_none(folder: Path, file: Path) -> None:
    file.write_text(FILE)
    with program.running(folder / "gateway", STILE_CONFIG=str(file), MY_KEY="planted-key") as gateway:
        banner = gateway.out.read_text()
    assert "\n  Config    4 fields honoured, 3 without effect; make check-config names them\n" in banner
    assert f"\n  Note      {file}:7: litellm_params.tags has no effect here\n" in banner
    assert "planted" not in banner


@pytest.mark.parametrize("field", ["model", "api_base", "custom_llm_provider"])
def test_a_variable_in_a_wrong_field_is_told_without_what_it_holds(folder: Path, file: Path, field: str) -> None:
    params = {"model": "openai/m", field: "os.environ/MY_KEY"}
    file.write_text(json.dumps({"model_list": [{"model_name": "m", "litellm_params": params}]}))
    for value in ("planted-secret-key", "planted/secret-key", "planted\n'key'\\"):
        ended = check(folder, str(file), MY_KEY=value)
        assert ended.returncode == 1
        assert "os.environ/MY_KEY" in ended.stdout
        assert "planted" not in ended.stdout + ended.stderr
