"""Links between images as they are found and stored. Imports nothing of ours."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection


@dataclass(frozen=True)
class Link:
    """A match found for the claimed image: the other image and the evidence (see storage.tables.ImageMatch)."""

    image_id: int
    relation: str
    method: str
    score: float
    threshold: float
    evidence: dict[str, Any]
    descriptor: str = ""


_LINK_COLUMNS = (
    "image_id bigint, other bigint, descriptor text, relation text, method text, score float8, threshold float8,"
    " evidence jsonb"
)


def links_from(source: str) -> TextClause:
    """The statement that stores links once per pair and descriptor: the surest relation, then the better score, is kept.

    Equal ones are told apart by their evidence, so the outcome does not depend on who came first. Links to images that
    were deleted meanwhile are dropped.

    Args:
        source: a SELECT of image_id, other, descriptor, relation, method, score, threshold, evidence.
    """

    def order(row: str) -> str:
        rank = f"array_position(ARRAY['exact', 'copy', 'external', 'semantic'], {row}.relation)"
        return f"({rank}, -{row}.score, ({row}.evidence - 'index_versions')::text)"

    return text(f"""
WITH link AS ({source}),
     present AS (SELECT id FROM image WHERE id IN (SELECT other FROM link) ORDER BY id FOR KEY SHARE)
INSERT INTO image_match AS held (image_a, image_b, descriptor, relation, method, score, threshold, evidence)
SELECT DISTINCT ON (least(image_id, other), greatest(image_id, other), descriptor)
       least(image_id, other), greatest(image_id, other), descriptor, relation, method, score, threshold, evidence
FROM link JOIN present ON present.id = link.other
ORDER BY least(image_id, other), greatest(image_id, other), descriptor, {order("link")}
ON CONFLICT (image_a, image_b, descriptor) DO UPDATE SET relation = excluded.relation, method = excluded.method,
    score = excluded.score, threshold = excluded.threshold, evidence = excluded.evidence
    WHERE {order("excluded")} < {order("held")}
""")


_LINKS = links_from(f"SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS l({_LINK_COLUMNS})")


async def store_links(connection: AsyncConnection, links: Sequence[tuple[int, Link]]) -> None:
    """Stores links of images, each with the id of the image that it was found for; a link to itself is left out."""
    rows = [
        {
            "image_id": image_id, "other": link.image_id, "descriptor": link.descriptor, "relation": link.relation,
            "method": link.method, "score": link.score, "threshold": link.threshold, "evidence": link.evidence,
        }
        for image_id, link in links
        if link.image_id != image_id
    ]  # fmt: skip
    if rows:
        await connection.execute(_LINKS, {"rows": json.dumps(rows)})
