"""Entries are read in order and by filters; a head is written and read in one form."""

import uuid

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from storage.audit import record_many
from storage.audit_chain import entry_hash
from storage.audit_log import Head, as_sent, entries, head
from storage.errors import InvalidInput


async def test_filters_and_pages(engine: AsyncEngine) -> None:
    mark = uuid.uuid4().hex
    written = [(f"{mark}.{'ab'[n % 2]}", f"{mark}/{n % 3}", {"n": n}) for n in range(6)]
    async with engine.begin() as connection:
        await record_many(connection, f"{mark} one", written[:3])
        await record_many(connection, f"{mark} two", written[3:])

    async def numbers(**wanted: str) -> list[int]:
        return [one.detail["n"] for one in await entries(engine, limit=10, **wanted)]

    assert await numbers(actor=f"{mark} one") == [0, 1, 2]
    assert await numbers(action=f"{mark}.b") == [1, 3, 5]
    assert await numbers(subject=f"{mark}/0") == [0, 3]
    assert await numbers(subject=f"{mark}/0", action=f"{mark}.b", actor=f"{mark} two") == [3]
    assert await numbers(subject="image/none") == []
    first = await entries(engine, limit=2, action=f"{mark}.a")
    rest = await entries(engine, limit=2, action=f"{mark}.a", after=first[-1].sequence)
    assert [one.detail["n"] for one in first + rest] == [0, 2, 4]
    assert (await entries(engine, limit=1, after=2**63 - 1)) == []


async def test_an_entry_is_sent_as_its_hash_covers_it(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await record_many(connection, "test", [("thing.do", "thing/1", {"x": 0.5})])
    newest = await head(engine)
    (entry,) = await entries(engine, limit=1, after=newest.sequence - 1)
    assert entry.hash == newest.hash
    sent = as_sent(entry)
    assert (sent["hash"], sent["previous_hash"]) == (entry.hash.hex(), entry.previous_hash.hex())
    assert sent["at"].endswith("+00:00") and len(sent["at"]) == len("2024-11-01T10:00:00.000000+00:00")
    assert entry.hash == entry_hash(
        bytes.fromhex(sent["previous_hash"]), sent["sequence"], entry.at, *(sent[one] for one in ("actor", "action")),
        sent["subject"], sent["detail"],
    )  # fmt: skip


@pytest.mark.parametrize(
    "written", ["", "5", "5:", "x:" + "0" * 64, "-1:" + "0" * 64, "5:" + "0" * 63, "5:" + "g" * 64]
)
def test_a_head_in_another_form_is_refused(written: str) -> None:
    with pytest.raises(InvalidInput, match="SEQUENCE:HASH"):
        Head.parse(written)
    assert str(Head.parse("7:" + "AB" * 32)) == "7:" + "ab" * 32
