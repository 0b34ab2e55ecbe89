"""The name by which a deployment knows whether there is anything new to publish."""

from pathlib import Path

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
