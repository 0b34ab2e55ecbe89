"""What `make deploy` asks of the SAM CLI, what tells one deployment from another, and the way to the first key.

The SAM CLI's stand-in says what it was asked, and makes the stack. Account and stacks are a CloudFormation on a socket.
"""

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.template import stacks
from tests.template.cloudformation import ROOT, outputs
from tests.template.stacks import CloudFormation
from tools.deploy import deploy_id

SAMCLI = """
import json, os, pathlib, sys
import botocore.session
name = sys.argv[sys.argv.index("--stack-name") + 1]
pathlib.Path("asked.json").write_text(json.dumps({"command": sys.argv[1:], "environment": dict(os.environ)}))
if pathlib.Path("fails").exists():
    sys.exit(3)
botocore.session.Session().create_client("cloudformation").create_stack(StackName=name)
print("SAM's own outputs")
"""
DOC = ROOT / "doc" / "deploy.md"
TOKEN = re.compile(r"\b[0-9a-f]{64}\b")


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


class Checkout:
    """A checkout that has been built, in a shell of an account."""

    def __init__(self, folder: Path, account: CloudFormation) -> None:
        self.folder = folder
        self.account = account
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
        for name in ("CI", "GITHUB_ACTIONS"):
            self.environment.pop(name, None)
        self.environment |= account.environment()

    def deploy(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "tools.deploy", *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )

    def asked(self, *arguments: str) -> list[str]:
        """The SAM CLI's command of a deployment that succeeds."""
        ended = self.deploy(*arguments)
        assert ended.returncode == 0, ended.stderr
        return self.command

    @property
    def seen(self) -> dict[str, Any]:
        """All that the SAM CLI got."""
        found: dict[str, Any] = json.loads((self.folder / "asked.json").read_text())
        return found

    @property
    def command(self) -> list[str]:
        return [str(argument) for argument in self.seen["command"]]

    @property
    def hashes(self) -> list[str]:
        """The token's hashes among the parameters."""
        return [text.split("=")[1] for text in self.command if text.startswith("BootstrapSha256=")]

    def written(self) -> str:
        """All that is in files, and all that other programs and services got."""
        files = [path.read_text(errors="replace") for path in self.folder.rglob("*") if path.is_file()]
        return "\n".join([*files, json.dumps(self.account.requests)])


@pytest.fixture
def account() -> Iterator[CloudFormation]:
    """An account whose stacks have the template's outputs."""
    with stacks.running(outputs()) as running:
        yield running


@pytest.fixture
def checkout(tmp_path: Path, account: CloudFormation) -> Checkout:
    (tmp_path / "tools").mkdir()
    for name in ("deploy.py", "bootstrap_token.py"):
        shutil.copy(ROOT / "tools" / name, tmp_path / "tools")
    (tmp_path / "samcli.py").write_text(SAMCLI)
    (tmp_path / ".aws-sam" / "build" / "Gateway").mkdir(parents=True)
    (tmp_path / ".aws-sam" / "build" / "template.yaml").write_text("one")
    return Checkout(tmp_path, account)


@pytest.fixture
def deployed(checkout: Checkout) -> Checkout:
    """A checkout whose stack is there already."""
    checkout.account.stacks["stile"] = "UPDATE_COMPLETE"
    return checkout


def test_the_sam_cli_gets_the_stack_the_parameters_and_a_deploy_id(deployed: Checkout) -> None:
    deployed.account.stacks["mine"] = "UPDATE_COMPLETE"
    command = deployed.asked("--stack", "mine", "SnapStart=true", "SecretArns=a,b")
    assert command[:3] == ["deploy", "--stack-name", "mine"]
    assert command[-4] == "--parameter-overrides"
    assert command[-3].startswith("DeployId=")
    assert command[-2:] == ["SnapStart=true", "SecretArns=a,b"]


def test_a_changed_template_is_another_deployment(deployed: Checkout) -> None:
    before = deployed.asked()
    (deployed.folder / ".aws-sam" / "build" / "template.yaml").write_text("two")
    assert deployed.asked() != before


