"""Columns that many tables have. Imports nothing of ours."""

from typing import Any

from sqlalchemy import BigInteger, Column, DateTime, Identity, func


def number() -> Any:
    """The primary key: a number that PostgreSQL gives."""
    return Column(BigInteger, Identity(always=False), primary_key=True)


def moment(*, now: bool = False) -> Any:
    """A time with its zone, that may be missing; with ``now`` it is that of the row's beginning, and always there."""
    return Column(DateTime(timezone=True), nullable=not now, server_default=func.now() if now else None)
