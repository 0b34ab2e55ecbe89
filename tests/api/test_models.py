"""The list of models, and who sees which."""

from tests.conftest import MODELS
from tests.program import Program


def test_the_list_names_every_model_of_the_file_and_echo(gateway: Program) -> None:
    listed = gateway.ask("GET", "/v1/models").json
    assert listed["object"] == "list"
    assert {model["id"] for model in listed["data"]} == {*MODELS, "nowhere", "echo"}
    assert {model["object"] for model in listed["data"]} == {"model"}


def test_one_model_can_be_shown(gateway: Program) -> None:
    shown = gateway.ask("GET", "/v1/models/ok").json
    assert shown["owned_by"] == "openai"
    assert shown["id"] == "ok"


def test_head_answers_without_a_body(gateway: Program) -> None:
    answer = gateway.ask("HEAD", "/v1/models")
    assert (answer.status, answer.body) == (200, b"")
