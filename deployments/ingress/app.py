"""The REST API as one application. Makes nothing that touches the world: that is replica.py's, or a test's."""

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from deployments.ingress import (
    audit,
    bank_lists,
    bank_members,
    banks,
    catalogue,
    documents,
    evidence,
    health,
    images,
    jobs,
    lookbacks,
    moderation,
    policies,
    problems,
    processing,
    replays,
    reviews,
    searching,
    webhooks,
)
from deployments.ingress.admission import AdmissionControl
from deployments.ingress.body import FORM_BYTES, BodyLimit
from deployments.ingress.context import Context
from deployments.ingress.guessing import WrongKeys
from deployments.ingress.headers import SecurityHeaders
from deployments.ingress.hma import curation as hma_curation
from deployments.ingress.hma import hashing as hma_hashing
from deployments.ingress.hma import matching as hma_matching
from deployments.ingress.metering import RequestMeter

BASE_PATH = "/api/v1"
_TAGS = [
    {"name": "images", "description": "Upload, list, delete."},
    {"name": "processing", "description": "Work for outside workers, and results."},
    {"name": "evidence", "description": "What is known of an image, and why."},
    {"name": "moderation", "description": "Whether an image may stay, and why."},
    {"name": "policies", "description": "Rules that decide; versions, trials on past images, decisions made again."},
    {"name": "banks", "description": "Pictures and hashes that must not be spread, or are explicitly allowed."},
    {"name": "review", "description": "The queue of images that a person should look at."},
    {"name": "hma", "description": "Hashing and lookups in the shape of Hasher-Matcher-Actioner."},
    {"name": "search", "description": "Search without storing."},
    {"name": "models", "description": "What can process an image."},
    {"name": "lookbacks", "description": "Past images after a change of banks or policies."},
    {"name": "jobs", "description": "Bulk indexing of a corpus in S3."},
    {"name": "webhooks", "description": "Who is told of events; signed, in order per image, at least once."},
    {"name": "audit", "description": "What was decided, changed and deleted, and by whom."},
    {"name": "health", "description": "For probes; no key needed."},
]
_DESCRIPTION = """Finds semantic copies of images, recognises people and objects, filters content.

Every address but `/health/*` needs a key, as `Authorization: Bearer <key>` or `X-API-Key: <key>`.
Errors are RFC 9457 problems (`application/problem+json`)."""


def create_app(context: Context) -> FastAPI:
    """The application.

    Args:
        context: the collaborators, already made on the loop that will serve.
    """
    app = FastAPIOffline(
        static_url="/docs/assets",  # Swagger UI from the package: the page works without the internet
        title="SafeGuard",
        version="1",
        summary="Semantic copies of images",
        description=_DESCRIPTION,
        openapi_tags=_TAGS,
        redirect_slashes=False,
        redoc_url=None,
    )
    app.state.context = context
    app.state.wrong_keys = WrongKeys(context.settings.wrong_keys_per_minute)
    app.state.admission = AdmissionControl(context.engine, context.settings.queue_limit, context.registry)
    problems.install(app)
    app.add_middleware(
        BodyLimit,
        max_bytes=context.settings.max_upload_bytes + FORM_BYTES,
        others={bank_lists.IMPORT_PATH: context.settings.max_import_bytes},
    )
    app.add_middleware(RequestMeter)  # the last one added is the outermost
    # processing before images: /image/poll/{model_name} must not be read as an image's id.
    for module in (
        processing,
        images,
        evidence,
        moderation,
        reviews,
        searching,
        catalogue,
        jobs,
        lookbacks,
        webhooks,
        audit,
        policies,
        replays,
        banks,
        bank_members,
        bank_lists,
        hma_hashing,
        hma_matching,
        hma_curation,
    ):
        app.include_router(module.router, prefix=BASE_PATH)
    app.include_router(health.router)
    app.openapi = lambda: documents.describe(app)  # type: ignore[method-assign]
    # Not add_middleware: what that adds lies within the part that answers to unexpected errors.
    inner = app.build_middleware_stack
    hsts_s = context.settings.hsts_s
    app.build_middleware_stack = lambda: SecurityHeaders(inner(), hsts_s=hsts_s)  # type: ignore[method-assign]
    return app
