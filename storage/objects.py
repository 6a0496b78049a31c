"""Pictures in S3 through boto3, off the event loop, with timeouts and retries. Imports configs and errors only."""

import asyncio
import re
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from configs.settings import Settings
from storage.errors import InvalidInput, NotFound, Refused, StorageFull, TooLarge, Unavailable

_ABSENT = frozenset({"404", "NoSuchKey", "NotFound", "NoSuchBucket"})
_ACCOUNT = frozenset({
    "AccountProblem", "AllAccessDisabled", "ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "NotSignedUp",
    "SignatureDoesNotMatch", "TokenRefreshRequired",
})  # fmt: skip
_PASSING = frozenset({
    "OperationAborted", "RequestExpired", "RequestLimitExceeded", "RequestTimeout", "RequestTimeTooSkewed", "SlowDown",
    "Throttling", "ThrottlingException", "TooManyRequests", "TooManyRequestsException",
})  # fmt: skip
_FULL = frozenset({"XMinioStorageFull", "QuotaExceeded", "InsufficientStorage", "507"})
_FOREIGN = "s3://"


def is_foreign(address: str) -> bool:
    """Whether an address is ``s3://bucket/key``: an object that belongs to somebody else and is read in place."""
    return address.startswith(_FOREIGN)


class StoredObject(NamedTuple):
    """What a listing says of an object; the size is in bytes."""

    key: str
    size: int
    etag: str
    last_modified: datetime


@dataclass(frozen=True)
class ListedPage:
    """One answer of a listing: objects, what stands in for the objects below a delimiter, and how to go on."""

    objects: list[StoredObject]
    prefixes: list[str]
    next_token: str | None


def bucket_and_key(address: str) -> tuple[str, str]:
    """``s3://bucket/key`` in two parts.

    Raises:
        InvalidInput: it is not such an address.
    """
    bucket, slash, key = address.removeprefix(_FOREIGN).partition("/")
    if not is_foreign(address) or not re.fullmatch(r"[a-z0-9][a-z0-9.\-]{1,61}[a-z0-9]", bucket) or not slash:
        raise InvalidInput(f"{address!r} is not an address such as s3://bucket/prefix/")
    return bucket, key


