"""Looking back: copies that were uploaded before a member are found; taking the member away takes its effect back."""
# ruff: noqa: F401, F811  (the fixtures that are imported)

import hashlib
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from PIL import Image as Pillow
from sqlalchemy import text

from deployments.pipeline.processor import Processor
from deployments.vision.pdq import pdq_hashes
from storage import bank_members, lookbacks, quarantine
from storage import banks as bank_rows
from storage.bank_members import HashEntry
from storage.bank_terms import end_terms
from storage.objects import ObjectStore
from tests.deployments.pipeline.conftest import Upload, run_queue
from tests.deployments.pipeline.lookbacks import (
    Banks,
    banks,
    decisions,
    done,
    drain,
    engine,
    objects,
    servers,
    verdicts,
)
from tests.service.pictures import edited, jpeg, photo

EDITS = ("mirror", "crop70", "jpeg10")


async def test_copies_from_before_a_member_are_found_and_its_removal_takes_that_back(
    processor: Processor,
    put: Upload,
    banks: Banks,
) -> None:
    copies = [await put(edited("astronaut.png", edit)) for edit in EDITS]
    stranger = await put(jpeg(photo("coffee.png")))
    await run_queue(processor)
    original = await put(jpeg(photo("astronaut.png")))
    await run_queue(processor)
    async with processor.engine.begin() as connection:  # as if they had been too many for the upload's search
        await connection.execute(text("DELETE FROM image_match"))
    bank = await banks.make()
    lookback = await banks.add(bank, original)
    assert await verdicts(processor.engine, original, *copies, stranger) == ["allow"] * 5
    found = await done(processor, lookback)
    assert await verdicts(processor.engine, original, *copies, stranger) == ["block"] * 4 + ["allow"]
    assert (found.members, found.members_done, found.skipped, found.verdicts_changed) == (1, 1, 0, 4)
    assert await decisions(processor.engine, copies[0]) == [("processed", "allow"), (f"look-back {lookback}", "block")]

    back = await bank_members.remove_image(processor.engine, bank, original.id or 0, actor="test")
    assert (await done(processor, back)).verdicts_changed == 4
    assert await verdicts(processor.engine, original, *copies, stranger) == ["allow"] * 5
    async with processor.engine.connect() as connection:
        left = await connection.scalar(text("SELECT count(*) FROM bank_member"))
        events = await connection.execute(
            text("SELECT type, data FROM event WHERE type = 'lookback.finished' ORDER BY id")
        )
        told = [row.data["verdicts_changed"] for row in events]
        logged = await connection.execute(
            text("SELECT detail FROM audit WHERE action = 'lookback.finish' ORDER BY sequence")
        )
        counts = [row.detail["verdicts_changed"] for row in logged]
    assert left == 0 and told == counts == [4, 4]


async def test_a_member_among_many_of_its_copies_finds_all_of_them(
    processor: Processor,
    put: Upload,
    banks: Banks,
) -> None:
    picture = photo("chelsea.png")
    copies = [await put(jpeg(picture, 50 + 2 * n)) for n in range(16)]  # an upload's search gives twelve
    other = await put(jpeg(photo("coins.png")))
    await run_queue(processor)
    original = await put(jpeg(picture))
    await run_queue(processor)
    async with processor.engine.begin() as connection:
        await connection.execute(text("DELETE FROM image_match"))
    lookback = await banks.add(await banks.make(), original)
    await done(processor, lookback, span=8)  # several ranges
    assert await verdicts(processor.engine, *copies, other) == ["block"] * 16 + ["allow"]


async def test_hashes_find_turned_copies_and_the_same_bytes(
    processor: Processor,
    put: Upload,
    banks: Banks,
) -> None:
    turned = await put(jpeg(photo("rocket.jpg").transpose(Pillow.Transpose.ROTATE_90)))
    mirrored = await put(jpeg(photo("rocket.jpg").transpose(Pillow.Transpose.FLIP_LEFT_RIGHT)))
    flat = await put(jpeg(Pillow.new("RGB", (300, 200), (90, 90, 90))))
    data = jpeg(photo("camera.png"))
    same = await put(data)
    stranger = await put(jpeg(photo("coffee.png")))
    await run_queue(processor)
    (upright, *_), _ = pdq_hashes(np.asarray(photo("rocket.jpg")))
    (blank, *_), quality = pdq_hashes(np.full((200, 300, 3), 90, np.uint8))
    assert quality < 50  # such a picture is compared with no hash, however near
    bank = await banks.make()
    entries = (HashEntry(upright.tobytes(), None), HashEntry(None, hashlib.sha256(data).digest()))
    lookback = await banks.add_hashes(bank, *entries, HashEntry(blank.tobytes(), None))
    found = await done(processor, lookback)
    assert await verdicts(processor.engine, turned, mirrored, same) == ["block"] * 3
    assert await verdicts(processor.engine, flat, stranger) == ["allow"] * 2
    assert (found.members_done, found.verdicts_changed) == (3, 3)
    async with processor.engine.connect() as connection:
        near = (await connection.execute(text("SELECT image_id, distance FROM hash_finding"))).all()
    assert {row.image_id for row in near} == {turned.id, mirrored.id} and all(row.distance <= 31 for row in near)
    for member in await bank_members.listing(processor.engine, bank):
        await bank_members.remove(processor.engine, bank, member.id or 0, actor="test")
    await drain(processor)
    assert await verdicts(processor.engine, turned, mirrored, same) == ["allow"] * 3


