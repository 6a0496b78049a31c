"""What clients send and are shown of banks. Knows no route."""

from typing import Annotated, Self

from fastapi import Path
from pydantic import AwareDatetime, Field, StringConstraints

from configs.facts import BankKind
from deployments.ingress.schemas import MAX_ID, Moment, Sent, Shown
from storage import bank_rules as rules
from storage.bank_import import Imported
from storage.banks import BankState
from storage.moderation_tables import BankMember
from storage.tables import Relation

BankId = Annotated[int, Path(ge=1, le=MAX_ID, description="id of a bank", examples=[1])]
MemberId = Annotated[int, Path(ge=1, le=MAX_ID, description="id of a member of the bank", examples=[1])]
_Name = Annotated[str, StringConstraints(min_length=1, max_length=rules.NAME_LENGTH)]
_Description = Annotated[str, StringConstraints(max_length=rules.DESCRIPTION_LENGTH)]
_Note = Annotated[str, StringConstraints(max_length=rules.NOTE_LENGTH)]
_Relations = Annotated[
    list[Relation],
    Field(min_length=1, max_length=10, description="that count as a match; semantic ones only where named"),
]
_Distance = Annotated[
    int, Field(ge=0, le=rules.MOST_PDQ_DISTANCE, description="bits of 256 that a picture may differ from a PDQ hash")
]
_Score = Annotated[
    float | None, Field(ge=0.0, le=1.0, description="least score; null: the threshold that made the link")
]
_Hash = Annotated[
    str | None, StringConstraints(min_length=1, max_length=200), Field(description="64 hexadecimal digits")
]


class NewBankSent(Sent):
    """``POST /banks``."""

    name: _Name = Field(description="any language; upper and lower case count; unique")
    kind: BankKind
    description: _Description = ""
    relations: _Relations = Field(default_factory=lambda: [Relation.EXACT, Relation.COPY])
    pdq_distance: _Distance = rules.PDQ_DISTANCE
    copy_score: _Score = None
    semantic_score: _Score = None


class BankChange(Sent):
    """``PATCH /banks/{bank_id}``: what is given is changed; what is not given has no meaning."""

    name: _Name = Field(default_factory=str)
    description: _Description = Field(default_factory=str)
    enabled: bool = Field(default_factory=bool, description="true forgets disabled_until")
    disabled_until: AwareDatetime | None = Field(None, description="disables until then; null: until it is enabled")
    relations: _Relations = Field(default_factory=list)
    pdq_distance: _Distance = Field(default_factory=int)
    copy_score: _Score = None
    semantic_score: _Score = None


class NoteSent(Sent):
    """Body of ``PUT /banks/{bank_id}/images/{image_id}``; it may be left out."""

    note: _Note | None = Field(None, description="why; null: none, or the one that it has")


class MemberChange(Sent):
    """``PATCH /banks/{bank_id}/members/{member_id}``."""

    note: _Note


class HashSent(Sent):
    """A hash; one of the two at least."""

    pdq: _Hash = None
    sha256: _Hash = None
    note: _Note = ""


class HashesSent(Sent):
    """``POST /banks/{bank_id}/hashes``."""

    hashes: list[HashSent] = Field(min_length=1, max_length=1000)


class BankShown(Shown):
    """A bank."""

    id: int
    name: str
    kind: BankKind
    description: str
    enabled: bool
    disabled_until: Moment | None
    relations: list[Relation]
    pdq_distance: int
    copy_score: float | None
    semantic_score: float | None
    created_at: Moment
    created_by: str
    images: int = Field(description="members that are stored images")
    hashes: int = Field(description="members that are hashes without the picture")
    quarantined: int = Field(description="members whose matches do not count until they are released")

    @classmethod
    def of(cls, state: BankState) -> Self:
        """From the row and the counts."""
        counts = {"images": state.images, "hashes": state.hashes, "quarantined": state.quarantined}
        return cls(**state.bank.model_dump(exclude={"removed_at"}), **counts)


class ChangedBank(Shown):
    """A bank that was changed."""

    bank: BankShown
    look_back: int | None = Field(description="that looks at past images again; null: there is nothing to look at")


class LookBackBegun(Shown):
    """Something was taken out; what it did is taken back by a look-back."""

    look_back: int = Field(description="see /lookbacks/{look_back_id}")


class MemberShown(Shown):
    """A member: a stored image, or hashes."""

    id: int = Field(description="pass the last one as `after` to go on")
    image_id: int | None
    pdq: str | None
    sha256: str | None
    note: str
    source: str = Field(description="the list that it was imported from")
    added_at: Moment
    added_by: str
    quarantined_at: Moment | None
    quarantine_reason: str | None
    released_at: Moment | None

    @classmethod
    def of(cls, member: BankMember) -> Self:
        """From the row."""
        hashes = {
            "pdq": member.pdq.hex() if member.pdq else None,
            "sha256": member.sha256.hex() if member.sha256 else None,
        }
        return cls(**member.model_dump(exclude={"bank_id", "pdq", "sha256", "removed_at"}), **hashes)


class ChangedMember(Shown):
    """A member that was added or released."""

    member: MemberShown
    look_back: int | None = Field(description="that looks at past images; null: it was a member already")


class HashesAdded(Shown):
    """What became of hashes."""

    added: int
    already_there: int
    look_backs: list[int]


class BadLine(Shown):
    """A line of a list that was left out."""

    line: int
    message: str


class ImportShown(Shown):
    """What an import did."""

    added: int
    already_there: int = Field(description="in the bank before, or twice in the list")
    refused: int = Field(description="lines with mistakes, left out since keep_good was asked for")
    withdrawn: int = Field(description="lines that their author has taken back")
    errors: list[BadLine] = Field(description="the first hundred of the refused")
    look_backs: list[int]

    @classmethod
    def of(cls, done: Imported) -> Self:
        """From what the import says."""
        errors = [BadLine(line=one.line, message=one.message) for one in done.errors]
        return cls(
            added=done.added, already_there=done.already_there, refused=done.refused, withdrawn=done.withdrawn,
            errors=errors, look_backs=done.look_backs,
        )  # fmt: skip
