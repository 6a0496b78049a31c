"""Listing a corpus in S3: in parallel below its folders, in an order that stays the same. Imports objects and errors only."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from storage.errors import InvalidInput, NotFound
from storage.objects import ListedPage, StoredObject, bucket_and_key

_FOLDERS_AT_ONCE = 8
_PAGES_AHEAD = 4
_MOST_FOLDERS = 200


@dataclass(frozen=True)
class CorpusObject:
    """One object of a corpus.

    Args:
        path: ``s3://bucket/key``.
        etag: as the object store gives it, without quotes.
        size: bytes.
    """

    path: str
    etag: str
    size: int


class Lister(Protocol):
    """An ObjectStore, or what lists in its stead."""

    async def page(self, prefix: str, *, bucket: str | None, token: str | None, delimiter: str) -> ListedPage:
        """See ``ObjectStore.page``."""


async def list_corpus(objects: Lister, source: str) -> AsyncGenerator[list[CorpusObject], None]:
    """Every object whose address begins with ``source``; folders themselves (keys that end in ``/``) are left out.

    The first level below the prefix that has several folders, up to 200, is listed folder by folder, eight at a time.

    Args:
        source: ``s3://bucket/prefix``.
    Yields:
        Pages of at most 1,000 objects, in the order of the object store's listings.
    Raises:
        InvalidInput: not such an address.
        NotFound: there is no such bucket, or nothing under the prefix.
        Refused: no right to list it.
        Unavailable: the object store does not answer.
    """
    bucket, prefix = bucket_and_key(source)
    empty = True
    async with aclosing(_pages(objects, bucket, prefix)) as pages:
        async for page in pages:
            if page:
                empty = False
                yield page
    if empty:
        raise NotFound(f"there are no objects under {source}")


async def check_corpus(objects: Lister, source: str) -> None:
    """Makes sure that there is something to list under ``source``; raises as ``list_corpus`` does."""
    async with aclosing(list_corpus(objects, source)) as pages:
        async for _ in pages:
            return


async def _pages(objects: Lister, bucket: str, prefix: str) -> AsyncGenerator[list[CorpusObject], None]:
    ahead: deque[tuple[asyncio.Queue[list[CorpusObject] | Exception | None], asyncio.Task[None]]] = deque()
    try:
        token: str | None = None
        while True:
            page = await _page(objects, bucket, prefix, token, "/")
            token = page.next_token
            if token is None and len(page.prefixes) == 1 and not page.objects and page.prefixes[0] != prefix:
                prefix = page.prefixes[0]
                continue
            if len(page.prefixes) > _MOST_FOLDERS:  # a folder for each picture: one by one they cost a call each
                async with aclosing(_flat(objects, bucket, prefix)) as flat:
                    async for some in flat:
                        yield some
                return
            yield _objects(bucket, page.objects)
            waiting = deque(page.prefixes)
            while waiting or ahead:
                while waiting and len(ahead) < _FOLDERS_AT_ONCE:
                    queue: asyncio.Queue[list[CorpusObject] | Exception | None] = asyncio.Queue(_PAGES_AHEAD)
                    ahead.append((queue, asyncio.create_task(_fill(queue, objects, bucket, waiting.popleft()))))
                queue, _ = ahead[0]
                while (found := await queue.get()) is not None:
                    if isinstance(found, Exception):
                        raise found
                    yield found
                ahead.popleft()
            if token is None:
                return
    finally:
        for _, task in ahead:
            task.cancel()


async def _flat(objects: Lister, bucket: str, prefix: str) -> AsyncGenerator[list[CorpusObject], None]:
    token: str | None = None
    while True:
        page = await _page(objects, bucket, prefix, token, "")
        yield _objects(bucket, page.objects)
        token = page.next_token
        if token is None:
            return


async def _fill(
    queue: "asyncio.Queue[list[CorpusObject] | Exception | None]", objects: Lister, bucket: str, prefix: str
) -> None:
    try:
        async with aclosing(_flat(objects, bucket, prefix)) as pages:
            async for some in pages:
                await queue.put(some)
    except Exception as error:
        await queue.put(error)
    else:
        await queue.put(None)


async def _page(objects: Lister, bucket: str, prefix: str, token: str | None, delimiter: str) -> ListedPage:
    try:
        return await objects.page(prefix, bucket=bucket, token=token, delimiter=delimiter)
    except NotFound as error:
        raise NotFound(f"there is no bucket {bucket}") from error


def _objects(bucket: str, found: list[StoredObject]) -> list[CorpusObject]:
    return [CorpusObject(f"s3://{bucket}/{one.key}", one.etag, one.size) for one in found if not one.key.endswith("/")]


def check_source(source: str, own_buckets: tuple[str, ...]) -> str:
    """The address of a corpus, checked.

    Args:
        own_buckets: buckets of the platform itself.
    Raises:
        InvalidInput: not ``s3://bucket/prefix``, or one of the platform's own buckets.
    """
    address = source if source.count("/") > 2 else f"{source}/"
    bucket, _ = bucket_and_key(address)
    if bucket in own_buckets:
        raise InvalidInput(f"{bucket} is a bucket of SafeGuard itself; a corpus lies in another one")
    return address
