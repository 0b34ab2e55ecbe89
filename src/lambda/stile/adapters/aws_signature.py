"""Requests to AWS, signed with the credentials of this machine or role: botocore's own signer and credential chain."""

from collections.abc import Mapping


def headers(url: str, service: str, region: str) -> Mapping[str, str]:
    """The headers that sign a GET of `url` (Signature Version 4); none where there are no credentials.

    Blocks while credentials are looked for; call it on a thread.
    """
    # Imported on first need: most machines have no AWS credentials, and a start must not pay for them.
    import botocore.auth  # noqa: PLC0415
    import botocore.awsrequest  # noqa: PLC0415
    import botocore.session  # noqa: PLC0415

    credentials = botocore.session.get_session().get_credentials()
    if credentials is None:
        return {}
    request = botocore.awsrequest.AWSRequest("GET", url)
    botocore.auth.SigV4Auth(credentials, service, region).add_auth(request)
    return dict(request.headers)
