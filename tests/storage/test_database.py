"""What every connection to PostgreSQL is given."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine


async def test_the_server_notices_a_client_that_is_cut_off(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        # Of a connection over TCP these are what the system holds of its socket, not what was asked for.
        names = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "tcp_user_timeout")
        idle_s, interval_s, count, unheard_ms = [
            int((await connection.execute(text(f"SHOW {name}"))).scalar_one()) for name in names
        ]
    assert idle_s + interval_s * count == 30
    assert unheard_ms == 30_000
