"""The verdict on an image through the API: shown, explained, refused before there is one."""

import httpx
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.facts import Facts
from storage.bank_changes import change_banks
from storage.decisions import decide
from storage.objects import ObjectStore
from tests.banks import bank, member
from tests.deployments.ingress.conftest import MakeClient, Upload, is_problem
from tests.filtering import DOUBTFUL, SAFE, UNSAFE, linked, processed


async def test_the_verdict_is_shown_with_what_it_rests_on(
    client: httpx.AsyncClient, engine: AsyncEngine, objects: ObjectStore
) -> None:
    safe, doubtful, unsafe = await processed(engine, objects, [SAFE, DOUBTFUL, UNSAFE])
    shown = (await client.get(f"/image/{doubtful}/moderation")).json()
    assert isinstance(shown.pop("decision_id"), int) and isinstance(shown.pop("policy_version"), int)
    assert shown.pop("since").endswith("+00:00")
    assert shown == {
        "id": doubtful, "verdict": "review", "reason": "The content filter is not sure",
        "rule": "possibly-unsafe-content", "fired": ["possibly-unsafe-content"], "severity": 5, "decided_by": "policy",
        "by_person": False, "evidence": {"content_scores": DOUBTFUL, "matches": [], "matches_in_all": 0},
    }  # fmt: skip
    others = [(await client.get(f"/image/{one}/moderation")).json() for one in (safe, unsafe)]
    assert [(one["verdict"], one["rule"]) for one in others] == [("allow", None), ("block", "unsafe-content")]


async def test_an_explanation_has_all_of_it(
    client: httpx.AsyncClient, make_client: MakeClient, engine: AsyncEngine, objects: ObjectStore
) -> None:
    image, bad, good = await processed(engine, objects, [SAFE, SAFE, SAFE])
    await linked(engine, image, bad)
    await linked(engine, image, good)
    async with engine.begin() as connection:
        await change_banks(connection, hashes=False)
        await member(connection, await bank(connection), image_id=bad)
        await member(connection, await bank(connection, "allowed"), image_id=good)
        await decide(connection, [image], cause="look-back 3")
    shown = (await client.get(f"/image/{image}/moderation?explain=true")).json()
    assert shown["verdict"] == "allow" and shown["evidence"]["matches_in_all"] == 2
    assert {one["image_id"]: one["counts"] for one in shown["evidence"]["matches"]} == {bad: False, good: True}
    why = shown["explanation"]
    assert [one["image_id"] for one in why["waived"]] == [bad]
    assert Facts.from_dict(why["facts"]).digest() == why["facts_digest"]
    assert why["versions"] == {"content_filters": ["opennsfw@1"], "detectors": [], "descriptors": []}
    assert sorted(one["image_id"] for one in why["links"]) == sorted([bad, good])
    assert [one["evidence"]["index_versions"] for one in why["links"]] == [{"lite@2": 4}] * 2
    assert (why["policy"]["version"], len(why["policy"]["digest"])) == (shown["policy_version"], 64)
    assert [one["cause"] for one in why["history"]] == ["look-back 3", "processed"]
    assert why["history"][0]["decision_id"] == shown["decision_id"]
    decision = shown["decision_id"]
    assert why["replay"] == {
        "command": f"safeguard replay {decision}", "address": f"/api/v1/decisions/{decision}/replay",
    }  # fmt: skip
    moderator = await make_client("moderate")
    assert (await moderator.get(why["replay"]["address"].removeprefix("/api/v1"))).json()["same"] is True
    assert (why["policy_says"]["verdict"], why["policy_says"]["waived"]) == ("allow", 1)


async def test_an_image_without_a_result_has_no_verdict(client: httpx.AsyncClient, upload: Upload) -> None:
    for query in ("", "?explain=true"):
        shown = is_problem(await client.get(f"/image/{await upload()}/moderation{query}"), 409)
        assert shown["image_status"] == "UPLOADED"
        is_problem(await client.get(f"/image/{10**18}/moderation{query}"), 404)
    is_problem(await client.get("/image/1/moderation?explain=perhaps"), 422)
