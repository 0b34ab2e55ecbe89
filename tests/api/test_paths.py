"""Paths with parameters."""

import pytest

from stile.api.paths import pattern


@pytest.mark.parametrize(
    ("template", "path", "found"),
    [
        ("/v1/models/{id:path}", "/v1/models/openai/gpt-4o", {"id": "openai/gpt-4o"}),
        ("/users/{user}/keys/{slot}", "/users/a.b/keys/7", {"user": "a.b", "slot": "7"}),
        ("/a.b/{id}", "/a.b/x", {"id": "x"}),
        ("/v1/models/{id:path}", "/v1/models/", None),
        ("/users/{user}", "/users/a/b", None),
        ("/users/{user}", "/users/", None),
        ("/a.b/{id}", "/aXb/x", None),
        ("/users/{user}", "/more/users/a", None),
    ],
)
def test_parameters_are_found_where_the_whole_path_fits(template: str, path: str, found: dict[str, str] | None) -> None:
    match = pattern(template).fullmatch(path)
    assert (match and match.groupdict()) == found
