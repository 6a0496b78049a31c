"""What a client of Hasher-Matcher-Actioner sends and is shown, with its own names."""

from typing import Annotated

from fastapi import Path, Query
from pydantic import BaseModel, Field

from deployments.ingress.schemas import MAX_ID

_PLAIN = r"^[^\x00]*$"
Url = Annotated[str | None, Query(max_length=2000, pattern=_PLAIN, description="where the photo is; public addresses")]
ContentType = Annotated[str | None, Query(max_length=40, pattern=_PLAIN, description="`photo`")]
Types = Annotated[
    str | None, Query(max_length=100, pattern=_PLAIN, description="signal types by commas; `pdq` by default")
]
Signal = Annotated[str, Query(max_length=400, pattern=_PLAIN, description="64 hexadecimal digits")]
SignalType = Annotated[str, Query(max_length=40, pattern=_PLAIN, description="`pdq` or `sha256`")]
Banks = Annotated[
    str | None,
    Query(
        max_length=400, pattern=_PLAIN, description="only these banks, by commas; by default all but allowed pictures"
    ),
]
Seed = Annotated[
    str | None, Query(max_length=400, pattern=_PLAIN, description="taken and not used: banks match or do not")
]
Bypass = Annotated[bool, Query(description="disabled banks, too")]
IncludeDistance = Annotated[bool, Query(description="with distances")]
IncludeSignals = Annotated[bool, Query(description="with the hashes")]
BankName = Annotated[str, Path(max_length=120, pattern=_PLAIN, description="name of a bank", examples=["SCAMS"])]
ContentId = Annotated[int, Path(ge=1, le=MAX_ID, description="id of a member", examples=[7])]


class HmaMatch(BaseModel):
    """A member that a hash is near."""

    bank_content_id: int
    distance: str = Field(description="bits of 256, as text")


class HmaRawMatches(BaseModel):
    """Members that a hash is near, whether or not they count."""

    matches: list[int | HmaMatch]


class HmaBank(BaseModel):
    """A bank."""

    name: str
    matching_enabled_ratio: float = Field(description="1 in force, 0 disabled")


class HmaContent(BaseModel):
    """A member of a bank."""

    id: int
    disable_until_ts: int = Field(description="1 counts, 0 is in quarantine")
    collab_metadata: dict[str, list[str]] = Field(description="the list that it was imported from")
    original_media_uri: str | None = Field(description="the picture, where it is stored")
    bank: HmaBank
    signals: dict[str, str] | None = None


class HmaIndexStatus(BaseModel):
    """What is held for lookups."""

    present: bool
    built_to: int = Field(description="when the newest member was added, seconds since 1970; -1 without any")
    size: int = Field(description="hashes held; stored pictures are not counted")


class HmaSignalType(BaseModel):
    """A kind of hash."""

    name: str
    enabled_ratio: float


class HmaContentType(BaseModel):
    """A kind of media."""

    name: str
    enabled: bool
