"""Quarantine: a member that suddenly matches far above its usual rate counts no more until a person has looked.

Counted are newly processed images, each file once, that match a member other than byte for byte: such a match cannot be a
mistake. A member goes into quarantine when it has matched, within the last window, at least ``floor`` images, and a share of all
that were processed, and many times what it usually matches in a window. Otherwise one bad reference (a blank page, the frame
of a popular template) would block half the site. Past images are counted by ``storage.lookback_watch``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from configs.settings import Settings
from storage import banks, lookbacks
from storage.audit import record
from storage.bank_changes import change_banks
from storage.bank_members import described, member_of
from storage.database import reading
from storage.errors import Conflict
from storage.lookback_tables import LookBackKind
from storage.moderation_tables import BankMember
from storage.outbox import EventType, emit

ACTOR = "quarantine"
"""Who it is on record."""
_NEW = "decision.previous IS NULL AND (decision.cause = 'processed' OR decision.cause LIKE 'job %')"
_MATCHED = f"""
WITH matched AS MATERIALIZED (
    SELECT decision.image_id, decision.at, CAST(match ->> 'member' AS bigint) AS member_id
    FROM decision CROSS JOIN LATERAL jsonb_array_elements(decision.facts -> 'matches') AS match
    WHERE {_NEW} AND decision.facts -> 'matches' <> '[]'::jsonb AND match ->> 'relation' <> 'exact'
          AND decision.at >= now() - make_interval(secs => :since_s))
"""
"""The decisions first, whatever the statistics say: members are many, matches of an hour are few."""
_SUDDEN = text(f"""
{_MATCHED}
SELECT member.id, member.bank_id, count(DISTINCT image.sha256) AS matched,
       extract(epoch FROM least(now() - member.added_at, make_interval(secs => :history_s))) AS age_s
FROM matched JOIN bank_member member ON member.id = matched.member_id JOIN bank ON bank.id = member.bank_id
     JOIN image ON image.id = matched.image_id
WHERE member.quarantined_at IS NULL AND member.removed_at IS NULL AND bank.removed_at IS NULL
      AND matched.at > greatest(member.released_at, member.added_at)
GROUP BY member.id HAVING count(DISTINCT image.sha256) >= :floor ORDER BY member.id
""")
_BEFORE = text(f"""
{_MATCHED}
SELECT matched.member_id AS id, count(DISTINCT image.sha256) AS matched
FROM matched JOIN image ON image.id = matched.image_id
WHERE matched.member_id = ANY(CAST(:ids AS bigint[])) AND matched.at < now() - make_interval(secs => :window_s)
GROUP BY matched.member_id
""")
_SEEN = text(f"SELECT count(*) FROM decision WHERE {_NEW} AND at >= now() - make_interval(secs => :window_s)")
_PUT = text("""
UPDATE bank_member AS member SET quarantined_at = now(), quarantine_reason = :reason FROM bank
WHERE member.id = :id AND member.quarantined_at IS NULL AND member.removed_at IS NULL
      AND bank.id = member.bank_id AND bank.removed_at IS NULL RETURNING member.image_id
