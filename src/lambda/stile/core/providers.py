"""The providers that are known by name: how to reach each one, and whether its dialect needs translation.

A provider with a `base_url`, or one that is always given an `api_base`, speaks OpenAI's dialect and is relayed; all
others go through LiteLLM, under the name that LiteLLM knows them by. Names are LiteLLM's prefixes. Base URLs are those
of each provider's own API documentation, as of November 2026.
"""

import msgspec

from stile.core.operations import ANTHROPIC, OPENAI, OPENAI_LIKE, Operation

ECHO = "echo"
OLLAMA = "ollama"
OLLAMA_PORT = 11434
BEDROCK = "bedrock"
BEDROCK_OPENAI_PATH = "/openai/v1"
BEDROCK_MANTLE = "bedrock_mantle"


class Provider(msgspec.Struct, frozen=True):
    """`key_env`: variables that hold its key, first one set wins. `stream_usage`: whether it takes
    `stream_options.include_usage`; None: not known, ask and see. `key_header`: where its key goes when that is not
    `authorization: Bearer`. `list_url`: where its models are listed when that is not `base_url/models`. `region`: of
    AWS, whose credentials make a key where none is given. `takes`: what it is asked as it comes, and `relay_url` where,
    when that is not `base_url`."""

    name: str
    relayed: bool = True
    base_url: str | None = None
    base_env: tuple[str, ...] = ()
    key_env: tuple[str, ...] = ()
    key_header: str = "authorization"
    stream_usage: bool | None = None
    list_url: str | None = None
    region: str | None = None
    takes: frozenset[Operation] = OPENAI_LIKE
    relay_url: str | None = None


_RELAYED = (
    Provider(
        "openai",
        base_url="https://api.openai.com/v1",
        base_env=("OPENAI_BASE_URL", "OPENAI_API_BASE"),
        key_env=("OPENAI_API_KEY",),
        stream_usage=True,
        takes=OPENAI,
    ),
    Provider(
        "azure",
        base_env=("AZURE_API_BASE",),
        key_env=("AZURE_API_KEY",),
        key_header="api-key",
        stream_usage=True,
        takes=OPENAI,
    ),
    Provider("groq", base_url="https://api.groq.com/openai/v1", key_env=("GROQ_API_KEY",), stream_usage=True),
    # Mistral puts usage into the last chunk unasked and refuses fields that it does not know.
    Provider("mistral", base_url="https://api.mistral.ai/v1", key_env=("MISTRAL_API_KEY",), stream_usage=False),
    Provider("deepseek", base_url="https://api.deepseek.com/v1", key_env=("DEEPSEEK_API_KEY",), stream_usage=True),
    Provider("xai", base_url="https://api.x.ai/v1", key_env=("XAI_API_KEY",), stream_usage=True, takes=OPENAI),
    Provider("openrouter", base_url="https://openrouter.ai/api/v1", key_env=("OPENROUTER_API_KEY",), stream_usage=True),
    Provider("together_ai", base_url="https://api.together.xyz/v1", key_env=("TOGETHERAI_API_KEY", "TOGETHER_API_KEY")),
    Provider(
        "fireworks_ai",
        base_url="https://api.fireworks.ai/inference/v1",
        key_env=("FIREWORKS_AI_API_KEY", "FIREWORKS_API_KEY"),
    ),
    Provider("cerebras", base_url="https://api.cerebras.ai/v1", key_env=("CEREBRAS_API_KEY",)),
    Provider("nvidia_nim", base_url="https://integrate.api.nvidia.com/v1", key_env=("NVIDIA_NIM_API_KEY",)),
    Provider(
        "gemini",
        base_url="https://generativelanguage.googleapis.com/v1beta/openai",
        key_env=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    ),
    Provider(OLLAMA, base_env=("OLLAMA_API_BASE",), stream_usage=True),
    Provider("hosted_vllm", base_env=("HOSTED_VLLM_API_BASE",), key_env=("HOSTED_VLLM_API_KEY",), stream_usage=True),
    Provider("lm_studio", base_env=("LM_STUDIO_API_BASE",), key_env=("LM_STUDIO_API_KEY",)),
)

_TRANSLATED = (
    Provider(
        "anthropic",
        relayed=False,
        key_env=("ANTHROPIC_API_KEY",),
        base_env=("ANTHROPIC_BASE_URL", "ANTHROPIC_API_BASE"),
        key_header="x-api-key",
        list_url="https://api.anthropic.com/v1/models?limit=1000",
        takes=ANTHROPIC,
        relay_url="https://api.anthropic.com/v1",
    ),
    Provider(
        "cohere",
        relayed=False,
        key_env=("COHERE_API_KEY", "CO_API_KEY"),
        list_url="https://api.cohere.com/v1/models?page_size=1000",
        takes=frozenset({"rerank"}),
        relay_url="https://api.cohere.com/v2",
    ),
    Provider(BEDROCK, relayed=False, takes=frozenset()),
)

