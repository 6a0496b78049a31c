"""Brings the schema to the newest version with alembic; run by ``safeguard up``. Imports configs and storage only."""

from pathlib import Path

from alembic import command
from alembic.config import Config

from configs.settings import Settings
from storage.database import database_dsn


def alembic_config(settings: Settings) -> Config:
    """Alembic's configuration without an ini file; the address stays out of logs."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
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
