"""What of a message reaches a translator, and which addresses are public."""

from typing import Any

import pytest

from stile.core import media
from stile.errors import BadRequest

PNG = "data:image/png;base64,iVBORw0KGgo="
PDF = "data:application/pdf;base64,JVBERi0="
INSIDE = "http://169.254.169.254/latest/meta-data"


def image(url: Any, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **more}}


def file(**fields: Any) -> dict[str, Any]:
    return {"type": "file", "file": fields}


def rebuilt(*parts: Any, role: str = "user", **fields: Any) -> tuple[dict[str, Any], list[media.Remote]]:
    messages, remotes = media.rebuild([{"role": role, "content": list(parts), **fields}])
    return messages[0], remotes


@pytest.mark.parametrize(
    "part",
    [
        {"type": "text", "text": f"see {INSIDE}, gs://bucket/x and file:///etc/passwd"},
        image(PNG),
        image(PNG, detail="low", format="image/png"),
        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
        file(file_data=PDF, filename="a.pdf"),
        file(file_id="file-abc_1"),
        {"type": "thinking", "thinking": INSIDE, "signature": "s"},
        {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}},
    ],
)
def test_known_content_passes_unchanged(part: dict[str, Any]) -> None:
    message, remotes = rebuilt(part)
    assert message["content"] == [part]
    assert remotes == []


def test_plain_text_and_tool_calls_pass_unchanged() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "get", "arguments": f'{{"url": "{INSIDE}"}}'}}
    messages = [
        {"role": "system", "content": f"never open {INSIDE}"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": INSIDE},
    ]
    assert media.rebuild(messages) == (messages, [])


@pytest.mark.parametrize(
    "part",
    [
        image("gs://bucket/image.png"),
        image("s3://bucket/image.png"),
        image("file:///etc/passwd"),
        image("/etc/passwd"),
        image("//169.254.169.254/x"),
        image("ftp://example.com/x"),
        image(f"data:,{INSIDE}"),
        image(f"data:image/png;base64,{INSIDE}"),
        image("data:image/png;base64,gs://bucket/x"),
        image(f"data:image/png;x={INSIDE};base64,AAAA"),
        image(f" {INSIDE}"),
        image(None),
        image({"url": INSIDE}),
        {"type": "image_url", "image_url": "gs://bucket/x"},
        {"type": "input_audio", "input_audio": {"data": INSIDE, "format": "wav"}},
        {"type": "input_audio", "input_audio": {"data": "data:audio/wav;base64,AAAA", "format": "wav"}},
        file(file_id="gs://bucket/x"),
        file(file_data="AAAA"),
        file(file_data="s3://bucket/x"),
        file(),
    ],
)
def test_media_that_are_not_data_are_refused(part: dict[str, Any]) -> None:
    with pytest.raises(BadRequest) as refused:
        rebuilt(part)
    assert (refused.value.code, refused.value.param) == ("media_url_not_allowed", "messages")


@pytest.mark.parametrize(
    "part",
    [
        image(PNG, format=INSIDE),
        image(PNG, detail=INSIDE),
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": f"wav;{INSIDE}"}},
        {"type": "image_url", "image_url": [INSIDE]},
        {"type": "image", "source": {"type": "url", "url": INSIDE}},
        {"type": "document", "source": {"type": "url", "url": INSIDE}},
        {"type": "video_url", "video_url": {"url": INSIDE}},
        {"type": "tool_result", "content": [image(INSIDE)]},
        {"type": "input_image", "image_url": INSIDE},
        {"image_url": {"url": INSIDE}},
        {"type": ["text"], "text": "x"},
        INSIDE,
        None,
    ],
)
def test_content_that_is_not_known_is_refused(part: object) -> None:
    with pytest.raises(BadRequest):
        rebuilt(part)


@pytest.mark.parametrize("role", ["user", "assistant", "system", "tool", "function"])
@pytest.mark.parametrize("part", [image(INSIDE), {"type": "image_url", "image_url": INSIDE}, file(file_id=INSIDE)])
def test_urls_are_found_in_messages_of_every_role(role: str, part: dict[str, Any]) -> None:
    _, remotes = rebuilt(part, role=role)
    assert [remote.url for remote in remotes] == [INSIDE]
    with pytest.raises(BadRequest, match="send base64") as refused:
        media.refuse(remotes)
    assert refused.value.code == "media_url_not_allowed"


def test_urls_are_found_in_an_assistants_images() -> None:
    _, remotes = rebuilt(role="assistant", images=[image(INSIDE)])
    assert [remote.url for remote in remotes] == [INSIDE]


def test_fetched_content_takes_the_place_of_its_url() -> None:
    message, remotes = rebuilt(image("https://a/x", detail="low"), file(file_id="https://a/y", filename="y.pdf"))
    for remote, content in zip(remotes, (PNG, PDF), strict=True):
        remote.fill(content)
    assert message["content"] == [image(PNG, detail="low"), file(filename="y.pdf", file_data=PDF)]


def test_fields_that_are_not_known_are_dropped() -> None:
    part = {"type": "text", "text": "x", "image_url": INSIDE, "source": {"type": "url", "url": INSIDE}}
    smuggled = {"provider_specific_fields": {"compaction_blocks": [part]}, "audio": {"url": INSIDE}, "url": INSIDE}
    message, remotes = rebuilt(part, role="assistant", **smuggled)
    assert message == {"role": "assistant", "content": [{"type": "text", "text": "x"}]}
    assert remotes == []


@pytest.mark.parametrize(
    "block",
    [
        image(PNG),
        {"type": "thinking", "thinking": '{"fileData": {"fileUri": "gs://bucket/x"}}', "signature": "s"},
        {"type": "thinking", "thinking": '{"file\\u0044ata": {}}', "signature": "s"},
    ],
)
def test_thoughts_hold_nothing_but_thoughts(block: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match="thinking alone"):
        rebuilt(role="assistant", thinking_blocks=[block])


@pytest.mark.parametrize("thinking", ["let me see", '{"text": "hm"}', "[1]", '{"open'])
def test_thoughts_pass_unchanged(thinking: str) -> None:
    blocks = [{"type": "thinking", "thinking": thinking, "signature": "s"}]
    assert rebuilt(role="assistant", thinking_blocks=blocks)[0]["thinking_blocks"] == blocks


@pytest.mark.parametrize("messages", [None, "hi", ["hi"], [{"role": "user", "content": 1}], [{"content": {"a": 1}}]])
def test_messages_of_another_shape_are_refused(messages: object) -> None:
    with pytest.raises(BadRequest) as refused:
        media.rebuild(messages)
    assert refused.value.param == "messages"


@pytest.mark.parametrize("texts", ["hi", ["a", "see https://a/b"], [1, 2], [[1], [2]], "it says gs://bucket/x"])
def test_text_and_tokens_may_be_embedded(texts: object) -> None:
    media.check_texts(texts)


@pytest.mark.parametrize(
    "texts", [None, {"gcsUri": "x"}, [{"text": "x"}], ["s3://bucket/x"], " GS://b/x", [["x"]], [True]]
)
def test_nothing_else_may_be_embedded(texts: object) -> None:
    with pytest.raises(BadRequest) as refused:
        media.check_texts(texts)
    assert refused.value.param == "input"


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "64:ff9b::808:808", "2002:808:808::1"])
def test_public_addresses(address: str) -> None:
    assert media.is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "192.0.2.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
        "2001:db8::1",
        "2001::1",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::7f00:1",
        "2002:7f00:1::1",
        "2606:4700::1111%eth0",
        "localhost",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not media.is_public(address)
