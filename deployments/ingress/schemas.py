"""What clients send and what they are shown. The six documented shapes carry exactly the documented fields."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import Path
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from storage.job_tables import JobStatus
from storage.tables import Relation, Status

MAX_ID = 2**63 - 1
MODEL_NAME = r"^[A-Za-z0-9._-]{1,128}$"


def _shown(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(microsecond=0).isoformat()


def _as_id(value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 19:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_ID:
        raise ValueError("must be an image id, 1 to 2^63 - 1, as a number or a string of digits")
    return value


Moment = Annotated[
    datetime,
    PlainSerializer(_shown, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2024-11-01T10:00:00+00:00"]}),
]
"""Shown in UTC to the second, with an offset, as the document has it."""

ImageId = Annotated[int, Path(ge=1, le=MAX_ID, description="id of an image", examples=[1])]
JobId = Annotated[int, Path(ge=1, le=MAX_ID, description="id of a job", examples=[1])]
ModelNamePath = Annotated[str, Path(pattern=MODEL_NAME, description="name of a queue", examples=["copies"])]
SentId = Annotated[
    int,
    BeforeValidator(_as_id),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": MAX_ID},
                {"type": "string", "pattern": "^[0-9]{1,19}$"},
            ]
        }
    ),
]


class Shown(BaseModel):
    """What clients are shown."""

    model_config = ConfigDict(populate_by_name=True)


class Sent(BaseModel):
    """What clients send: an unknown field is refused."""

    model_config = ConfigDict(extra="forbid")


class ListedImage(Shown):
    """One of ``GET /image/all``."""

    id: int
    name: str
    s3_path: str


class ImageInfo(Shown):
    """``GET /image/{image_id}``."""

    id: int
    name: str
    status: Status
    created_at: Moment
    uploaded_at: Moment
    s3_path: str


class UploadedImage(Shown):
    """``POST /image``: the answer to the upload itself, the same for a repeat."""

    id: int
    name: str
    status: Literal[Status.UPLOADED] = Status.UPLOADED
    created_at: Moment


class PolledImage(Shown):
    """``GET /image/poll/{model_name}`` with work; the callback address carries the token of the claim."""

    id: int
    s3_path: str
    img_callback_url: str


class NothingNew(Shown):
    """``GET /image/poll/{model_name}`` without."""

    detail: str


class ProcessedImage(Shown):
    """``GET /image/{image_id}/processed``: strings, as documented; ``result`` best first."""

    img_url: str
    return_: Literal["true", "false"] = Field(alias="return", description="whether related images were found")
    id: str
    result: list[str]


class DeliveredResult(Sent):
    """``POST /image/{image_id}/processed``: what an outside worker found. Only ``result`` is needed."""

    result: list[SentId] = Field(max_length=10_000, description="ids of related images")
    id: SentId | None = Field(None, description="must be the id in the address")
    img_url: str | None = None
    return_: Literal["true", "false"] | bool | None = Field(None, alias="return")


class ReturnedImage(Shown):
    """One of ``GET /image/{image_id}/return_images``."""

    id: int
    file_link: str


class Match(Shown):
    """A related image and why it is held to be related."""

    id: int
    name: str
    s3_path: str
    kind: Relation = Field(description="exact: same bytes; copy: the same picture edited; semantic: the same subject")
    method: str = Field(description="what weighed most: sha256, pdq, descriptor, shape, geometry, semantic or external")
    score: float = Field(description="0 to 1; confidence of the cascade, 1 is the same")
    threshold: float = Field(description="the score that a match had to reach, on the same scale")
    evidence: dict[str, Any] = Field(description="of each stage: distances, scores, views, regions, overlap, versions")


class StoredMatch(Match):
    """A match of a stored image."""

    created_at: Moment


class SearchAnswer(Shown):
    """``POST /search``: matches, best first."""

    model_name: str
    matches: list[Match]


class BoxInPixels(Shown):
    """Corners in pixels of the picture as displayed; the origin is the upper left."""

    x0: float
    y0: float
    x1: float
    y1: float


class Detected(Shown):
    """One person or object."""

    label: str
    score: float
    box: BoxInPixels
    model: str = Field(description="name@version of the detector")


class CalibrationShown(Shown):
    """A threshold that was measured on the user's own pictures by `safeguard calibrate`."""

    model_config = ConfigDict(extra="ignore")

    relation: Literal["copy", "semantic"]
    mode: Literal["active", "shadow"] = Field(description="shadow: only counted and logged, decides nothing")
    valid: bool = Field(description="false: measured with other descriptors or weights, and not used")
    threshold: float
    wanted_precision: float
    precision: float = Field(description="measured at the threshold")
    recall: float = Field(description="expected: measured at the threshold")
    pictures: int
    queries: int
    would_add: int = Field(description="links that a shadow threshold would have added so far")
    would_drop: int
    created_at: Moment


