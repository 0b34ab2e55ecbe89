"""How clients of MCP find out where people sign in: a 401 names a document about the resource (RFC 9728), which names
the authorization server, whose own document (RFC 8414) leads to Cognito's pages.

The gateway itself stands for that server, because what Cognito says of itself (OpenID Connect Discovery) does not say
that it takes PKCE, which these clients insist on. Not proven on AWS: an API Gateway REST API renames
`WWW-Authenticate`, and the root of its host is not the gateway's, so all this needs a custom domain.
"""

from stile.api.base_url import BaseUrl
from stile.api.request import Reply, Request, json_reply
from stile.errors import UnknownPath

MCP = "/mcp"
RESOURCE = f"/.well-known/oauth-protected-resource{MCP}"


class OAuth:
    """The handlers of both documents. `sign_in`: the address of Cognito's pages; None: nobody signs in."""

    def __init__(self, base_url: BaseUrl, sign_in: str | None) -> None:
        self._base_url = base_url
        self._sign_in = sign_in

    async def resource(self, request: Request) -> Reply:
        """Protected resource metadata: RFC 9728, section 2."""
        base = self._base_url.of(request)
        servers = {"authorization_servers": [base]} if self._sign_in else {}
        return json_reply(
            {
                "resource": f"{base}{MCP}",
                **servers,
                "bearer_methods_supported": ["header"],
                "resource_name": "Stile",
                "resource_documentation": f"{base}/docs",
            }
        )

    async def server(self, request: Request) -> Reply:
        """Authorization server metadata: RFC 8414, section 2. Raises UnknownPath where nobody signs in."""
        if self._sign_in is None:
            raise UnknownPath("People do not sign in here; use an API key.")
        return json_reply(
            {
                "issuer": self._base_url.of(request),
                "authorization_endpoint": f"{self._sign_in}/oauth2/authorize",
                "token_endpoint": f"{self._sign_in}/oauth2/token",
                "revocation_endpoint": f"{self._sign_in}/oauth2/revoke",
                "response_types_supported": ["code"],
                "grant_types_supported": ["authorization_code", "refresh_token"],
                "code_challenge_methods_supported": ["S256"],
                "token_endpoint_auth_methods_supported": ["none", "client_secret_basic", "client_secret_post"],
                "scopes_supported": ["openid"],
            }
        )
