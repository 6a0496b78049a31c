"""What clients send and are shown of look-backs. Knows no route."""

from typing import Annotated

from fastapi import Path
from pydantic import Field, StringConstraints

from deployments.ingress.schemas import MAX_ID, Moment, Sent, Shown
from storage.lookback_progress import per_second, share_done
from storage.lookback_tables import LookBack, LookBackKind, LookBackState

LookBackId = Annotated[int, Path(ge=1, le=MAX_ID, description="id of a look-back", examples=[1])]
_Reason = Annotated[str, StringConstraints(min_length=1, max_length=400, pattern=r"^[^\x00]*$")]


class NewLookBack(Sent):
    """``POST /lookbacks``."""

    bank_id: int | None = Field(
        None, ge=1, le=MAX_ID, description="search for all of its members again; without, all images are judged anew"
    )
    reason: _Reason = Field(description="for people")


class LookBackShown(Shown):
    """One look-back."""

    id: int
    kind: LookBackKind = Field(
        description="members: some members of a bank, added or removed; bank: all of them; judge: all images"
    )
    state: LookBackState = Field(description="waiting: to be worked on, or worked on now; dead: given up, see failure")
    bank_id: int | None
    cause: str
    created_by: str
    created_at: Moment
    worked_at: Moment | None = Field(description="when a replica took it up last")
    finished_at: Moment | None
    progress: float = Field(description="0 to 1")
    members: int | None = Field(description="to search for; unknown before it is taken up")
    members_done: int
    skipped: int = Field(description="members that could not be searched for")
    skips: list[str] = Field(description="why, the first few")
    images_done: int = Field(description="images judged anew")
    verdicts_changed: int
    images_per_second: float = Field(description="judged anew, in the time that it was worked on")
    failure: str | None

    @classmethod
    def of(cls, row: LookBack) -> "LookBackShown":
        """A row as it is shown."""
        counted = {"progress": round(share_done(row), 4), "images_per_second": round(per_second(row), 2)}
        names = cls.model_fields.keys() - counted.keys()
        return cls(**row.model_dump(include=set(names)), **counted)
