"""The whole URL table on one screen."""

from starlette.routing import Route, Router

from stile.api.endpoint import Endpoint, Frame, Reply, Request
from stile.api.health import Health
from stile.api.openai import OpenAI
from stile.errors import UnknownPath


def table(frame: Frame, openai: OpenAI, health: Health) -> Router:
    """The gateway's paths as one ASGI app, the busiest first."""
    return Router(
        [
            Route("/v1/chat/completions", Endpoint(frame, openai.chat, "POST", needs="inference")),
            Route("/v1/embeddings", Endpoint(frame, openai.embeddings, "POST", needs="inference")),
            Route("/v1/models", Endpoint(frame, openai.models, "GET", needs="inference")),
            Route("/v1/models/{id:path}", Endpoint(frame, openai.model, "GET", needs="inference")),
            Route("/health", Endpoint(frame, health.live, "GET", logged=False)),
            Route("/health/ready", Endpoint(frame, health.ready, "GET", logged=False)),
        ],
        redirect_slashes=False,
        default=Endpoint(frame, _unknown),
    )


async def _unknown(request: Request) -> Reply:
    raise UnknownPath(f"Invalid URL ({request.scope['method']} {request.scope['path']}).")
