"""Listing a corpus: every object once, in the same order each time, however it lies in folders; clear errors."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import boto3
import pytest
import pytest_asyncio
from botocore.stub import Stubber

from configs.settings import Settings
from storage.corpus import check_corpus, check_source, list_corpus
from storage.errors import InvalidInput, NotFound, Refused, TooLarge, Unavailable
from storage.objects import ObjectStore, bucket_and_key

KEYS = [
    "a.jpg", "a/1.jpg", "a/2.jpg", "a/deep/er/3.jpg", "a-b/4.jpg", "b/", "b/5.jpg", "é/ё 6.jpg", "z.jpg",
    *(f"many/{n:02}/{m}.jpg" for n in range(20) for m in range(3)),
]  # fmt: skip


@pytest_asyncio.fixture(scope="module")
async def bucket(servers: Settings, objects: ObjectStore) -> AsyncIterator[str]:
    """A bucket of its own with KEYS."""
    name = f"corpus-{uuid4().hex[:12]}"
    await objects.ensure_buckets(name)
    assert servers.s3_access_key and servers.s3_secret_key
    client = boto3.client(
        "s3", endpoint_url=servers.s3_endpoint, region_name="us-east-1",
        aws_access_key_id=servers.s3_access_key.get_secret_value(),
        aws_secret_access_key=servers.s3_secret_key.get_secret_value(),
    )  # fmt: skip
    for key in KEYS:
        await asyncio.to_thread(client.put_object, Bucket=name, Key=key, Body=key.encode())
    yield name
    client.close()


async def everything(objects: ObjectStore, source: str) -> list[str]:
    return [one.path async for page in list_corpus(objects, source) for one in page]


async def test_every_object_once_and_in_the_same_order(objects: ObjectStore, bucket: str) -> None:
    found = await everything(objects, f"s3://{bucket}/")
    wanted = [f"s3://{bucket}/{key}" for key in KEYS if not key.endswith("/")]
    assert sorted(found) == sorted(wanted)
    assert await everything(objects, f"s3://{bucket}/") == found


async def test_a_prefix_need_not_be_a_folder(objects: ObjectStore, bucket: str) -> None:
    found = await everything(objects, f"s3://{bucket}/a")
    assert sorted(found) == sorted(f"s3://{bucket}/{key}" for key in KEYS if key.startswith("a"))
    assert len(await everything(objects, f"s3://{bucket}/many/")) == 60
    assert await everything(objects, f"s3://{bucket}/a/deep/er/3.jpg") == [f"s3://{bucket}/a/deep/er/3.jpg"]


async def test_size_and_etag(objects: ObjectStore, bucket: str) -> None:
    ((one,),) = [page async for page in list_corpus(objects, f"s3://{bucket}/z.jpg")]
    assert (one.size, one.path) == (5, f"s3://{bucket}/z.jpg")
    assert len(one.etag) == 32 and '"' not in one.etag
    assert await objects.get(one.path) == b"z.jpg"
    await objects.delete(one.path)
    assert await objects.get(one.path) == b"z.jpg", "objects of a corpus are not ours to delete"


async def test_only_objects_of_others_are_bound_by_the_limit_of_uploads(
    servers: Settings, objects: ObjectStore, bucket: str
) -> None:
    exact, less = (ObjectStore(servers.model_copy(update={"max_upload_bytes": most})) for most in (5, 4))
    assert await exact.get(f"s3://{bucket}/z.jpg") == b"z.jpg"
    with pytest.raises(TooLarge, match="over the limit of 4 bytes"):
        await less.get(f"s3://{bucket}/z.jpg")
    await objects.put("our own", b"details", "application/octet-stream")
    assert await less.get("our own") == b"details"
    exact.close()
    less.close()


async def test_what_does_not_exist(objects: ObjectStore, bucket: str) -> None:
    with pytest.raises(NotFound, match="no objects under"):
        await everything(objects, f"s3://{bucket}/nothing/")
    with pytest.raises(NotFound, match="no bucket"):
        await check_corpus(objects, f"s3://no-{uuid4().hex[:10]}/x/")


async def test_no_right_to_list(servers: Settings, bucket: str) -> None:
    stranger = ObjectStore(
        servers.model_copy(update={"s3_access_key": _secret("nobody"), "s3_secret_key": _secret("x" * 20)})
    )
    with pytest.raises(Refused, match="refuses access"):
        await check_corpus(stranger, f"s3://{bucket}/")
    stranger.close()


@pytest.mark.parametrize(
    ("status", "code", "kind", "account"),
    [
        (429, "TooManyRequests", Unavailable, None), (429, "429", Unavailable, None), (400, "Throttling", Unavailable, None),
        (408, "408", Unavailable, None), (400, "InvalidToken", Refused, True), (403, "AccessDenied", Refused, False),
    ],
)  # fmt: skip
async def test_a_store_that_asks_for_patience_refuses_nothing(
    servers: Settings, status: int, code: str, kind: type[Unavailable], account: bool | None
) -> None:
    store = ObjectStore(servers.model_copy(update={"s3_attempts": 1}))
    with Stubber(store._client) as stub, pytest.raises(Unavailable) as caught:
        stub.add_client_error("get_object", service_error_code=code, http_status_code=status)
        await store.get("s3://corpus/a.jpg")
    assert type(caught.value) is kind and getattr(caught.value, "account", None) == account
    store.close()


async def test_a_store_that_is_down(servers: Settings) -> None:
    nowhere = ObjectStore(servers.model_copy(update={"s3_endpoint": "http://127.0.0.1:9", "s3_attempts": 1}))
    with pytest.raises(Unavailable):
        await check_corpus(nowhere, "s3://corpus/")
    nowhere.close()


@pytest.mark.parametrize("source", ["", "corpus", "http://corpus/a", "s3://", "s3:///a", "s3://Bad_Name/a", "s3://x"])
def test_malformed_addresses(source: str) -> None:
    with pytest.raises(InvalidInput):
        check_source(source, ())


def test_addresses() -> None:
    assert check_source("s3://corpus", ()) == "s3://corpus/"
    assert check_source("s3://corpus/a/b", ()) == "s3://corpus/a/b"
    assert bucket_and_key("s3://corpus/a/b c.jpg") == ("corpus", "a/b c.jpg")
    with pytest.raises(InvalidInput, match="SafeGuard itself"):
        check_source("s3://mine/a", ("mine", "vectors"))


def _secret(value: str):
    from pydantic import SecretStr

    return SecretStr(value)
