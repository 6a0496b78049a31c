"""Exports: what is imported comes out again, in every form, hash for hash and note for note."""

import io

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from storage import bank_export, bank_members
from storage.bank_export import Form, export
from storage.bank_import import import_list
from storage.bank_members import HashEntry
from storage.errors import NotFound
from storage.objects import ObjectStore
from tests.moderation import ACTOR, bank, processed

P, S = bytes(range(32)), bytes(range(100, 132))
NOTES = [
    "",
    " spaces ",
    'a "quote", a comma',
    "two\nlines\r\nand \r more",
    "=1+1",
    "Запрет 👩‍👩‍👧",
    "\t",
    "x" * 1000,
    "; '--",
]


async def written(engine: AsyncEngine, bank_id: int, form: Form, **more: bool) -> bytes:
    return b"".join([piece async for piece in export(engine, bank_id, form, **more)])


@pytest.mark.parametrize("form", list(Form))
@pytest.mark.parametrize("kind", ["unacceptable", "allowed"])
async def test_what_goes_out_comes_in_again(
    engine: AsyncEngine, form: Form, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bank_export, "_PAGE", 4)
    first, second = await bank(engine, kind), await bank(engine, kind)
    given = [HashEntry(bytes([n]) * 32, None, note) for n, note in enumerate(NOTES)]
    given += [HashEntry(None, S, "s")] + ([HashEntry(P, S, "both")] if form == Form.CSV else [])
    await bank_members.add_hashes(engine, first.id, given, actor=ACTOR)
    text = await written(engine, first.id, form)
    await import_list(engine, second.id, io.BytesIO(text), source="export", actor=ACTOR)
    members = await bank_members.listing(engine, second.id)
    assert [HashEntry(one.pdq, one.sha256, one.note) for one in members] == given
    again = await written(engine, second.id, form)
    if form == Form.CSV:
        assert again == text
    again = again.replace(second.bank.name.encode(), first.bank.name.encode())
    if form == Form.THREATEXCHANGE:
        assert again == text


async def test_images_go_out_as_their_sha256_where_wanted(engine: AsyncEngine, objects: ObjectStore) -> None:
    made = await bank(engine)
    (image,) = await processed(engine, objects)
    await bank_members.add_image(engine, made.id, image, note="n", actor=ACTOR)
    assert await written(engine, made.id, Form.CSV) == b"pdq,sha256,note\r\n"
    header, line, _ = (await written(engine, made.id, Form.CSV, images=True)).decode().split("\r\n")
    assert header == "pdq,sha256,note" and line.startswith(",") and line.endswith(",n") and len(line) == 67
    assert await written(engine, made.id, Form.UPDATES) == b""
    with pytest.raises(NotFound):
        await written(engine, 10**18, Form.CSV)


async def test_a_member_with_both_hashes_is_two_lines_elsewhere(engine: AsyncEngine) -> None:
    made = await bank(engine)
    await bank_members.add_hashes(engine, made.id, [HashEntry(P, S, "both")], actor=ACTOR)
    lines = (await written(engine, made.id, Form.THREATEXCHANGE)).decode().splitlines()
    assert [line.split(",")[1] for line in lines] == ["signal_type", "pdq", "sha256"]
