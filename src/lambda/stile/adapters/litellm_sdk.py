"""LiteLLM's SDK as a guest: imported when it is first needed, kept quiet, its connections in our hands.

Its proxy is never imported by us (the SDK itself loads a few modules of it). Everything that leans on LiteLLM's insides
is here, and fits the one version that is pinned.
"""

import asyncio
import contextlib
import contextvars
import gc
import importlib
import logging
import os
import sys
import warnings
import weakref
from collections.abc import Awaitable, Callable, Generator, Mapping
from typing import Any

# Read by LiteLLM at import: no price map from the network, no .env file of the working folder, no download of media.
_ENVIRONMENT = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOG": "CRITICAL",
    "MAX_IMAGE_URL_DOWNLOAD_SIZE_MB": "0",
}
_SETTINGS: Mapping[str, Any] = {
    "suppress_debug_info": True,
    "telemetry": False,
    "turn_off_message_logging": True,
    "disable_hf_tokenizer_download": True,
    "drop_params": False,
    "REPEATED_STREAMING_CHUNK_LIMIT": sys.maxsize,  # a model may say the same thing a hundred times
}
_OWN_LOGGERS = ("LiteLLM", "LiteLLM Proxy", "LiteLLM Router")
_ITS_LIBRARIES = ("httpx", "httpcore", "openai", "botocore")  # these log URLs, bodies and signatures below WARNING
# What LiteLLM imports only with a first call: streams, Anthropic, Bedrock.
_LATER = (
    "boto3",
    "botocore.eventstream",
    "botocore.httpsession",
    "litellm._service_logger",
    "litellm.llms.anthropic.completion.transformation",
    "litellm.llms.bedrock.chat.invoke_transformations.anthropic_claude2_transformation",
    "litellm.llms.bedrock.chat.invoke_transformations.anthropic_claude3_transformation",
    "litellm.llms.litellm_proxy.chat.transformation",
    "litellm.llms.openai_like.dynamic_config",
    "litellm.llms.vertex_ai.vertex_ai_partner_models.anthropic.transformation",
    "litellm.types.litellm_core_utils.streaming_chunk_builder_utils",
)
_ENCODING = "cl100k_base"
_FLUSH_SECONDS = 1

_WATCHED = "_watched_by_stile"

Send = Callable[[Any, Any], Awaitable[Any]]


_answers: contextvars.ContextVar[list[Any] | None] = contextvars.ContextVar("answers", default=None)
_transports: weakref.WeakSet[Any] = weakref.WeakSet()


def let_stream(sdk: Any, model: str) -> None:
    """Have LiteLLM stream the responses of a model that its map does not know: else it waits for the whole answer and
    cuts it up."""
    if f"openai/{model}" not in sdk.model_cost and model not in sdk.model_cost:
        entry = {"mode": "responses", "litellm_provider": "openai", "supports_native_streaming": True}
        sdk.register_model({f"openai/{model}": entry})


class Sdk:
    """The one way to LiteLLM. Concurrent first calls share one import, on a thread, so that the loop never waits."""

    def __init__(self) -> None:
        self._module: Any = None
        self._loading: asyncio.Task[Any] | None = None

    async def module(self) -> Any:
        """The `litellm` module, ready for use."""
        if self._module is None:
            if self._loading is None:
                self._loading = asyncio.create_task(asyncio.to_thread(_load))
            self._module = await asyncio.shield(self._loading)
        return self._module

    async def warm_up(self) -> None:
        """Import all that calls will need."""
        await self.module()
        for name in _LATER:
            await asyncio.to_thread(importlib.import_module, name)
        await asyncio.to_thread(importlib.import_module("tiktoken").get_encoding, _ENCODING)
        # The SDK loads a module of its proxy for this: that is left to itself.
        prompts = importlib.import_module("litellm.litellm_core_utils.prompt_templates.common_utils")
        await asyncio.to_thread(prompts.get_format_from_file_id, None)

    async def close(self) -> None:
        """Close connections and end LiteLLM's background task."""
        if self._loading is None:
            return
        await asyncio.wait([self._loading])
        worker = importlib.import_module("litellm.litellm_core_utils.logging_worker").GLOBAL_LOGGING_WORKER
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(worker.flush(), _FLUSH_SECONDS)
        await worker.stop()
        await self.release()

    async def release(self) -> None:
        """Close connections; LiteLLM makes new ones when it needs them."""
        for transport in tuple(_transports):
            if hasattr(transport.client, "close"):
                await transport.client.close()


@contextlib.contextmanager
def recorded_answers() -> Generator[list[Any], None, None]:
    """The HTTP answers that LiteLLM gets in this task: it does not close them when a stream is left early."""
    answers: list[Any] = []
    token = _answers.set(answers)
    try:
        yield answers
    finally:
        _answers.reset(token)


def _load() -> Any:
    os.environ.update(_ENVIRONMENT)
    _silence()
    collects = gc.isenabled()
    gc.disable()  # a fifth of the import's time
    try:
        with _encodings_later(), _models_later():
            module = importlib.import_module("litellm")
        transport = importlib.import_module("litellm.llms.custom_httpx.aiohttp_transport").LiteLLMAiohttpTransport
        calls = importlib.import_module("litellm.litellm_core_utils.litellm_logging").Logging
    finally:
        gc.freeze()  # its modules stay for good: the collector need not look at them again
        if collects:
            gc.enable()
    warnings.filterwarnings("ignore", message="Item '.*' on TypedDict class", category=UserWarning)  # LiteLLM's types
    for name, value in _SETTINGS.items():
        setattr(module, name, value)
    _silence()  # once more, for what the import has set up
    calls._response_cost_calculator = _no_cost
    if not getattr(transport, _WATCHED, False):
        setattr(transport, _WATCHED, True)
        transport.handle_async_request = _watched(transport.handle_async_request)
    return module


def _no_cost(*_: object, **__: object) -> None:
    """LiteLLM would count the tokens of every prompt for it, and load a tokenizer with the first one."""


class _LaterEncoding:
    """A tokenizer that is loaded when it is used."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module("tiktoken").get_encoding(self._name), attribute)


@contextlib.contextmanager
def _encodings_later() -> Generator[None, None, None]:
    """LiteLLM loads a tokenizer at import, a twelfth of its time, for the few answers that come without usage."""
    tiktoken: Any = importlib.import_module("tiktoken")
    whole = tiktoken.get_encoding
    tiktoken.get_encoding = _LaterEncoding
    try:
        yield
    finally:
        tiktoken.get_encoding = whole


@contextlib.contextmanager
def _models_later() -> Generator[None, None, None]:
    """Pydantic builds each of LiteLLM's hundreds of models when it is first used: a quarter of the import's time."""
    defaults = importlib.import_module("pydantic._internal._config").config_defaults
    kept = defaults["defer_build"]
    defaults["defer_build"] = True
    try:
        yield
    finally:
        defaults["defer_build"] = kept


def _watched(send: Send) -> Send:
    async def watched(transport: Any, request: Any) -> Any:
        _transports.add(transport)
        answer = await send(transport, request)
        answers = _answers.get()
        if answers is not None:
            answers.append(answer)
        return answer

    return watched


def _silence() -> None:
    """LiteLLM's own log lines may quote requests; what matters of them reaches the caller as an error."""
    for name in _OWN_LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [logging.NullHandler()]
        logger.setLevel(logging.CRITICAL)
        logger.propagate = False
    for name in _ITS_LIBRARIES:
        logging.getLogger(name).setLevel(logging.WARNING)
