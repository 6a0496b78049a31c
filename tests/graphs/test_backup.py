"""Backups and restores end to end: real pictures, real servers, from one installation into another."""

import asyncio
import json
import os
import stat
from pathlib import Path
from threading import Thread

import pytest

from configs.settings import Settings
from graphs.backup import MANIFEST, PROGRESS, check_files
from graphs.check_report import Kind
from graphs.restore import restore
from storage import webhooks
from storage.audit_check import verify
from storage.audit_log import Head, head
from storage.copies.pictures import file_of
from storage.database import create_engine
from storage.embedded.stack import EmbeddedServers
from storage.errors import ConfigurationError, Conflict
from storage.keys import authenticate, create_key
from storage.migrate import downgrade
from storage.objects import ObjectStore
from storage.uploads import NewImage, remove, upload
from storage.vectors import connect, table_names
from tests.graphs.backed_up import KEPT, World, engine, objects, rows, servers, target, third, world

__all__ = ["engine", "objects", "servers", "target", "third", "world"]


async def test_what_is_restored_is_what_was_there(world: World, target: Settings, tmp_path: Path) -> None:
    engine, folder = world.processor.engine, tmp_path / "copy"
    key = await create_key(engine, "partner", ["image:read"], actor="test")
    made = await webhooks.create(engine, "https://example.org/hook", description="ёж \\ \t \n", created_by="test")
    assert made.id is not None
    waiting = await upload(engine, world.processor.objects, NewImage("w", "workers", b"x", "image/png", 1, 1), caller=0)
    before = [await rows(world.settings, one) for one in KEPT]
    assert len(before[0]) == 4 and len(before[1]) == 1 and len(before[2]) == 3
    manifest = await world.backup(folder)
    assert manifest.pictures is not None and manifest.pictures.objects == 7 and manifest.pictures.missing == 0
    for path in (folder, *folder.rglob("*")):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, f"{path} is open to others"
    assert not (folder / PROGRESS).exists()

    restored = await world.restore(target, folder)
    assert restored.removed == 0 and restored.vectors and restored.vectors > 0
    assert [await rows(target, one) for one in KEPT] == before
    report = await world.check(target)
    assert report.found == {} and report.checked["images"] == 4 and report.checked["vectors of pdq@1"] == 3
    copy = create_engine(target)
    assert (await authenticate(copy, key)).name == "partner"
    checked = await verify(copy, known=Head.parse(manifest.database.head))
    assert checked.broken is None
    assert [row[0] for row in await rows(target, "SELECT action FROM audit ORDER BY sequence DESC LIMIT 1")] == [
        "backup.restore"
    ]
    store = ObjectStore(target)
    next_one = await upload(copy, store, NewImage("n", "workers", b"y", "image/png", 1, 1), caller=0)
    assert next_one.id is not None and waiting.id is not None and next_one.id > waiting.id, "counters go on"
    store.close()
    await copy.dispose()


