"""The rows of all tables, out of one snapshot into files and back in one transaction, by COPY. Below the deployments.

Text COPY and the migrations of this project do what ``pg_dump`` would, whatever versions the two servers have.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import asyncpg

from configs.settings import Settings
from storage.copies.files import NewFile, Sum
from storage.database import database_dsn, storage_full
from storage.errors import ConfigurationError, Conflict, SafeGuardError, Unavailable

_BLOCK = 1 << 20
_SILENT_S = 60.0
_STORING_S = 3600.0
"""COPY into a table is silent while its foreign keys are checked at the end."""
APPLICATION = "safeguard backup"
_TABLES = """
SELECT c.relname AS name, array_agg(a.attname ORDER BY a.attnum) AS columns
FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' AND c.relname <> 'alembic_version'
GROUP BY c.relname ORDER BY c.relname
"""
_NEEDS = """
SELECT conrelid::regclass::text AS name, confrelid::regclass::text AS needs FROM pg_constraint
WHERE contype = 'f' AND connamespace = current_schema()::regnamespace AND conrelid <> confrelid
"""
_COUNTERS = """
SELECT c.relname AS name, a.attname AS field, pg_get_serial_sequence(quote_ident(c.relname), a.attname) AS counter
FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attidentity <> '' AND NOT a.attisdropped
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' ORDER BY c.relname
"""
IMAGES = """
SELECT id, s3_path, encode(sha256, 'hex') AS sha256, size_bytes, media_type, status, attempt, uploaded_at IS NOT NULL AS stored
FROM image ORDER BY id
"""
_SERVED = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'safeguard' AND pid <> pg_backend_pid()
"""
T = TypeVar("T")


@dataclass(frozen=True)
class TableCopy:
    """One table in a backup.

    Args:
        columns: in the order in which the file has them.
        sum: of its file ``NAME.copy``.
    """

    name: str
    columns: list[str]
    rows: int
    sum: Sum


@dataclass(frozen=True)
class DatabaseCopy:
    """All tables, in an order in which they can be filled.

    Args:
        revision: of the schema.
        head: of the audit, as ``Head`` writes it; empty where there is no chain yet.
        taken_at: when the snapshot was taken, by the database's clock.
        counters: table, column, last value and whether it was given out.
        images: of the file ``images.jsonl``, one line an image as ``IMAGES`` gives it.
    """

    revision: str
    head: str
    taken_at: str
    tables: list[TableCopy]
    counters: list[tuple[str, str, int, bool]]
    images: Sum


async def connect(settings: Settings) -> asyncpg.Connection:
    """A connection of its own, under a name of its own.

    Raises:
        Unavailable: the server does not answer.
    """
    try:
        return await asyncpg.connect(
            database_dsn(settings),
            timeout=settings.database_timeout_s,
            server_settings={"application_name": APPLICATION},
        )
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        raise Unavailable("the database does not answer") from error


class _Moving:
    """Lets something long go on for as long as it moves."""

    def __init__(self) -> None:
        self.moves = 0

    async def watch(self, work: Awaitable[T], limit_s: float) -> T:
        task = asyncio.ensure_future(work)
        while True:
            before = self.moves
            done, _ = await asyncio.wait({task}, timeout=limit_s)
            if done:
                return task.result()
            if self.moves == before:
                task.cancel()
                raise Unavailable(f"the database has not moved for {limit_s:.0f} s")


