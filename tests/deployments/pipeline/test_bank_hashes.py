"""The hashes held in memory follow what is stored: additions, distances, removals, several at once."""

import asyncio

import numpy as np
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from deployments.pipeline.bank_hashes import BankHashes
from deployments.pipeline.look import Look
from storage import bank_hashes
from storage.bank_changes import change_banks, hashes_version
from tests.banks import bank_of


def _random(count: int) -> np.ndarray:
    return np.random.default_rng().integers(0, 256, (count, 32), np.uint8)


def _bits(one: np.ndarray, *places: int) -> np.ndarray:
    bits = np.unpackbits(one)
    bits[list(places)] ^= 1
    return np.packbits(bits)


def _look(pdq: np.ndarray, quality: int = 100) -> Look:
    nothing = np.empty(0)
    return Look(b"", pdq.reshape(-1, 32), quality, [], None, [], {}, [], nothing, None, None, nothing, None)


async def _near(held: BankHashes, *pictures: np.ndarray, quality: int = 100) -> list[dict[int, int]]:
    _, found = await held.near([(id_, _look(one, quality)) for id_, one in enumerate(pictures)], min_quality=50)
    return [dict(found.get(id_, {})) for id_ in range(len(pictures))]


async def test_members_are_found_as_soon_as_they_are_committed(engine: AsyncEngine) -> None:
    held = BankHashes(engine)
    one, two = _random(2)
    assert await _near(held, one, two) == [{}, {}]
    _, (first,) = await bank_of(engine, [one.tobytes()], pdq_distance=2)
    assert await _near(held, one, _bits(one, 3, 200), _bits(one, 3, 200, 7), two) == [{first: 0}, {first: 2}, {}, {}]
    _, (second, third) = await bank_of(engine, [two.tobytes(), one.tobytes()], pdq_distance=40)
    assert await _near(held, _bits(one, *range(39)), two) == [{third: 39}, {second: 0}]
    assert await _near(held, one) == [{first: 0, third: 0}]
    assert await _near(held, one, quality=49) == [{}], "a picture without structure is near none"
    version, _ = await held.near([], min_quality=50)
    assert version == await hashes_version(engine)


async def test_any_orientation_of_a_picture_is_near(engine: AsyncEngine) -> None:
    picture = _random(8)
    _, (member,) = await bank_of(engine, [picture[5].tobytes()])
    assert await _near(BankHashes(engine), picture) == [{member: 0}]


async def test_a_bank_whose_distance_changes(engine: AsyncEngine) -> None:
    held = BankHashes(engine)
    (one,) = _random(1)
    bank, (member,) = await bank_of(engine, [one.tobytes()], pdq_distance=10)
    near = _bits(one, *range(11))
    assert await _near(held, near) == [{}]
    for distance, found in ((11, [{member: 11}]), (60, [{member: 11}]), (4, [{}])):
        async with engine.begin() as connection:
            await change_banks(connection, hashes=True)
            await connection.execute(
                text("UPDATE bank SET pdq_distance = :bits WHERE id = :id"), {"bits": distance, "id": bank}
            )
        assert await _near(held, near) == found


async def test_members_that_are_gone_leave_when_they_are_many(engine: AsyncEngine) -> None:
    held = BankHashes(engine, count_every_s=0.0)
    hashes = _random(400)
    bank, members = await bank_of(engine, [one.tobytes() for one in hashes])
    assert await _near(held, hashes[7]) == [{members[7]: 0}]
    async with engine.begin() as connection:
        await change_banks(connection, hashes=True)
        await connection.execute(text("DELETE FROM bank WHERE id = :id"), {"id": bank})
    assert await _near(held, hashes[7]) == [{}]
    assert len((await held.current()).index) <= await bank_hashes.count(engine) * 1.02 + 100


async def test_pages_give_every_member_once(engine: AsyncEngine) -> None:
    hashes = _random(25)
    bank, members = await bank_of(engine, [one.tobytes() for one in hashes])
    parts = [part async for part in bank_hashes.pages(engine, after=members[0] - 1, size=10)]
    assert len(parts) >= 3 and all(len(part.ids) == 10 for part in parts[:2])
    ids, banks = np.concatenate([part.ids for part in parts]), np.concatenate([part.banks for part in parts])
    mine = banks == bank
    assert ids[mine].tolist() == members
    assert (np.concatenate([part.hashes for part in parts])[mine] == hashes).all()


async def test_many_ask_while_members_are_added(engine: AsyncEngine) -> None:
    """What was found at a version that is still the present one is everything: so a stored result lacks nothing."""
    held, hashes = BankHashes(engine), _random(30)

    async def ask() -> None:
        for _ in range(40):
            version, found = await held.near([(id_, _look(one)) for id_, one in enumerate(hashes)], min_quality=50)
            async with engine.connect() as connection:
                committed = await connection.scalar(text("SELECT version FROM bank_version WHERE id = 1"))
                there = set(
                    (
                        await connection.execute(
                            text("SELECT id FROM bank_member WHERE pdq = ANY(:hashes)"),
                            {"hashes": [one.tobytes() for one in hashes]},
                        )
                    ).scalars()
                )
                again = await connection.scalar(text("SELECT version FROM bank_version WHERE id = 1"))
            if version == committed == again:
                checked.append(len(there))
                assert {member for near in found.values() for member in near} >= there

    async def add() -> None:
        for one in hashes:
            await bank_of(engine, [one.tobytes()])

    checked: list[int] = []
    await asyncio.gather(ask(), ask(), ask(), add())
    assert checked and max(checked) > 0