def test_a_deploy_id_that_is_given_is_meant(deployed: Checkout) -> None:
    assert [text for text in deployed.asked("DeployId=mine") if text.startswith("DeployId=")] == ["DeployId=mine"]


def test_what_cannot_be_deployed_says_what_to_do(checkout: Checkout) -> None:
    assert "write Name=value" in checkout.deploy("SnapStart").stderr
    shutil.rmtree(checkout.folder / ".aws-sam")
    missing = checkout.deploy()
    assert missing.returncode == 1
    assert "sam build" in missing.stderr


def test_a_first_deployment_ends_with_the_base_url_and_a_line_that_makes_the_first_admin(checkout: Checkout) -> None:
    ended = checkout.deploy()
    assert ended.returncode == 0, ended.stderr
    shown = ended.stdout.split("SAM's own outputs")[1]
    assert outputs()["BaseUrl"] in shown
    command = shlex.split(ended.stdout.splitlines()[-1])
    assert command[:3] == ["curl", "-X", "POST"]
    assert command[3] == outputs()["BaseUrl"].removesuffix("/v1") + "/api/bootstrap"
    assert command[4:6] == ["-H", "content-type: application/json"]
    assert command[6] == "-d"
    sent = json.loads(command[7])
    assert sent.keys() == {"token", "email"}
    assert checkout.hashes == [hashlib.sha256(sent["token"].encode()).hexdigest()]


def test_the_end_of_a_first_deployment_is_the_docs(checkout: Checkout) -> None:
    shown = checkout.deploy().stdout.split("SAM's own outputs\n")[1]
    example = re.search(r"^```text\n(Deployed\..*?)^```$", DOC.read_text(), re.MULTILINE | re.DOTALL)
    assert example is not None
    assert TOKEN.sub("4f6c…", shown).replace("<Api>", "abcde12345").lstrip() == example[1]


def test_the_token_is_shown_once_and_is_nowhere_else(checkout: Checkout) -> None:
    ended = checkout.deploy()
    (token,) = TOKEN.findall(ended.stdout)
    assert TOKEN.findall(ended.stderr) == []
    assert token not in checkout.written()
    assert checkout.hashes[0] in checkout.written()


def test_each_first_deployment_has_a_token_of_its_own(checkout: Checkout) -> None:
    found = [TOKEN.findall(checkout.deploy("--stack", name).stdout)[0] for name in ("one", "two")]
    assert found[0] != found[1]


def test_a_new_token_is_another_deployment(deployed: Checkout) -> None:
    before, after = deployed.asked("--bootstrap"), deployed.asked("--bootstrap")
    ids = [text for text in (*before, *after) if text.startswith("DeployId=")]
    assert ids[0] != ids[1]


def test_a_change_set_that_nobody_executed_is_no_deployment(checkout: Checkout) -> None:
    checkout.account.stacks["stile"] = "REVIEW_IN_PROGRESS"
    assert len(TOKEN.findall(checkout.deploy().stdout)) == 1


def test_a_later_deployment_makes_a_token_only_when_asked(deployed: Checkout) -> None:
    ended = deployed.deploy("MemorySize=512")
    assert TOKEN.findall(ended.stdout) == deployed.hashes == []
    again = deployed.deploy("--bootstrap", "MemorySize=512")
    (token,) = TOKEN.findall(again.stdout)
    assert deployed.hashes == [hashlib.sha256(token.encode()).hexdigest()]


def test_a_hash_that_is_given_is_used_and_no_token_made(checkout: Checkout) -> None:
    given = hashlib.sha256(b"mine").hexdigest()
    ended = checkout.deploy(f"BootstrapSha256={given}")
    assert (ended.returncode, TOKEN.findall(ended.stdout)) == (0, [])
    assert checkout.hashes == [given]


