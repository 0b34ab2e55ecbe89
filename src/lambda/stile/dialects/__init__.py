"""OpenAI's Responses and Anthropic's Messages, said as a chat and made of a chat's answer.

The way between them leads through Chat Completions because every target speaks it, itself or by the translator. Values
in, values out: nothing here knows a socket, and a stream goes event by event.
"""

from stile.core.body import Fields
from stile.core.operations import Operation
from stile.core.routes import Target
from stile.dialects import messages_request, responses_request
from stile.dialects.messages_answer import MessagesTranslation
from stile.dialects.responses_answer import ResponsesTranslation
from stile.dialects.translation import Translation

__all__ = ["Translation", "through_chat"]

# Of the servers that speak like OpenAI: those that document `reasoning_content` in what they are sent, too.
_WANT_THOUGHTS = frozenset({"deepseek", "hosted_vllm"})


def through_chat(operation: Operation, fields: Fields, model: str, target: Target) -> Translation:
    """How a call of Responses or Messages is made by a chat. Raises BadRequest for what a chat cannot do."""
    if operation == "responses":
        chat = responses_request.read(fields, drop=target.drop_params)
    else:
        chat = messages_request.read(fields, drop=target.drop_params, thinks=target.way("chat") == "litellm")
    if target.way("chat") == "litellm":
        chat.for_translator()
    else:
        chat.plain(thinks=target.provider in _WANT_THOUGHTS)
    if "responses" in target.urls and "max_tokens" in chat.values:  # OpenAI's newer models refuse the old name
        chat.values["max_completion_tokens"] = chat.values.pop("max_tokens")
    return ResponsesTranslation(chat, model, fields) if operation == "responses" else MessagesTranslation(chat, model)
