"""Trials of a policy: counts of what would change, by rule, with examples; nothing is written, people's decisions stand."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.facts import Facts
from configs.policies import Policy
from configs.policy_source import parse_policy
from configs.settings import Settings
from storage import policy_trials
from storage.database import create_engine
from storage.decisions import store
from storage.policy_trials import Trial, trial
from tests.storage.policy_rows import add_images

POLICY = parse_policy(
    "rules:\n"
    "  - {name: strict, action: block, reason: why, when: {unsafe: {min_score: 0.3}}}\n"
    "  - {name: wide, action: review, reason: size, when: {file: {min_width: 640}}}\n"
)
TABLES = ("decision", "moderation", "event", "audit", "look_back", "policy_version")


@pytest_asyncio.fixture
async def engine(alone: Settings) -> AsyncIterator[AsyncEngine]:
    made = create_engine(alone, pool_size=2)
    async with made.begin() as connection:
        await connection.execute(text("TRUNCATE image CASCADE"))
    yield made
    await made.dispose()


async def counts(engine: AsyncEngine) -> list[Any]:
    async with engine.connect() as connection:
        return [await connection.scalar(text(f"SELECT count(*) FROM {table}")) for table in TABLES]


async def test_what_would_change(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_trials, "_PAGE", 3)
    ids = await add_images(engine, [0.95, 0.6, 0.6, 0.1, 0.1])  # block, review, review, allow, allow
    (new,) = await add_images(engine, [0.4], decided=False)
    before = await counts(engine)
    steps: list[int] = []
    found = await trial(engine, POLICY, last=100, seen=lambda one: steps.append(one.images))
    assert steps == [3, 6]
    assert dict(found.verdicts) == {
        ("block", "block"): 1, ("review", "block"): 2, ("allow", "review"): 2, (None, "block"): 1,
    }  # fmt: skip
    assert (found.images, found.human, found.changed) == (6, 0, 5)
    assert dict(found.decided) == {"strict": 4, "wide": 2} and dict(found.fired) == {"strict": 4, "wide": 6}
    assert [one.image_id for one in found.examples] == [new, *reversed(ids[1:])]
    shown = next(one for one in found.examples if one.image_id == ids[1])
    assert (shown.before, shown.before_rule, shown.verdict, shown.rule, shown.reason) == (
        "review", "possibly-unsafe-content", "block", "strict", "why",
    )  # fmt: skip
    assert await counts(engine) == before


async def test_a_person_s_decision_stands(engine: AsyncEngine) -> None:
    ids = await add_images(engine, [0.1, 0.1])
    facts = Facts(ids[0], "safeguard-v1", "image/png", 1000, 640, 480)
    row = {
        "image_id": ids[0], "verdict": "allow", "previous": "allow", "actor": "anna", "cause": "review", "rule": None,
        "reason": "seen", "severity": 0, "fired": [], "policy_id": None, "engine": 1, "facts": facts.as_dict(),
        "facts_digest": facts.digest(),
    }  # fmt: skip
    async with engine.begin() as connection:
        await store(connection, [row])
    found = await trial(engine, POLICY, last=100)
    assert (found.images, found.human) == (1, 1)


async def test_the_last_ones_and_those_since(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_trials, "_PAGE", 2)
    ids = await add_images(engine, [0.5] * 7)
    assert (await trial(engine, POLICY, last=3)).images == 3
    async with engine.begin() as connection:
        for number, image in enumerate(ids):
            await connection.execute(
                text("UPDATE image SET created_at = :at WHERE id = :id"),
                {"at": datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=number), "id": image},
            )
    found = await trial(engine, POLICY, last=100, since=datetime(2024, 1, 3, tzinfo=UTC))
    assert found.images == 5 and min(one.image_id for one in found.examples) == ids[2]
    assert len(found.examples) == 5, "five examples of each change are enough"
    assert (await trial(engine, POLICY, last=100, since=datetime.now(UTC))).images == 0


async def test_no_image_at_all(engine: AsyncEngine) -> None:
    assert await trial(engine, Policy(), last=10) == Trial()
