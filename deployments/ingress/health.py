"""Liveness and readiness; the only addresses that need no key. Looks, changes nothing."""

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any

from fastapi import APIRouter
from sqlalchemy.ext.asyncio import AsyncEngine

from deployments.ingress.context import Platform, UsesEngine, UsesObjects, UsesPlatform
from deployments.ingress.documents import problems, shown
from deployments.ingress.problems import problem
from deployments.ingress.schemas import Check, Liveness, Readiness
from storage import database
from storage.held_up import waiting
from storage.index_measurements import measured

_log = logging.getLogger(__name__)
router = APIRouter(prefix="/health", tags=["health"])
_LIMIT_S = 5.0
"""For each check; they run side by side, so an answer comes within this time."""
_READY = {
    "status": "ready",
    "checks": {
        "database": {"ok": True},
        "objects": {"ok": True},
        "index": {
            "ok": True,
            "tables": {
                "lite0-copy@2": {
                    "rows": 180_000,
                    "search": "IVF_HNSW_SQ",
                    "unindexed_rows": 320,
                    "version": 412,
                    "age_s": 0.4,
                    "exists": True,
                    "recall_at_10": 0.992,
                    "recall_measured_at": "2024-11-01T10:00:00+00:00",
                    "recall_rows": 120_000,
                }
            },
        },
        "models": {"ok": True},
    },
}


async def _checked(name: str, call: Awaitable[Any]) -> Check:
    try:
        async with asyncio.timeout(_LIMIT_S):
            found = await call
    except Exception as error:  # any failure of a part is the answer, not an error of this address
        _log.warning("not ready: %s; cause: %s", name, type(error).__name__)
        return Check(ok=False, detail="does not answer as it should")
    return Check(
        ok=True, detail=found if isinstance(found, str) else None, tables=found if isinstance(found, dict) else None
    )


async def _index(engine: AsyncEngine, platform: Platform) -> dict[str, Any]:
    """What the readers hold, with the recall of each index as it was last measured."""
    tables = await platform.index_info()
    for name, one in (await measured(engine)).items():
        if name in tables:
            tables[name] |= {
                "recall_at_10": one.recall_at_10,
                "recall_measured_at": one.measured_at.isoformat(timespec="seconds"),
                "recall_rows": one.rows,
            }
    return tables


async def _models(engine: AsyncEngine, platform: Platform) -> str | None:
    """Networks that fail are an error; uploads that wait for a descriptor are told: searches go on."""
    await platform.check_models()
    try:
        async with asyncio.timeout(_LIMIT_S / 2):
            return "; ".join(await waiting(engine)) or None
    except Exception:  # the database has a check of its own
        return None


@router.get(
    "/live", summary="The process runs", response_model=Liveness, responses={200: shown({"status": "live"}, "")}
)
async def live() -> Liveness:
    """Says nothing of the parts: their outage is no reason to restart this process."""
    return Liveness()


@router.get(
    "/ready",
    summary="All parts answer",
    response_model=Readiness,
    response_model_exclude_none=True,
    responses={
        200: shown(_READY, "All parts answer"),
        503: {**problems(503)[503], "description": "Some do not; `checks` says which"},
    },
)
async def ready(engine: UsesEngine, objects: UsesObjects, platform: UsesPlatform) -> Any:
    """Database, object store, index readers and models."""
    calls: dict[str, Awaitable[Any]] = {
        "database": database.ping(engine),
        "objects": objects.ping(),
        "index": _index(engine, platform),
        "models": _models(engine, platform),
    }
    found = await asyncio.gather(*(_checked(name, call) for name, call in calls.items()))
    checks = dict(zip(calls, found, strict=True))
    failed = [name for name, check in checks.items() if not check.ok]
    if failed:
        members = {"checks": {name: check.model_dump(exclude_none=True) for name, check in checks.items()}}
        return problem(503, f"not ready: {', '.join(failed)}", kind="unavailable", members=members)
    return Readiness(checks=checks)
