"""The contract of directories, kept by the one in Cognito against an emulator that has nothing in common with moto."""

import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from tests.contracts.test_directory import *  # noqa: F403 (the whole suite, unchanged, with another directory)
from tests.contracts.test_directory import WINDOW, Opened
from tests.e2e import cognito_local

from stile.adapters.aws_client import AwsClient
from stile.adapters.directory_cognito import CognitoDirectory
from stile.ports import Directory


@contextlib.asynccontextmanager
async def _on_cognito_local(folder: Path) -> AsyncGenerator[Directory, None]:
    with cognito_local.running(folder) as pool:
        client = AwsClient(cognito_local.environment(pool))
        try:
            directory = CognitoDirectory(client, pool.pool_id, window=WINDOW)
            await directory.prepare()
            yield directory
        finally:
            await client.close()


@pytest.fixture  # type: ignore[no-redef]
def opened() -> Opened:
    return _on_cognito_local
