"""The asyncpg engine: made inside the process and on the loop that uses it. Imports configs and errors only."""

import time
from weakref import WeakKeyDictionary

from sqlalchemy import event, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, EmulatedDBAPIException, InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from configs.settings import Settings
from storage.errors import ConfigurationError, StorageFull, Unavailable

_DISK_FULL = "53100"
_SPARE = 2
"""Connections beyond those asked for. They are kept like the others: opening one costs more than most statements, so a pool
that closes what it opened in a hurry (SQLAlchemy's ``max_overflow``) is slowest when there is most to do."""
_IDLE_S = 5.0
"""A connection that nobody has used for longer is asked before it is used, since a machine that is gone, or something on the
way that has forgotten the connection, says nothing of it. Before that it is only looked at: a server that ends closes its
connections. Long enough for a busy replica to ask none, and shorter than any client waits for a server to be started again."""
KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT = 15, 5, 3
"""The server looks after so many seconds of silence whether a client's machine, or the way to it, is still there, and lets
go of its locks after half a minute. The system's own limit is two hours."""


def database_dsn(settings: Settings) -> str:
    """The plain ``postgresql://`` address.

    Raises:
        ConfigurationError: none is set and no embedded server has been started for this home.
    """
    if settings.database_url is None:
        raise ConfigurationError(
            "no database: set SAFEGUARD_DATABASE_URL, or run `safeguard up` to start the embedded PostgreSQL"
        )
    url = settings.database_url.get_secret_value()
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.split("+")[0] not in ("postgresql", "postgres"):
        raise ConfigurationError("SAFEGUARD_DATABASE_URL must start with postgresql://")
    return f"postgresql://{rest}"


def create_engine(settings: Settings, *, pool_size: int | None = None) -> AsyncEngine:
    """An engine whose connections and statements have time limits.

    Args:
        settings: gives address, pool size and the limit in seconds.
        pool_size: connections instead of the setting's; ``_SPARE`` more where all are in use.
    Returns:
        AsyncEngine; connections are opened when they are needed, kept, and looked at before use (``_IDLE_S``), so a server that
        was restarted is noticed without a failed statement. One that broke unheard a moment ago fails a statement.
    """
    engine = create_async_engine(
        "postgresql+asyncpg" + database_dsn(settings).removeprefix("postgresql"),
        pool_size=(pool_size or settings.database_pool_size) + _SPARE,
        max_overflow=0,
        pool_timeout=settings.database_timeout_s,
        hide_parameters=True,  # errors are logged with their statement; its values may be secrets
        connect_args={
            "timeout": settings.database_timeout_s,
            "command_timeout": settings.database_timeout_s,
            "server_settings": {
                "application_name": "safeguard",
                "jit": "off",
                "tcp_keepalives_idle": str(KEEPALIVE_IDLE_S),
                "tcp_keepalives_interval": str(KEEPALIVE_INTERVAL_S),
                "tcp_keepalives_count": str(KEEPALIVE_COUNT),
                "tcp_user_timeout": str(1000 * (KEEPALIVE_IDLE_S + KEEPALIVE_INTERVAL_S * KEEPALIVE_COUNT)),
            },
        },
    )
    event.listen(engine.sync_engine, "checkout", _test)
    event.listen(engine.sync_engine, "checkin", _note)
    return engine


def _note(_: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
    record.info["used"] = time.monotonic()


def _test(connection: DBAPIConnection, record: ConnectionPoolEntry, _: PoolProxiedConnection) -> None:
    """Called by the pool as a connection is taken; in place of its own ``pool_pre_ping``, which asks each time, in three
    round trips of which SQLAlchemy needs two for a proxy (PgBouncer).

    Raises:
        InvalidatePoolError: the connection has ended or does not answer; the pool opens another in its place, and in that of
            all older ones, which the same thing may have befallen.
    """
    driver = record.driver_connection
    if driver is not None and not driver.is_closed():
        used = record.info.get("used")
        if used is None or time.monotonic() - used < _IDLE_S:
            return
        try:
            connection.ping()
            return
        except (EmulatedDBAPIException, OSError, TimeoutError) as error:
            raise InvalidatePoolError("a connection to the database does not answer") from error
    raise InvalidatePoolError("a connection to the database has ended")


_READING: WeakKeyDictionary[AsyncEngine, AsyncEngine] = WeakKeyDictionary()


def reading(engine: AsyncEngine) -> AsyncConnection:
    """A connection for single statements: each is its own transaction, which saves two round trips."""
    if engine not in _READING:  # making it costs time, too
        _READING[engine] = engine.execution_options(isolation_level="AUTOCOMMIT")
    return _READING[engine].connect()


async def ping(engine: AsyncEngine) -> None:
    """One round trip.

    Raises:
        Unavailable: the server does not answer.
    """
    try:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
    except (OSError, TimeoutError, DBAPIError) as error:
        raise Unavailable("the database does not answer") from error


def storage_full(error: BaseException | None) -> StorageFull | None:
    """What an error of the database means where its disk is full (SQLSTATE 53100), None where it means something else."""
    while error is not None:
        # The code itself: an error that has come from another process has lost its cause.
        if _DISK_FULL in (getattr(error, "sqlstate", None), getattr(getattr(error, "orig", None), "sqlstate", None)):
            return StorageFull("the disk of the database is full")
        error = error.__cause__
    return None
