"""The gateway's REST API, the only thing that is ever called: requests, retries of what is safe, and failures.

A request is sent again only when it changes nothing, or when an Idempotency-Key makes it harmless: twice at most, after
a second or what `retry-after` says, up to ten.
"""

import contextlib
import json
import os
import ssl
import time
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn
from urllib.parse import urlsplit

import httpx
import truststore

from stile_cli import __version__
from stile_cli.failures import Failure, NoGateway, NotAllowed, NotFound, Refused, Unreachable, WrongUse

_TIMES = 3
_AGAIN = {429, 502, 503, 504}
_LONGEST_PAUSE = 10.0
_ADVICE = {
    401: "Run 'stile login' with a key that works; an admin makes one with 'stile keys create'.",
    403: "'stile whoami' shows what this key may do.",
    404: "The lists show what there is: 'stile users list', 'stile keys list', 'stile models list'.",
    429: "Try again later.",
}

Record = dict[str, Any]


class Gateway:
    """One gateway, called with one key. `url` is its base, without `/v1`."""

    def __init__(self, url: str, key: str = "", *, timeout: float = 60) -> None:
        self.url = base_of(url)
        self.key = key
        if not in_header(key):
            raise NotAllowed("The key has letters that no key has.", "Copy it once more, from sk-stile- to its end.")
        headers = {"user-agent": f"stile-cli/{__version__}"}
        if key:
            headers["authorization"] = f"Bearer {key}"
        limits = httpx.Timeout(timeout, connect=10)
        trust = _trust()
        try:
            self._client = httpx.Client(headers=headers, timeout=limits, verify=trust, follow_redirects=False)
        except (ValueError, httpx.InvalidURL) as fault:  # of a proxy: nothing else is read here
            advice = "Mend HTTPS_PROXY, HTTP_PROXY or ALL_PROXY."
            raise WrongUse(f"The environment's proxy cannot be used: {fault}.", advice) from fault

    def close(self) -> None:
        """Close what connections there are."""
        self._client.close()

    def get(self, path: str, **query: Any) -> Record:
        """What is at a path. Raises Failure."""
        return self._whole("GET", path, query=query, safe=True)

    def post(self, path: str, body: Any = None, *, idempotency_key: str = "") -> Record:
        """What a path answers to a body. With an idempotency key it is sent again when an answer is lost."""
        headers = {"idempotency-key": idempotency_key} if idempotency_key else {}
        return self._whole("POST", path, body=body, headers=headers, safe=bool(idempotency_key))

    def patch(self, path: str, body: Any) -> Record:
        """The record as it is after a change."""
        return self._whole("PATCH", path, body=body)

    def delete(self, path: str) -> Record:
        """What is said of a record that is gone."""
        return self._whole("DELETE", path)

    def message(self, path: str, message: Record, headers: Mapping[str, str]) -> Record:
        """What a path answers in JSON-RPC: a result, or an error in the protocol's own words, whatever its status.
        Raises NotAllowed for a key that is not taken, and what else keeps an answer away."""
        answer = self._send("POST", path, None, message, headers)
        found = _read(answer.text)
        if answer.status_code == 401:
            error = found.get("error")
            if isinstance(error, dict):
                raise NotAllowed(str(error.get("message")), _ADVICE[401], _id_of(answer))
        if found.get("jsonrpc") != "2.0" or not ("result" in found or isinstance(found.get("error"), dict)):
            self._refuse(answer)
        return found

    def pages(self, path: str, **query: Any) -> Iterator[Record]:
        """All records of a list, page by page."""
        cursor: str | None = None
        while True:
            page = self.get(path, **query, **({"cursor": cursor} if cursor else {}))
            yield from page.get("data", [])
            cursor = page.get("next_cursor")
            if not cursor:
                return

    def events(self, path: str, body: Any) -> Iterator[Record]:
        """The events of a streamed answer, as they come. Raises Failure, also for one that breaks off."""
        with self._told(), self._client.stream("POST", self.url + path, json=body) as answer:
            if answer.status_code != 200:
                answer.read()
                self._refuse(answer)
            if "text/event-stream" not in answer.headers.get("content-type", ""):
                answer.read()
                raise NoGateway(
                    f"{self.url} does not stream.", "Check what stands between, such as a proxy that collects answers."
                )
            for line in answer.iter_lines():
                said = line.removeprefix("data:").strip() if line.startswith("data:") else ""
                if said == "[DONE]":
                    return
                if said:
                    event = _read(said)
                    if "error" in event:
                        raise Failure(str(event["error"].get("message")), request_id=_id_of(answer))
                    yield event
        raise Failure("The answer broke off.", "Ask again.")

    def _whole(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        safe: bool = False,
    ) -> Record:
        for left in reversed(range(_TIMES if safe else 1)):
            try:
                answer = self._send(method, path, query, body, headers)
            except Unreachable:
                if not left:
                    raise
                time.sleep(1)
                continue
            if answer.status_code not in _AGAIN or not left:
                break
            time.sleep(_pause(answer))
        if answer.status_code >= 300:
            self._refuse(answer)
        found = _read(answer.text)
        if not found:
            raise self._foreign(answer)
        return found

    def _send(
        self, method: str, path: str, query: Mapping[str, Any] | None, body: Any, headers: Mapping[str, str] | None
    ) -> httpx.Response:
        content = None if body is None else json.dumps(body).encode()
        sent = {"content-type": "application/json", **(headers or {})} if content is not None else dict(headers or {})
        with self._told():
            return self._client.request(method, self.url + path, params=query or None, content=content, headers=sent)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """What keeps a request from its answer, said for people."""
        host = urlsplit(self.url).netloc
        try:
            yield
        except httpx.ConnectError as fault:
            raise _no_way(host, fault) from fault
        except httpx.TimeoutException as fault:
            raise Unreachable(
                f"{host} does not answer in time.", "Try again; 'stile models test echo' needs no provider."
            ) from fault
        except httpx.RequestError as fault:
            advice = "Check the URL, and what stands between, such as a proxy."
            raise Unreachable(f"The connection to {host} broke off: {_words(fault)}.", advice) from fault

    def _refuse(self, answer: httpx.Response) -> NoReturn:
        error = _read(answer.text).get("error")
        if not isinstance(error, dict) or "message" not in error:
            raise self._foreign(answer)
        status, code = answer.status_code, error.get("code")
        message, request_id = str(error["message"]), _id_of(answer)
        if code == "unknown_url":
            message = f"This gateway has no {answer.request.url.path}."
            raise Failure(message, "It is older than this stile: update the gateway.", request_id)
        if code == "unknown_parameter" and answer.request.url.path.startswith("/api/"):
            raise Failure(message, "The gateway may be older than this stile.", request_id)
        if status in (401, 403):
            raise NotAllowed(message, _ADVICE[status], request_id)
        if status == 404:
            raise NotFound(message, _ADVICE[status], request_id)
        if status == 429 or code == "too_many_keys":
            advice = "Delete one that is not needed: 'stile keys delete ID'." if status == 409 else _ADVICE[429]
            raise Refused(message, advice, request_id)
        if status in (400, 413, 422):
            raise WrongUse(message, "", request_id)
        raise Failure(message, "Try again; the gateway's log has more." if status >= 500 else "", request_id)

    def _foreign(self, answer: httpx.Response) -> NoGateway:
        kind = answer.headers.get("content-type", "no content type").split(";")[0]
        if answer.has_redirect_location:
            where = urlsplit(answer.headers["location"])
            told = f"{self.url} leads to {where.scheme or 'another'}://{where.netloc}, and is not followed with a key."
            return NoGateway(told, "Give that address if it is the gateway's: 'stile login URL'.")
        return NoGateway(
            f"{self.url} answered {answer.status_code} with {kind}, not as a Stile gateway does.",
            "Check the URL, and what stands between, such as a proxy.",
        )


