"""The official SDK of MCP: revisions, sessions that are none, dispatch, and the form of results. The one file that
knows it, imported with the first message.

A manager of the SDK serves as long as the process; each message is answered whole, as JSON. What a tool tells before it
is done goes past the SDK (see `exchange`), so both eras of the protocol have it alike.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar, get_args

import mcp_types as types
import msgspec
from mcp.server.caching import CacheableMethod, CacheHint
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS, is_version_at_least

import stile
from stile.api import asked
from stile.api.mcp.exchange import Exchange
from stile.api.mcp.offer import Offer, Outcome, Prompt, Resource, Tool, text
from stile.api.request import Message, Reply
from stile.errors import PublicError, Unprocessable
from stile.telemetry.redaction import MAX_SHOWN, redact

PAGE = 100
FRESH_MS = 60_000  # as long as a checked key is believed by default

_CACHED: tuple[CacheableMethod, ...] = get_args(CacheableMethod)
_EXCHANGE = "stile.exchange"  # where a request's scope holds ours
_RESOURCE_NOT_FOUND = -32002  # until 2025-11-25
_SELF_CORRECTING = "2025-11-25"  # since then models are told of wrong arguments, before it clients
_UNWANTED = frozenset({b"content-length"})
# The body is JSON, whatever it was sent as, and the answer is written here, so the SDK need not look at these.
_TAKEN = [(b"content-type", b"application/json"), (b"accept", b"application/json, text/event-stream")]
_OURS = frozenset(name for name, _ in _TAKEN)

_log = logging.getLogger("stile.mcp")

Context = ServerRequestContext[Any]
T = TypeVar("T")
P = TypeVar("P")
Handler = Callable[[Context, P], Awaitable[Any]]


class Sdk:
    """A server of MCP that answers single messages. `start` before the first, `close` at the end."""

    def __init__(self, offer: Offer, max_body_bytes: int) -> None:
        # What it logs quotes what clients sent.
        logging.getLogger("mcp").setLevel(logging.CRITICAL + 1)
        self._offer = offer
        self._tools = {name: _listed_tool(tool) for name, tool in offer.all_tools.items()}
        server: Server[Any] = Server(
            "stile",
            version=stile.__version__,
            title="Stile",
            instructions=offer.instructions,
            cache_hints=dict.fromkeys(_CACHED, CacheHint(FRESH_MS, "private")),
            get_tool_input_schema=lambda name: self._tools[name].input_schema if name in self._tools else None,
            on_list_tools=_guarded(self._list_tools),
            on_call_tool=_guarded(self._call_tool),
            on_list_resources=_guarded(self._list_resources),
            on_list_resource_templates=_guarded(self._list_templates),
            on_read_resource=_guarded(self._read_resource),
            on_list_prompts=_guarded(self._list_prompts),
            on_get_prompt=_guarded(self._get_prompt),
            on_completion=_guarded(self._complete),
        )
        server.middleware.clear()  # spans that nobody collects
        self._manager = StreamableHTTPSessionManager(
            server, json_response=True, stateless=True, max_request_body_size=max_body_bytes
        )
        self._running: asyncio.Task[None] | None = None
        self._over = asyncio.Event()

    async def start(self) -> None:
        """Begin to serve."""
        begun = asyncio.get_running_loop().create_future()
        self._running = asyncio.create_task(self._run(begun))
        await begun

    async def close(self) -> None:
        """End, and what is under way with it."""
        self._over.set()
        if self._running is not None:
            await asyncio.wait({self._running})

    async def answer(self, scope: Message, body: bytes, exchange: Exchange) -> Reply:
        """The answer to one message, whole."""
        status, headers, said = 0, list[tuple[bytes, bytes]](), b""
        come = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> Message:
            message = next(come, None)
            if message is None:  # the endpoint looks out for a client that goes away
                await asyncio.Event().wait()
            return message or {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            nonlocal status, headers, said
            if message["type"] == "http.response.start":
                status, headers = message["status"], message["headers"]
            else:
                said += message.get("body", b"")

        kept = [(name, value.strip(b" \t")) for name, value in scope["headers"] if name not in _OURS]
        try:
            await self._manager.handle_request(
                {**scope, "headers": [*kept, *_TAKEN], _EXCHANGE: exchange}, receive, send
            )
        finally:
            await exchange.settled()  # in the older era the SDK does not wait for a tool that it cancels
        return Reply(status, [header for header in headers if header[0] not in _UNWANTED], said)

    async def _run(self, begun: "asyncio.Future[None]") -> None:
        async with self._manager.run():
            begun.set_result(None)
            await self._over.wait()

    async def _list_tools(self, context: Context, params: types.PaginatedRequestParams | None) -> Any:
        tools = self._offer.tools(_exchange(context).caller)
        _refuse_cursor(params)
        return types.ListToolsResult(tools=[self._tools[tool.name] for tool in tools])

    async def _call_tool(self, context: Context, params: types.CallToolRequestParams) -> Any:
        with _exchange(context).at_work():
            return await self._called(context, params)

    async def _called(self, context: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        exchange = _exchange(context)
        tool = self._offer.all_tools.get(params.name)
        try:
            if tool is not None and tool.fresh:
                await exchange.renew_caller()
        except PublicError as error:
            return _result(_failed(error, exchange))
        if tool is None or not tool.is_for(exchange.caller):
            exchange.record.error = "unknown_tool" if tool is None else "tool_not_allowed"
            message = f"Unknown tool: '{redact(params.name[:64])}'. tools/list names those that this API key may use."
            raise MCPError(types.INVALID_PARAMS, message)
        try:
            arguments = _read(params.arguments or {}, tool.takes)
        except Unprocessable as error:
            exchange.record.error = "invalid_arguments"
            if not is_version_at_least(context.protocol_version, _SELF_CORRECTING):
                raise MCPError(types.INVALID_PARAMS, error.message) from None
            return _result(Outcome([text(error.message)], failed=True))
        return _result(await _run(tool, arguments, exchange))

    async def _list_resources(self, context: Context, params: types.PaginatedRequestParams | None) -> Any:
        page, cursor = _page(self._offer.library.list(_exchange(context).caller), params)
        listed = [types.Resource(uri=each.uri, **_described(each)) for each in page]
        return types.ListResourcesResult(resources=listed, next_cursor=cursor)

    async def _list_templates(self, context: Context, params: types.PaginatedRequestParams | None) -> Any:  # noqa: ARG002
        _refuse_cursor(params)
        templates = self._offer.library.templates
        listed = [types.ResourceTemplate(uri_template=each.uri, **_described(each)) for each in templates]
        return types.ListResourceTemplatesResult(resource_templates=listed)

    async def _read_resource(self, context: Context, params: types.ReadResourceRequestParams) -> Any:
        exchange, uri = _exchange(context), str(params.uri)
        found = self._offer.library.read(uri, exchange.caller)
        if found is None:
            exchange.record.error = "resource_not_found"
            modern = context.protocol_version in MODERN_PROTOCOL_VERSIONS
            code = types.INVALID_PARAMS if modern else _RESOURCE_NOT_FOUND
            told = {"uri": redact(uri[:MAX_SHOWN])}
            raise MCPError(code, "There is no such resource, or this API key may not read it.", told)
        return types.ReadResourceResult.model_validate({"contents": [{"uri": uri, **found}]})

    async def _list_prompts(self, context: Context, params: types.PaginatedRequestParams | None) -> Any:
        _refuse_cursor(params)
        prompts = self._offer.prompts(_exchange(context).caller)
        return types.ListPromptsResult(prompts=[_listed_prompt(prompt) for prompt in prompts])

    async def _get_prompt(self, context: Context, params: types.GetPromptRequestParams) -> Any:
        exchange, given = _exchange(context), params.arguments or {}
        prompt = self._offer.prompt(params.name, exchange.caller)
        if prompt is None:
            exchange.record.error = "unknown_prompt"
            raise MCPError(types.INVALID_PARAMS, "Unknown prompt. prompts/list names those that there are.")
        missing = [each.name for each in prompt.arguments if each.required and not given.get(each.name)]
        if missing:
            raise MCPError(types.INVALID_PARAMS, f"The prompt needs its argument '{missing[0]}'.")
        said = {"description": prompt.description, "messages": prompt.write(given)}
        return types.GetPromptResult.model_validate(said)

    async def _complete(self, context: Context, params: types.CompleteRequestParams) -> Any:
        said, caller = params.argument, _exchange(context).caller
        found = self._offer.library.complete(said.name, said.value, caller)
        first = list(found[:PAGE])
        return types.CompleteResult(
            completion=types.Completion(values=first, total=len(found), has_more=len(found) > len(first))
        )


async def _run(tool: Tool, arguments: Any, exchange: Exchange) -> Outcome:
    try:
        return await tool.run(arguments, exchange)
    except PublicError as error:
        return _failed(error, exchange)


def _guarded(handler: Handler[P]) -> Handler[P]:
    """The handler, of whose own faults the client hears nothing and the log everything."""

    async def guarded(context: Context, params: P) -> Any:
        try:
            return await handler(context, params)
        except MCPError:
            raise
        except Exception:
            _log.exception("%s failed in request %s", context.method, _exchange(context).record.request_id)
            told = "The gateway failed; its log knows why, by the request id."
            raise MCPError(types.INTERNAL_ERROR, told) from None

    return guarded


def _failed(error: PublicError, exchange: Exchange) -> Outcome:
    exchange.record.error = exchange.record.error or error.code
    return Outcome([text(redact(error.message))], failed=True)


def _result(outcome: Outcome) -> types.CallToolResult:
    said = {"content": outcome.content, "structuredContent": outcome.data, "isError": outcome.failed}
    return types.CallToolResult.model_validate(said)


def _read(arguments: Mapping[str, Any], kind: Any) -> Any:
    """Arguments as the tool takes them. Raises Unprocessable."""
    try:
        written = msgspec.json.encode(arguments)
    except (UnicodeEncodeError, OverflowError):
        raise Unprocessable("The arguments hold half a surrogate pair, or a number beyond 64 bits.") from None
    return asked.read(written, kind)


def _exchange(context: Context) -> Exchange:
    request: Any = context.request
    found: Exchange = request.scope[_EXCHANGE]
    return found


def _page(all_of_them: Sequence[T], params: types.PaginatedRequestParams | None) -> tuple[Sequence[T], str | None]:
    """Those that a cursor asks for, and the cursor of the next ones."""
    cursor = None if params is None else params.cursor
    if cursor is not None and (re.fullmatch(r"[1-9][0-9]{0,8}", cursor) is None or int(cursor) >= len(all_of_them)):
        raise MCPError(types.INVALID_PARAMS, "Unknown cursor.")
    begin = int(cursor or 0)
    end = begin + PAGE
    return all_of_them[begin:end], str(end) if end < len(all_of_them) else None


def _refuse_cursor(params: types.PaginatedRequestParams | None) -> None:
    """Of a list that is always whole, no page has given one."""
    if params is not None and params.cursor is not None:
        raise MCPError(types.INVALID_PARAMS, "Unknown cursor.")


def _listed_tool(tool: Tool) -> types.Tool:
    return types.Tool(
        name=tool.name,
        title=tool.title,
        description=tool.description,
        input_schema=dict(tool.input_schema),
        output_schema=None if tool.output_schema is None else dict(tool.output_schema),
        annotations=types.ToolAnnotations.model_validate(tool.hints),
    )


def _described(resource: Resource) -> dict[str, Any]:
    """What a resource and a family of them have in common."""
    return {
        "name": resource.name,
        "title": resource.title,
        "description": resource.description,
        "mime_type": resource.mime_type,
    }


def _listed_prompt(prompt: Prompt) -> types.Prompt:
    return types.Prompt(
        name=prompt.name,
        title=prompt.title,
        description=prompt.description,
        arguments=[
            types.PromptArgument(name=each.name, description=each.description, required=each.required)
            for each in prompt.arguments
        ],
    )
