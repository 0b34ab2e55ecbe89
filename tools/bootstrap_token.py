"""The one-time token that makes a gateway's first admin, and the hash by which the gateway knows it.

`make bootstrap-token` prints both; `make deploy` makes one itself for a new stack. The token is kept nowhere: only its
hash is deployed.
"""

import hashlib
import secrets


def fresh() -> str:
    """A new token: 256 random bits as 64 hex digits."""
    return secrets.token_hex(32)


def digest(token: str) -> str:
    """The SHA-256 of the token's text, in hex."""
    return hashlib.sha256(token.encode()).hexdigest()


def main() -> None:
    token = fresh()
    print(f"""The token, which is shown this once:

    {token}

Its SHA-256, for a deployment or for the environment of a gateway; take one of these:

    make deploy PARAMETERS=BootstrapSha256={digest(token)}
    STILE_BOOTSTRAP_SHA256={digest(token)}

Then POST the token to /api/bootstrap: doc/deploy.md has the line.""")


if __name__ == "__main__":
    main()