async def dump(settings: Settings, folder: Path, say: Callable[[str], None]) -> DatabaseCopy:
    """Writes all tables as they are at one moment; the database goes on meanwhile.

    Args:
        folder: for ``TABLE.copy`` and ``images.jsonl``.
    Raises:
        ConfigurationError: it has no schema of ours.
        Unavailable: the database does not answer.
    """
    connection = await connect(settings)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            return await _dump(connection, folder, say)
    except asyncpg.UndefinedTableError as error:
        raise ConfigurationError("the database has no tables of SafeGuard; there is nothing to back up") from error
    except (ConnectionError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise Unavailable(f"the database does not answer: {type(error).__name__}") from error
    finally:
        await _close(connection)


async def _close(connection: asyncpg.Connection) -> None:
    try:
        await connection.close(timeout=5)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        connection.terminate()


async def _dump(connection: asyncpg.Connection, folder: Path, say: Callable[[str], None]) -> DatabaseCopy:
    revision = await connection.fetchval("SELECT version_num FROM alembic_version", timeout=_SILENT_S)
    taken_at = str(await connection.fetchval("SELECT now()", timeout=_SILENT_S))
    tables = []
    for name, columns in await _ordered(connection):
        say(f"table {name}")
        selected = ", ".join(f'"{one}"' for one in columns)
        rows, made = await _copy_out(connection, f'SELECT {selected} FROM "{name}"', folder / f"{name}.copy")
        tables.append(TableCopy(name, columns, rows, made))
    lines = f"SELECT row_to_json(one)::text FROM ({IMAGES}) AS one"
    _, images = await _copy_out(
        connection, lines, folder / "images.jsonl", format="csv", quote="\x01", delimiter="\x02"
    )
    head = ""
    if "hash" in next((one.columns for one in tables if one.name == "audit"), []):
        row = await connection.fetchrow(
            "SELECT sequence, encode(hash, 'hex') AS hash FROM audit ORDER BY sequence DESC LIMIT 1", timeout=_SILENT_S
        )
        head = f"{row['sequence']}:{row['hash']}" if row else ""
    # Counters are read after the snapshot: they may only be ahead of the rows, never behind.
    counters = []
    for one in await connection.fetch(_COUNTERS, timeout=_SILENT_S):
        row = await connection.fetchrow(f"SELECT last_value, is_called FROM {one['counter']}", timeout=_SILENT_S)
        counters.append((one["name"], one["field"], int(row["last_value"]), bool(row["is_called"])))
    return DatabaseCopy(revision, head, taken_at, tables, counters, images)


async def _copy_out(connection: asyncpg.Connection, query: str, path: Path, **options: Any) -> tuple[int, Sum]:
    moving = _Moving()
    with NewFile(path) as file:

        async def take(data: bytes) -> None:
            moving.moves += 1
            await asyncio.to_thread(file.write, data)

        done = await moving.watch(connection.copy_from_query(query, output=take, **options), _SILENT_S)
        return int(str(done).split()[-1]), await asyncio.to_thread(file.finish)


async def _ordered(connection: asyncpg.Connection) -> list[tuple[str, list[str]]]:
    """Tables with their columns, each behind those that its foreign keys lead to."""
    left = {row["name"]: list(row["columns"]) for row in await connection.fetch(_TABLES, timeout=_SILENT_S)}
    needs: dict[str, set[str]] = {}
    for row in await connection.fetch(_NEEDS, timeout=_SILENT_S):
        needs.setdefault(row["name"], set()).add(row["needs"])
    ordered: list[tuple[str, list[str]]] = []
    while left:
        free = [name for name in left if not needs.get(name, set()) & left.keys()]
        if not free:
            raise ConfigurationError(f"the foreign keys of {', '.join(left)} go in a circle")
        ordered += [(name, left.pop(name)) for name in free]
    return ordered


async def knows(settings: Settings, head: str) -> bool:
    """Whether the audit of a database has an entry with this head: it is the same installation, or its descendant."""
    sequence, _, digest = head.partition(":")
    connection = await connect(settings)
    try:
        found = await connection.fetchval(
            "SELECT encode(hash, 'hex') FROM audit WHERE sequence = $1", int(sequence), timeout=_SILENT_S
        )
    except asyncpg.PostgresError:
        return False
    finally:
        await _close(connection)
    return bool(found == digest)


async def rows_there(settings: Settings, ignored: frozenset[str]) -> dict[str, bool]:
    """Which tables hold rows, ``ignored`` left out; empty where there is no schema.

    Raises:
        Conflict: a service is connected to the database.
    """
    connection = await connect(settings)
    try:
        served = await connection.fetchval(_SERVED, timeout=_SILENT_S)
        if served:
            raise Conflict(f"a service has {served} connections to this database; stop it first: `safeguard down`")
        found = {}
        for row in await connection.fetch(_TABLES, timeout=_SILENT_S):
            if row["name"] not in ignored:
                one = f'SELECT EXISTS (SELECT 1 FROM "{row["name"]}")'
                found[row["name"]] = bool(await connection.fetchval(one, timeout=_SILENT_S))
        return found
    finally:
        await _close(connection)


async def load(
    settings: Settings, folder: Path, copy: DatabaseCopy, gone: list[int], say: Callable[[str], None]
) -> None:
    """Puts the rows of a backup in the place of all that is there, in one transaction.

    Args:
        copy: of the same revision as the schema that is there.
        gone: images that were deleted while the backup was made, and stay deleted.
    Raises:
        ConfigurationError: the schema is not that of the backup.
        StorageFull: the database has no room.
        Unavailable: the database does not answer. In each case the rows from before are still there.
    """
    connection = await connect(settings)
    try:
        async with connection.transaction():
            await _load(connection, folder, copy, gone, say)
    except SafeGuardError:
        raise
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise storage_full(error) or Unavailable(f"the database did not take the backup: {error}") from error
    finally:
        await _close(connection)


async def _load(
    connection: asyncpg.Connection, folder: Path, copy: DatabaseCopy, gone: list[int], say: Callable[[str], None]
) -> None:
    there = {name: set(columns) for name, columns in await _ordered(connection)}
    if there != {one.name: set(one.columns) for one in copy.tables}:
        raise ConfigurationError(f"the schema of the database is not that of revision {copy.revision}")
    guard = await connection.fetchval("SELECT 1 FROM pg_trigger WHERE tgname = 'audit_append_only'", timeout=_SILENT_S)
    names = ", ".join(f'"{one.name}"' for one in copy.tables)
    if guard:
        await connection.execute("ALTER TABLE audit DISABLE TRIGGER audit_append_only", timeout=_SILENT_S)
    await connection.execute(f"TRUNCATE {names}", timeout=_SILENT_S)
    if guard:
        await connection.execute("ALTER TABLE audit ENABLE ALWAYS TRIGGER audit_append_only", timeout=_SILENT_S)
    for one in copy.tables:
        say(f"table {one.name}, {one.rows:,} rows")
        moving = _Moving()
        source = _blocks(folder / f"{one.name}.copy", moving)
        work = connection.copy_to_table(one.name, source=source, columns=one.columns, timeout=None)
        done = int(str(await moving.watch(work, _STORING_S)).split()[-1])
        if done != one.rows:
            raise ConfigurationError(f"{one.name}.copy has {done} rows, the manifest says {one.rows}")
    for table, field, value, called in copy.counters:
        counter = "SELECT setval(pg_get_serial_sequence(quote_ident($1), $2), $3, $4)"
        await connection.execute(counter, table, field, value, called, timeout=_SILENT_S)
    if gone:
        if "bank_member" in there:
            await connection.execute("DELETE FROM bank_member WHERE image_id = ANY($1)", gone, timeout=_STORING_S)
        await connection.execute("DELETE FROM image WHERE id = ANY($1)", gone, timeout=_STORING_S)
    # What a job wrote behind the snapshot may be among the vectors: a second try of its units replaces it.
    if "job_unit" in there:
        second = "UPDATE job_unit SET attempt = 1 WHERE state = 'waiting' AND attempt = 0"
        await connection.execute(second, timeout=_STORING_S)


async def _blocks(path: Path, moving: _Moving) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(path.open, "rb") as stream:
        while block := await asyncio.to_thread(stream.read, _BLOCK):
            moving.moves += 1
            yield block
