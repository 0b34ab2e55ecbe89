"""template.yaml, transformed as it will be and looked at from both sides of each condition."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.template.cloudformation import ROOT, evaluate, lint, transformed

from stile.settings import SETTINGS

STREAMED = "arn:aws:apigateway:eu-central-1:lambda:path/2021-11-15/functions/{}/response-streaming-invocations"
SECRET = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:keys-AbCdEf"
EVERYTHING = {
    "ConfigUri": "s3://bucket/folder/config.yaml",
    "ProviderSecretArn": SECRET,
    "SecretArns": f"{SECRET}1,{SECRET}2",
    "ReservedConcurrency": "5",
    "SnapStart": "true",
    "Tracing": "true",
}
# What a statement may name with a *, and why.
WILD = {
    "CallModels": "any model of any region that the account has access to: which ones is the callers' and keys' matter",
    "ListModels": "the action knows no resources",
    "Trace": "the actions know no resources",
}
WRAPPER = "AWS_LAMBDA_EXEC_WRAPPER"


def of_type(resources: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [resource["Properties"] for resource in resources.values() if resource["Type"] == kind]


def the(resources: dict[str, Any], kind: str) -> dict[str, Any]:
    (found,) = of_type(resources, kind)
    return found


def methods(resources: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in the(resources, "AWS::ApiGateway::RestApi")["Body"]["paths"].items():
        for method in item.values():
            yield path, method["x-amazon-apigateway-integration"]


def statements(resources: dict[str, Any]) -> Iterator[dict[str, Any]]:
    role = resources["Role"]["Properties"]
    assert "ManagedPolicyArns" not in role
    for policy in role["Policies"]:
        yield from policy["PolicyDocument"]["Statement"]


def listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


@pytest.mark.parametrize(
    ("snap_start", "target"), [("false", "<Gateway.Arn>"), ("true", "<Alias>")], ids=["function", "alias"]
)
def test_every_method_streams_from_what_is_live(snap_start: str, target: str) -> None:
    resources = evaluate(SnapStart=snap_start)
    found = dict(methods(resources))
    assert set(found) == {"/", "/{proxy+}"}
    for integration in found.values():
        assert integration == {
            "type": "aws_proxy",
            "httpMethod": "POST",
            "responseTransferMode": "STREAM",
            "timeoutInMillis": 900_000,
            "uri": STREAMED.format(target),
        }
    assert the(resources, "AWS::Lambda::Permission")["FunctionName"] == target


def test_cloudformation_gets_a_template_without_faults(tmp_path: Path) -> None:
    assert lint(tmp_path) == ""


def test_only_snapstart_makes_a_version_and_an_alias_anew_with_each_deploy_id() -> None:
    without = evaluate()
    assert not of_type(without, "AWS::Lambda::Version") + of_type(without, "AWS::Lambda::Alias")
    assert the(without, "AWS::Lambda::Function")["SnapStart"] == {"ApplyOn": "None"}
    resources = evaluate(SnapStart="true", DeployId="two")
    function = the(resources, "AWS::Lambda::Function")
    assert function["SnapStart"] == {"ApplyOn": "PublishedVersions"}
    # The version is replaced, which deletes the old one, and there is something new in the function to publish.
    assert the(resources, "AWS::Lambda::Version")["Description"] == "two"
    assert "two" in function["Description"]
    assert the(resources, "AWS::Lambda::Alias")["FunctionVersion"] == "<Version.Version>"
    assert "DeletionPolicy" not in resources["Version"]


@pytest.mark.parametrize("parameters", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_every_variable_of_the_function_is_a_setting(parameters: dict[str, str]) -> None:
    function = the(evaluate(**parameters), "AWS::Lambda::Function")
    variables = function["Environment"]["Variables"]
    assert variables.keys() - {WRAPPER} <= SETTINGS.keys()
    for name in variables.keys() - {WRAPPER}:
        SETTINGS[name].read(str(variables[name]))
    assert variables[WRAPPER] == "/var/task/bootstrap"
    assert function["Handler"] == "app.handler"
    assert not re.search(r"(?i)api_key|secret_access|token", json.dumps(variables))


@pytest.mark.parametrize("parameters", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_the_role_names_what_it_may_do(parameters: dict[str, str]) -> None:
    for statement in statements(evaluate(**parameters)):
        assert statement["Effect"] == "Allow"
        assert not [action for action in listed(statement["Action"]) if "*" in action]
        wild = [resource for resource in listed(statement["Resource"]) if "*" in resource]
        assert not wild or statement["Sid"] in WILD, wild


def test_the_role_has_just_what_the_parameters_ask_for() -> None:
    assert [statement["Sid"] for statement in statements(evaluate())] == ["Log", "CallModels", "ListModels"]
    found = {statement["Sid"]: statement["Resource"] for statement in statements(evaluate(**EVERYTHING))}
    assert found["ReadConfig"] == "arn:aws:s3:::bucket/folder/config.yaml"
    assert found["ReadProviderSecret"] == SECRET
    assert found["ReadSecrets"] == [f"{SECRET}1", f"{SECRET}2"]
    assert "Trace" in found


def test_parameters_reach_the_function() -> None:
    function = the(evaluate(**EVERYTHING, MemorySize="2048", Timeout="120"), "AWS::Lambda::Function")
    assert function["Environment"]["Variables"]["STILE_CONFIG"] == EVERYTHING["ConfigUri"]
    assert function["Environment"]["Variables"]["STILE_PROVIDER_SECRET_ARN"] == SECRET
    assert (function["MemorySize"], function["Timeout"]) == ("2048", "120")
    assert function["ReservedConcurrentExecutions"] == "5"
    assert function["TracingConfig"] == {"Mode": "Active"}
    assert "ReservedConcurrentExecutions" not in the(evaluate(), "AWS::Lambda::Function")


def test_the_function_is_what_the_artifact_is_built_for() -> None:
    function = the(evaluate(), "AWS::Lambda::Function")
    makefile = (ROOT / "Makefile").read_text()
    assert function["Runtime"] == f"python{re.search(r'^TARGET_PYTHON = (.*)$', makefile, re.MULTILINE)[1]}"  # type: ignore[index]
    assert function["Architectures"] == re.findall(r"^ARCH \?= (.*)$", makefile, re.MULTILINE)
    written, _ = transformed()
    assert written["Resources"]["Gateway"]["Metadata"] == {"BuildMethod": "makefile"}
    assert re.search(r"^build-Gateway:", makefile, re.MULTILINE)


def test_api_gateways_own_errors_can_be_read_by_pages_and_sdks() -> None:
    responses = the(evaluate(), "AWS::ApiGateway::RestApi")["Body"]["x-amazon-apigateway-gateway-responses"]
    assert {"DEFAULT_4XX", "DEFAULT_5XX", "THROTTLED", "REQUEST_TOO_LARGE"} <= responses.keys()
    for response in responses.values():
        headers = response["responseParameters"]
        assert headers["gatewayresponse.header.Access-Control-Allow-Origin"] == "'*'"
        assert headers["gatewayresponse.header.Access-Control-Expose-Headers"] == "'*'"
        text = response["responseTemplates"]["application/json"].replace("$context.error.messageString", '"said"')
        assert json.loads(text)["error"].keys() == {"message", "type", "param", "code"}


def test_throttles_are_parameters_and_no_body_is_ever_logged() -> None:
    stage = the(evaluate(StageRateLimit="7", RouteBurstLimit="9"), "AWS::ApiGateway::Stage")
    every, route = stage["MethodSettings"]
    assert (every["ResourcePath"], every["HttpMethod"], every["ThrottlingRateLimit"]) == ("/*", "*", "7")
    assert (route["ResourcePath"], route["ThrottlingBurstLimit"]) == ("/~1{proxy+}", "9")
    assert [settings["DataTraceEnabled"] for settings in stage["MethodSettings"]] == [False, False]


def test_access_is_logged_as_json_with_the_times_of_streams() -> None:
    setting = the(evaluate(), "AWS::ApiGateway::Stage")["AccessLogSetting"]
    fields = json.loads(setting["Format"])
    assert {
        f"$context.integration.{name}"
        for name in ("responseTransferMode", "timeToFirstContent", "timeToAllHeaders", "latency")
    } <= set(fields.values())
    assert not [value for value in fields.values() if "header" in value.lower() and "timeTo" not in value]


def test_binary_bodies_are_named_one_by_one() -> None:
    types = the(evaluate(), "AWS::ApiGateway::RestApi")["Body"]["x-amazon-apigateway-binary-media-types"]
    assert {"multipart/form-data", "application/octet-stream", "audio/mpeg", "image/png"} <= set(types)
    assert not [name for name in types if "*" in name or "json" in name]


def test_the_endpoint_is_regional_and_has_one_stage() -> None:
    resources = evaluate()
    assert the(resources, "AWS::ApiGateway::RestApi")["EndpointConfiguration"] == {"Types": ["REGIONAL"]}
    assert the(resources, "AWS::ApiGateway::Stage")["StageName"] == "live"


@pytest.mark.parametrize("days", ["7", "30"])
def test_logs_are_kept_as_long_as_is_said(days: str) -> None:
    parameters = {} if days == "7" else {"LogRetentionDays": days}
    groups = of_type(evaluate(**parameters), "AWS::Logs::LogGroup")
    assert [str(group["RetentionInDays"]) for group in groups] == [days, days]
    assert the(evaluate(), "AWS::Lambda::Function")["LoggingConfig"] == {"LogFormat": "JSON", "LogGroup": "<Logs>"}


def test_the_accounts_log_role_is_made_on_demand_and_stays() -> None:
    resources, without = evaluate(), evaluate(ApiGatewayLogRole="false")
    assert resources["ApiGatewayAccount"]["DeletionPolicy"] == resources["ApiGatewayRole"]["DeletionPolicy"] == "Retain"
    assert not of_type(without, "AWS::ApiGateway::Account")
    # What the stage refers to refers to the role: so the role comes first, where there is one to make.
    assert the(resources, "AWS::ApiGateway::Stage")["AccessLogSetting"]["DestinationArn"] == "<AccessLogs.Arn>"
    assert resources["AccessLogs"]["Metadata"] == {"After": "<ApiGatewayAccount>"}
    assert "<ApiGatewayAccount>" not in json.dumps(without)


def test_every_parameter_is_in_the_doc_with_its_default() -> None:
    written, _ = transformed()
    page = (ROOT / "doc" / "deploy.md").read_text()
    table = dict(re.findall(r"^\| `(\w+)` \| (?:`([^`]*)`)? *\|", page, re.MULTILINE))
    assert table == {name: str(parameter["Default"]) for name, parameter in written["Parameters"].items()}


def test_settings_that_need_a_disk_point_to_the_one_that_can_be_written() -> None:
    variables = the(evaluate(), "AWS::Lambda::Function")["Environment"]["Variables"]
    assert Path(variables["STILE_HOME"]).is_relative_to("/tmp")
