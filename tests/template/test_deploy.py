"""What `make deploy` asks of the SAM CLI, and the name that tells one deployment from another."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.template.cloudformation import ROOT
from tools.deploy import deploy_id


def tree(folder: Path, **files: str) -> Path:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_text(content)
    return folder


def test_the_same_files_and_parameters_are_the_same_deployment(tmp_path: Path) -> None:
    one, other = tree(tmp_path / "one", a="1", b="2"), tree(tmp_path / "other", b="2", a="1")
    assert deploy_id(one, ["A=1", "B=2"]) == deploy_id(other, ["B=2", "A=1"])


def test_a_changed_file_or_parameter_is_another(tmp_path: Path) -> None:
    same = tree(tmp_path / "same", a="1")
    changed, renamed = tree(tmp_path / "changed", a="2"), tree(tmp_path / "renamed", b="1")
    assert len({deploy_id(same, []), deploy_id(same, ["A=1"]), deploy_id(changed, []), deploy_id(renamed, [])}) == 4


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout that has been built, with a SAM CLI that only says what it is asked."""
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "deploy.py", tmp_path / "tools")
    (tmp_path / "samcli.py").write_text("import json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    (tmp_path / ".aws-sam" / "build" / "Gateway").mkdir(parents=True)
    (tmp_path / ".aws-sam" / "build" / "template.yaml").write_text("one")
    return tmp_path


def deploy(checkout: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tools.deploy", *arguments]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)


def asked(checkout: Path, *arguments: str) -> list[str]:
    found: list[str] = json.loads(deploy(checkout, *arguments).stdout)
    return found


def test_the_sam_cli_gets_the_stack_the_parameters_and_a_deploy_id(checkout: Path) -> None:
    command = asked(checkout, "--stack", "mine", "SnapStart=true", "SecretArns=a,b")
    assert command[:3] == ["deploy", "--stack-name", "mine"]
    assert command[-4] == "--parameter-overrides"
    assert command[-3].startswith("DeployId=")
    assert command[-2:] == ["SnapStart=true", "SecretArns=a,b"]


def test_a_changed_template_is_another_deployment(checkout: Path) -> None:
    before = asked(checkout)
    (checkout / ".aws-sam" / "build" / "template.yaml").write_text("two")
    assert asked(checkout) != before


def test_a_deploy_id_that_is_given_is_meant(checkout: Path) -> None:
    assert [text for text in asked(checkout, "DeployId=mine") if text.startswith("DeployId=")] == ["DeployId=mine"]


def test_what_cannot_be_deployed_says_what_to_do(checkout: Path) -> None:
    assert "write Name=value" in deploy(checkout, "SnapStart").stderr
    shutil.rmtree(checkout / ".aws-sam")
    missing = deploy(checkout)
    assert missing.returncode == 1
    assert "sam build" in missing.stderr
