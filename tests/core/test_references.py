"""References to secrets: which texts are some, what they name, and what is wrong with those that name nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stile.core import references
from stile.core.references import Reference

SECRET = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:keys-AbCdEf"
PARAMETER = "arn:aws:ssm:us-east-1:123456789012:parameter/stile/key"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("aws.secretsmanager/keys", Reference("secretsmanager", "keys")),
        ("aws.secretsmanager/team/keys", Reference("secretsmanager", "team/keys")),
        ("aws.secretsmanager/keys#OPENAI_API_KEY", Reference("secretsmanager", "keys", "OPENAI_API_KEY")),
        ("aws.secretsmanager/keys#a#b", Reference("secretsmanager", "keys", "a#b")),
        (f"aws.secretsmanager/{SECRET}#A", Reference("secretsmanager", SECRET, "A")),
        ("aws.ssm/key", Reference("ssm", "key")),
        ("aws.ssm//stile/key", Reference("ssm", "/stile/key")),
        (f"aws.ssm/{PARAMETER}", Reference("ssm", PARAMETER)),
    ],
)
def test_a_reference_says_where_its_value_is(text: str, expected: Reference) -> None:
    assert references.is_reference(text)
    assert references.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "region"),
    [
        (f"aws.secretsmanager/{SECRET}", "eu-west-1"),
        (f"aws.secretsmanager/{SECRET}#A", "eu-west-1"),
        (f"aws.ssm/{PARAMETER}", "us-east-1"),
        ("aws.ssm/arn:aws-cn:ssm:cn-north-1:123456789012:parameter/a:b", "cn-north-1"),
        ("aws.ssm/arn", None),
        ("aws.ssm/key:3", None),
        ("aws.secretsmanager/keys", None),
        ("aws.secretsmanager/a:b:c:d:e:f", None),
    ],
)
def test_only_an_arn_tells_a_region(text: str, region: str | None) -> None:
    assert references.parse(text).region == region


@pytest.mark.parametrize(
    "name",
    [
        "arn:",
        "arn:aws:ssm:eu-west-1",
        "arn:aws:ssm::123456789012:parameter/a",
        "arn:aws:ssm:eu-west-1:12345:parameter/a",
        "arn:aws:ssm:eu-west-1:123456789012:parameter/",
        "arn:aws:ssm:eu west:123456789012:parameter/a",
        "arn:aws:ssm:a.example/:123456789012:parameter/a",
        "arn:aws:ssm:a.example\\:123456789012:parameter/a",
        "arn:aws:ssm:eu-west-1:123456789012:parameter/a\nb",
        "arn:aws:s3:::a",
    ],
)
def test_what_is_no_arn_of_such_a_thing_is_refused_before_any_host_is_asked(name: str) -> None:
    form = "arn:aws:ssm:REGION:ACCOUNT:parameter/NAME"
    with pytest.raises(ValueError, match=f"^an ARN after aws.ssm/ has the form {form}$"):
        references.parse(f"aws.ssm/{name}")
    form, name = (text.replace(":ssm:", ":secretsmanager:").replace("parameter/", "secret:") for text in (form, name))
    with pytest.raises(ValueError, match=f"^an ARN after aws.secretsmanager/ has the form {form}$"):
        references.parse(f"aws.secretsmanager/{name}")


@pytest.mark.parametrize("text", [f"aws.ssm/{SECRET}", f"aws.secretsmanager/{PARAMETER}#A"])
def test_an_arn_of_the_other_service_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="an ARN after aws"):
        references.parse(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("aws.secretsmanager/", "a name or an ARN must follow aws.secretsmanager/"),
        ("aws.secretsmanager/#A", "a name or an ARN must follow aws.secretsmanager/"),
        ("aws.secretsmanager/keys#", "the name of a field must follow #"),
        ("aws.ssm/", "a name or an ARN must follow aws.ssm/"),
        ("aws.ssm/key#", "the name of a field must follow #"),
        ("aws.ssm/key#A", "a parameter has no fields"),
    ],
)
def test_one_that_names_nothing_says_what_is_wrong(text: str, why: str) -> None:
    assert references.is_reference(text)
    with pytest.raises(ValueError, match=f"^{why}$"):
        references.parse(text)


@pytest.mark.parametrize(
    "text", ["", "sk-key", "aws.s3/x", "os.environ/aws.ssm/x", " aws.ssm/x", "aws.ssm", "AWS.SSM/x"]
)
def test_other_texts_are_no_references(text: str) -> None:
    assert not references.is_reference(text)


@given(prefix=st.sampled_from(["aws.secretsmanager/", "aws.ssm/"]), rest=st.text(st.characters(), max_size=40))
def test_every_reference_is_read_back_as_it_was_written_or_refused(prefix: str, rest: str) -> None:
    try:
        found = references.parse(prefix + rest)
    except ValueError:
        assert not rest.partition("#")[0] or "#" in rest or rest.startswith("arn:")
        return
    assert found.name + ("" if found.field is None else f"#{found.field}") == rest
    assert found.region is None or found.name.startswith("arn:")