class GenerationShown(Shown):
    """A descriptor that the pictures of a model are written with."""

    descriptor: str
    state: Literal["live", "building", "previous"] = Field(
        description="live: searched and shown; building: to be live; previous: was live, and can be again"
    )
    changed_at: Moment


class Model(Shown):
    """One ``model_name`` that the platform processes by itself."""

    name: str
    description: str
    descriptor: str = Field(description="of models.yaml; where `generations` has a live one, that decides")
    generations: list[GenerationShown] = Field(description="the live one first; none before the first start")
    detector: str
    content_filter: str | None
    default: bool
    shape: str | None
    semantic: str | None = Field(description="a self-supervised or text-image model, where one is configured")
    thresholds: dict[str, float] = Field(description="of models.yaml for the live descriptor, by relation")
    calibrations: list[CalibrationShown] = Field(description="these decide where they are active and valid")


class QueueState(Shown):
    """One ``model_name`` that has been used."""

    model_name: str
    waiting: int
    processing: int
    last_polled_at: Moment | None
    known: bool = Field(description="false: only outside workers process it, or it is misspelt")


class Models(Shown):
    """``GET /models``."""

    models: list[Model]
    queues: list[QueueState]


class Liveness(Shown):
    """``GET /health/live``."""

    status: Literal["live"] = "live"


class Check(Shown):
    """One part that the service needs."""

    ok: bool
    detail: str | None = None
    tables: dict[str, Any] | None = Field(None, description="of the index: rows, version and age_s of each table")


class Readiness(Shown):
    """``GET /health/ready``."""

    status: Literal["ready"] = "ready"
    checks: dict[str, Check]


class JobShown(Shown):
    """One bulk job."""

    id: int
    kind: str
    status: JobStatus
    source: str
    model_name: str
    created_by: str
    created_at: Moment
    started_at: Moment | None
    finished_at: Moment | None
    objects: int = Field(description="in the ledger; final once it is listed")
    listed: bool
    skipped: int = Field(description="indexed before and unchanged")
    indexed: int = Field(description="vectors and rows are stored")
    done: int = Field(description="images, with their links")
    failed: int = Field(description="see /jobs/{job_id}/failures")
    pictures_per_second: float
    message: str | None


class JobFailureShown(Shown):
    """An object that no image could be made of."""

    image_id: int = Field(description="pass the last one as `after` to go on")
    path: str
    size: int
    reason: str
    at: Moment


class NewJob(Sent):
    """``POST /jobs``."""

    source: str = Field(description="s3://bucket/prefix", max_length=1100, examples=["s3://corpus/2024/"])
    model_name: str | None = Field(None, pattern=MODEL_NAME, description="default: the default model")
    cpus: int = Field(1, ge=1, le=100_000, description="that the job may use")
    gpus: int = Field(0, ge=0, le=10_000, description="that the job may use")
    reads_per_s: float | None = Field(None, gt=0, allow_inf_nan=False, description="objects read a second at most")
