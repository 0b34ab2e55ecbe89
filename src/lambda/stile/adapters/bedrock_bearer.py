"""Short-lived API keys of Amazon Bedrock, made from AWS's credentials, for its endpoint of OpenAI's dialect.

A key is a request to Bedrock, signed in its query and packed in base64, as AWS's own aws-bedrock-token-generator makes
it. Making one asks nobody; it holds as long as the credentials do, and for twelve hours at most.
"""

import base64
import time
from collections.abc import Mapping
from datetime import UTC, datetime

from stile.adapters.aws_credentials import Credentials, CredentialSource
from stile.adapters.aws_signature import presign
from stile.core.secret import Secret

KEPT_SECONDS = 300
_VALID_SECONDS = 12 * 3600
_HOST = "bedrock.amazonaws.com"
_REQUEST = f"https://{_HOST}/?Action=CallWithBearerToken"
_PREFIX = "bedrock-api-key-"
_VERSION = "&Version=1"


class BedrockBearer:
    """Keys for each region, made anew every few minutes. `environment` names the credentials."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._source = CredentialSource(environment)
        self._kept: dict[tuple[str, str | Credentials], tuple[float, Secret]] = {}

    async def token(self, region: str, credentials: Credentials | None = None) -> Secret:
        """A key for `region`, by `credentials` or by those of the process. Raises CredentialsError."""
        signer = credentials or await self._source.get()
        # Given ones are the same only as long as their secrets are the same objects: a secret key that was corrected
        # comes with the access key of before. The process's own are read anew for each call.
        place, now = (region, credentials or signer.access_key), time.monotonic()
        made_at, kept = self._kept.get(place, (-float("inf"), None))
        if kept is None or now - made_at >= KEPT_SECONDS:
            kept = make(region, signer, datetime.now(UTC))
            self._kept = {other: made for other, made in self._kept.items() if now - made[0] < KEPT_SECONDS}
            self._kept[place] = (now, kept)
        return kept

    def release(self) -> None:
        """Forget keys and credentials."""
        self._kept.clear()
        self._source.release()


def make(region: str, credentials: Credentials, now: datetime) -> Secret:
    """One key."""
    signed = presign(
        "POST", _REQUEST, service="bedrock", region=region, credentials=credentials, now=now, seconds=_VALID_SECONDS
    )
    packed = base64.b64encode((signed.removeprefix("https://") + _VERSION).encode())
    return Secret(_PREFIX + packed.decode())
