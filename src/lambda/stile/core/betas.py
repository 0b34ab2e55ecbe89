"""Anthropic's beta flags (header `anthropic-beta`), and what is done about those that a place does not know.

Anthropic ignores none and refuses few; Bedrock refuses a whole call for one, most often without saying which. So a
refusal is read: flags that it names are left out, else those that Bedrock is not known to take, at last all of them.
Flags: Amazon Bedrock User Guide, "Anthropic Claude Messages API: request and response".
"""

import re

HEADER = b"anthropic-beta"

_REFUSED = re.compile(rb"anthropic[-_]beta|beta (flag|header)|(invalid|unknown|unsupported) beta", re.IGNORECASE)
_TAKEN_BY_BEDROCK = re.compile(
    r"computer-use-20\d\d-|token-efficient-tools-|interleaved-thinking-|output-128k-|dev-full-thinking-|context-1m-"
    r"|context-management-|effort-|tool-search-tool-|tool-examples-"
)
# A field of the body that is refused without its flag, as "Extra inputs are not permitted".
_FIELDS = (("context-management-", "context_management"), ("fast-mode-", "speed"))


def split(value: bytes) -> list[str]:
    """The flags of a header's value, in their order."""
    return [flag.strip() for flag in value.decode("latin-1").split(",") if flag.strip()]


def refused(status: int, body: bytes, sent: list[str]) -> list[str]:
    """Those of the flags to leave out after this answer; none when it is about something else."""
    if status != 400 or not sent or not _REFUSED.search(body):
        return []
    text = body.decode("utf-8", "replace")
    named = [flag for flag in sent if re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", text)]
    unknown = [flag for flag in sent if not _TAKEN_BY_BEDROCK.match(flag)]
    return named or unknown or sent


def fields_of(flags: list[str]) -> list[str]:
    """The fields of the body that go with these flags."""
    return [field for start, field in _FIELDS if any(flag.startswith(start) for flag in flags)]
