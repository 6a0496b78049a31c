"""Decisions of people: they beat every policy until they are reversed, on one image or a whole cluster. Below deployments."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from configs.facts import Facts
from configs.policies import ENGINE, Verdict
from storage.audit import record_many
from storage.bank_changes import hold_banks
from storage.clusters import reach, with_states
from storage.decisions import PROCESSED, decide, store
from storage.errors import Conflict, InvalidInput
from storage.facts import facts_of
from storage.moderation import refuse_unprocessed, stale_lease

LONGEST_REASON = 1000
_LEAST_SEVERITY = 5
"""Of what a person sends to review or blocks without saying how grave it is: that of a rule that does not say it."""


@dataclass(frozen=True)
class Ruling:
    """What a person decides.

    Args:
        actor: name of the person's key.
        reason: for whoever asks later; not blank, at most ``LONGEST_REASON`` characters.
        severity: 0 to 10; None: 0 for allow, otherwise that before, at least 5.
        cause: what it is made for.
    """

    verdict: Verdict
    reason: str
    actor: str
    severity: int | None = None
    cause: str = "moderator"


_STATES = text("""
SELECT held.image_id, held.verdict, held.severity, held.human_id, held.reviewer, held.review_token, by.actor, by.reason
FROM moderation held JOIN decision by ON by.id = held.decision_id
WHERE held.image_id = ANY(CAST(:ids AS bigint[])) ORDER BY held.image_id FOR UPDATE OF held
""")
_REVERSE = text("UPDATE moderation SET human_id = NULL WHERE image_id = ANY(CAST(:ids AS bigint[]))")


def check_text(value: str, field: str, most: int) -> str:
    """A text as it was given.

    Raises:
        InvalidInput: it is blank, longer than ``most``, or holds what the database cannot.
    """
    if not value.strip():
        raise InvalidInput(f"a {field} is required", field)
    if len(value) > most:
        raise InvalidInput(f"the {field} has {len(value)} characters; {most} are allowed", field)
    if "\0" in value or any("\ud800" <= one <= "\udfff" for one in value):
        raise InvalidInput(f"the {field} must not hold U+0000 or half a surrogate pair", field)
    return value


async def rule(
    engine: AsyncEngine, image_id: int, ruling: Ruling, *, cluster: str | None = None, lease: UUID | None = None
) -> list[int]:
    """Stores a person's decision on a processed image, or on all of its cluster, in one transaction.

    The same decision of the same person again changes nothing.

    Args:
        cluster: digest of the cluster as the person saw it; None decides on the image alone.
        lease: token of the reviewer's lease, which must still be the image's; it ends with the decision.
    Returns:
        Ids of the images that were decided on, this one first.
    Raises:
        NotFound: there is no such image.
        Conflict: it is not PROCESSED, or the cluster has changed; nothing was stored.
        StaleClaim: the lease is not, or no longer, the caller's; nothing was stored.
        InvalidInput: reason or severity are not of the form.
    """
    check_text(ruling.reason, "reason", LONGEST_REASON)
    if ruling.severity is not None and not 0 <= ruling.severity <= 10:
        raise InvalidInput(f"a severity is 0 to 10, not {ruling.severity}", "severity")
    async with engine.begin() as connection:
        ids, held = await _held(connection, image_id, cluster, (lease, ruling.actor) if lease else None)
        facts = await facts_of(connection, ids)
        cause = f"cluster of image {image_id}" if cluster is not None else ruling.cause
        fresh = [one for one in ids if not _repeats(held.get(one), ruling)]
        rows = [_row(facts[one], ruling, cause, held.get(one)) for one in sorted(fresh)]
        await store(connection, rows)
    return ids


async def reverse(
    engine: AsyncEngine, image_id: int, reason: str, *, actor: str, cluster: str | None = None
) -> list[int]:
    """Takes a person's decision back, or all of those in a cluster: the policy decides again.

    Args:
        reason: for the audit, as in ``Ruling``.
        cluster: see ``rule``.
    Returns:
        Ids of the images whose decision was taken back.
    Raises:
        NotFound: there is no such image.
        Conflict: no person has decided on it (or on any of its cluster), it is not PROCESSED, or the cluster has changed.
        InvalidInput: the reason is not of the form.
    """
    check_text(reason, "reason", LONGEST_REASON)
    async with engine.begin() as connection:
        ids, held = await _held(connection, image_id, cluster)
        by_person = [one for one in ids if one in held and held[one].human_id is not None]
        if not by_person:
            where = f"image {image_id}" if cluster is None else f"the cluster of image {image_id}"
            raise Conflict(f"no person has decided on {where}; there is nothing to reverse")
        await connection.execute(_REVERSE, {"ids": by_person})
        await decide(connection, by_person, cause="reversal")
        detail = {one: {"decision": held[one].human_id, "by": held[one].actor, "reason": reason} for one in by_person}
        await record_many(connection, actor, [("image.reverse", f"image/{one}", detail[one]) for one in by_person])
    return by_person


async def _held(
    connection: AsyncConnection, image_id: int, cluster: str | None, lease: tuple[UUID, str] | None = None
) -> tuple[list[int], dict[int, Row[Any]]]:
    """Locks what is to be decided on: its ids, the image asked for first, and the states of those that have one."""
    await hold_banks(connection, None)
    await refuse_unprocessed(connection, image_id)
    reached = await reach(connection, image_id) if cluster is not None else None
    wanted = list(reached.steps) if reached is not None else [image_id]
    ids = list((await connection.execute(PROCESSED, {"ids": wanted})).scalars())
    held = {row.image_id: row for row in (await connection.execute(_STATES, {"ids": ids})).all()}
    await refuse_unprocessed(connection, image_id)
    if lease is not None:
        _check_lease(image_id, held.get(image_id), lease)
    if reached is not None:
        found = await with_states(connection, reached)
        if found.digest != cluster:
            raise Conflict(
                f"the cluster of image {image_id} is not what it was when it was looked at; nothing was changed:"
                " look at it again"
            )
    present = set(ids)
    return [one for one in wanted if one in present], held


def _check_lease(image_id: int, held: Row[Any] | None, lease: tuple[UUID, str]) -> None:
    if held is not None and held.verdict == Verdict.REVIEW and (held.review_token, held.reviewer) == lease:
        return
    raise stale_lease(image_id, held and held.verdict, held and held.actor)


def _repeats(held: Row[Any] | None, ruling: Ruling) -> bool:
    return (
        held is not None
        and held.human_id is not None
        and (held.verdict, held.reason, held.actor) == (ruling.verdict, ruling.reason, ruling.actor)
        and ruling.severity in (None, held.severity)
    )


def _row(facts: Facts, ruling: Ruling, cause: str, held: Row[Any] | None) -> dict[str, Any]:
    severity = ruling.severity
    if severity is None:
        severity = 0 if ruling.verdict == Verdict.ALLOW else max(held.severity if held else 0, _LEAST_SEVERITY)
    return {
        "image_id": facts.image_id, "verdict": ruling.verdict, "previous": held.verdict if held else None,
        "actor": ruling.actor, "cause": cause, "rule": None, "reason": ruling.reason, "severity": severity, "fired": [],
        "policy_id": None, "engine": ENGINE, "facts": facts.as_dict(), "facts_digest": facts.digest(),
    }  # fmt: skip
