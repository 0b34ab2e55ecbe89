"""The whole URL table on one screen. Paths without parameters are looked up, which costs less than matching; the others
are matched in the order written. A web framework's router would be a third of a cold start."""

from functools import partial

from stile.api import cors, description
from stile.api.endpoint import Endpoint, Frame
from stile.api.health import Health
from stile.api.management import Management
from stile.api.models import ModelStates
from stile.api.openai import OpenAI
from stile.api.paths import pattern
from stile.api.request import Message, Receive, Reply, Request, Send
from stile.errors import UnknownPath

MAX_MANAGEMENT_BYTES = 64 * 1024


class Table:
    """The gateway's paths as one ASGI app."""

    def __init__(
        self, frame: Frame, openai: OpenAI, management: Management, models: ModelStates, health: Health
    ) -> None:
        model_call = partial(Endpoint, frame, needs="inference")
        for_admins = partial(Endpoint, frame, needs="admin", fresh=True, max_body_bytes=MAX_MANAGEMENT_BYTES)
        for_all = partial(Endpoint, frame, needs="any", fresh=True, max_body_bytes=MAX_MANAGEMENT_BYTES)
        for_anybody = partial(Endpoint, frame, max_body_bytes=MAX_MANAGEMENT_BYTES)
        m = management
        self._exact = {
            "/v1/chat/completions": model_call(POST=partial(openai.call, "chat")),
            "/v1/embeddings": model_call(POST=partial(openai.call, "embeddings")),
            "/v1/models": model_call(GET=openai.models),
            "/api/bootstrap": for_anybody(POST=m.bootstrap),
            "/api/me": for_all(GET=m.me),
            "/api/users": for_admins(GET=m.list_users, POST=m.create_user),
            "/api/keys": for_all(GET=m.list_keys, POST=m.create_key),
            "/api/models": for_all(GET=models.list),
            "/openapi.json": Endpoint(frame, GET=description.document, logged=False),
            "/docs": Endpoint(frame, GET=description.page, logged=False),
            "/health": Endpoint(frame, GET=health.live, logged=False),
            "/health/ready": Endpoint(frame, GET=health.ready, logged=False),
        }
        self._matched = [
            (pattern(path), endpoint)
            for path, endpoint in {
                "/v1/models/{id:path}": model_call(GET=openai.model),
                "/api/users/{id}": for_admins(GET=m.show_user, PATCH=m.update_user, DELETE=m.delete_user),
                "/api/users/{id}/keys": for_all(GET=m.list_keys, POST=m.create_key),
                "/api/keys/{id}": for_all(GET=m.show_key, PATCH=m.update_key, DELETE=m.delete_key),
                "/api/keys/{id}/rotate": for_all(POST=m.rotate_key),
                "/api/keys/{id}/revoke": for_all(POST=m.set_status("revoked")),
                "/api/keys/{id}/suspend": for_all(POST=m.set_status("suspended")),
                "/api/keys/{id}/resume": for_all(POST=m.set_status("active")),
            }.items()
        ]
        self._preflight = Endpoint(frame, ANY=cors.preflight, logged=False)
        self._unknown = Endpoint(frame, ANY=_unknown)

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
