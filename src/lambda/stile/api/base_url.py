"""The gateway's own address, as clients must write it. What a client says of it (the header Host) does not count."""

from stile.api.endpoint import HOSTED
from stile.api.request import Request


class BaseUrl:
    """`configured`: what the settings say, which is taken as it is."""

    def __init__(self, configured: str | None) -> None:
        self._configured = configured

    def of(self, request: Request) -> str:
        """Without a slash at the end: as configured, else as the host knows it, else where the request came in."""
        if self._configured is not None:
            return self._configured
        scope = request.scope
        hosted = scope.get("extensions", {}).get(HOSTED)
        if hosted is not None and hosted.get("base_url"):
            return str(hosted["base_url"])
        host, port = scope.get("server") or ("localhost", None)
        shown = f"[{host}]" if ":" in host else host
        default = {"http": 80, "https": 443}.get(scope["scheme"])
        return f"{scope['scheme']}://{shown}" + ("" if port in (None, default) else f":{port}")
