"""Replays: what was decided comes out again, also under a policy that is not active any more; what was changed is seen."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.facts import Facts
from configs.policy_references import Known
from configs.settings import Settings
from storage import replays
from storage.database import create_engine
from storage.decisions import decide, store
from storage.errors import NotFound
from storage.policy_changes import apply, ensure_active
from storage.replays import Difference, Replay, latest_of, replay, replay_all
from tests.storage.policy_rows import add_bank, add_images

OTHER = "rules:\n  - {name: r, action: review, severity: 2, reason: other, when: {unsafe: {min_score: 0.95}}}\n"


@pytest_asyncio.fixture
async def engine(alone: Settings) -> AsyncIterator[AsyncEngine]:
    """A database with the shipped policy and no decision."""
    made = create_engine(alone, pool_size=2)
    async with made.begin() as connection:
        await connection.execute(text("TRUNCATE image, bank, decision, policy_version CASCADE"))
    await ensure_active(made, actor="tests")
    yield made
    await made.dispose()


async def change(engine: AsyncEngine, statement: str, **values: Any) -> None:
    async with engine.begin() as connection:
        await connection.execute(text(statement), values)


async def everything(engine: AsyncEngine) -> list[Replay]:
    return [one async for one in replay_all(engine)]


async def test_the_same_comes_out_after_policies_and_images_have_changed(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replays, "_PAGE", 2)
    bank = await add_bank(engine, 'Наши "мемы"')
    scores = [0.123456789, 0.5, 0.9, 0.333333333, 1.0]
    ids = await add_images(engine, scores, decided=False)
    for image in ids[:2]:
        await change(
            engine, "INSERT INTO bank_member (bank_id, image_id, added_by) VALUES (:b, :i, 't')", b=bank, i=image
        )
    ids += await add_images(engine, [0.2])
    async with engine.begin() as connection:
        await decide(connection, ids, cause="test")
    await apply(engine, OTHER, Known(), actor="anna")
    await change(engine, "TRUNCATE bank CASCADE")
    await change(engine, "DELETE FROM image")
    found = await everything(engine)
    assert [one.image_id for one in found] == [ids[5], *ids[:5]]
    assert all(one.same for one in found), found
    assert [one.verdict for one in found] == ["allow", "block", "block", "block", "allow", "block"]
    assert (await replay(engine, found[1].decision_id)) == found[1]
    assert await latest_of(engine, ids[0]) == found[1].decision_id
    assert [one.decision_id for one in found[2:]] == [
        one.decision_id async for one in replay_all(engine, after=found[1].decision_id)
    ]


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("UPDATE decision SET verdict = 'allow'", ["verdict"]),
        ("UPDATE decision SET reason = 'x', severity = 1", ["reason", "severity"]),
        ("UPDATE decision SET rule = 'x', fired = '{}'", ["rule", "fired"]),
        ("UPDATE decision SET engine = 0", ["engine"]),
        ("UPDATE decision SET facts_digest = 'x'", ["facts"]),
        ("UPDATE decision SET facts = jsonb_set(facts, '{width}', '1')", ["facts"]),
        ("UPDATE decision SET facts = jsonb_set(facts, '{unknown}', '1')", ["facts"]),
        ("UPDATE decision SET facts = facts - 'matches'", ["facts"]),
        ("UPDATE policy_version SET source = 'rules: []'", ["policy"]),
        ("UPDATE policy_version SET source = 'rulez', digest = encode(sha256('rulez'), 'hex')", ["policy"]),
        ("TRUNCATE policy_version", ["policy"]),
    ],
)
async def test_what_was_changed_is_seen(engine: AsyncEngine, statement: str, what: list[str]) -> None:
    await add_images(engine, [0.95])
    await change(engine, statement)
    (found,) = await everything(engine)
    assert [one.what for one in found.differences] == what


async def test_a_difference_has_both_sides(engine: AsyncEngine) -> None:
    (image,) = await add_images(engine, [0.95])
    await change(engine, "UPDATE decision SET verdict = 'allow'")
    found = await replay(engine, await latest_of(engine, image))
    assert found.differences == [Difference("verdict", "allow", "block")] and not found.same


async def test_a_person_s_decision_is_not_judged_but_its_facts_are_checked(engine: AsyncEngine) -> None:
    (image,) = await add_images(engine, [0.95])
    facts = Facts(image, "safeguard-v1", "image/png", 1000, 640, 480)
    row = {
        "image_id": image, "verdict": "allow", "previous": "block", "actor": "anna", "cause": "review", "rule": None,
        "reason": "a statue", "severity": 0, "fired": [], "policy_id": None, "engine": 1, "facts": facts.as_dict(),
        "facts_digest": facts.digest(),
    }  # fmt: skip
    async with engine.begin() as connection:
        await store(connection, [row])
    found = await replay(engine, await latest_of(engine, image))
    assert (found.actor, found.policy_id, found.verdict, found.same) == ("anna", None, "allow", True)
    await change(engine, "UPDATE decision SET facts = jsonb_set(facts, '{width}', '1') WHERE policy_id IS NULL")
    assert [one.what for one in (await replay(engine, found.decision_id)).differences] == ["facts"]


async def test_what_is_not_there(engine: AsyncEngine) -> None:
    with pytest.raises(NotFound, match="no decision 9223372036854775807"):
        await replay(engine, 2**63 - 1)
    with pytest.raises(NotFound, match="no decision on an image 7"):
        await latest_of(engine, 7)
    assert await everything(engine) == []