def base_of(url: str) -> str:
    """A gateway's base URL, from what people paste: with or without `/v1`, a slash at the end, or a scheme. Raises
    WrongUse."""
    text = url.strip()
    if "://" not in text:
        loopback = text.split(":")[0].split("/")[0] in ("localhost", "127.0.0.1")
        text = f"{'http' if loopback else 'https'}://{text}"
    try:
        parts = urlsplit(text)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        parts, whole = urlsplit(""), False
    if not whole or parts.username or parts.query or parts.fragment:
        raise WrongUse(f"{url!r} is not a gateway's URL.", "It looks like https://gateway.example.com.")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/v1')}"


def in_header(text: str) -> bool:
    """Whether a text can stand in a header: ASCII, and nothing that would end the line."""
    return text.isascii() and (text.isprintable() or not text)


def _trust() -> ssl.SSLContext:
    """The system's certificates, and those of SSL_CERT_FILE."""
    context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if file := os.environ.get("SSL_CERT_FILE"):
        try:
            context.load_verify_locations(cafile=file)
        except OSError as fault:
            raise WrongUse(
                f"SSL_CERT_FILE: {file} cannot be used: {fault}.", "Name a file of PEM, or unset it."
            ) from fault
    return context


def _no_way(host: str, fault: httpx.ConnectError) -> Unreachable:
    said = _words(fault)
    if "CERTIFICATE_VERIFY_FAILED" in said or "certificate" in said.lower():
        advice = "Name the certificate of its authority in SSL_CERT_FILE if you trust it."
        return Unreachable(f"The certificate of {host} is not trusted: {said}.", advice)
    if "WRONG_VERSION_NUMBER" in said or "record layer" in said.lower():
        return Unreachable(f"{host} does not speak TLS.", "Is it http:// instead of https://?")
    return Unreachable(f"{host} cannot be reached: {said}.", "Check the URL, and whether the gateway runs.")


def _words(fault: Exception) -> str:
    return str(fault).strip().rstrip(".") or type(fault).__name__


def _pause(answer: httpx.Response) -> float:
    try:
        return min(max(float(answer.headers.get("retry-after", "1")), 0.2), _LONGEST_PAUSE)
    except ValueError:
        return 1.0


def _read(text: str) -> Record:
    """A JSON object; an empty one for anything else."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _id_of(answer: httpx.Response) -> str:
    found: str = answer.headers.get("x-request-id", "")
    return found
