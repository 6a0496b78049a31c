"""The online service as a Serve application: ``graphs.serving:build`` with the typed options of serve_config.yaml."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator
from ray import serve
from ray.serve import Application

from deployments.detector import Detector
from deployments.embedder import Embedder
from deployments.ingress.replica import Ingress
from deployments.pipeline.replica import Pipeline
from deployments.similarity.replicas import SimilarityReader, SimilarityWriter
from deployments.webhooks.replica import WebhookSender


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NetworkOptions(_Options):
    """Embedder or Detector."""

    max_batch_frames: int = Field(32, ge=1, le=4096, description="frames in one pass of a network")
    threads: int = Field(
        0, ge=0, le=256, description="threads of one network call on a CPU; 0: the replica's CPU share"
    )


class PipelineOptions(_Options):
    """Claiming and processing."""

    batch_size: int = Field(16, ge=1, le=1024, description="images claimed at a time")
    batches: int = Field(3, ge=1, le=64, description="batches in work at a time")
    beside_searches: int = Field(
        0,
        ge=0,
        le=65_536,
        description="images in work at most while searches are answered, which wait behind them; 0: any",
    )
    call_timeout_s: float = Field(60.0, gt=0, description="limit of a call to another deployment, seconds")


class ReaderOptions(_Options):
    """Similarity readers."""

    stale_s: float = Field(1.0, ge=0, description="age at which searches look for a newer version, seconds")


class WriterOptions(_Options):
    """The similarity writer."""

    optimize_every: int = Field(50, ge=1, description="commits between two rounds of merging small files")


class WebhookOptions(_Options):
    """The sender of webhooks."""

    per_webhook: int = Field(8, ge=1, le=256, description="tries of one webhook under way at a time")
    idle_s: float = Field(1.0, gt=0, le=60, description="what is due is looked for after so long even without a signal")
    metrics_s: float = Field(10.0, ge=1, le=300, description="pause between two readings of PostgreSQL for the metrics")


class IngressOptions(_Options):
    """The REST API."""

    call_timeout_s: float = Field(30.0, gt=0, description="limit of a call to another deployment, seconds")


class ServingOptions(_Options):
    """The ``args`` of the application in serve_config.yaml; an unknown or malformed one stops the deployment."""

    release: str = Field(
        "",
        max_length=64,
        description="names the code: with another name every replica is replaced; `safeguard update` sets it",
    )
    ingress: IngressOptions = IngressOptions()
    pipeline: PipelineOptions = PipelineOptions()
    embedder: NetworkOptions = NetworkOptions()
    detector: NetworkOptions = NetworkOptions(max_batch_frames=16)
    reader: ReaderOptions = ReaderOptions()
    writer: WriterOptions = WriterOptions()
    webhooks: WebhookOptions = WebhookOptions()

    @model_validator(mode="after")
    def _timeouts_nest(self) -> "ServingOptions":
        if self.ingress.call_timeout_s > self.pipeline.call_timeout_s:
            raise ValueError(
                f"ingress.call_timeout_s={self.ingress.call_timeout_s} is above pipeline.call_timeout_s="
                f"{self.pipeline.call_timeout_s}: a search would wait for calls that were given up"
            )
        return self


def build(args: dict[str, Any]) -> Application:
    """Binds the deployments; replicas, resources and queue limits come from the deployments section of the config.

    Args:
        args: see ``ServingOptions``.
    Raises:
        pydantic.ValidationError: an option is unknown or out of range.
    """
    options = ServingOptions.model_validate(args)
    embedder = serve.deployment(Embedder, name="Embedder").bind(**options.embedder.model_dump())
    detector = serve.deployment(Detector, name="Detector").bind(**options.detector.model_dump())
    reader = serve.deployment(SimilarityReader, name="SimilarityReader").bind(**options.reader.model_dump())
    writer = serve.deployment(SimilarityWriter, name="SimilarityWriter").bind(**options.writer.model_dump())
    pipeline = serve.deployment(Pipeline, name="Pipeline").bind(
        embedder, detector, reader, writer, **options.pipeline.model_dump()
    )
    sender = serve.deployment(WebhookSender, name="WebhookSender").bind(**options.webhooks.model_dump())
    ingress = serve.deployment(serve.ingress()(Ingress), name="Ingress")
    return ingress.bind(pipeline, reader, writer, sender, **options.ingress.model_dump())