async def test_quarantine_and_a_disabled_bank_take_effect_and_back(
    processor: Processor,
    put: Upload,
    banks: Banks,
) -> None:
    original = await put(jpeg(photo("coffee.png")))
    copy = await put(edited("coffee.png", "jpeg10"))
    await run_queue(processor)
    bank = await banks.make()
    await done(processor, await banks.add(bank, original))
    assert await verdicts(processor.engine, original, copy) == ["block"] * 2
    await done(processor, await banks.quarantine(bank))
    assert await verdicts(processor.engine, original, copy) == ["allow"] * 2
    (member,) = await bank_members.listing(processor.engine, bank)
    _, released = await quarantine.release(processor.engine, bank, member.id or 0, actor="test")
    await done(processor, released)
    assert await verdicts(processor.engine, original, copy) == ["block"] * 2
    await done(processor, await banks.change(bank, disabled_until=datetime.now(UTC) + timedelta(hours=1)))
    assert await verdicts(processor.engine, original, copy) == ["allow"] * 2
    assert await end_terms(processor.engine) == []
    async with processor.engine.begin() as connection:
        await connection.execute(text("UPDATE bank SET disabled_until = now() - interval '1 second'"))
    (ended,) = await end_terms(processor.engine)
    assert await end_terms(processor.engine) == []
    await done(processor, ended)
    assert await verdicts(processor.engine, original, copy) == ["block"] * 2
    await done(processor, await bank_rows.remove(processor.engine, bank, actor="test"))
    assert await verdicts(processor.engine, original, copy) == ["allow"] * 2
    async with processor.engine.connect() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM bank")) == 0


async def test_a_bank_that_is_removed_before_its_last_member_was_searched_for_leaves_nothing_blocked(
    processor: Processor,
    put: Upload,
    banks: Banks,
) -> None:
    first = await put(jpeg(photo("coffee.png")))
    copy = await put(edited("coffee.png", "jpeg10"))
    second = await put(jpeg(photo("coins.png")))
    await run_queue(processor)
    bank = await banks.make()
    await done(processor, await banks.add(bank, first))
    assert await verdicts(processor.engine, first, copy) == ["block"] * 2
    await banks.add(bank, second)
    await bank_rows.remove(processor.engine, bank, actor="test")
    await drain(processor)
    assert await verdicts(processor.engine, first, copy, second) == ["allow"] * 3
    async with processor.engine.connect() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM bank")) == 0


async def test_a_member_whose_picture_is_gone_is_skipped_and_the_rest_goes_on(
    processor: Processor,
    put: Upload,
    banks: Banks,
    objects: ObjectStore,
) -> None:
    gone = await put(jpeg(photo("coffee.png")))
    original = await put(jpeg(photo("camera.png")))
    copy = await put(edited("camera.png", "mirror"))
    await run_queue(processor)
    await objects.delete(gone.s3_path)
    bank = await banks.make()
    for image in (gone, original):
        await done(processor, await banks.add(bank, image))
    asked = await lookbacks.start(processor.engine, bank_id=bank, actor="test", reason="both at once")
    found = await done(processor, asked)
    assert found.skipped == 1 and found.skips == [f"image {gone.id}: the stored picture is missing"]
    assert await verdicts(processor.engine, gone, original, copy) == ["block"] * 3
    assert found.members_done == 2


@pytest.mark.parametrize("bank_id", [None, "bank"])
async def test_a_look_back_on_request_judges_anew_and_changes_nothing_that_holds(
    processor: Processor,
    put: Upload,
    banks: Banks,
    bank_id: str | None,
) -> None:
    original = await put(jpeg(photo("coins.png")))
    copy = await put(edited("coins.png", "jpeg10"))
    await run_queue(processor)
    bank = await banks.make()
    await done(processor, await banks.add(bank, original))
    async with processor.engine.begin() as connection:  # a verdict that nothing supports
        await connection.execute(
            text("UPDATE moderation SET verdict = 'allow', facts_digest = '' WHERE image_id = :id"), {"id": copy.id}
        )
    asked = await lookbacks.start(
        processor.engine, bank_id=bank if bank_id else None, actor="test", reason="a person doubts"
    )
    again = await lookbacks.start(
        processor.engine, bank_id=bank if bank_id else None, actor="test", reason="a person doubts"
    )
    assert asked == again
    found = await done(processor, asked)
    assert found.verdicts_changed == 1 and await verdicts(processor.engine, original, copy) == ["block"] * 2
    await drain(processor)
    assert len(await decisions(processor.engine, original)) == 2
