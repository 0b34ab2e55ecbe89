"""The entry: hands the process to the host that fits the machine.

Each host is imported where it is chosen: a laptop's web server is not even installed on Lambda.
"""

import os
import sys
from typing import Any


def main() -> int:
    """Run as Lambda's runtime where there is one to serve, else as a program of this machine."""
    if "AWS_LAMBDA_RUNTIME_API" in os.environ:
        from stile import serverless  # noqa: PLC0415

        return serverless.main(os.environ)
    from stile import local  # noqa: PLC0415

    return local.main(sys.argv[1:], os.environ)


def handler(event: object, context: Any) -> dict[str, Any]:
    """The classic handler, whole answers only: for `sam local` and other tools that know no other way."""
    from stile import serverless  # noqa: PLC0415

    return serverless.handle(event, context)


if __name__ == "__main__":
    sys.exit(main())
