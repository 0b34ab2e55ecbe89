"""What the answer to a model call tells of its way, in headers."""

import functools
from urllib.parse import quote

from stile.api.request import Request
from stile.ports import Headers
from stile.telemetry.redaction import MAX_SHOWN


def headers(request: Request) -> Headers:
    """Which target answered, after how many attempts, and the gateway's own share of the time; the last two are for
    those who read them from LiteLLM's proxy. None where no target was asked."""
    record = request.record
    if not record.attempts:
        return ()
    return [
        (b"x-stile-target", _visible(record.target or "")),
        (b"x-stile-attempts", b"%d" % record.attempts),
        (b"x-stile-overhead-ms", b"%.2f" % max(0, request.elapsed_ms() - record.upstream_ms)),
        (b"x-litellm-model-id", _visible(record.target_id or "")),
        (b"x-litellm-call-id", record.request_id.encode()),
    ]


@functools.lru_cache(1024)
def _visible(text: str) -> bytes:
    """A name as a header's value: callers choose some of them, and headers hold visible ASCII alone."""
    return quote(text, safe="/:@!$&'()*+,;=~ ?#[]")[:MAX_SHOWN].encode()
