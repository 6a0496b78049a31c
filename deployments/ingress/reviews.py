"""The queue of reviewers: one image at a time under a lease, decided, given back, and what waits."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request
from pydantic import Field

from configs.policies import Verdict
from deployments.ingress.access import Scope
from deployments.ingress.body import read_json
from deployments.ingress.context import UsesEngine, UsesSettings
from deployments.ingress.documents import problems, sent, shown
from deployments.ingress.moderation import DECIDED, MODERATION, previews
from deployments.ingress.moderation_schemas import Moderation, OfCluster, Reason, moderation_of
from deployments.ingress.schemas import MAX_ID, ImageId, Moment, Sent, Shown
from storage import human_decisions, reviews
from storage.errors import InvalidInput, NotFound
from storage.keys import Principal
from storage.moderation import standing

router = APIRouter(tags=["review"])
_Moderator = Annotated[Principal, Scope("moderate")]
_TOKEN = "5f0c0d0e-6d1f-4c57-9a53-2b6f6c9d2b11"
_LEASE = {"image_id": 1, "token": _TOKEN, "expires_at": "2024-11-01T10:15:02+00:00"}
_TASK = {
    **_LEASE,
    "preview": "/api/v1/image/1/file?preview=blurred",
    "cluster": "/api/v1/image/1/cluster",
    "moderation": {**MODERATION, "verdict": "review", "rule": "like-unacceptable", "severity": 6},
}
_QUEUE = {
    "waiting": 1,
    "leased": 1,
    "oldest": "2024-11-01T10:05:02+00:00",
    "groups": [
        {
            "severity": 6,
            "rule": "like-unacceptable",
            "waiting": 1,
            "leased": 1,
            "oldest": "2024-11-01T10:05:02+00:00",
        }
    ],
    "images": [
        {
            "id": 1,
            "name": "image1.jpg",
            "severity": 6,
            "rule": "like-unacceptable",
            "reason": "Resembles a picture in a bank of unacceptable ones",
            "since": "2024-11-01T10:05:02+00:00",
            "reviewer": "anna",
            "until": "2024-11-01T10:15:02+00:00",
            "preview": "/api/v1/image/1/file?preview=blurred",
        }
    ],
    "next": "6-1",
}


class LeaseShown(Shown):
    """The right to decide on an image until it is given to another reviewer."""

    image_id: int
    token: UUID = Field(description="to be sent with the decision")
    expires_at: Moment = Field(description="from then on another reviewer may get the image; `renew` in time")


class ReviewTask(LeaseShown):
    """``POST /review/next`` with an image."""

    preview: str = Field(
        description="address of a small blurred rendition; /image/{id}/file?clear=true is the clear picture"
    )
    cluster: str = Field(description="address of what a decision on all copies would touch")
    moderation: Moderation


class NothingWaits(Shown):
    """``POST /review/next`` without."""

    detail: str


class GroupShown(Shown):
    """Images that one rule put into the queue; ``rule`` is null where a person did, or the policy's default."""

    severity: int
    rule: str | None
    waiting: int = Field(description="with those that are with a reviewer")
    leased: int = Field(description="of them are with a reviewer")
    oldest: Moment


class WaitingShown(Shown):
    """One image of the queue."""

    id: int
    name: str
    severity: int
    rule: str | None
    reason: str
    since: Moment
    reviewer: str | None = Field(description="who has it now")
    until: Moment | None
    preview: str


class QueueShown(Shown):
    """``GET /review``."""

    waiting: int
    leased: int
    oldest: Moment | None
    groups: list[GroupShown] = Field(description="the gravest first")
    images: list[WaitingShown] = Field(description="in the order in which they are given out")
    next: str | None = Field(description="to be sent as `after` for the next page; null on the last one")


class _Held(Sent):
    token: UUID


class ReviewDecision(OfCluster):
    """``POST /review/{image_id}/decide``."""

    token: UUID
    verdict: Literal["allow", "block"]
    reason: Reason


_SENT = sent(_Held, {"token": _TOKEN})


def _place(after: str | None) -> tuple[int, int] | None:
    if after is None:
        return None
    severity, _, image_id = after.partition("-")
    if int(image_id) > MAX_ID:
        raise InvalidInput("must be the `next` of the page before", "after")
    return int(severity), int(image_id)


