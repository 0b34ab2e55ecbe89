"""AWS on a socket: moto's server as a process of its own, which checks signatures and policies.

What a test finds there is put in by botocore, with an administrator's credentials; the gateway under test has its own,
and may do exactly what the test allows.
"""

import contextlib
import itertools
import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import botocore.session
from tests.program import wait_for

REGION = "eu-west-1"
_SERVING = re.compile(r"Running on (http://127\.0\.0\.1:\d+)")
_numbers = itertools.count(1)


@dataclass
class Aws:
    """An AWS that runs. `key` is its administrator's: id and secret."""

    url: str
    key: tuple[str, str] = ("anybody", "before policies are checked")

    @contextlib.contextmanager
    def client(self, service: str, region: str = REGION) -> Iterator[Any]:
        """botocore's client, to set the scene with."""
        made = botocore.session.get_session().create_client(
            service,
            region,
            endpoint_url=self.url,
            aws_access_key_id=self.key[0],
            aws_secret_access_key=self.key[1],
        )
        try:
            yield made
        finally:
            made.close()

    def allowing(self, **actions: str) -> dict[str, str]:
        """The environment of somebody who may do this alone: a resource for each action, `s3_GetObject="arn:…"`."""
        key, secret = self.user(
            [{"Effect": "Allow", "Action": a.replace("_", ":"), "Resource": r} for a, r in actions.items()]
        )
        return {
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def user(self, statements: list[dict[str, str]]) -> tuple[str, str]:
        """A new user's key."""
        name, document = f"user-{next(_numbers)}", {"Version": "2012-10-17", "Statement": statements}
        with self.client("iam") as iam:
            iam.create_user(UserName=name)
            iam.put_user_policy(UserName=name, PolicyName="all", PolicyDocument=json.dumps(document))
            made = iam.create_access_key(UserName=name)["AccessKey"]
        return made["AccessKeyId"], made["SecretAccessKey"]

    def store(self, bucket: str, key: str, content: bytes) -> str:
        """Put an object, in a bucket that is made for it; answers its URI."""
        with self.client("s3") as s3:
            s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
            s3.put_object(Bucket=bucket, Key=key, Body=content)
        return f"s3://{bucket}/{key}"

    def keep(self, name: str, text: str | None = None, *, region: str = REGION, **more: Any) -> str:
        """Make a secret; answers its ARN."""
        values = {"SecretString": text} if text is not None else more
        with self.client("secretsmanager", region) as secrets:
            return str(secrets.create_secret(Name=name, **values)["ARN"])


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Aws]:
    """An AWS that serves until the block ends."""
    log = folder / "moto.txt"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={**os.environ, "AWS_EC2_METADATA_DISABLED": "true"},
        )
    try:
        aws = Aws(wait_for(lambda: _SERVING.search(log.read_text()), "moto to serve")[1])
        aws.key = aws.user([{"Effect": "Allow", "Action": "*", "Resource": "*"}])
        enforce = urllib.request.Request(f"{aws.url}/moto-api/reset-auth", b"0", {"content-type": "text/plain"})
        urllib.request.urlopen(enforce).close()
        yield aws
    finally:
        process.kill()
        process.wait()
