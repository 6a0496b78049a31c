"""Brings the schema to the newest version with alembic; run by ``safeguard up``. Imports configs and storage only."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import Settings
from storage.database import database_dsn

_SCRIPTS = Path(__file__).with_name("migrations")


def alembic_config(settings: Settings) -> Config:
    """Alembic's configuration without an ini file; the address stays out of logs."""
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    config.attributes["dsn"] = database_dsn(settings)
    config.attributes["timeout_s"] = settings.database_timeout_s
    return config


def upgrade(settings: Settings, revision: str = "head") -> None:
    """Applies what is missing; two at the same moment are kept apart by a lock in the database.

    Raises:
        ConfigurationError: no database is configured.
        OSError: the database does not answer.
    """
    command.upgrade(alembic_config(settings), revision)


def downgrade(settings: Settings, revision: str) -> None:
    """Takes migrations back down to ``revision`` ("base" for an empty schema)."""
    command.downgrade(alembic_config(settings), revision)


def newest_revision() -> str:
    """The revision of the schema that this version needs."""
    head = ScriptDirectory(str(_SCRIPTS)).get_current_head()
    assert head is not None, "there are no migrations"
    return head


async def revision(engine: AsyncEngine) -> str | None:
    """The revision of the database's schema, None where there is none yet.

    Raises:
        OSError, sqlalchemy.exc.DBAPIError: the database does not answer.
    """
    async with engine.connect() as connection:
        if (await connection.execute(text("SELECT to_regclass('alembic_version')"))).scalar() is None:
            return None
        found = (await connection.execute(text("SELECT version_num FROM alembic_version"))).scalar_one_or_none()
    return None if found is None else str(found)
