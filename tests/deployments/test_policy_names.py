"""What a policy may name: labels, filters and types that are built in, models and queues that are used."""

from sqlalchemy.ext.asyncio import AsyncEngine

from configs.models import load_models
from configs.settings import Settings
from deployments.policy_names import names_in, names_of
from storage.queues import record_poll


async def test_names_come_from_models_and_queues(engine: AsyncEngine, servers: Settings) -> None:
    registry = load_models(servers.models_file)
    plain = names_of(registry, strict=False)
    assert plain.models is None and plain.filters == {"opennsfw@1"} and "person" in (plain.labels or ())
    assert "image/jpeg" in (plain.media_types or ())
    assert names_of(registry, strict=True).models == {"safeguard-v1"}
    await record_poll(engine, "outside")
    assert (await names_in(engine, registry, strict=False)).models >= {"safeguard-v1", "outside"}
    assert (await names_in(engine, registry, strict=True)).models == {"safeguard-v1"}
