"""What the artifact does without, each with its reason. `tests/e2e/test_build.py` proves that nothing misses it.

Paths are relative to the artifact; `*` and `**` as in pathlib.
"""

import shutil
from pathlib import Path

# Distributions that are not installed at all.
DISTRIBUTIONS = {
    "filelock": "huggingface-hub's",
    "fsspec": "huggingface-hub's",
    "hf-xet": "downloads models for huggingface-hub",
    "huggingface-hub": "downloads tokenizers; the gateway tells LiteLLM never to",
    "tqdm": "progress bars of downloads",
}

PATHS = {
    "bin": "commands of the packages",
    "boto3/data": "resources; LiteLLM makes clients and sessions",
    "boto3/examples": "documentation",
    "botocore/cacert.pem": "botocore's sessions take certifi's, which is there",
    "litellm/proxy/_experimental": "the proxy's web pages and its MCP server",
    "litellm/proxy/_lazy_openapi_snapshot.json": "the proxy's API description",
    "litellm/proxy/client": "the proxy's command line",
    "litellm/proxy/guardrails": "the proxy's",
    "litellm/proxy/management_endpoints": "the proxy's",
    "litellm/proxy/swagger": "the proxy's documentation pages",
    "litellm/integrations/**/*.md": "documentation",
    "litellm/rust_bridge/_native.abi3.so": "LiteLLM's paths in Rust: off by default, done without where it is missing",
    "**/__pycache__": "bytecode is compiled anew, for the target",
    "**/*.pyi": "types for checkers",
    "**/*.pyx": "sources of extension modules",
    "**/*.pxd": "sources of extension modules",
    "**/*.c": "sources of extension modules",
    "**/*.h": "sources of extension modules",
    "*.dist-info/RECORD": "the installer's notes; they differ from build to build",
    "*.dist-info/INSTALLER": "the installer's notes",
    "*.dist-info/REQUESTED": "the installer's notes",
    "*.dist-info/direct_url.json": "the installer's notes",
    "*.dist-info/uv_cache.json": "the installer's notes",
    "*.dist-info/sboms": "lists of parts",
}

# botocore knows every service of AWS; these are what credentials and the translated providers use.
BOTOCORE_DATA = Path("botocore/data")
SERVICES = {
    "bedrock": "LiteLLM: Bedrock's own calls",
    "bedrock-runtime": "LiteLLM: Bedrock",
    "sagemaker-runtime": "LiteLLM: SageMaker",
    "sso": "credentials of a person who signed in",
    "sso-oidc": "credentials of a person who signed in",
    "sts": "credentials of another role",
}


class Stale(Exception):
    """Something is named above that is not there any more."""


def prune(tree: Path) -> None:
    """Take out of `tree` what is named above. Raises Stale."""
    for pattern, reason in PATHS.items():
        found = list(tree.glob(pattern))
        if not found and "*" not in pattern:
            raise Stale(f"tools/prune.py names {pattern} ({reason}), which the packages do not have any more")
        for path in found:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    services = {path.name: path for path in (tree / BOTOCORE_DATA).iterdir() if path.is_dir()}
    if gone := SERVICES.keys() - services.keys():
        raise Stale(f"tools/prune.py keeps {', '.join(sorted(gone))} of botocore, which does not have them any more")
    for name in services.keys() - SERVICES.keys():
        shutil.rmtree(services[name])
