"""A reference that matches too many past images is put into quarantine by its look-back, before half the site is blocked."""
# ruff: noqa: F401, F811  (the fixtures that are imported)

from dataclasses import replace

import numpy as np
import pytest
from sqlalchemy import text

from deployments.pipeline.processor import Processor
from deployments.vision.pdq import pdq_hashes
from storage import bank_members, lookbacks, quarantine
from storage.bank_members import HashEntry
from tests.deployments.pipeline.conftest import Upload, run_queue
from tests.deployments.pipeline.lookbacks import (
    Banks,
    banks,
    decisions,
    drain,
    engine,
    objects,
    servers,
    verdicts,
)
from tests.moderation import audited, look_backs, told
from tests.service.pictures import jpeg, photo


def _watchful(processor: Processor, floor: int) -> Processor:
    settings = processor.settings.model_copy(update={"quarantine_floor": floor, "quarantine_share": 0.5})
    return replace(processor, settings=settings)


@pytest.mark.parametrize(("form", "span"), [("hash", 100), ("hash", 3), ("picture", 100)])
async def test_a_member_that_matches_too_many_past_images_is_stopped_and_its_blocks_are_taken_back(
    processor: Processor, put: Upload, banks: Banks, form: str, span: int
) -> None:
    watchful = _watchful(processor, 6)
    picture = photo("rocket.jpg")
    copies = [await put(jpeg(picture.resize((160 + 4 * n, 120 + 3 * n)), 85)) for n in range(8)]
    strangers = [await put(jpeg(photo(name))) for name in ("coffee.png", "coins.png")]
    await run_queue(processor)
    bank = await banks.make()
    if form == "hash":
        (upright, *_), _ = pdq_hashes(np.asarray(picture))
        (coffee, *_), _ = pdq_hashes(np.asarray(photo("coffee.png")))
        added = await banks.add_hashes(bank, *(HashEntry(one.tobytes(), None) for one in (upright, coffee)))
    else:
        added = await banks.add(bank, copies[0])
    await drain(watchful, span=span)

    (held,) = await bank_members.listing(processor.engine, bank, quarantined=True)
    assert held.quarantine_reason and "past images that a look-back searched" in held.quarantine_reason
    blocked = "block" if form == "hash" else "allow"
    assert await verdicts(processor.engine, *copies, *strangers) == ["allow"] * 8 + [blocked, "allow"]
    made = [verdict for copy in copies for _, verdict in await decisions(processor.engine, copy)]
    assert made.count("block") < 6, "it was stopped before the step that went too far"
    assert (await lookbacks.get(processor.engine, added)).state == "done"
    first, second = (row[0] for row in await look_backs(processor.engine, bank))
    assert (first, (await lookbacks.get(processor.engine, second)).state) == (added, "done")
    (data,) = [one for event, _, one in await told(processor.engine, bank) if event == "bank.member_quarantined"]
    assert (data["first_member"], data["look_back"], data["reason"]) == (held.id, second, held.quarantine_reason)
    action, actor, detail = (await audited(processor.engine, f"bank/{bank}"))[-1]
    assert (action, actor, detail["reason"]) == ("bank.member_quarantine", "quarantine", held.quarantine_reason)

    await quarantine.release(processor.engine, bank, held.id or 0, actor="test")
    await drain(watchful, span=span)
    assert await bank_members.listing(processor.engine, bank, quarantined=True) == [], "a person has looked at it"
    assert await verdicts(processor.engine, *copies, strangers[1]) == ["block"] * 8 + ["allow"]


async def test_one_file_uploaded_often_and_the_same_bytes_are_no_reason(
    processor: Processor, put: Upload, banks: Banks
) -> None:
    data = jpeg(photo("rocket.jpg"))
    same = [await put(data) for _ in range(6)]
    await run_queue(processor)
    (upright, *_), _ = pdq_hashes(np.asarray(photo("rocket.jpg")))
    near = await banks.make()
    await banks.add_hashes(near, HashEntry(upright.tobytes(), None))
    exact = await banks.make()
    await banks.add(exact, same[0])
    await drain(_watchful(processor, 2))
    for bank in (near, exact):
        assert await bank_members.listing(processor.engine, bank, quarantined=True) == []
    assert await verdicts(processor.engine, *same) == ["block"] * 6


async def test_what_it_matched_before_and_what_people_decided_are_not_counted(
    processor: Processor, put: Upload, banks: Banks
) -> None:
    picture = photo("rocket.jpg")
    copies = [await put(jpeg(picture, 60 + 3 * n)) for n in range(6)]
    await run_queue(processor)
    (upright, *_), _ = pdq_hashes(np.asarray(picture))
    bank = await banks.make()
    await banks.add_hashes(bank, HashEntry(upright.tobytes(), None))
    await drain(processor)
    assert await verdicts(processor.engine, *copies) == ["block"] * 6
    watchful = _watchful(processor, 2)
    await lookbacks.start(processor.engine, bank_id=bank, actor="test", reason="all anew")
    await drain(watchful)
    assert await bank_members.listing(processor.engine, bank, quarantined=True) == []
    await banks.change(bank, enabled=False)
    await drain(watchful)
    async with processor.engine.begin() as connection:  # as a person's decision does
        await connection.execute(
            text("UPDATE moderation SET human_id = decision_id WHERE image_id <> :id"), {"id": copies[0].id}
        )
    await banks.change(bank, enabled=True)
    await drain(watchful)
    assert await bank_members.listing(processor.engine, bank, quarantined=True) == []
    assert await verdicts(processor.engine, *copies) == ["block"] + ["allow"] * 5
