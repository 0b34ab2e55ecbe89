"""What can be asked of a model, and where providers of each dialect answer it.

Paths as OpenAI's API reference, Anthropic's, and for rerank Cohere's and Jina's have them, below an address that ends
in a version.
"""

from typing import Literal

Operation = Literal[
    "chat",
    "embeddings",
    "responses",
    "completions",
    "moderations",
    "images",
    "image_edits",
    "transcriptions",
    "translations",
    "speech",
    "rerank",
    "messages",
    "count_tokens",
]

PATHS: dict[Operation, str] = {
    "chat": "/chat/completions",
    "embeddings": "/embeddings",
    "responses": "/responses",
    "completions": "/completions",
    "moderations": "/moderations",
    "images": "/images/generations",
    "image_edits": "/images/edits",
    "transcriptions": "/audio/transcriptions",
    "translations": "/audio/translations",
    "speech": "/audio/speech",
    "rerank": "/rerank",
    "messages": "/messages",
    "count_tokens": "/messages/count_tokens",
}

ANTHROPIC: frozenset[Operation] = frozenset({"messages", "count_tokens"})
# What a server that speaks like OpenAI is asked; one that lacks an endpoint says so itself.
OPENAI_LIKE: frozenset[Operation] = frozenset(PATHS.keys() - ANTHROPIC - {"responses"})
OPENAI: frozenset[Operation] = OPENAI_LIKE | {"responses"}
# Those that can be said as a chat, for targets that do not take them as they are.
THROUGH_CHAT: frozenset[Operation] = frozenset({"responses", "messages"})


def by_path(path: str) -> Operation | None:
    """The operation of a path as LiteLLM's `supported_endpoints` writes it, `/v1/responses` or `/responses`."""
    wanted = path.removeprefix("/v1")
    return next((operation for operation, known in PATHS.items() if known == wanted), None)
