"""Pictures in S3 through boto3, off the event loop, with timeouts and retries. Imports configs and errors only."""

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from configs.settings import Settings
from storage.errors import InvalidInput, NotFound, Refused, Unavailable

_ABSENT = frozenset({"404", "NoSuchKey", "NotFound", "NoSuchBucket"})
_REFUSED = frozenset({"403", "AccessDenied", "AllAccessDisabled", "InvalidAccessKeyId", "SignatureDoesNotMatch"})
_ELSEWHERE = "s3://"


@dataclass(frozen=True)
class StoredObject:
    """One object as a listing shows it: ``size`` in bytes, ``etag`` without quotes."""

    key: str
    etag: str
    size: int
    modified_at: datetime


@dataclass(frozen=True)
class ListedPage:
    """One answer of a listing: objects, what stands in for the objects below a delimiter, and how to go on."""

    objects: list[StoredObject]
    prefixes: list[str]
    next_token: str | None


def is_elsewhere(s3_path: str) -> bool:
    """Whether a picture stays in a corpus (``s3://bucket/key``): it is read there, and never written or deleted."""
    return s3_path.startswith(_ELSEWHERE)


def bucket_and_key(address: str) -> tuple[str, str]:
    """``s3://bucket/key`` in two parts.

    Raises:
        InvalidInput: it is not such an address.
    """
    bucket, slash, key = address.removeprefix(_ELSEWHERE).partition("/")
    if not is_elsewhere(address) or not re.fullmatch(r"[a-z0-9][a-z0-9.\-]{1,61}[a-z0-9]", bucket) or not slash:
        raise InvalidInput(f"{address!r} is not an address such as s3://bucket/prefix/")
    return bucket, key


class ObjectStore:
    """One bucket of pictures; ``get``, ``delete`` and ``signed_url`` take ``s3://bucket/key`` for those of a corpus too.

    Args:
        settings: gives endpoint, keys, bucket and limits.
        connections: calls at a time; each uses one thread and one connection.
    """

    def __init__(self, settings: Settings, *, connections: int = 16) -> None:
        self._bucket = settings.s3_bucket
        self._signed_url_s = settings.s3_signed_url_s
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
            if error.response.get("Error", {}).get("Code") in _ABSENT:
                raise NotFound("there is no such object") from error
            if error.response.get("Error", {}).get("Code") in _REFUSED:
                raise Refused("the object store refuses access") from error
            raise Unavailable("the object store refused the request") from error
        except (BotoCoreError, OSError) as error:
            raise Unavailable("the object store does not answer") from error

    def _place(self, key: str) -> tuple[str, str]:
        return bucket_and_key(key) if is_elsewhere(key) else (self._bucket, key)

    async def put(self, key: str, data: bytes, media_type: str) -> None:
        """Stores ``data`` durably under ``key``.

        Raises:
            Unavailable: the store did not take it within the limits.
        """
        await self._call("put_object", Bucket=self._bucket, Key=key, Body=data, ContentType=media_type)

    async def get(self, key: str) -> bytes:
        """The bytes under ``key``.

        Raises:
            NotFound: there is no such object.
            Refused: the store's keys have no right to read it.
            Unavailable: the store does not answer.
        """

        bucket, name = self._place(key)

        def read() -> bytes:
            body = self._client.get_object(Bucket=bucket, Key=name)["Body"]
            return bytes(body.read())

        return bytes(await self._run(read))

    async def delete(self, key: str) -> None:
        """Removes ``key``; an absent one is no error. Objects of a corpus are not ours: they stay."""
        if not is_elsewhere(key):
            await self._call("delete_object", Bucket=self._bucket, Key=key)

    async def page(
        self, prefix: str, *, bucket: str | None = None, token: str | None = None, delimiter: str = ""
    ) -> ListedPage:
        """Up to 1,000 objects whose key begins with ``prefix``.

        Args:
            bucket: another one than that of the pictures.
            token: ``next_token`` of the page before.
            delimiter: keys that hold it behind the prefix are folded into ``prefixes``.
        Raises:
            NotFound: there is no such bucket.
            Refused: the store's keys have no right to list it.
            Unavailable: the store does not answer.
        """
        more = {"ContinuationToken": token} if token else {}
        answer = await self._call(
            "list_objects_v2", Bucket=bucket or self._bucket, Prefix=prefix, Delimiter=delimiter, **more
        )
        found = [
            StoredObject(one["Key"], one["ETag"].strip('"'), int(one["Size"]), one["LastModified"])
            for one in answer.get("Contents", [])
        ]
        folded = [one["Prefix"] for one in answer.get("CommonPrefixes", [])]
        return ListedPage(found, folded, answer.get("NextContinuationToken") if answer.get("IsTruncated") else None)

    async def signed_url(self, key: str) -> str:
        """An address that reads ``key`` without credentials until the setting's time is over."""
        bucket, name = self._place(key)
        return str(
            await self._run(
                partial(
                    self._client.generate_presigned_url,
                    "get_object",
                    Params={"Bucket": bucket, "Key": name},
                    ExpiresIn=self._signed_url_s,
                )
            )
        )

    async def ping(self) -> None:
        """One signed request.

        Raises:
            Unavailable: the store does not answer, or the bucket is missing.
        """
        try:
            await self._call("head_bucket", Bucket=self._bucket)
        except NotFound as error:
            raise Unavailable("the bucket of the pictures is missing") from error

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
