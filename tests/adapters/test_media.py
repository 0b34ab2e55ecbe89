"""The fetcher of media, against a web server on a socket. What is public is the tests' to say: 127.0.0.1 alone."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import pytest
from tests.mocks import provider
from tests.mocks.provider import Exchange, Provider

from stile.adapters.media import MAX_URLS, MediaFetcher
from stile.errors import BadRequest

T = TypeVar("T")
PNG = b"\x89PNG\r\n"
IMAGE = {"content-type": "image/png"}

Fetch = Callable[[MediaFetcher, Provider], Awaitable[T]]


def fetching(
    use: Fetch[T], *, answers: Mapping[str, tuple[int, bytes, Mapping[str, str]]] | None = None, **options: Any
) -> T:
    """Run `use` with a fetcher and a server that answers `answers` by path, an image everywhere else."""

    async def script(exchange: Exchange) -> None:
        status, body, headers = (answers or {}).get(exchange.call.path, (200, PNG, IMAGE))
        await exchange.answer(status, body, headers)

    async def run() -> T:
        async with provider.running(script) as server, fetcher(**options) as made:
            return await use(made, server)

    return asyncio.run(run())


@contextlib.asynccontextmanager
async def fetcher(**options: Any) -> AsyncGenerator[MediaFetcher, None]:
    made = MediaFetcher(**{"is_allowed": lambda address: address == "127.0.0.1", **options})
    try:
        yield made
    finally:
        await made.close()


def refusal(run: Callable[[], object]) -> BadRequest:
    with pytest.raises(BadRequest) as refused:
        run()
    assert refused.value.param == "messages"
    return refused.value


def test_content_comes_as_a_data_url_and_nothing_of_the_caller_goes_out() -> None:
    async def use(fetcher: MediaFetcher, server: Provider) -> tuple[list[str], Mapping[str, str]]:
        return await fetcher.fetch([f"{server.url}/a.png"]), server.last.headers

    contents, headers = fetching(use)
    assert contents == [f"data:image/png;base64,{base64.b64encode(PNG).decode()}"]
    assert headers.keys() == {"host", "user-agent", "accept", "accept-encoding", "connection"}


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[fe80::1%25eth0]/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0x7f.1/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://0/",
        "http://localhost/",
        "http://127.0.0.1./",
        "http://１２７.0.0.1/",
        "https://10.0.0.1/",
    ],
)
def test_addresses_inside_are_never_called_however_they_are_written(url: str) -> None:
    async def run() -> None:
        made = MediaFetcher()
        try:
            await made.fetch([url])
        finally:
            await made.close()

    assert refusal(lambda: asyncio.run(run())).code == "media_url_not_allowed"


def test_the_servers_on_this_machine_hear_nothing() -> None:
    async def use(fetcher: MediaFetcher, server: Provider) -> int:
        port = server.url.rpartition(":")[2]
        for host in ("127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "127.1"):
            with pytest.raises(BadRequest):
                await fetcher.fetch([f"http://{host}:{port}/"])
        return len(server.calls)

    assert fetching(use, is_allowed=lambda _: False) == 0


@pytest.mark.parametrize(
    "url",
    ["ftp://127.0.0.1/x", "file:///etc/passwd", "gopher://127.0.0.1/", "http://user:pass@127.0.0.1/", "http:///x"],
)
def test_only_http_without_credentials_is_fetched(url: str) -> None:
    assert refusal(lambda: fetching(lambda fetcher, _: fetcher.fetch([url]))).param == "messages"


def test_a_name_is_resolved_once_and_the_connection_goes_to_that_address() -> None:
    asked: list[str] = []

    async def rebinding(host: str) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]

    async def use(fetcher: MediaFetcher, server: Provider) -> str:
        await fetcher.fetch([server.url.replace("127.0.0.1", "rebinding.example") + "/a"])
        return server.last.headers["host"].partition(":")[0]

    assert fetching(use, resolve=rebinding) == "rebinding.example"
    assert asked == ["rebinding.example"]


def test_a_name_that_rebinds_is_refused_at_its_second_resolution() -> None:
    answers = iter((["127.0.0.1"], ["127.0.0.2"]))

    async def rebinding(_: str) -> Sequence[str]:
        return next(answers)

    async def use(fetcher: MediaFetcher, server: Provider) -> int:
        url = server.url.replace("127.0.0.1", "rebinding.example") + "/a"
        await fetcher.fetch([url])
        with pytest.raises(BadRequest, match="public addresses"):
            await fetcher.fetch([url])
        return len(server.calls)

    assert fetching(use, resolve=rebinding) == 1


def test_a_name_with_one_address_inside_is_refused() -> None:
    async def both(_: str) -> Sequence[str]:
        return ["127.0.0.1", "10.0.0.1"]

    async def use(fetcher: MediaFetcher, server: Provider) -> int:
        with pytest.raises(BadRequest, match="public addresses"):
            await fetcher.fetch([server.url.replace("127.0.0.1", "both.example")])
        return len(server.calls)

    assert fetching(use, resolve=both) == 0


@pytest.mark.parametrize("place", ["http://127.0.0.2/", "//[::1]/", "http://inside.example/", "file:///etc/passwd"])
def test_a_redirect_is_checked_again(place: str) -> None:
    async def inside(_: str) -> Sequence[str]:
        return ["10.0.0.1"]

    answers = {"/go": (302, b"", {"location": place})}
    refused = refusal(
        lambda: fetching(lambda fetcher, server: fetcher.fetch([f"{server.url}/go"]), answers=answers, resolve=inside)
    )
    assert refused.code == "media_url_not_allowed"


def test_redirects_within_what_is_allowed_are_followed_a_few_times() -> None:
    chain = {f"/{step}": (307, b"", {"location": f"/{step + 1}"}) for step in range(4)}

    async def use(fetcher: MediaFetcher, server: Provider) -> str:
        with pytest.raises(BadRequest, match="redirects"):
            await fetcher.fetch([f"{server.url}/0"])
        return (await fetcher.fetch([f"{server.url}/1"]))[0]

    assert fetching(use, answers=chain).startswith("data:image/png;base64,")


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (404, IMAGE),
        (200, {"content-type": "text/html"}),
        (200, {"content-type": "application/json"}),
        (200, {"content-type": "image/png", "content-encoding": "gzip"}),
    ],
)
def test_what_is_no_media_is_refused(status: int, headers: Mapping[str, str]) -> None:
    answers = {"/x": (status, PNG, headers)}
    refused = refusal(lambda: fetching(lambda fetcher, server: fetcher.fetch([f"{server.url}/x"]), answers=answers))
    assert refused.code == "media_not_fetched"


def test_the_size_is_capped_over_all_media_of_a_call() -> None:
    async def use(fetcher: MediaFetcher, server: Provider) -> None:
        assert len(await fetcher.fetch([f"{server.url}/a"])) == 1
        with pytest.raises(BadRequest, match="too large"):
            await fetcher.fetch([f"{server.url}/a", f"{server.url}/b"])

    fetching(use, max_bytes=len(PNG) + 1)


def test_an_endless_body_is_left_at_the_cap() -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.start("image/png")
        while not exchange.writer.is_closing():
            await exchange.chunk(b"x" * 4096)

    async def run() -> None:
        async with provider.running(endless) as server, fetcher(max_bytes=65536) as made:
            await made.fetch([server.url])

    assert "too large" in refusal(lambda: asyncio.run(run())).message


def test_the_time_is_capped() -> None:
    async def run() -> None:
        async with provider.running(Exchange.hung_up) as server, fetcher(seconds=0.05) as made:
            await made.fetch([server.url])

    assert "longer than 0.05 seconds" in refusal(lambda: asyncio.run(run())).message


def test_the_number_is_capped() -> None:
    urls = ["http://127.0.0.1/"] * (MAX_URLS + 1)
    assert "at most" in refusal(lambda: fetching(lambda fetcher, _: fetcher.fetch(urls))).message


def test_a_name_that_nobody_knows_is_a_plain_refusal() -> None:
    async def unknown(_: str) -> Sequence[str]:
        raise OSError("no such name")

    refused = refusal(lambda: fetching(lambda fetcher, _: fetcher.fetch(["http://nowhere.example/"]), resolve=unknown))
    assert refused.code == "media_not_fetched"