@router.get(
    "/review",
    summary="What waits for a person",
    response_model=QueueShown,
    responses={200: shown(_QUEUE, "Counts, and a page of the queue"), **problems()},
)
async def queue(
    request: Request,
    _: _Moderator,
    engine: UsesEngine,
    limit: Annotated[int, Query(ge=1, le=1000, description="images of the page")] = 100,
    after: Annotated[
        str | None, Query(pattern=r"^([0-9]|10)-[0-9]{1,19}$", description="the `next` of the page before")
    ] = None,
) -> QueueShown:
    """All images in `review`, the gravest first, then by id; whoever has one now is named."""
    place, preview = _place(after), previews(request)
    groups = await reviews.groups(engine)
    page = await reviews.listing(engine, after=place, limit=limit + 1)
    images = page[:limit]
    return QueueShown(
        waiting=sum(one.waiting for one in groups),
        leased=sum(one.leased for one in groups),
        oldest=min((one.oldest for one in groups), default=None),
        groups=[GroupShown(**vars(one)) for one in groups],
        images=[
            WaitingShown(
                id=one.image_id, name=one.name, severity=one.severity, rule=one.rule, reason=one.reason,
                since=one.since, reviewer=one.reviewer, until=one.until, preview=preview(one.image_id),
            )
            for one in images
        ],
        next=f"{images[-1].severity}-{images[-1].image_id}" if len(page) > limit else None,
    )  # fmt: skip


@router.post(
    "/review/next",
    summary="The next image to look at",
    response_model=ReviewTask | NothingWaits,
    response_model_exclude_unset=True,
    responses={
        200: {
            "description": "The gravest image that waits, under a lease; or that none does.",
            "content": {
                "application/json": {
                    "examples": {
                        "image": {"value": _TASK},
                        "none": {"value": {"detail": "no image waits for a review"}},
                    }
                }
            },
        },
        **problems(),
    },
)
async def take(
    request: Request, caller: _Moderator, engine: UsesEngine, settings: UsesSettings
) -> ReviewTask | NothingWaits:
    """Nobody else gets it while the lease lasts; whoever asks again before deciding gets the same one. A reviewer is a key:
    give each person one."""
    while (lease := await reviews.take(engine, caller.name, lease_s=settings.review_lease_s)) is not None:
        try:
            held = await standing(engine, lease.image_id)
        except NotFound:
            continue  # deleted since
        if held.decision.verdict == Verdict.REVIEW:
            return ReviewTask(
                image_id=lease.image_id, token=lease.token, expires_at=lease.until,
                preview=previews(request)(lease.image_id),
                cluster=request.url_for("cluster", image_id=lease.image_id).path, moderation=moderation_of(held),
            )  # fmt: skip
    return NothingWaits(detail="no image waits for a review")


@router.post(
    "/review/{image_id}/renew",
    summary="Keep an image longer",
    response_model=LeaseShown,
    responses={200: shown(_LEASE, "The lease with its new end"), **problems(404, 409)},
    openapi_extra=_SENT,
)
async def renew(
    request: Request, image_id: ImageId, caller: _Moderator, engine: UsesEngine, settings: UsesSettings
) -> LeaseShown:
    """Possible as long as nobody else was given the image, also after its end."""
    wanted = await read_json(request, _Held)
    lease = await reviews.renew(
        engine, image_id, wanted.token, reviewer=caller.name, lease_s=settings.review_lease_s
    )  # fmt: skip
    return LeaseShown(image_id=lease.image_id, token=lease.token, expires_at=lease.until)


@router.post(
    "/review/{image_id}/release",
    summary="Give an image back undecided",
    status_code=204,
    responses={204: {"description": "It waits for others; its reviewer gets it last."}, **problems(404, 409)},
    openapi_extra=_SENT,
)
async def release(
    request: Request, image_id: ImageId, caller: _Moderator, engine: UsesEngine, settings: UsesSettings
) -> None:
    """For one that somebody else should look at."""
    wanted = await read_json(request, _Held)
    await reviews.release(engine, image_id, wanted.token, reviewer=caller.name, rest_s=settings.review_lease_s)


@router.post(
    "/review/{image_id}/decide",
    summary="Decide on an image of the queue",
    response_model=Moderation,
    response_model_exclude_unset=True,
    responses={200: shown(DECIDED, "What holds now"), **problems(404, 409)},
    openapi_extra=sent(ReviewDecision, {"token": _TOKEN, "verdict": "allow", "reason": "news report"}),
)
async def decide(request: Request, image_id: ImageId, caller: _Moderator, engine: UsesEngine) -> Moderation:
    """Like `PUT /image/{image_id}/moderation`, with the lease: 409 if the image has been given to another reviewer or is
    in `review` no more. With `cluster` for all copies of it."""
    wanted = await read_json(request, ReviewDecision)
    ruling = human_decisions.Ruling(Verdict(wanted.verdict), wanted.reason, caller.name, cause="review")
    decided = await human_decisions.rule(engine, image_id, ruling, cluster=wanted.digest, lease=wanted.token)
    return moderation_of(await standing(engine, image_id), decided=decided)
