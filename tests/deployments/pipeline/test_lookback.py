"""Looking back: copies that were uploaded before a member are found; taking the member away takes its effect back."""
# ruff: noqa: F401, F811  (the fixtures that are imported)

import hashlib

import numpy as np
import pytest
from PIL import Image as Pillow
from sqlalchemy import text

from deployments.pipeline.processor import Processor
from deployments.vision.pdq import pdq_hashes
from storage import lookbacks
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
    lookback, members = await banks.add(bank, {"image_id": original.id})
    assert await verdicts(processor.engine, original, *copies, stranger) == ["allow"] * 5
    found = await done(processor, lookback)
    assert await verdicts(processor.engine, original, *copies, stranger) == ["block"] * 4 + ["allow"]
    assert (found.members, found.members_done, found.skipped, found.verdicts_changed) == (1, 1, 0, 4)
    assert await decisions(processor.engine, copies[0]) == [("processed", "allow"), (f"look-back {lookback}", "block")]

    back = await banks.set_members(bank, members, "removed_at", "now()")
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
    lookback, _ = await banks.add(await banks.make(), {"image_id": original.id})
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
    members = [{"pdq": upright.tobytes()}, {"sha256": hashlib.sha256(data).digest()}, {"pdq": blank.tobytes()}]
    lookback, added = await banks.add(bank, *members)
    found = await done(processor, lookback)
    assert await verdicts(processor.engine, turned, mirrored, same) == ["block"] * 3
    assert await verdicts(processor.engine, flat, stranger) == ["allow"] * 2
    assert (found.members_done, found.verdicts_changed) == (3, 3)
    async with processor.engine.connect() as connection:
        near = (await connection.execute(text("SELECT image_id, distance FROM hash_finding"))).all()
    assert {row.image_id for row in near} == {turned.id, mirrored.id} and all(row.distance <= 31 for row in near)
    again = await banks.set_members(bank, added, "removed_at", "now()")
    await done(processor, again)
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
    lookback, members = await banks.add(bank, {"image_id": original.id})
    await done(processor, lookback)
    assert await verdicts(processor.engine, original, copy) == ["block"] * 2
    for change, verdict in (("now()", "allow"), ("NULL", "block")):
        await done(processor, await banks.set_members(bank, members, "quarantined_at", change))
        assert await verdicts(processor.engine, original, copy) == [verdict] * 2
    hour = "enabled = false, disabled_until = now() + interval '1 hour'"
    await done(processor, await banks.set_bank(bank, hour))
    assert await verdicts(processor.engine, original, copy) == ["allow"] * 2
    assert await end_terms(processor.engine) == []
    async with processor.engine.begin() as connection:
        await connection.execute(text("UPDATE bank SET disabled_until = now() - interval '1 second'"))
    (ended,) = await end_terms(processor.engine)
    assert await end_terms(processor.engine) == []
    await done(processor, ended)
    assert await verdicts(processor.engine, original, copy) == ["block"] * 2
    await done(processor, await banks.set_bank(bank, "removed_at = now()"))
    assert await verdicts(processor.engine, original, copy) == ["allow"] * 2
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
    lookback, _ = await banks.add(await banks.make(), {"image_id": gone.id}, {"image_id": original.id})
    found = await done(processor, lookback)
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
    added, _ = await banks.add(bank, {"image_id": original.id})
    await done(processor, added)
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
