"""The search for key material finds what it looks for."""

from pathlib import Path

from tests import leaks, program

# Put together here, so that this file's own text is no find.
KEY = "sk-stile-" + "0" * 48 + "-" + "A" * 59


def test_a_key_is_found_anywhere_but_in_the_banner() -> None:
    banner = f"  API key   {KEY}\ncurl http://h -H 'Authorization: Bearer {KEY}' -d '{{}}'\n"
    assert leaks.find(banner) == []
    assert len(leaks.find(f"{banner}log line with {KEY} in it")) == 1
    assert leaks.find(f"x {leaks.PROVIDER_KEY}")


def test_keys_and_peppers_are_found_in_files(tmp_path: Path) -> None:
    program.run("key", env=program.environment(tmp_path / "home"))
    (tmp_path / "one.out").write_text("harmless")
    assert leaks.in_folder(tmp_path) == []
    (tmp_path / "two.err").write_text(f"trace: {KEY}")
    (tmp_path / "three.log").write_text((tmp_path / "home" / "pepper.json").read_text())
    assert len(leaks.in_folder(tmp_path)) == 2
