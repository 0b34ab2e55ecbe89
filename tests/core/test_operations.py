"""Operations by their paths."""

import pytest

from stile.core import operations
from stile.core.operations import Operation


@pytest.mark.parametrize(("operation", "path"), operations.PATHS.items())
def test_an_operation_is_found_by_its_path_with_and_without_a_version(operation: Operation, path: str) -> None:
    assert operations.by_path(path) == operations.by_path(f"/v1{path}") == operation


@pytest.mark.parametrize(
    "path", ["", "/v1", "/v1/", "/v2/chat/completions", "/v1/chat", "chat/completions", "/Responses"]
)
def test_other_paths_are_no_operations(path: str) -> None:
    assert operations.by_path(path) is None


def test_each_operation_belongs_to_a_dialect() -> None:
    assert operations.PATHS.keys() == operations.OPENAI | operations.ANTHROPIC
    assert not operations.OPENAI & operations.ANTHROPIC
    assert {"responses"} == operations.OPENAI - operations.OPENAI_LIKE
