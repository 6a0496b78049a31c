"""Bulk jobs: made, listed, paused, resumed, cancelled, tried again. Their work is done by Ray jobs, not here."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from starlette.status import HTTP_201_CREATED

from deployments.ingress.access import Scope
from deployments.ingress.body import read_json
from deployments.ingress.context import UsesEngine, UsesObjects, UsesPlatform, UsesRegistry, UsesSettings
from deployments.ingress.documents import problems, sent, shown
from deployments.ingress.schemas import MAX_ID, JobFailureShown, JobId, JobShown, NewJob
from storage import job_units, jobs
from storage.corpus import check_corpus, check_source
from storage.errors import InvalidInput
from storage.job_tables import Job, JobStatus
from storage.keys import Principal

router = APIRouter(tags=["jobs"])
_Admin = Annotated[Principal, Scope("admin")]
_JOB = {
    "id": 1,
    "kind": "backfill",
    "status": "failed",
    "source": "s3://corpus/2024/",
    "model_name": "safeguard-v1",
    "created_by": "first-key",
    "created_at": "2024-11-01T10:00:00+00:00",
    "started_at": "2024-11-01T10:00:02+00:00",
    "finished_at": "2024-11-01T10:01:00+00:00",
    "objects": 2000,
    "listed": True,
    "skipped": 0,
    "indexed": 960,
    "done": 0,
    "failed": 3,
    "pictures_per_second": 17.2,
    "message": "the object store does not answer",
}
_FAILURE = {
    "image_id": 17,
    "path": "s3://corpus/2024/film.mp4",
    "size": 1048576,
    "reason": "not an image of a kind that is read: JPEG, PNG, WEBP, GIF, BMP, TIFF, AVIF",
    "at": "2024-11-01T10:00:04+00:00",
}
_WANTED = {"pause": JobStatus.PAUSED, "resume": JobStatus.WAITING, "cancel": JobStatus.CANCELLING}


def _shown(job: Job) -> JobShown:
    return JobShown(pictures_per_second=round(jobs.per_second(job), 2), **job.model_dump(include=set(_JOB)))


@router.get(
    "/jobs",
    summary="Bulk jobs",
    response_model=list[JobShown],
    responses={200: shown([_JOB], "Newest first"), **problems()},
)
async def list_jobs(
    _: _Admin,
    engine: UsesEngine,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[int | None, Query(ge=1, le=MAX_ID, description="id of the last job of the page before")] = None,
) -> list[JobShown]:
    """All that were made, also those that have ended."""
    return [_shown(job) for job in await jobs.listing(engine, after=after, limit=limit)]


@router.post(
    "/jobs",
    summary="Index a corpus",
    status_code=HTTP_201_CREATED,
    response_model=JobShown,
    responses={
        201: shown(
            _JOB, "The job, submitted",
            headers={"Location": {"schema": {"type": "string"}, "description": "address of the job"}},
        ),
        **problems(404, 409),
    },
    openapi_extra=sent(NewJob, {"source": "s3://corpus/2024/"}),
)  # fmt: skip
async def create_job(
    request: Request, response: Response, caller: _Admin, engine: UsesEngine, objects: UsesObjects, settings: UsesSettings,
    registry: UsesRegistry, platform: UsesPlatform,
) -> JobShown:  # fmt: skip
    """Every object below `source` becomes an image; the objects stay where they are. Objects that are indexed already and
    have not changed are left out, so the same call keeps a corpus up to date."""
    wanted = await read_json(request, NewJob)
    name = wanted.model_name or registry.default
    if name not in registry:
        raise InvalidInput(f"{name!r} is not among the models: {', '.join(registry.known())}", "model_name")
    source = check_source(wanted.source, (settings.s3_bucket, settings.s3_vectors_bucket))
    await check_corpus(objects, source)
    job = await jobs.create(
        engine, source=source, model_name=name, created_by=caller.name,
        options=jobs.options(cpus=wanted.cpus, gpus=wanted.gpus, reads_per_s=wanted.reads_per_s),
    )  # fmt: skip
    assert job.id is not None
    await platform.submit_job(job.id)
    response.headers["Location"] = request.url_for("get_job", job_id=job.id).path
    return _shown(job)


@router.get(
    "/jobs/{job_id}",
    summary="One bulk job",
    response_model=JobShown,
    responses={200: shown(_JOB, "How far it is"), **problems(404)},
)
async def get_job(job_id: JobId, _: _Admin, engine: UsesEngine) -> JobShown:
    """The counters are exact: they change in the transactions of the work itself."""
    return _shown(await jobs.get(engine, job_id))


@router.get(
    "/jobs/{job_id}/failures",
    summary="What a job could not index",
    response_model=list[JobFailureShown],
    responses={200: shown([_FAILURE], "By id"), **problems(404)},
)
async def failures(
    job_id: JobId,
    _: _Admin,
    engine: UsesEngine,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[int, Query(ge=0, le=MAX_ID, description="image_id of the last one of the page before")] = 0,
) -> list[JobFailureShown]:
    """One row with a reason for each object that is no picture, is broken or could not be read."""
    found = await job_units.failures(engine, job_id, after=after, limit=limit)
    return [JobFailureShown(**one.model_dump(include=set(_FAILURE))) for one in found]


@router.post(
    "/jobs/{job_id}/retry",
    summary="Try the failed objects again",
    response_model=JobShown,
    responses={200: shown(_JOB, "The job, submitted where anything had failed"), **problems(404, 409)},
)
async def retry_job(job_id: JobId, _: _Admin, engine: UsesEngine, platform: UsesPlatform) -> JobShown:
    """They leave the list of failures and go through the job once more."""
    if await job_units.retry(engine, job_id, unit_size=jobs.UNIT_SIZE):
        await platform.submit_job(job_id)
    return _shown(await jobs.get(engine, job_id))


@router.post(
    "/jobs/{job_id}/{action}",
    summary="Pause, resume or cancel a job",
    response_model=JobShown,
    responses={200: shown(_JOB, "The job as it is now"), **problems(404, 409)},
)
async def control_job(
    job_id: JobId, action: Literal["pause", "resume", "cancel"], _: _Admin, engine: UsesEngine, platform: UsesPlatform
) -> JobShown:
    """A paused job keeps what is done and goes on with `resume`, as one does whose process has died. `cancel` keeps what
    is done and takes back what is half done."""
    job = await jobs.control(engine, job_id, _WANTED[action])
    if action != "pause":
        await platform.submit_job(job_id)
    return _shown(job)
