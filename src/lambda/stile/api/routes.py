"""The whole URL table on one screen. Paths without parameters are looked up, which costs less than matching; the others
are matched in the order written. A web framework's router would be a third of a cold start.

OpenAI's paths are there three times, for clients differ in what they take for the base: below `/v1`, below
`/openai/v1`, and without either; and once more as Azure has them, where the path names the model.
"""

import re
from functools import partial

from stile.api import cors, description, envelopes
from stile.api.anthropic import Models
from stile.api.endpoint import Endpoint, Frame, Handler
from stile.api.envelopes import Envelope
from stile.api.health import Health
from stile.api.management import Management
from stile.api.mcp.door import McpDoor
from stile.api.mcp.handler import MAX_BODY_BYTES as MAX_MCP_BYTES
from stile.api.mcp.handler import Mcp
from stile.api.mcp.jsonrpc import JsonRpc
from stile.api.models import ModelStates
from stile.api.numbers import Numbers
from stile.api.oauth import OAuth
from stile.api.openai import OpenAI
from stile.api.paths import pattern
from stile.api.request import Message, Receive, Reply, Request, Send
from stile.core.operations import PATHS, Operation
from stile.errors import UnknownPath
from stile.telemetry.records import Dialect

MAX_MANAGEMENT_BYTES = 64 * 1024

_ENVELOPES: dict[Operation, Envelope] = {
    "responses": envelopes.RESPONSES,
    "messages": envelopes.ANTHROPIC,
    "count_tokens": envelopes.ANTHROPIC,
}
# What they answer is sound, or text in whatever form was asked for: nothing can be put before it.
_WITHOUT_PULSE = frozenset({"speech", "transcriptions", "translations"})
_DEPLOYMENT = re.compile(rf"/openai/deployments/(?P<deployment>.+?)(?P<rest>{'|'.join(PATHS.values())})")


class Table:
    """The gateway's paths as one ASGI app. There are no numbers where no process sees all calls."""

    def __init__(
        self,
        frame: Frame,
        openai: OpenAI,
        models: Models,
        protocol: tuple[Mcp, McpDoor, OAuth],
        gateways_own: tuple[Management, ModelStates, Health, Numbers | None],
    ) -> None:
        mcp, door, oauth = protocol
        m, states, health, numbers = gateways_own
        model_call = partial(Endpoint, frame, needs="inference")
        for_admins = partial(Endpoint, frame, needs="admin", fresh=True, max_body_bytes=MAX_MANAGEMENT_BYTES)
        for_all = partial(Endpoint, frame, needs="any", fresh=True, max_body_bytes=MAX_MANAGEMENT_BYTES)
        for_anybody = partial(Endpoint, frame, max_body_bytes=MAX_MANAGEMENT_BYTES)

        def of_a_model(operation: Operation, **others: Handler) -> Endpoint:
            return Endpoint(
                frame,
                needs="inference",
                envelope=_ENVELOPES.get(operation, envelopes.OPENAI),
                pulse=operation not in _WITHOUT_PULSE,
                POST=partial(openai.call, operation),
                **others,  # type: ignore[arg-type]
            )

        self._exact = {
            **{f"/v1{path}": of_a_model(operation) for operation, path in PATHS.items()},
            "/v1/responses": of_a_model("responses", GET=openai.no_websocket),
            "/v1/models": model_call(GET=models.list, envelope=envelopes.asked_for),
            "/mcp": Endpoint(
                frame,
                needs="mcp",
                max_body_bytes=min(MAX_MCP_BYTES, frame.max_body_bytes),
                envelope=JsonRpc,
                door=door,
                POST=mcp.post,
            ),
            "/.well-known/oauth-protected-resource": Endpoint(frame, GET=oauth.resource, logged=False),
            "/.well-known/oauth-protected-resource/mcp": Endpoint(frame, GET=oauth.resource, logged=False),
            "/.well-known/oauth-authorization-server": Endpoint(frame, GET=oauth.server, logged=False),
            "/api/bootstrap": for_anybody(POST=m.bootstrap),
            "/api/me": for_all(GET=m.me),
            "/api/users": for_admins(GET=m.list_users, POST=m.create_user),
            "/api/keys": for_all(GET=m.list_keys, POST=m.create_key),
            "/api/models": for_all(GET=states.list),
            "/openapi.json": Endpoint(frame, GET=description.document, logged=False),
            "/docs": Endpoint(frame, GET=description.page, logged=False),
            "/": Endpoint(frame, GET=health.greet, logged=False),
            "/health": Endpoint(frame, GET=health.live, logged=False),
            "/health/ready": Endpoint(frame, GET=health.ready, logged=False),
        }
        if numbers is not None:
            self._exact |= {"/metrics": Endpoint(frame, needs="admin", GET=numbers.show, logged=False)}
        matched = {
            "/v1/models/{id:path}": model_call(GET=models.show, envelope=envelopes.asked_for),
            "/v1/responses/{id}": model_call(GET=openai.stored, DELETE=openai.stored),
            "/v1/responses/{id}/cancel": model_call(POST=partial(openai.stored, under="/cancel")),
            "/v1/responses/{id}/input_items": model_call(GET=partial(openai.stored, under="/input_items")),
            "/api/users/{id}": for_admins(GET=m.show_user, PATCH=m.update_user, DELETE=m.delete_user),
            "/api/users/{id}/keys": for_all(GET=m.list_keys, POST=m.create_key),
            "/api/keys/{id}": for_all(GET=m.show_key, PATCH=m.update_key, DELETE=m.delete_key),
            "/api/keys/{id}/rotate": for_all(POST=m.rotate_key),
            "/api/keys/{id}/revoke": for_all(POST=m.set_status("revoked")),
            "/api/keys/{id}/suspend": for_all(POST=m.set_status("suspended")),
            "/api/keys/{id}/resume": for_all(POST=m.set_status("active")),
        }
        self._matched = [(pattern(path), endpoint) for path, endpoint in matched.items()]
        for path, endpoint in (*self._exact.items(), *matched.items()):
            endpoint.name(path.replace(":path}", "}"), _dialect(path))
        self._preflight = Endpoint(frame, ANY=cors.preflight, logged=False)
        self._unknown = Endpoint(frame, ANY=_unknown, envelope=envelopes.asked_for)
        self._unknown.name("unknown", None)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        endpoint = self._preflight if scope["method"] == "OPTIONS" else self._exact.get(scope["path"])
        await (endpoint or self._match(scope))(scope, receive, send)

    def _match(self, scope: Message) -> Endpoint:
        path = scope["path"]
        if (azure := _DEPLOYMENT.fullmatch(path)) is not None:
            scope["path_params"] = {"deployment": azure["deployment"]}
            return self._exact[f"/v1{azure['rest']}"]
        return self._find(path, scope) or self._find(f"/v1{_without_base(path)}", scope) or self._unknown

    def _find(self, path: str, scope: Message) -> Endpoint | None:
        if path in self._exact:
            return self._exact[path]
        for form, endpoint in self._matched:
            if (found := form.fullmatch(path)) is not None:
                scope["path_params"] = found.groupdict()
                return endpoint
        return None


def _dialect(path: str) -> Dialect:
    if path.startswith("/v1/messages"):
        return "anthropic"
    return "openai" if path.startswith("/v1/") else "mcp" if path == "/mcp" else "stile"


def _without_base(path: str) -> str:
    """What comes behind the base that the client was given, if it is one of the others."""
    return path.removeprefix("/openai").removeprefix("/v1")


async def _unknown(request: Request) -> Reply:
    raise UnknownPath(f"Invalid URL ({request.scope['method']} {request.scope['path']}).")