def test_a_hash_and_a_wish_for_a_token_are_refused(deployed: Checkout) -> None:
    ended = deployed.deploy("--bootstrap", f"BootstrapSha256={'0' * 64}")
    assert ended.returncode == 2
    assert "leave one of them out" in ended.stderr
    assert not (deployed.folder / "asked.json").exists()


def test_a_failed_deployment_shows_no_token_and_says_how_to_have_one(checkout: Checkout) -> None:
    (checkout.folder / "fails").touch()
    ended = checkout.deploy()
    assert ended.returncode == 3
    assert len(checkout.hashes) == 1
    assert TOKEN.findall(ended.stdout + ended.stderr) == []
    assert "make deploy BOOTSTRAP=1" in ended.stderr


@pytest.mark.parametrize("variable", ["CI", "GITHUB_ACTIONS"])
def test_where_the_output_is_kept_no_token_is_made(checkout: Checkout, variable: str) -> None:
    checkout.environment[variable] = "true"
    ended = checkout.deploy()
    assert ended.returncode == 0, ended.stderr
    assert TOKEN.findall(ended.stdout + ended.stderr) == checkout.hashes == []
    assert "make bootstrap-token" in ended.stdout
    assert "make bootstrap-token" not in checkout.deploy().stdout, "the stack is there by now"


def test_a_deployed_token_is_shown_even_when_the_outputs_cannot_be_read(checkout: Checkout) -> None:
    checkout.account.fails_after = 2
    ended = checkout.deploy()
    assert ended.returncode == 0
    (token,) = TOKEN.findall(ended.stdout)
    assert checkout.hashes == [hashlib.sha256(token.encode()).hexdigest()]
    assert "is expired" in ended.stderr


def test_an_account_that_cannot_be_asked_gets_nothing_deployed(checkout: Checkout) -> None:
    checkout.account.fails_after = 0
    ended = checkout.deploy()
    assert ended.returncode == 1
    assert "is expired" in ended.stderr
    del checkout.environment["AWS_DEFAULT_REGION"]
    assert "You must specify a region" in checkout.deploy().stderr
    assert not (checkout.folder / "asked.json").exists()


def test_the_account_and_region_are_those_that_the_sam_cli_has_saved(checkout: Checkout) -> None:
    (checkout.folder / "credentials").write_text("[team]\naws_access_key_id = of-the-team\naws_secret_access_key = x\n")
    (checkout.folder / "samconfig.toml").write_text(
        'version = 0.1\n[default.global.parameters]\nregion = "us-east-1"\nprofile = "team"\n'
        '[default.deploy.parameters]\nregion = "eu-central-1"\n'
    )
    checkout.environment["AWS_SHARED_CREDENTIALS_FILE"] = str(checkout.folder / "credentials")
    assert checkout.deploy().returncode == 0
    asked = [request["credential"] for request in checkout.account.requests if request["Action"] == "DescribeStacks"]
    assert len(asked) == 2
    for credential in asked:
        assert re.search(r"Credential=of-the-team/\d{8}/eu-central-1/cloudformation/", credential)


def test_make_hands_the_wish_for_a_token_on() -> None:
    shown = {wish: make("--dry-run", "deploy", f"BOOTSTRAP={wish}", "PARAMETERS=A=1 B=2") for wish in ("", "1")}
    assert "--stack stile --bootstrap A=1 B=2\n" in shown["1"]
    assert "--bootstrap" not in shown[""]


def test_make_bootstrap_token_prints_a_new_token_and_its_hash() -> None:
    tokens = set()
    for text in (make("bootstrap-token"), make("bootstrap-token")):
        token, *hashes = TOKEN.findall(text)
        tokens.add(token)
        digest = hashlib.sha256(token.encode()).hexdigest()
        assert hashes == [digest, digest]
        assert f"make deploy PARAMETERS=BootstrapSha256={digest}\n" in text
        assert f"STILE_BOOTSTRAP_SHA256={digest}\n" in text
    assert len(tokens) == 2


def make(*arguments: str) -> str:
    command = ["make", "--silent", "--no-print-directory", "-C", str(ROOT), f"PYTHON={sys.executable}", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
