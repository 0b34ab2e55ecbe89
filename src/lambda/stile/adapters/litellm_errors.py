"""What LiteLLM's exceptions say, as answers: the provider's own status and words, and never its key.

LiteLLM wraps each failure several times and gives some of them another status; the chain of causes still holds what the
provider answered, or that it did not.
"""

import ast
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from stile.core import envelope
from stile.core.routes import Target
from stile.errors import BadRequest, PublicError, UpstreamFailed, UpstreamTimeout
from stile.ports import Headers, UpstreamAnswer

_MAX_CHAIN = 20
_RETRY_HEADERS = ("retry-after", "retry-after-ms", "x-should-retry")
_PREFIX = re.compile(r"^(litellm\.\w+: |\w+(Exception|Error) - )+")
_ADVICE = re.compile(
    r"\.?( Handle with `litellm| To drop these, set `litellm|\s*Received Messages=|\s+Traceback \(most recent).*",
    re.DOTALL,
)
_PARAMETERS = re.compile(r"parameters: \[(.*?)\]")
_QUOTED = re.compile(r"'([^']+)'")
_KINDS = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def answer(error: Exception, target: Target) -> UpstreamAnswer:
    """The provider's refusal, or LiteLLM's of what it cannot translate. Raises UpstreamFailed, UpstreamTimeout, and
    BadRequest for parameters that this model does not take."""
    if type(error).__name__ == "UnsupportedParamsError":
        raise _not_taken(str(error), target) from None
    chain = list(_chain(error))
    response = next((link.response for link in reversed(chain) if _was_answered(link)), None)
    if response is not None:
        headers = [
            (name.encode(), response.headers[name].encode("latin-1"))
            for name in _RETRY_HEADERS
            if name in response.headers
        ]
        return _refusal(response.status_code, headers, _text(chain), target)
    status = getattr(error, "status_code", None)
    if not _is_transport(chain) and isinstance(status, int) and 400 <= status < 500 and status != 408:
        return _refusal(status, [], _text(chain), target)
    raise broken(error, target) from None


def broken(error: Exception, target: Target) -> PublicError:
    """A call that got no answer, or none to its end."""
    chain = list(_chain(error))
    if any(isinstance(link, TimeoutError) or type(link).__name__ == "Timeout" for link in chain):
        return UpstreamTimeout(f"{target.label} did not answer in time.")
    said, _ = _parse(target.without_secrets(_text(chain)))
    if any(isinstance(link, ConnectionRefusedError) for link in chain):
        return UpstreamFailed(f"{target.label} cannot be reached (connection refused).")
    if _is_transport(chain):
        return UpstreamFailed(f"{target.label} broke off its answer.", code="upstream_broken")
    return UpstreamFailed(f"{target.label} failed: {said}", code="upstream_broken")


def _refusal(status: int, headers: Headers, text: str, target: Target) -> UpstreamAnswer:
    said, fields = _parse(target.without_secrets(text))
    kind = fields.get("type") or _KINDS.get(status, "upstream_error")
    code = fields.get("code") or kind
    body = envelope.write(said or f"{target.label} answered {status}.", str(kind), str(code))
    return UpstreamAnswer(status, [(b"content-type", b"application/json"), *headers], body)


def _not_taken(said: str, target: Target) -> BadRequest:
    found = _PARAMETERS.search(said)
    names = sorted(_QUOTED.findall(found[1])) if found else []
    what = ", ".join(names) or "all of these parameters"
    return BadRequest(
        f"{target.label} does not take {what}. Leave it out, or set drop_params for the model.",
        code="unsupported_parameter",
        param=names[0] if names else None,
    )


def _chain(error: BaseException | None) -> Iterator[Any]:
    for _ in range(_MAX_CHAIN):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def _was_answered(link: Any) -> bool:
    """Whether this is an HTTP library's own error for an answer: LiteLLM's errors carry made-up ones."""
    own = type(link).__module__.startswith("openai")
    return hasattr(link, "response") and (own or _is_of(link, "httpx"))


def _is_transport(chain: list[Any]) -> bool:
    return any(isinstance(link, OSError) or _is_of(link, "httpx") or _is_of(link, "aiohttp") for link in chain)


def _is_of(link: Any, library: str) -> bool:
    return any(kind.__module__.partition(".")[0] == library for kind in type(link).__mro__)


def _text(chain: list[Any]) -> str:
    """The provider's words: LiteLLM's error for this provider has them, or else the outermost one."""
    for link in chain:
        if type(link).__module__.startswith("openai") and isinstance(getattr(link, "body", None), dict):
            return msgspec.json.encode(link.body).decode()
    for link in chain:
        if type(link).__module__.startswith("litellm.llms.") and not _is_of(link, "httpx"):
            return _decoded(_without_advice(str(getattr(link, "message", None) or link)))
    outermost = str(getattr(chain[0], "message", None) or chain[0])
    return _decoded(_without_advice(_PREFIX.sub("", outermost)))


def _without_advice(text: str) -> str:
    """Without what is meant for who writes code with LiteLLM: hints, and traces that name this machine's files."""
    return _ADVICE.sub("", text)


def _decoded(text: Any) -> str:
    """LiteLLM quotes the bodies of streams as Python's `b'…'`."""
    if isinstance(text, str) and text.startswith(("b'", 'b"')):
        try:
            text = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return str(text)
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)


def _parse(text: str) -> tuple[str, dict[str, Any]]:
    """What a provider's error body says, and its other fields; text that is no such body says itself."""
    try:
        fields = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        fields = None
    if isinstance(fields, dict):
        inner = fields.get("error")
        fields = inner if isinstance(inner, dict) else fields
        for name in ("message", "Message", "error"):
            if isinstance(fields.get(name), str):
                return fields[name][: envelope.MAX_QUOTED], fields
    return text[: envelope.MAX_QUOTED].strip(), {}
