"""The template as CloudFormation would see it: transformed by SAM's own translator, and evaluated for given parameters.

The translator lives in the environment of AWS's tools and is asked there. Of the intrinsic functions those are
evaluated that the template uses; what only AWS can know stands as text, as in `<Gateway.Arn>`.
"""

import functools
import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools import venv

ROOT = Path(__file__).parent.parent.parent
TEMPLATE = ROOT / "template.yaml"
_TOOLS = ROOT / "tools" / "requirements-sam.txt"
_TRANSFORM = """
import json, sys
from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

class NoPolicies:
    def load(self):
        return {}

template = yaml_parse(open(sys.argv[1]).read())
template["Resources"]["Gateway"]["Properties"]["CodeUri"] = "s3://artifacts/gateway.zip"
plain = json.loads(json.dumps(template))
json.dump([plain, transform(template, {}, NoPolicies())], sys.stdout)
"""
_PSEUDO = {
    "AWS::Partition": "aws",
    "AWS::Region": "eu-central-1",
    "AWS::AccountId": "123456789012",
    "AWS::StackName": "stile",
    "AWS::URLSuffix": "amazonaws.com",
}
_ABSENT = object()


@functools.cache
def transformed() -> tuple[dict[str, Any], dict[str, Any]]:
    """The template as it is written, and as CloudFormation gets it."""
    python = venv.environment(_TOOLS) / "bin" / "python"
    shown = subprocess.run(
        [python, "-c", _TRANSFORM, TEMPLATE],
        env={**os.environ, "AWS_DEFAULT_REGION": "eu-central-1"},
        capture_output=True,
        text=True,
        check=True,
    )
    written, whole = json.loads(shown.stdout)
    return written, whole


def lint(folder: Path) -> str:
    """What cfn-lint finds in the transformed template; of SAM's own resources it does not look at all references."""
    template = folder / "template.json"
    template.write_text(json.dumps(transformed()[1]))
    command: list[str | Path] = [venv.environment(_TOOLS) / "bin" / "python", "-c"]
    command += ["from cfnlint.runner import main; main()", "--template", template, "--regions", "us-east-1"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    return shown.stdout + shown.stderr


def evaluate(**parameters: str) -> dict[str, Any]:
    """The resources that a deployment with these parameters would have, all functions evaluated."""
    evaluation, whole = _evaluation(parameters)
    resources = {
        name: resource
        for name, resource in whole["Resources"].items()
        if "Condition" not in resource or evaluation.holds(resource["Condition"])
    }
    found: dict[str, Any] = evaluation.of(resources)
    return found


def outputs(**parameters: str) -> dict[str, str]:
    """The outputs of a deployment with these parameters."""
    evaluation, whole = _evaluation(parameters)
    return {name: str(evaluation.of(output["Value"])) for name, output in whole["Outputs"].items()}


def _evaluation(parameters: Mapping[str, str]) -> tuple["_Evaluation", dict[str, Any]]:
    """With these parameters, and the template to evaluate."""
    written, whole = transformed()
    defaults = {name: str(parameter["Default"]) for name, parameter in written["Parameters"].items()}
    assert parameters.keys() <= defaults.keys()
    return _Evaluation({**defaults, **parameters}, written["Parameters"], whole), whole


class _Evaluation:
    def __init__(self, values: Mapping[str, str], kinds: Mapping[str, Any], template: Mapping[str, Any]) -> None:
        self._values = values
        self._kinds = kinds
        self._template = template

    def holds(self, condition: str) -> bool:
        return bool(self.of(self._template["Conditions"][condition]))

    def of(self, value: Any) -> Any:
        if isinstance(value, list):
            return [found for each in value if (found := self.of(each)) is not _ABSENT]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            ((name, argument),) = value.items()
            if name == "Ref" or (name.startswith("Fn::") and hasattr(self, f"_{name[4:].lower()}")):
                return self._ref(argument) if name == "Ref" else getattr(self, f"_{name[4:].lower()}")(argument)
        return {name: found for name, each in value.items() if (found := self.of(each)) is not _ABSENT}

    def _ref(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return _ABSENT
        if name in self._values:
            text = self._values[name]
            return text.split(",") if self._kinds[name]["Type"] == "CommaDelimitedList" else text
        return _PSEUDO.get(name, f"<{name}>")

    def _getatt(self, argument: list[str] | str) -> str:
        return f"<{argument if isinstance(argument, str) else '.'.join(argument)}>"

    def _if(self, argument: list[Any]) -> Any:
        condition, yes, no = argument
        return self.of(yes if self.holds(condition) else no)

    def _equals(self, argument: list[Any]) -> bool:
        one, other = map(self.of, argument)
        return bool(one == other)

    def _not(self, argument: list[Any]) -> bool:
        return not self.of(argument[0])

    def _join(self, argument: list[Any]) -> str:
        between, parts = argument
        return str(between).join(self.of(parts))

    def _split(self, argument: list[Any]) -> list[str]:
        between, text = argument
        return str(self.of(text)).split(between)

    def _select(self, argument: list[Any]) -> Any:
        number, items = argument
        return self.of(items)[int(number)]

    def _sub(self, argument: Any) -> str:
        text, own = (argument, {}) if isinstance(argument, str) else argument
        names = {name: str(self.of(value)) for name, value in own.items()}
        return re.sub(
            r"\$\{([\w:.]+)\}",
            lambda found: names.get(found[1]) or str(self._ref(found[1])),
            text,
        )