""")
_RELEASE = text("""
UPDATE bank_member SET quarantined_at = NULL, quarantine_reason = NULL, released_at = now() WHERE id = :id
""")


@dataclass(frozen=True)
class Rule:
    """When a member is put into quarantine.

    Args:
        floor: images at least that it has matched in the window; 0 turns quarantine off.
        share: of all images processed in the window, 0 to 1.
        factor: times what it has matched in a window on average before.
        window_s, history_s: seconds; the history is before the window and holds it several times.
    """

    floor: int
    share: float
    factor: float
    window_s: float
    history_s: float

    @classmethod
    def of(cls, settings: Settings) -> "Rule":
        """As the settings have it."""
        return cls(
            settings.quarantine_floor, settings.quarantine_share, settings.quarantine_factor,
            settings.quarantine_window_s, settings.quarantine_history_s,
        )  # fmt: skip

    def is_sudden(self, matched: int, seen: int, before: int, age_s: float) -> bool:
        """Whether what was matched in the window calls for quarantine.

        Args:
            matched, seen: images of the window, by the member and in all.
            before: matched in the history before the window.
            age_s: seconds that the member has been there, at most the history.
        """
        windows = max(1.0, (age_s - self.window_s) / self.window_s)
        return matched >= max(self.floor, self.share * seen, self.factor * before / windows)


@dataclass(frozen=True)
class Suspect:
    """A member that is to be put into quarantine; the reason is for people."""

    member: int
    bank_id: int
    reason: str


async def watch(engine: AsyncEngine, rule: Rule) -> list[int]:
    """Puts into quarantine what calls for it; safe to run in several processes at once.

    Returns:
        The ids of the members that were put into quarantine by this call.
    """
    if not rule.floor:
        return []
    done = []
    for one in await _sudden(engine, rule):
        async with engine.begin() as connection:
            if await put(connection, one):
                done.append(one.member)
    return done


async def _sudden(engine: AsyncEngine, rule: Rule) -> Sequence[Suspect]:
    async with reading(engine) as connection:
        values = {"since_s": rule.window_s, "history_s": rule.history_s, "floor": rule.floor}
        rows = (await connection.execute(_SUDDEN, values)).all()
        if not rows:
            return []
        seen = int(await connection.scalar(_SEEN, {"window_s": rule.window_s}) or 0)
        asked = {"since_s": rule.history_s, "window_s": rule.window_s, "ids": [row.id for row in rows]}
        past = (await connection.execute(_BEFORE, asked)).all()
    before = {row.id: int(row.matched) for row in past}
    return [
        Suspect(
            row.id,
            row.bank_id,
            f"it matched {row.matched} of {seen} images that were processed within {rule.window_s:g} seconds, and"
            f" {before.get(row.id, 0)} before that",
        )
        for row in rows
        if rule.is_sudden(row.matched, seen, before.get(row.id, 0), float(row.age_s))
    ]


async def put(connection: AsyncConnection, one: Suspect) -> bool:
    """Puts a member into quarantine and begins the look-back that takes its effects back, in a transaction of its own.

    Returns:
        Whether it did; not where the member is in quarantine already, or gone.
    """
    await change_banks(connection, hashes=False)
    row = (await connection.execute(_PUT, {"id": one.member, "reason": one.reason})).one_or_none()
    if row is None:
        return False
    bank = await banks.held(connection, one.bank_id)
    cause = f"member {one.member} of bank {bank.name} was put into quarantine"
    look_back = await lookbacks.begin(
        connection, LookBackKind.MEMBERS, cause=cause, actor=ACTOR, bank_id=bank.id, members=(one.member, one.member)
    )
    told = {
        "bank_id": bank.id, "bank": bank.name, "members": 1, "first_member": one.member, "last_member": one.member,
        "reason": one.reason, "look_back": look_back,
    }  # fmt: skip
    await emit(connection, EventType.MEMBER_QUARANTINED, row.image_id, told)
    detail = {"member": one.member, "reason": one.reason, "look_back": look_back}
    await record(connection, ACTOR, "bank.member_quarantine", f"bank/{bank.id}", detail)
    return True


async def release(engine: AsyncEngine, bank_id: int, member_id: int, *, actor: str) -> tuple[BankMember, int]:
    """Lets a member count again; what it has matched so far is no reason for quarantine any more.

    Returns:
        The member, and the id of the look-back that puts its matches in force.
    Raises:
        NotFound: there is no such member.
        Conflict: it is not in quarantine.
    """
    async with engine.begin() as connection:
        await change_banks(connection, hashes=False)
        bank = await banks.held(connection, bank_id)
        member = await member_of(connection, bank_id, member_id)
        if member.quarantined_at is None:
            raise Conflict(f"member {member_id} of bank {bank_id} is not in quarantine")
        await connection.execute(_RELEASE, {"id": member_id})
        cause = f"member {member_id} of bank {bank.name} was released from quarantine"
        look_back = await lookbacks.begin(
            connection, LookBackKind.MEMBERS, cause=cause, actor=actor, bank_id=bank_id, members=(member_id, member_id)
        )
        detail = {
            "member": member_id, **described(member), "reason": member.quarantine_reason, "look_back": look_back,
        }  # fmt: skip
        released = await member_of(connection, bank_id, member_id)
        await record(connection, actor, "bank.member_release", f"bank/{bank_id}", detail)
    return released, look_back