KNOWN = {provider.name: provider for provider in (*_RELAYED, *_TRANSLATED)}

# Those that LiteLLM 1.102 translates for, beside the ones above.
# fmt: off
NAMES = frozenset(KNOWN) | {
    "a2a", "ai21", "ai21_chat", "aiml", "aiohttp_openai", "amazon_nova", "anthropic_text", "assemblyai", "azure_ai",
    "azure_text", "baseten", "bedrock_mantle", "bytez", "charity_engine", "chutes", "clarifai", "cloudflare",
    "codestral", "cohere_chat", "cometapi", "compactifai", "dashscope", "databricks", "datarobot", "deepinfra",
    "docker_model_runner", "elevenlabs", "empower", "featherless_ai", "friendliai", "galadriel", "gigachat",
    "github", "github_copilot", "gradient_ai", "heroku", "huggingface", "hyperbolic", "inception", "infinity",
    "jina_ai", "lambda_ai", "langflow", "langgraph", "lemonade", "llamafile", "manus", "maritalk", "meta_llama",
    "minimax", "modelscope", "moonshot", "morph", "nano-gpt", "nebius", "nlp_cloud", "novita", "nscale",
    "nvidia_riva", "oci", "oobabooga", "ovhcloud", "parasail", "perplexity", "petals", "poe", "predibase",
    "publicai", "ragflow", "replicate", "sagemaker", "sagemaker_chat", "sagemaker_nova", "sambanova", "sap",
    "scaleway", "snowflake", "synthetic", "tencent", "text-completion-codestral", "text-completion-openai", "topaz",
    "triton", "v0", "vercel_ai_gateway", "vertex_ai", "vertex_ai_beta", "volcengine", "voyage", "wandb", "watsonx",
    "watsonx_text", "xiaomi_mimo", "xinference", "zai",
}
# fmt: on

# Other names for the same thing in LiteLLM's configurations.
ALIASES = {"ollama_chat": "ollama", "vllm": "hosted_vllm", "custom_openai": "openai", "openai_like": "openai"}

_BY_FIRST_LETTERS = {
    "gpt-": "openai",
    "chatgpt-": "openai",
    "o1": "openai",
    "o3": "openai",
    "o4": "openai",
    "text-embedding-": "openai",
    "claude-": "anthropic",
}


def split_model(model: str) -> tuple[str | None, str]:
    """Provider and the provider's own model name of LiteLLM's `provider/model`; None when the name tells no provider.

    Names without a provider are taken as LiteLLM takes them: `gpt-4o` is OpenAI's, `claude-…` Anthropic's.
    """
    prefix, slash, rest = model.partition("/")
    if slash:
        return ALIASES.get(prefix, prefix), rest
    for start, provider in _BY_FIRST_LETTERS.items():
        if model.startswith(start):
            return provider, model
    return None, model


def bedrock_openai(region: str) -> Provider:
    """Bedrock as a provider of OpenAI's dialect, for the models that it serves so in a region."""
    return Provider(
        BEDROCK,
        base_url=f"https://bedrock-runtime.{region}.amazonaws.com{BEDROCK_OPENAI_PATH}",
        key_env=("AWS_BEARER_TOKEN_BEDROCK",),
        region=region,
        takes=OPENAI,
    )


def bedrock_messages(region: str) -> Provider:
    """Bedrock as a provider of Anthropic's dialect, for Anthropic's models in a region; their chats are translated.

    Source: Amazon Bedrock User Guide, "Inference using Anthropic Messages API".
    """
    return Provider(
        BEDROCK_MANTLE,
        relayed=False,
        key_env=("BEDROCK_MANTLE_API_KEY", "AWS_BEARER_TOKEN_BEDROCK"),
        region=region,
        takes=frozenset({"messages"}),
        relay_url=f"https://bedrock-mantle.{region}.api.aws/anthropic/v1",
    )


def get(name: str) -> Provider | None:
    """The provider of this name: one of those above, or one that LiteLLM translates for; None when nobody knows it."""
    if name in KNOWN or name == ECHO:
        return KNOWN.get(name) or Provider(ECHO, relayed=False, takes=frozenset())
    return Provider(name, relayed=False, takes=frozenset()) if name in NAMES else None
