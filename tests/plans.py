"""What PostgreSQL says of how it runs a statement."""

from typing import Any


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """All nodes of the plan that EXPLAIN (FORMAT JSON) gives."""
    return [plan, *(one for inner in plan.get("Plans", []) for one in nodes(inner))]
