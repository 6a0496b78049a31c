"""Imports: all or, if so wished, what is good; a repeat adds nothing; kill -9 in the middle, and a repeat finishes."""

import asyncio
import io
import os
import signal
import sys
import time
from hashlib import sha256
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import Settings
from storage import bank_members, banks
from storage.bank_import import CHUNK, BadList, import_list
from storage.errors import InvalidInput, NotFound
from tests.moderation import ACTOR, audited, bank, look_backs

P = "0f" * 32


def hashes(count: int) -> str:
    return "pdq,note\n" + "".join(f"{sha256(str(n).encode()).hexdigest()},n {n}\n" for n in range(count))


async def test_a_list_is_imported_once(engine: AsyncEngine) -> None:
    made = await bank(engine)
    file = io.BytesIO(hashes(3).encode())
    first = await import_list(engine, made.id, file, source="список 1.csv", actor=ACTOR)
    assert (first.added, first.already_there, first.refused, len(first.look_backs)) == (3, 0, 0, 1)
    again = await import_list(engine, made.id, file, source="список 1.csv", actor=ACTOR)
    assert (again.added, again.already_there, again.look_backs) == (0, 3, [])
    members = await bank_members.listing(engine, made.id)
    assert [(one.note, one.source, one.added_by) for one in members] == [
        (f"n {n}", "список 1.csv", ACTOR) for n in range(3)
    ]


async def test_bad_lines_stop_all_unless_the_good_are_wanted(engine: AsyncEngine) -> None:
    made = await bank(engine)
    file = io.BytesIO(f"pdq,sha256\n{P},\n{P[2:]},\n,zz\n".encode())
    with pytest.raises(
        BadList, match=r"2 lines cannot be taken, 1 could; nothing was imported.*line 3: pdq has 62"
    ) as caught:
        await import_list(engine, made.id, file, source="s", actor=ACTOR)
    assert [one["field"] for one in caught.value.members["errors"]] == ["line 3", "line 4"]
    assert (await banks.get(engine, made.id)).hashes == 0 and await look_backs(engine, made.id) == []
    done = await import_list(engine, made.id, file, source="s", actor=ACTOR, keep_good=True)
    assert (done.added, done.refused, [one.line for one in done.errors]) == (1, 2, [3, 4])


async def test_nothing_to_import(engine: AsyncEngine) -> None:
    made = await bank(engine)
    for empty in (b"", b"pdq,note\n", b'{"type": "HASH_PDQ", "indicator": "x", "should_delete": true}\n'):
        with pytest.raises(InvalidInput, match="no hash in it"):
            await import_list(engine, made.id, io.BytesIO(empty), source="s", actor=ACTOR)
    with pytest.raises(InvalidInput, match="source has 201"):
        await import_list(engine, made.id, io.BytesIO(P.encode()), source="s" * 201, actor=ACTOR)
    with pytest.raises(NotFound):
        await import_list(engine, 10**18, io.BytesIO(P.encode()), source="s", actor=ACTOR)


async def _count(engine: AsyncEngine, bank_id: int) -> int:
    async with engine.connect() as connection:
        statement = text("SELECT count(*) FROM bank_member WHERE bank_id = :id")
        return int(await connection.scalar(statement, {"id": bank_id}) or 0)


CHILD = """
import asyncio, sys
from configs.settings import load_settings
from storage.bank_import import import_list
from storage.database import create_engine
async def main():
    with open(sys.argv[2], "rb") as file:
        await import_list(create_engine(load_settings()), int(sys.argv[1]), file, source="killed", actor="child")
asyncio.run(main())
"""


async def test_killed_in_the_middle_a_repeat_finishes(engine: AsyncEngine, servers: Settings, tmp_path: Path) -> None:
    made, wanted = await bank(engine), 10 * CHUNK + 7
    list_file = tmp_path / "list.csv"
    list_file.write_text(hashes(wanted))
    assert servers.database_url is not None
    environment = {**os.environ, "SAFEGUARD_DATABASE_URL": servers.database_url.get_secret_value()}
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, str(made.id), str(list_file), env=environment
    )
    try:
        end = time.monotonic() + 60
        while await _count(engine, made.id) < CHUNK:
            assert time.monotonic() < end and child.returncode is None
            await asyncio.sleep(0.02)
    finally:
        child.kill()
    assert await child.wait() == -signal.SIGKILL
    there = await _count(engine, made.id)
    assert 0 < there < wanted and there % CHUNK == 0
    with list_file.open("rb") as file:
        done = await import_list(engine, made.id, file, source="killed", actor=ACTOR)
    # A chunk that the server was committing when its client died may have become whole after the count.
    assert done.added + done.already_there == wanted and done.already_there - there in (0, CHUNK)
    assert await _count(engine, made.id) == wanted
    entries = [detail for action, _, detail in await audited(engine, f"bank/{made.id}") if action == "bank.import"]
    assert sum(int(str(one["added"])) for one in entries) == wanted, "each hash is on record once"
    ranges = [(first, last) for _, _, first, last in await look_backs(engine, made.id)]
    assert len(ranges) == len(entries)
    async with engine.connect() as connection:
        statement = text("SELECT id FROM bank_member WHERE bank_id = :id ORDER BY id")
        ids = list((await connection.execute(statement, {"id": made.id})).scalars())
    assert sum(sum(first <= one <= last for one in ids) for first, last in ranges if first and last) == wanted