async def test_a_restore_refuses_what_is_in_use_unless_forced(
    world: World, target: Settings, third: Settings, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    await world.backup(folder)
    copy, store = create_engine(target), ObjectStore(target)
    mine = await upload(copy, store, NewImage("mine", "m", b"z", "image/png", 1, 1), caller=0)
    with pytest.raises(Conflict, match=r"a service has .* connections"):
        await world.restore(target, folder, force=True)
    await copy.dispose()
    with pytest.raises(Conflict, match="rows in image; nothing was restored"):
        await world.restore(target, folder)
    assert [row[0] for row in await rows(target, "SELECT name FROM image")] == ["mine"]
    assert await store.get(mine.s3_path) == b"z"
    restored = await world.restore(target, folder, force=True)
    assert restored.removed == 1 and (await world.check(target)).found == {}
    again = await world.restore(target, folder, force=True)
    assert again.removed == 0 and again.vectors == restored.vectors and (await world.check(target)).found == {}

    await store.put("images/stray.png", b"s", "image/png")
    shared = third.model_copy(update={"s3_bucket": target.s3_bucket})
    with pytest.raises(Conflict, match=r"does not know, such as images/stray\.png"):
        await world.restore(shared, folder)
    assert await store.get("images/stray.png") == b"s"
    store.close()


async def test_a_damaged_backup_restores_nothing(world: World, target: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    with pytest.raises(ConfigurationError, match="is no folder"):
        await world.restore(target, folder)
    manifest = await world.backup(folder)
    picture = file_of(folder / "objects", world.pictures[1].s3_path)
    table = next(one.name for one in manifest.vectors or [])
    for path in (
        folder / "database" / "image.copy", folder / "database" / "images.jsonl", folder / "objects.jsonl",
        folder / "vectors" / f"{table}.arrow", picture,
    ):  # fmt: skip
        whole = path.read_bytes()
        for damaged in (whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1]), None):
            path.unlink()
            if damaged is not None:
                path.write_bytes(damaged)
            with pytest.raises(ConfigurationError, match="is missing" if damaged is None else "is damaged"):
                await world.restore(target, folder)
            assert await rows(target, "SELECT id FROM image") == []
            path.write_bytes(whole)
    content = json.loads((folder / MANIFEST).read_text())
    for broken, said in (
        (content | {"format": 99}, "format 99"),
        ({"format": 1}, "no manifest"),
        (
            content | {"database": content["database"] | {"revision": "9999"}},
            "9999, which this SafeGuard does not know",
        ),
    ):
        (folder / MANIFEST).write_text(json.dumps(broken))
        with pytest.raises(ConfigurationError, match=said):
            await world.restore(target, folder)
    (folder / MANIFEST).write_text(json.dumps(content))
    await world.restore(target, folder)
    assert (await world.check(target)).found == {}


class Stopped(Exception):
    """What ends a backup half way."""


async def test_an_interrupted_backup_goes_on_with_its_snapshot(world: World, target: Settings, tmp_path: Path) -> None:
    folder, objects = tmp_path / "copy", world.processor.objects

    def stop(line: str) -> None:
        if "objects" in line:
            raise Stopped

    with pytest.raises(Stopped):
        await world.backup(folder, say=stop)
    assert (folder / PROGRESS).exists() and not (folder / MANIFEST).exists()
    assert not list(folder.rglob("*.draft"))
    with pytest.raises(ConfigurationError, match="not finished; repeat"):
        check_files(folder)
    with pytest.raises(Conflict, match="of another installation"):
        await World(world.processor, target, world._patch, world._folder).backup(folder)

    late = await upload(world.processor.engine, objects, NewImage("late", "m", b"l", "image/png", 1, 1), caller=0)
    first = file_of(folder / "objects", world.pictures[0].s3_path)
    first.write_bytes(b"damaged")
    said: list[str] = []
    manifest = await world.backup(folder, say=said.append)
    assert said[0].startswith("going on with the backup of") and not any(one.startswith("table") for one in said)
    assert manifest.pictures is not None and manifest.pictures.missing == 0
    await world.restore(target, folder)
    ids = [row[0] for row in await rows(target, "SELECT id FROM image ORDER BY id")]
    assert ids == [one.id for one in world.pictures] and late.id not in ids, "it came after the snapshot"
    assert (await world.check(target)).found == {}
    with pytest.raises(Conflict, match="a whole backup"):
        await world.backup(folder)


async def test_what_is_deleted_while_the_backup_runs_stays_deleted(
    world: World, target: Settings, tmp_path: Path
) -> None:
    folder, deleted = tmp_path / "copy", world.pictures[2].id or 0

    async def delete() -> None:
        engine, store = create_engine(world.settings), ObjectStore(world.settings)
        await remove(engine, store, deleted, actor="test")
        store.close()
        await engine.dispose()

    def behind_the_snapshot(line: str) -> None:
        if line == "vectors pdq-v1":
            thread = Thread(target=lambda: asyncio.run(delete()))
            thread.start()
            thread.join()

    manifest = await world.backup(folder, say=behind_the_snapshot)
    assert manifest.pictures is not None and manifest.pictures.gone == 1 and manifest.pictures.missing == 0
    await world.restore(target, folder)
    ids = [row[0] for row in await rows(target, "SELECT id FROM image ORDER BY id")]
    assert ids == [one.id for one in world.pictures[:2]]
    assert (await world.check(target)).found == {}


