"""Deploys what `sam build` has built: `make deploy` calls it, in the environment of AWS's tools.

With SnapStart the live alias moves to a new version only when DeployId changes. So it is made of all that a version
holds: the artifact's files, the template and the parameters. Who gives one means it.

A new stack has no admin: a token for the first one is made here, deployed as its hash, and shown when all is there. It
is in no file, in no environment and in no command; and where the output is kept, as in a workflow, none is made.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import botocore.session
from botocore.exceptions import BotoCoreError, ClientError
from tools import bootstrap_token

ROOT = Path(__file__).parent.parent
BUILT = ROOT / ".aws-sam" / "build"
SAVED = ROOT / "samconfig.toml"
HASH = "BootstrapSha256"
_UNSHOWN = """
deploy: it failed, so its bootstrap token is not shown. make deploy makes another as long as there is no stack, and
make deploy BOOTSTRAP=1 when there is one."""
_KEPT = """
No bootstrap token was made: it would stay in this log. On a machine of yours `make bootstrap-token` makes one;
deploy with its BootstrapSha256=… among the parameters."""


def main() -> int:
    options = _options()
    given = {text.split("=")[0] for text in options.parameters}
    if wrong := [text for text in options.parameters if "=" not in text]:
        return _refused(2, f"not a parameter to give: {', '.join(wrong)}; write Name=value")
    if options.bootstrap and HASH in given:
        return _refused(2, f"BOOTSTRAP=1 makes a token, and {HASH} names another: leave one of them out")
    if not (BUILT / "Gateway").is_dir():
        return _refused(1, "there is no artifact; make deploy builds it, and so does sam build")
    try:
        wanted = HASH not in given and (options.bootstrap or _stack(options.stack) is None)
    except (BotoCoreError, ClientError, tomllib.TOMLDecodeError) as fault:
        return _refused(1, f"cannot ask AWS whether there is a stack {options.stack}: {fault}")
    logged = bool(os.environ.get("CI") or os.environ.get("GITHUB_ACTIONS"))
    token = bootstrap_token.fresh() if wanted and not logged else None
    failed = _deploy(options.stack, options.parameters + ([f"{HASH}={bootstrap_token.digest(token)}"] if token else []))
    if failed:
        if token:
            print(_UNSHOWN, file=sys.stderr)
    elif token:
        _show(options.stack, token)
    elif wanted:
        print(_KEPT)
    return failed


def _deploy(stack: str, parameters: list[str]) -> int:
    """The SAM CLI's exit code."""
    named = any(text.startswith("DeployId=") for text in parameters)
    own = [] if named else [f"DeployId={deploy_id(BUILT, parameters)}"]
    command = [sys.executable, "-m", "samcli", "deploy", "--stack-name", stack, "--resolve-s3"]
    rules = ["--capabilities", "CAPABILITY_IAM", "--no-fail-on-empty-changeset"]
    return subprocess.run([*command, *rules, "--parameter-overrides", *own, *parameters], check=False).returncode


def deploy_id(tree: Path, parameters: list[str]) -> str:
    """A short name of these files and parameters, whatever the order of the latter."""
    digest = hashlib.sha256("\0".join(sorted(parameters)).encode())
    for path in sorted(tree.rglob("*")):
        if path.is_file():
            digest.update(f"\0{path.relative_to(tree).as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _show(stack: str, token: str) -> None:
    """The outputs that lead to the first key. The token is deployed, so it is shown also when they cannot be had."""
    try:
        found = _stack(stack) or {}
    except (BotoCoreError, ClientError) as fault:
        print(f"deploy: the stack's outputs cannot be read: {fault}", file=sys.stderr)
        found = {}
    outputs = {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}
    print("\nDeployed.")
    if "BaseUrl" in outputs:
        print(f"  Base URL  {outputs['BaseUrl']}")
    if "Bootstrap" in outputs:
        print("\nThis makes an admin and answers its key, once; put your address in. The token is kept nowhere else.\n")
        print(outputs["Bootstrap"].replace("TOKEN", token))
    else:
        print("\nThe stack's output Bootstrap makes an admin and answers its key, once, with this in TOKEN's place:\n")
        print(token)


def _stack(name: str) -> dict[str, Any] | None:
    """The stack as CloudFormation describes it; None when it was never deployed."""
    saved = _saved()
    session = botocore.session.Session(profile=saved.get("profile"))
    try:
        found = session.create_client("cloudformation", saved.get("region")).describe_stacks(StackName=name)
    except ClientError as error:
        # There is no better sign: the SAM CLI reads this text, too.
        if f"Stack with id {name} does not exist" in str(error):
            return None
        raise
    stack: dict[str, Any] = found["Stacks"][0]
    return None if stack["StackStatus"] == "REVIEW_IN_PROGRESS" else stack  # a change set that nobody executed


def _saved() -> dict[str, Any]:
    """What `sam deploy --guided` has saved for the SAM CLI, which believes it before the shell."""
    saved: dict[str, Any] = {}
    if SAVED.is_file():
        default = tomllib.loads(SAVED.read_text()).get("default", {})
        for command in ("global", "deploy"):
            saved |= default.get(command, {}).get("parameters", {})
    return saved


def _refused(code: int, message: str) -> int:
    print(f"deploy: {message}", file=sys.stderr)
    return code


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make deploy", description=__doc__)
    parser.add_argument("--stack", default="stile", help="the stack's name")
    parser.add_argument("--bootstrap", action="store_true", help="make a token for another first admin (BOOTSTRAP=1)")
    parser.add_argument("parameters", nargs="*", metavar="Name=value", help="parameters of the template")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
