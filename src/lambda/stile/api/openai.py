"""OpenAI's dialect: calls of models, answers that a provider keeps, and the list of models."""

from stile.api import model_calls
from stile.api.request import Reply, Request, json_reply
from stile.calls import Calls
from stile.catalog import Catalog, Model
from stile.core.operations import Operation
from stile.core.records import Caller
from stile.errors import ModelNotFound, NoWebSocket, UnknownResponse
from stile.stored import Asked, Stored


class OpenAI:
    """The handlers of OpenAI's paths."""

    def __init__(self, calls: Calls, catalog: Catalog, stored: Stored) -> None:
        self._calls = calls
        self._catalog = catalog
        self._stored = stored

    async def call(self, operation: Operation, request: Request) -> Reply:
        """A call of a model, whatever is asked of it."""
        call = model_calls.read(operation, request)
        answer = await self._calls.make(model_calls.caller_of(request), call, request.record, request.ends)
        return Reply(answer.status, answer.headers, answer.body, answer.events)

    async def stored(self, request: Request, *, under: str = "") -> Reply:
        """An answer that a provider keeps, by its id: shown, deleted, or what is `under` it."""
        method = "GET" if request.scope["method"] == "HEAD" else request.scope["method"]
        query = request.scope.get("query_string", b"").decode("latin-1")
        asked = Asked(method, request.path_params["id"], under, query)
        answer = await self._stored.ask(model_calls.caller_of(request), asked, request.record)
        return Reply(answer.status, answer.headers, answer.body)

    async def no_websocket(self, request: Request) -> Reply:
        """Responses over a WebSocket, which some clients try first."""
        if (request.header(b"upgrade") or "").lower() == "websocket":
            raise NoWebSocket("There are no WebSockets here; POST the same path.", headers=[("connection", "close")])
        raise UnknownResponse("Responses are not listed; GET /v1/responses/{id} shows one.")

    async def models(self, request: Request) -> Reply:
        caller = model_calls.caller_of(request)
        return json_reply({"object": "list", "data": [self._shown(model) for model in self.usable(caller)]})

    async def model(self, request: Request) -> Reply:
        return json_reply(self._shown(self.find(request)))

    def find(self, request: Request) -> Model:
        """The model of the path. Raises ModelNotFound, also when the caller may not use it."""
        wanted = request.path_params["id"]
        for model in self.usable(model_calls.caller_of(request)):
            if model.id == wanted:
                return model
        raise ModelNotFound(f"The model '{wanted}' does not exist or this API key may not use it.", param="model")

    def usable(self, caller: Caller) -> list[Model]:
        return [model for model in self._catalog.models() if caller.may_use(model.id)]

    def _shown(self, model: Model) -> dict[str, object]:
        return {"id": model.id, "object": "model", "created": self._catalog.created, "owned_by": model.owned_by}
