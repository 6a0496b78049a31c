"""How far a look-back is, out of its row. Pure. Below the deployments."""

from storage.lookback_tables import LookBack, LookBackKind, LookBackState


def share_done(lookback: LookBack) -> float:
    """0 to 1: of the members, or of the ids of images where all are judged anew; members count by ranges of images."""
    if lookback.state == LookBackState.DONE:
        return 1.0
    cursor = lookback.cursor
    end = max(1, int(cursor.get("end", 0)))
    if lookback.kind == LookBackKind.JUDGE:
        return min(1.0, int(cursor.get("after", 0)) / end)
    batch = cursor.get("batch", {})
    searched = 0.9 if batch.get("phase") == "touch" else 0.9 * min(1.0, int(batch.get("after", 0)) / end)
    return min(1.0, (lookback.members_done + searched) / lookback.members) if lookback.members else 0.0


def per_second(lookback: LookBack) -> float:
    """Images judged anew in a second of work."""
    return lookback.images_done / lookback.worked_s if lookback.worked_s else 0.0
