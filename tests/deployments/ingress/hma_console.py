"""What a console of Hasher-Matcher-Actioner does, for tests of the endpoints in its shape."""

import re
from collections.abc import AsyncIterator

import httpx
import numpy as np
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from storage.bank_changes import change_banks
from tests.deployments.ingress.conftest import MakeClient

HEX = re.compile(r"[0-9a-f]{64}")


@pytest.fixture(autouse=True)
async def _no_banks_after(engine: AsyncEngine) -> AsyncIterator[None]:
    yield
    async with engine.begin() as connection:
        await change_banks(connection, hashes=True)
        await connection.execute(text("DELETE FROM bank"))


@pytest.fixture
async def console(make_client: MakeClient) -> httpx.AsyncClient:
    """A console's client: its base address is where the service of Meta would be."""
    client = await make_client("image:read", "moderate")
    client.base_url = f"{client.base_url}hma/"
    return client


def flipped(signal: str, bits: int) -> str:
    found = np.unpackbits(np.frombuffer(bytes.fromhex(signal), np.uint8))
    found[:bits] ^= 1
    return np.packbits(found).tobytes().hex()


def photo(data: bytes) -> dict[str, tuple[str, bytes]]:
    return {"photo": ("example.png", data)}


async def hash_of(console: httpx.AsyncClient, data: bytes) -> str:
    answer = await console.post("/h/hash", files=photo(data))
    assert answer.status_code == 200 and list(answer.json()) == ["pdq"]
    return str(answer.json()["pdq"])
