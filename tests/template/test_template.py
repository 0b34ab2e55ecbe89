"""template.yaml, transformed as it will be and looked at from both sides of each condition."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from tests.template.cloudformation import ROOT, evaluate, lint, outputs, transformed

from stile.core.keys import SLOTS
from stile.core.records import MAX_ATTRIBUTE_BYTES, slot_attribute
from stile.entries import POLICY, ROLE
from stile.settings import SETTINGS

STREAMED = "arn:aws:apigateway:eu-central-1:lambda:path/2021-11-15/functions/{}/response-streaming-invocations"
SECRET = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:keys-AbCdEf"
PEPPER = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:pepper-AbCdEf"
PARAMETER = "arn:aws:ssm:eu-central-1:123456789012:parameter/stile/key"
EVERYTHING = {
    "ConfigUri": "s3://bucket/folder/config.yaml",
    "ProviderSecretArn": SECRET,
    "SecretArns": f"{SECRET}1,{SECRET}2",
    "ParameterArns": f"{PARAMETER}1,{PARAMETER}2",
    "BootstrapSha256": "0123456789abcdef" * 4,
    "UserPoolId": "eu-west-1_AbCdEfGhI",
    "PepperSecretArn": PEPPER,
    "ReservedConcurrency": "5",
    "SnapStart": "true",
    "Tracing": "true",
    "LogLevel": "debug",
    "LogContentBytes": "2000",
    "MetricsByModel": "true",
    "AlarmEmail": "ops@example.com",
}
# What a statement may name with a *, and why.
WILD = {
    "CallModels": "any model of any region that the account has access to: which ones is the callers' and keys' matter",
    "MakeModelKeys": "the action knows no resources; what such a key may call is what CallModels allows",
    "ListModels": "the action knows no resources",
    "Trace": "the actions know no resources",
}
# What stands for a made resource, as AWS would name it.
MADE = {"<UserPool>": "eu-central-1_AbCdEfGhI", "<Pepper>": PEPPER}
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


def variables(resources: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = the(resources, "AWS::Lambda::Function")["Environment"]["Variables"]
    return found


def cognitos_operations() -> set[str]:
    """Those of Cognito's operations that the adapters name."""
    known = set(botocore.session.get_session().get_service_model("cognito-idp").operation_names)
    sources = [ast.parse(path.read_text()) for path in (ROOT / "src/lambda/stile/adapters").glob("*.py")]
    named = {str(node.value) for source in sources for node in ast.walk(source) if isinstance(node, ast.Constant)}
    return named & known


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
    found = function["Environment"]["Variables"]
    assert found.keys() - {WRAPPER} <= SETTINGS.keys()
    for name in found.keys() - {WRAPPER}:
        SETTINGS[name].read(MADE.get(found[name], str(found[name])))
    assert found[WRAPPER] == "/var/task/bootstrap"
    assert function["Handler"] == "app.handler"
    assert not re.search(r"(?i)api_key|secret_access|token", json.dumps(found))


