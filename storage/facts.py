"""What is stored of images, put together as a policy judges it. Changes nothing. Below the deployments."""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from configs.facts import BankMatch, Facts, SeenObject

_IMAGES = text("""
SELECT id, model_name, media_type, size_bytes, width, height FROM image
WHERE id = ANY(CAST(:ids AS bigint[])) AND uploaded_at IS NOT NULL
""")
_SCORES = text(
    "SELECT image_id, model, score FROM content_score WHERE image_id = ANY(CAST(:ids AS bigint[])) ORDER BY model"
)
_OBJECTS = text("""
SELECT d.image_id, d.label, d.score,
       greatest(d.x1 - d.x0, 0) * greatest(d.y1 - d.y0, 0) / greatest(i.width::float8 * i.height, 1) AS share
FROM detection d JOIN image i ON i.id = d.image_id
WHERE d.image_id = ANY(CAST(:ids AS bigint[])) ORDER BY d.image_id, d.ordinal
""")
IN_FORCE = """(bank.enabled OR bank.disabled_until <= now()) AND bank.removed_at IS NULL
      AND member.quarantined_at IS NULL AND member.removed_at IS NULL"""
"""Of a ``bank`` and a ``member``: matches with it count."""
SHOWN = """
(link.descriptor = '' OR coalesce((
    SELECT bool_or(g.state = 'live' AND g.descriptor = link.descriptor) FROM generation g
    WHERE g.model_name IN (SELECT model_name FROM image WHERE id IN (link.image_a, link.image_b))), true))
"""
"""Of a ``link``: it is of the live descriptor of one of its images, or of none (see ``storage.images.matches``)."""
_LINKED = f"""
SELECT CASE WHEN link.image_a = member.image_id THEN link.image_b ELSE link.image_a END AS image_id,
       bank.name, bank.kind, member.id, member.image_id AS other, link.relation, link.method, link.score,
       CASE link.relation WHEN 'copy' THEN coalesce(bank.copy_score, link.threshold)
                          WHEN 'semantic' THEN coalesce(bank.semantic_score, link.threshold)
                          ELSE link.threshold END AS threshold
FROM {{links}} JOIN bank_member member ON member.image_id = link.{{theirs}} JOIN bank ON bank.id = member.bank_id
WHERE {IN_FORCE} AND link.relation = ANY(bank.relations) AND {SHOWN}
"""
_MATCHES = text(f"""
WITH asked AS (SELECT unnest(CAST(:ids AS bigint[])) AS id), found AS (
    SELECT member.image_id, bank.name, bank.kind, member.id, member.image_id AS other, 'exact' AS relation,
           'member' AS method, 1.0::float8 AS score, 1.0::float8 AS threshold
    FROM asked JOIN bank_member member ON member.image_id = asked.id JOIN bank ON bank.id = member.bank_id
    WHERE {IN_FORCE}
    UNION ALL {_LINKED.format(links="asked JOIN image_match link ON link.image_a = asked.id", theirs="image_b")}
    UNION ALL {_LINKED.format(links="asked JOIN image_match link ON link.image_b = asked.id", theirs="image_a")}
    UNION ALL
    SELECT image.id, bank.name, bank.kind, member.id, NULL, 'exact', 'sha256', 1.0, 1.0
    FROM asked JOIN image ON image.id = asked.id JOIN bank_member member ON member.sha256 = image.sha256
         JOIN bank ON bank.id = member.bank_id
    WHERE {IN_FORCE} AND 'exact' = ANY(bank.relations)
    UNION ALL
    SELECT finding.image_id, bank.name, bank.kind, member.id, NULL, 'copy', 'pdq',
           1.0 - finding.distance / 256.0, 1.0 - bank.pdq_distance / 256.0
    FROM asked JOIN hash_finding finding ON finding.image_id = asked.id
         JOIN bank_member member ON member.id = finding.member_id JOIN bank ON bank.id = member.bank_id
    WHERE {IN_FORCE} AND 'copy' = ANY(bank.relations)
)
SELECT DISTINCT ON (image_id, name, id) image_id, name, kind, id AS member, other, relation, method, score, threshold
FROM found WHERE score >= threshold
ORDER BY image_id, name, id, array_position(ARRAY['exact', 'copy', 'external', 'semantic'], relation), score DESC
""")
_RANK = {"exact": 0, "copy": 1, "external": 2, "semantic": 3}


async def facts_of(connection: AsyncConnection, image_ids: Sequence[int]) -> dict[int, Facts]:
    """The facts of images as this transaction sees them, by id; images that are gone are absent.

    A match is there once for each member, with the surest relation. Scores are rounded to five places, so that facts
    that are read again are the same.
    """
    arguments = {"ids": sorted(set(image_ids))}
    images = (await connection.execute(_IMAGES, arguments)).all()
    scores: dict[int, dict[str, float]] = {}
    for row in (await connection.execute(_SCORES, arguments)).all():
        scores.setdefault(row.image_id, {})[row.model] = round(row.score, 5)
    objects: dict[int, list[SeenObject]] = {}
    for row in (await connection.execute(_OBJECTS, arguments)).all():
        objects.setdefault(row.image_id, []).append(SeenObject(row.label, round(row.score, 5), round(row.share, 5)))
    matches: dict[int, list[BankMatch]] = {}
    for row in (await connection.execute(_MATCHES, arguments)).all():
        matches.setdefault(row.image_id, []).append(
            BankMatch(
                row.name, row.kind, row.member, row.other, row.relation, row.method, round(row.score, 5),
                round(row.threshold, 5),
            )
        )  # fmt: skip
    return {
        row.id: Facts(
            row.id, row.model_name, row.media_type, row.size_bytes, row.width, row.height, scores.get(row.id, {}),
            tuple(objects.get(row.id, [])),
            tuple(sorted(matches.get(row.id, []), key=lambda one: (_RANK[one.relation], -one.score, one.member))),
        )
        for row in images
    }  # fmt: skip
