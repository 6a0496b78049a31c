"""An explanation names policy, links, versions and history, and what the policy in force says now."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from storage.bank_changes import change_banks
from storage.claims import FoundObject
from storage.decisions import decide
from storage.explanations import explain
from storage.moderation import standing
from storage.objects import ObjectStore
from tests.banks import bank, member
from tests.filtering import SAFE, finish, linked, processed
from tests.storage.test_claims import stored


async def test_a_match_is_explained_with_its_link(engine: AsyncEngine, objects: ObjectStore) -> None:
    (reference,) = await processed(engine, objects, [SAFE])
    await stored(engine, objects, f"explained-{reference}")
    person = FoundObject("person", 0.9, (0.0, 0.0, 4.0, 4.0), "nanodet@1")
    image = await finish(engine, f"explained-{reference}", objects=[person])
    await linked(engine, image, reference)
    async with engine.begin() as connection:
        await change_banks(connection, hashes=False)
        await member(connection, await bank(connection), image_id=reference)
        await decide(connection, [image], cause="look-back 7")
    held = await standing(engine, image)
    why = await explain(engine, held)
    assert [(one.verdict, one.cause) for one in why.history] == [("block", "look-back 7"), ("allow", "processed")]
    assert [(one.image_id, one.relation, one.evidence) for one in why.links] == [
        (reference, "copy", {"index_versions": {"lite@2": 4}})
    ]
    assert why.detectors == ["nanodet@1"]
    async with engine.connect() as connection:
        digest = await connection.scalar(text("SELECT digest FROM policy_version WHERE active"))
    assert why.policy is not None and (why.policy.id, why.policy.digest) == (why.policy_now, digest)
    assert (why.policy_says.verdict, why.policy_says.fired) == ("block", ["known-unacceptable"])
