"""Pictures in S3 through boto3, off the event loop, with timeouts and retries. Imports configs and errors only."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from configs.settings import Settings
from storage.errors import NotFound, Unavailable

_ABSENT = frozenset({"404", "NoSuchKey", "NotFound"})


class ObjectStore:
    """One bucket of pictures.

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
            raise Unavailable("the object store refused the request") from error
        except (BotoCoreError, OSError) as error:
            raise Unavailable("the object store does not answer") from error

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
            Unavailable: the store does not answer.
        """

        def read() -> bytes:
            body = self._client.get_object(Bucket=self._bucket, Key=key)["Body"]
            return bytes(body.read())

        return bytes(await self._run(read))

    async def delete(self, key: str) -> None:
        """Removes ``key``; an absent one is no error."""
        await self._call("delete_object", Bucket=self._bucket, Key=key)

    async def signed_url(self, key: str) -> str:
        """An address that reads ``key`` without credentials until the setting's time is over."""
        return str(
            await self._run(
                partial(
                    self._client.generate_presigned_url,
                    "get_object",
                    Params={"Bucket": self._bucket, "Key": key},
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
