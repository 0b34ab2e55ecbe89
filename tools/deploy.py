"""Deploys what `sam build` has built: `make deploy` calls it, in the environment of AWS's tools.

With SnapStart the live alias moves to a new version only when DeployId changes. So it is made of all that a version
holds: the artifact's files, the template and the parameters. Who gives one means it.
"""

import argparse
import hashlib
import subprocess
import sys
from pathlib import Path

BUILT = Path(__file__).parent.parent / ".aws-sam" / "build"


def main() -> int:
    options = _options()
    if wrong := [text for text in options.parameters if "=" not in text]:
        print(f"deploy: not a parameter to give: {', '.join(wrong)}; write Name=value", file=sys.stderr)
        return 2
    if not (BUILT / "Gateway").is_dir():
        print("deploy: there is no artifact; make deploy builds it, and so does sam build", file=sys.stderr)
        return 1
    named = any(text.startswith("DeployId=") for text in options.parameters)
    own = [] if named else [f"DeployId={deploy_id(BUILT, options.parameters)}"]
    command = [sys.executable, "-m", "samcli", "deploy", "--stack-name", options.stack, "--resolve-s3"]
    rules = ["--capabilities", "CAPABILITY_IAM", "--no-fail-on-empty-changeset"]
    return subprocess.run(
        [*command, *rules, "--parameter-overrides", *own, *options.parameters], check=False
    ).returncode


def deploy_id(tree: Path, parameters: list[str]) -> str:
    """A short name of these files and parameters, whatever the order of the latter."""
    digest = hashlib.sha256("\0".join(sorted(parameters)).encode())
    for path in sorted(tree.rglob("*")):
        if path.is_file():
            digest.update(f"\0{path.relative_to(tree).as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make deploy", description=__doc__)
    parser.add_argument("--stack", default="stile", help="the stack's name")
    parser.add_argument("parameters", nargs="*", metavar="Name=value", help="parameters of the template")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