@pytest.mark.parametrize("parameters", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_the_role_names_what_it_may_do(parameters: dict[str, str]) -> None:
    for statement in statements(evaluate(**parameters)):
        assert statement["Effect"] == "Allow"
        assert not [action for action in listed(statement["Action"]) if "*" in action]
        wild = [resource for resource in listed(statement["Resource"]) if "*" in resource]
        assert not wild or statement["Sid"] in WILD, wild


def test_the_role_has_just_what_the_parameters_ask_for() -> None:
    always = ["Log", "ManageUsers", "ReadPepper", "CallModels", "MakeModelKeys", "ListModels"]
    assert [statement["Sid"] for statement in statements(evaluate())] == always
    found = {statement["Sid"]: statement["Resource"] for statement in statements(evaluate(**EVERYTHING))}
    assert found["ReadConfig"] == "arn:aws:s3:::bucket/folder/config.yaml"
    assert found["ReadProviderSecret"] == SECRET
    assert found["ReadSecrets"] == [f"{SECRET}1", f"{SECRET}2"]
    assert found["ReadParameters"] == [f"{PARAMETER}1", f"{PARAMETER}2"]
    assert "Trace" in found


@pytest.mark.parametrize(
    ("parameter", "arn", "sid", "action"),
    [
        ("SecretArns", SECRET, "ReadSecrets", "secretsmanager:GetSecretValue"),
        ("ParameterArns", PARAMETER, "ReadParameters", "ssm:GetParameter"),
    ],
)
def test_what_the_model_file_refers_to_can_be_read_and_nothing_beside_it(
    parameter: str, arn: str, sid: str, action: str
) -> None:
    for arns in ([arn], [f"{arn}1", f"{arn}2"]):
        before = [statement["Sid"] for statement in statements(evaluate())]
        added = [
            statement
            for statement in statements(evaluate(**{parameter: ",".join(arns)}))
            if statement["Sid"] not in before
        ]
        assert added == [{"Sid": sid, "Effect": "Allow", "Action": action, "Resource": arns}]


def test_parameters_reach_the_function() -> None:
    resources = evaluate(**EVERYTHING, MemorySize="2048", Timeout="120")
    function = the(resources, "AWS::Lambda::Function")
    assert variables(resources)["STILE_CONFIG"] == EVERYTHING["ConfigUri"]
    assert variables(resources)["STILE_PROVIDER_SECRET_ARN"] == SECRET
    assert variables(resources)["STILE_BOOTSTRAP_SHA256"] == EVERYTHING["BootstrapSha256"]
    assert variables(resources)["STILE_DIRECTORY"] == "cognito"
    assert (function["MemorySize"], function["Timeout"]) == ("2048", "120")
    assert function["ReservedConcurrentExecutions"] == "5"
    assert function["TracingConfig"] == {"Mode": "Active"}
    assert "ReservedConcurrentExecutions" not in the(evaluate(), "AWS::Lambda::Function")


def test_the_pool_has_an_attribute_for_all_that_is_kept_of_a_user() -> None:
    schema = the(evaluate(), "AWS::Cognito::UserPool")["Schema"]
    assert {attribute["Name"] for attribute in schema} == {ROLE, POLICY, *map(slot_attribute, range(1, SLOTS + 1))}
    assert len(schema) == SLOTS + 2
    for attribute in schema:
        assert attribute == {
            "Name": attribute["Name"],
            "AttributeDataType": "String",
            "Mutable": True,
            "StringAttributeConstraints": {"MaxLength": str(MAX_ATTRIBUTE_BYTES)},
        }


def test_only_admins_make_users_and_no_client_can_touch_their_attributes() -> None:
    resources = evaluate()
    pool = the(resources, "AWS::Cognito::UserPool")
    assert pool["AdminCreateUserConfig"] == {"AllowAdminCreateUserOnly": True}
    assert pool["UsernameAttributes"] == ["email"]
    assert pool["UsernameConfiguration"] == {"CaseSensitive": False}
    cognito = [resource["Type"] for resource in resources.values() if resource["Type"].startswith("AWS::Cognito::")]
    assert cognito == ["AWS::Cognito::UserPool"]


def test_users_keys_and_their_pepper_stay_when_the_stack_goes() -> None:
    resources = evaluate()
    for name in ("UserPool", "Pepper"):
        assert (resources[name]["DeletionPolicy"], resources[name]["UpdateReplacePolicy"]) == ("Retain", "Retain")
    assert the(resources, "AWS::Cognito::UserPool")["DeletionProtection"] == "ACTIVE"


def test_the_pools_tier_is_a_parameter_and_the_cheap_one_unless_said() -> None:
    assert the(evaluate(), "AWS::Cognito::UserPool")["UserPoolTier"] == "LITE"
    assert the(evaluate(UserPoolTier="PLUS"), "AWS::Cognito::UserPool")["UserPoolTier"] == "PLUS"


def test_the_pepper_is_generated_as_it_always_was() -> None:
    # Whoever has deployed once loses every key when this changes.
    assert the(evaluate(), "AWS::SecretsManager::Secret") == {
        "Description": "Pepper of the API keys of stile: without it all of them are dead",
        "GenerateSecretString": {"PasswordLength": 64, "ExcludePunctuation": True},
    }


def test_a_stack_has_its_own_pool_and_pepper() -> None:
    resources = evaluate()
    assert (variables(resources)["STILE_USER_POOL_ID"], variables(resources)["STILE_PEPPER_SECRET"]) == (
        "<UserPool>",
        "<Pepper>",
    )
    found = {statement["Sid"]: statement for statement in statements(resources)}
    assert found["ManageUsers"]["Resource"] == "<UserPool.Arn>"
    assert found["ReadPepper"]["Resource"] == "<Pepper>"


def test_a_pool_and_a_pepper_that_are_there_are_taken_over() -> None:
    resources = evaluate(UserPoolId="eu-west-1_AbCdEfGhI", PepperSecretArn=PEPPER)
    assert not of_type(resources, "AWS::Cognito::UserPool") + of_type(resources, "AWS::SecretsManager::Secret")
    assert (variables(resources)["STILE_USER_POOL_ID"], variables(resources)["STILE_PEPPER_SECRET"]) == (
        "eu-west-1_AbCdEfGhI",
        PEPPER,
    )
    found = {statement["Sid"]: statement for statement in statements(resources)}
    assert found["ManageUsers"]["Resource"] == (
        "arn:aws:cognito-idp:eu-west-1:123456789012:userpool/eu-west-1_AbCdEfGhI"
    )
    assert found["ReadPepper"]["Resource"] == PEPPER


@pytest.mark.parametrize("parameters", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_the_role_may_do_with_users_what_the_gateway_does_and_no_more(parameters: dict[str, str]) -> None:
    found = {statement["Sid"]: statement for statement in statements(evaluate(**parameters))}
    assert found["ManageUsers"]["Action"] == [f"cognito-idp:{name}" for name in sorted(cognitos_operations())]
    assert found["ReadPepper"]["Action"] == "secretsmanager:GetSecretValue"


@pytest.mark.parametrize("parameters", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_the_outputs_say_what_another_stack_needs_to_take_over(parameters: dict[str, str]) -> None:
    found, values = outputs(**parameters), variables(evaluate(**parameters))
    assert (found["UserPool"], found["Pepper"]) == (values["STILE_USER_POOL_ID"], values["STILE_PEPPER_SECRET"])
    assert '"token":"TOKEN"' in found["Bootstrap"]


@pytest.mark.parametrize(
    ("parameter", "good", "bad"),
    [
        ("BootstrapSha256", ["", "0123456789abcdef" * 4], ["0" * 63, "0" * 65, "A" * 64]),
        ("UserPoolId", ["", "eu-west-1_AbCdEfGhI", "us-gov-west-1_000000000"], ["AbC", "arn:aws:cognito-idp:x_y", "_"]),
        ("PepperSecretArn", ["", PEPPER], ["pepper", "arn:aws:s3:::pepper"]),
    ],
)
def test_a_wrong_parameter_is_refused_before_anything_is_made(parameter: str, good: list[str], bad: list[str]) -> None:
    pattern = transformed()[0]["Parameters"][parameter]["AllowedPattern"]
    assert all(re.fullmatch(pattern, text) for text in good)
    assert not any(re.fullmatch(pattern, text) for text in bad)


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
    for content, number in (("0", 2), ("1000", 3)):
        groups = of_type(evaluate(**parameters, LogContentBytes=content), "AWS::Logs::LogGroup")
        assert [str(group["RetentionInDays"]) for group in groups] == [days] * number
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
