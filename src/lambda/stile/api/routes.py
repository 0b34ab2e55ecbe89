"""The whole URL table on one screen. Paths without parameters are looked up, which costs less than matching; the others
are matched in the order written. A web framework's router would be a third of a cold start."""

from functools import partial

from stile.api import cors
from stile.api.endpoint import Endpoint, Frame
from stile.api.health import Health
from stile.api.openai import OpenAI
from stile.api.paths import pattern
from stile.api.request import Message, Receive, Reply, Request, Send
from stile.errors import UnknownPath


class Table:
    """The gateway's paths as one ASGI app."""

    def __init__(self, frame: Frame, openai: OpenAI, health: Health) -> None:
        self._exact = {
            "/v1/chat/completions": Endpoint(frame, partial(openai.call, "chat"), "POST", needs="inference"),
            "/v1/embeddings": Endpoint(frame, partial(openai.call, "embeddings"), "POST", needs="inference"),
            "/v1/models": Endpoint(frame, openai.models, "GET", needs="inference"),
            "/health": Endpoint(frame, health.live, "GET", logged=False),
            "/health/ready": Endpoint(frame, health.ready, "GET", logged=False),
        }
        self._matched = [
            (pattern("/v1/models/{id:path}"), Endpoint(frame, openai.model, "GET", needs="inference")),
        ]
        self._preflight = Endpoint(frame, cors.preflight, logged=False)
        self._unknown = Endpoint(frame, _unknown)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        endpoint = self._preflight if scope["method"] == "OPTIONS" else self._exact.get(scope["path"])
        await (endpoint or self._match(scope))(scope, receive, send)

    def _match(self, scope: Message) -> Endpoint:
        for path, endpoint in self._matched:
            if (found := path.fullmatch(scope["path"])) is not None:
                scope["path_params"] = found.groupdict()
                return endpoint
        return self._unknown


async def _unknown(request: Request) -> Reply:
    raise UnknownPath(f"Invalid URL ({request.scope['method']} {request.scope['path']}).")
