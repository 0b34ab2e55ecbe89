"""The whole URL table on one screen. Paths without parameters are looked up, which costs less than matching; the others
are matched in the order written."""

from functools import partial

from starlette.routing import Route, Router

from stile.api import cors
from stile.api.endpoint import Endpoint, Frame
from stile.api.health import Health
from stile.api.openai import OpenAI
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
        self._matched = Router(
            [
                Route("/v1/models/{id:path}", Endpoint(frame, openai.model, "GET", needs="inference")),
            ],
            redirect_slashes=False,
            default=Endpoint(frame, _unknown),
        )
        self._preflight = Endpoint(frame, cors.preflight, logged=False)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["method"] == "OPTIONS":
            await self._preflight(scope, receive, send)
            return
        await self._exact.get(scope["path"], self._matched)(scope, receive, send)


async def _unknown(request: Request) -> Reply:
    raise UnknownPath(f"Invalid URL ({request.scope['method']} {request.scope['path']}).")