class ObjectStore:
    """One bucket of pictures, and reading of objects of other buckets by ``s3://bucket/key``.

    Args:
        settings: gives endpoint, keys, bucket and limits.
        connections: calls at a time; each uses one thread and one connection.
    """

    def __init__(self, settings: Settings, *, connections: int = 16) -> None:
        self._bucket = settings.s3_bucket
        self._signed_url_s = settings.s3_signed_url_s
        self._most_foreign = settings.max_upload_bytes
        self._pool = ThreadPoolExecutor(connections, thread_name_prefix="s3")
        self._client = boto3.client(
            "s3",
            endpoint_url=settings.s3_endpoint,
            region_name=settings.s3_region,
            aws_access_key_id=settings.s3_access_key.get_secret_value() if settings.s3_access_key else None,
            aws_secret_access_key=settings.s3_secret_key.get_secret_value() if settings.s3_secret_key else None,
            config=Config(
                connect_timeout=settings.s3_connect_timeout_s,
                read_timeout=settings.s3_read_timeout_s,
                retries={"mode": "standard", "total_max_attempts": settings.s3_attempts},
                max_pool_connections=connections,
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                s3={"addressing_style": "path"} if settings.s3_endpoint else None,
            ),
        )

    async def _call(self, operation: str, **arguments: Any) -> Any:
        return await self._run(partial(getattr(self._client, operation), **arguments))

    async def _run(self, call: Any) -> Any:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, call)
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code"))
            status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500))
            if code in _ABSENT:
                raise NotFound("there is no such object") from error
            if code in _FULL or status == 507:
                raise StorageFull("the object store is full") from error
            if 400 <= status < 500 and status not in (408, 429) and code not in _PASSING:
                raise Refused(f"the object store refuses access ({code})", account=code in _ACCOUNT) from error
            raise Unavailable("the object store refused the request") from error
        except (BotoCoreError, OSError) as error:
            raise Unavailable("the object store does not answer") from error

    def _place(self, address: str) -> dict[str, str]:
        bucket, key = bucket_and_key(address) if is_foreign(address) else (self._bucket, address)
        return {"Bucket": bucket, "Key": key}

    def address(self, key: str) -> str:
        """A key of this bucket as ``s3://bucket/key``."""
        return f"{_FOREIGN}{self._bucket}/{key}"

    async def put(self, key: str, data: bytes, media_type: str) -> None:
        """Stores ``data`` durably under ``key``.

        Raises:
            StorageFull: the store has no room left; some say only that they take nothing, and answer otherwise.
            Unavailable: the store did not take it within the limits.
        """
        try:
            await self._call("put_object", Bucket=self._bucket, Key=key, Body=data, ContentType=media_type)
        except Unavailable as error:
            cause = error.__cause__
            if not isinstance(cause, ClientError) or cause.response.get("Error", {}).get("Code") != "InternalError":
                raise
            await self.ping()
            raise StorageFull("the object store answers, but takes no object: it seems to be full") from cause

    async def get(self, address: str) -> bytes:
        """The bytes under a key, or of an object of another bucket, which may be as large as an upload.

        Raises:
            NotFound: there is no such object.
            TooLarge: an object of another bucket is over that limit; no more of it was read.
            Refused: the store's keys have no right to read it.
            Unavailable: the store does not answer.
        """
        place, most = self._place(address), self._most_foreign

        def read() -> bytes:
            body = self._client.get_object(Bucket=place["Bucket"], Key=place["Key"])["Body"]
            if not is_foreign(address):
                return bytes(body.read())
            data = bytes(body.read(most + 1))
            if len(data) > most:
                body.close()
                raise TooLarge(f"the object is over the limit of {most} bytes")
            if body.read():  # also, only a read to the end tells an answer that was cut short
                raise Unavailable("the object store answers in pieces")
            return data

        try:
            return bytes(await self._run(read))
        except Refused as error:
            error.account |= not is_foreign(address)
            raise

    async def head(self, address: str) -> StoredObject:
        """What the store says of one object.

        Raises:
            NotFound: there is no such object in a bucket that is there.
            Unavailable: the store does not answer, or the bucket is missing.
        """
        place = self._place(address)
        try:
            found = await self._call("head_object", **place)
        except NotFound:
            await self._require(place["Bucket"])
            raise
        return StoredObject(address, found["ContentLength"], found["ETag"].strip('"'), found["LastModified"])

    async def list(self, prefix: str, *, page: int = 1000) -> AsyncIterator[StoredObject]:
        """The objects of the bucket whose key begins with ``prefix``, a page in memory at a time.

        Args:
            page: keys in one answer of the store, at most 1,000.
        Raises:
            Unavailable: the store does not answer.
        """
        token: str | None = None
        while True:
            found = await self.page(prefix, token=token, size=page)
            for one in found.objects:
                yield one
            token = found.next_token
            if token is None:
                return

    async def page(
        self, prefix: str, *, bucket: str | None = None, token: str | None = None, delimiter: str = "", size: int = 1000
    ) -> ListedPage:
        """Some objects whose key begins with ``prefix``.

        Args:
            bucket: another one than that of the pictures.
            token: ``next_token`` of the page before.
            delimiter: keys that hold it behind the prefix are folded into ``prefixes``.
            size: keys in one answer of the store, at most 1,000.
        Raises:
            NotFound: there is no such bucket.
            Refused: the store's keys have no right to list it.
            Unavailable: the store does not answer.
        """
        more = {"ContinuationToken": token} if token else {}
        answer = await self._call(
            "list_objects_v2", Bucket=bucket or self._bucket, Prefix=prefix, Delimiter=delimiter, MaxKeys=size, **more
        )
        found = [
            StoredObject(one["Key"], int(one["Size"]), one["ETag"].strip('"'), one["LastModified"])
            for one in answer.get("Contents", [])
        ]
        folded = [one["Prefix"] for one in answer.get("CommonPrefixes", [])]
        return ListedPage(found, folded, answer.get("NextContinuationToken") if answer.get("IsTruncated") else None)

    async def delete(self, address: str) -> None:
        """Removes a key; an absent one is no error, and an object of another bucket stays."""
        if not is_foreign(address):
            await self._call("delete_object", **self._place(address))

    async def signed_url(self, address: str) -> str:
        """An address that reads the object without credentials until the setting's time is over."""
        return str(
            await self._run(
                partial(
                    self._client.generate_presigned_url,
                    "get_object",
                    Params=self._place(address),
                    ExpiresIn=self._signed_url_s,
                )
            )
        )

    async def ping(self) -> None:
        """One signed request.

        Raises:
            Unavailable: the store does not answer, or the bucket is missing.
        """
        await self._require(self._bucket)

    async def _require(self, bucket: str) -> None:
        try:
            await self._call("head_bucket", Bucket=bucket)
        except NotFound as error:
            named = "of the pictures" if bucket == self._bucket else bucket
            raise Unavailable(f"the bucket {named} is missing") from error

    async def ensure_buckets(self, *names: str) -> None:
        """Creates the bucket of the pictures and ``names`` where they are missing."""
        for name in (self._bucket, *names):
            try:
                await self._call("head_bucket", Bucket=name)
            except NotFound:
                await self._call("create_bucket", Bucket=name)

    def close(self) -> None:
        """Frees threads and connections."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._client.close()