async def test_without_vectors_they_are_made_anew(world: World, target: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    manifest = await world.backup(folder, with_vectors=False)
    assert manifest.vectors is None and not (folder / "vectors").exists()
    restored = await world.restore(target, folder)
    assert restored.vectors is None
    report = await world.check(target, repair=True)
    assert report.found[Kind.MISSING_VECTORS].repaired == 3
    assert [row[0] for row in await rows(target, "SELECT DISTINCT status FROM image")] == ["UPLOADED"]


async def test_a_backup_of_an_older_schema_is_brought_up(
    world: World, target: Settings, third: Settings, tmp_path: Path
) -> None:
    folder, older = tmp_path / "copy", "0004"
    links = await rows(world.settings, KEPT[1])
    await world.backup(tmp_path / "first")
    await world.restore(third, tmp_path / "first")
    await asyncio.to_thread(downgrade, third, older)
    assert not (await World(world.processor, third, world._patch, world._folder).backup(folder)).database.head
    assert check_files(folder).database.revision == older
    await world.restore(target, folder)
    assert await rows(target, KEPT[1]) == links
    copy = create_engine(target)
    assert (await verify(copy)).broken is None and (await head(copy)).sequence > 1
    await copy.dispose()
    assert (await world.check(target)).found == {}


async def test_a_folder_with_something_else_is_left_alone(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "letters.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match="holds letters"):
        await world.backup(folder)
    assert (folder / "letters.txt").read_text() == "mine"
    with pytest.raises(ConfigurationError, match="cannot be used"):
        await world.backup(folder / "letters.txt")


async def test_two_backups_do_not_share_a_folder(world: World, tmp_path: Path) -> None:
    import fcntl

    folder = tmp_path / "copy"
    folder.mkdir()
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Conflict, match="another command works"):
            await world.backup(folder)
    assert os.listdir(folder) == ["lock"]


async def test_tables_of_vectors_are_copied_whole(world: World, target: Settings, tmp_path: Path) -> None:
    manifest = await world.backup(tmp_path / "copy")
    await world.restore(target, tmp_path / "copy")
    there, copied = await connect(world.settings), await connect(target)
    for one in manifest.vectors or []:
        columns = ["image_id", "region", "box", "vector"]
        tables = []
        for connection in (there, copied):
            if one.name not in await table_names(connection):
                assert one.rows == 0
                continue
            table = await (await connection.open_table(one.name)).query().select(columns).to_arrow()
            tables.append(sorted(map(repr, table.to_pylist())))
        assert len(tables) < 2 or tables[0] == tables[1]
        assert not tables or len(tables[0]) == one.rows
    assert sum(one.rows for one in manifest.vectors or []) > 0


async def test_a_new_home_gets_its_servers_started_for_it(
    world: World, home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    await world.backup(tmp_path / "copy")
    before = [await rows(world.settings, one) for one in KEPT]
    for name in [name for name in os.environ if name.startswith("SAFEGUARD_")]:
        monkeypatch.delenv(name)
    fresh = home / "new"
    fresh.mkdir()
    (fresh / "admin.key").write_text("a key of what was here before\n")
    await asyncio.to_thread(restore, fresh, tmp_path / "copy", force=False)
    servers = EmbeddedServers(fresh)
    assert not any(one.running for one in servers.status().values()), "they are left as they were found"
    assert not (fresh / "admin.key").exists(), "`up` makes one that is valid"
    settings = await asyncio.to_thread(servers.start)
    try:
        assert [await rows(settings, one) for one in KEPT] == before
        assert (await world.check(settings)).found == {}
    finally:
        await asyncio.to_thread(servers.stop)
