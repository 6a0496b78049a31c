"""Every option of the platform, from the environment (``SAFEGUARD_*``) or ``<home>/settings.env``. Imports nothing of ours."""

import os
from ipaddress import IPv4Address, ip_network
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, IPvAnyAddress, IPvAnyNetwork, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

SETTINGS_FILE = "settings.env"
PLACEHOLDER_SECRETS = frozenset({"changeme", "change-me", "password", "secret", "postgres", "minioadmin", "admin"})


def default_home() -> Path:
    """The folder for all state: ``SAFEGUARD_HOME``, else ``/var/lib/safeguard`` for root, else ``~/.safeguard``.

    Root needs a folder that an unprivileged user can reach: PostgreSQL refuses to run as root.
    """
    given = os.environ.get("SAFEGUARD_HOME")
    if given:
        return Path(given).expanduser().resolve()
    return Path("/var/lib/safeguard") if os.geteuid() == 0 else Path.home() / ".safeguard"


class Settings(BaseSettings):
    """All options. Environment variables win over ``<home>/settings.env``, which ``safeguard up`` writes (0600)."""

    model_config = SettingsConfigDict(env_prefix="SAFEGUARD_", extra="ignore")

    home: Path = Field(default_factory=default_home, description="folder that holds all state of the embedded servers")

    database_url: SecretStr | None = Field(
        None, description="postgresql://user:password@host:port/name; unset: the embedded server's"
    )
    database_pool_size: int = Field(
        8, ge=1, le=200, description="connections of a replica, and two more where all are in use; all are kept"
    )
    database_timeout_s: float = Field(10.0, gt=0, description="limit for connecting, and for one statement")

    s3_endpoint: str | None = Field(
        None, description="http(s)://host:port of the object store; unset: the embedded server's, or AWS"
    )
    s3_region: str = Field("us-east-1", description="region name sent with requests")
    s3_access_key: SecretStr | None = Field(None, description="access key id; unset: boto3's own chain")
    s3_secret_key: SecretStr | None = Field(None, description="secret access key")
    s3_bucket: str = Field("safeguard-images", min_length=3, max_length=63, description="bucket of the pictures")
    s3_vectors_bucket: str = Field(
        "safeguard-vectors", min_length=3, max_length=63, description="bucket of the LanceDB tables"
    )
    s3_connect_timeout_s: float = Field(3.0, gt=0, description="limit for connecting to the object store")
    s3_read_timeout_s: float = Field(20.0, gt=0, description="limit for each read from the object store")
    s3_attempts: int = Field(4, ge=1, le=10, description="tries of each object store call, the first included")
    s3_signed_url_s: int = Field(
        300, ge=1, le=604_800, description="how long a signed address of a picture is valid, seconds"
    )

    http_host: IPvAnyAddress = Field(
        IPv4Address("127.0.0.1"),
        description="where the REST API that `safeguard up` starts listens; 0.0.0.0 in a container, behind TLS",
    )
    use_haproxy: bool = Field(
        True,
        description="the HAProxy that Ray brings stands in front of the REST API; false, or without it: Serve's own proxy",
    )
    public_url: str | None = Field(
        None, description="base address in callback URLs, e.g. https://safeguard.example; unset: taken from the request"
    )
    trusted_proxies: Annotated[list[IPvAnyNetwork], NoDecode] = Field(
        default=[ip_network("127.0.0.0/8"), ip_network("::1/128")],
        description="networks of the proxies in front, whose X-Forwarded-For is believed",
    )
    hsts_s: int = Field(
        0, ge=0, description="behind TLS: how long browsers shall come by TLS only (HSTS), seconds; 0: not said"
    )
    wrong_keys_per_minute: int = Field(
        30, ge=0, description="wrong keys an address may send to a replica in a minute; 0: any number"
    )
    max_upload_bytes: int = Field(32 * 2**20, ge=1024, description="largest picture file accepted, bytes")
    max_pixels: int = Field(100_000_000, ge=1, description="largest width × height accepted, checked before decoding")
    max_frames: int = Field(10_000, ge=1, description="frames or pages that an uploaded picture may have")
    decode_cpu_s: float = Field(
        15.0, ge=0.1, le=600, description="processor time that decoding one picture may take, seconds"
    )
    decode_workers: int = Field(
        4, ge=1, le=64, description="processes at most in which a replica decodes what strangers send"
    )
    exact_search_rows: int = Field(
        500_000, ge=1, description="vector tables up to so many rows are held in memory and searched exactly"
    )
    member_images_held: int = Field(
        10_000,
        ge=0,
        description="up to so many images of banks are searched exactly where tables are too large for that",
    )
    index_ef: int = Field(300, ge=10, le=10_000, description="candidates that a search of the index keeps")
    index_refine: int = Field(5, ge=1, le=100, description="times k candidates that are scored with full vectors")
    index_probes: int = Field(4, ge=1, le=1000, description="partitions of the index that are searched")
    index_cache_mib: int = Field(
        6144, ge=64, le=10**7, description="MiB of LanceDB's index cache, of each connection to the vector tables"
    )
    metadata_cache_mib: int = Field(
        128, ge=1, le=10**6, description="MiB of LanceDB's metadata cache (versions and files), of each connection"
    )
    features_held: int = Field(
        1024, ge=0, description="pictures whose local features each pipeline keeps in memory, about 55 KB each"
    )
    decode_long_side: int = Field(
        1024, ge=256, le=8192, description="pictures are decoded to at most this long side, pixels"
    )

    queue_limit: int = Field(
        50_000,
        ge=0,
        description="images of one model_name that may wait; more are answered 503 with Retry-After; 0: any number",
    )
    lease_s: float = Field(60.0, gt=0, description="how long the platform's own claim on a picture is valid, seconds")
    worker_lease_s: float = Field(600.0, gt=0, description="how long an outside worker's claim is valid, seconds")
    max_attempts: int = Field(4, ge=1, le=100, description="claims of one picture before it is FAILED")
    retry_delay_s: float = Field(
        2.0, ge=0, description="pause before a failed picture is claimed again, times 2^(attempt-1)"
    )
    stale_upload_s: float = Field(
        3600.0, gt=0, description="an upload that has no object after this is swept away, seconds"
    )
    review_lease_s: float = Field(
        600.0, gt=0, le=86_400, description="how long an image is kept for the reviewer who was given it, seconds"
    )
    guard_files: bool = Field(
        False,
        description="show the file of an image that is not allowed as its blurred preview, unless clear=true asks",
    )
    strict_models: bool = Field(False, description="refuse model names that configs/models.yaml does not know")
    idempotency_s: float = Field(86_400.0, gt=0, description="how long an Idempotency-Key is remembered, seconds")

    webhook_timeout_s: float = Field(10.0, gt=0, le=120, description="limit of one try to deliver an event")
    webhook_connect_timeout_s: float = Field(3.0, gt=0, description="limit for finding and connecting to a receiver")
    webhook_attempts: int = Field(20, ge=1, le=1000, description="tries of a delivery before it is a dead letter")
    webhook_max_age_s: float = Field(259_200.0, gt=0, description="an event not delivered by then is a dead letter")
    webhook_retry_s: float = Field(
        2.0, gt=0, description="pause after the first failed try; three times as long after each further one"
    )
    webhook_retry_max_s: float = Field(10_800.0, gt=0, description="longest pause between two tries")
    webhook_keep_s: float = Field(
        2_592_000.0, gt=0, description="how long events and deliveries are kept for replay, seconds"
    )
    webhook_rotation_s: float = Field(
        86_400.0, ge=0, description="how long the secret before a rotation signs too, seconds"
    )
    webhook_allow_private: Annotated[list[IPvAnyNetwork], NoDecode] = Field(
        default_factory=list,
        description="networks beside the public internet that webhooks may lead to, e.g. 10.1.0.0/16, 127.0.0.1/32",
    )
    webhook_allow_http: bool = Field(
        False,
        description="webhooks may use http:// outside of those networks; their content can then be read on the way",
    )

    fetch_allow_private: Annotated[list[IPvAnyNetwork], NoDecode] = Field(
        default_factory=list,
        description="networks beside the public internet that pictures may be read from at an address that a client gives: "
        "whoever may look up can then ask what answers there",
    )

    quarantine_floor: int = Field(
        100, ge=0, description="images that a bank's member must match in a window before it is quarantined; 0: never"
    )
    quarantine_share: float = Field(0.1, ge=0, le=1, description="and of all images processed in that window")
    quarantine_factor: float = Field(10.0, ge=1, description="and times what it has usually matched in a window")
    quarantine_window_s: float = Field(3600.0, gt=0, description="the window, seconds")
    quarantine_history_s: float = Field(604_800.0, gt=0, description="what is usual is the average of so many seconds")
    max_import_bytes: int = Field(
        32 * 2**20,
        ge=1024,
        description="largest list of hashes imported over HTTP, bytes; the command line has no limit",
    )

    models_file: Path = Field(Path(__file__).with_name("models.yaml"), description="what each model_name means")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="where networks run")
    dtype: str = Field(
        "auto",
        pattern=r"^(auto|float32|float16|bfloat16)$",
        description="precision of transformers and TorchScript models",
    )
    ray_dashboard: str | None = Field(
        None, description="address of the Ray dashboard, where bulk jobs are submitted; set by `safeguard up`"
    )
    model_threads: int = Field(
        0, ge=0, le=256, description="threads of one network call; 0: the replica's own CPU share, at least 1"
    )

    @field_validator("webhook_allow_private", "fetch_allow_private", "trusted_proxies", mode="before")
    @classmethod
    def _separated(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name in ("database_url", "s3_secret_key"):
            value = getattr(self, name)
            secret = value.get_secret_value() if value else ""
            password = secret.split("://", 1)[-1].split("@", 1)[0].partition(":")[2] if "://" in secret else secret
            if password.lower() in PLACEHOLDER_SECRETS:
                raise ValueError(f"SAFEGUARD_{name.upper()} holds a placeholder; set a real secret")
        if bool(self.s3_access_key) != bool(self.s3_secret_key):
            raise ValueError("SAFEGUARD_S3_ACCESS_KEY and SAFEGUARD_S3_SECRET_KEY must be set together")
        if self.lease_s < 3 * self.s3_connect_timeout_s:
            raise ValueError(
                f"SAFEGUARD_LEASE_S={self.lease_s} is under three times SAFEGUARD_S3_CONNECT_TIMEOUT_S="
                f"{self.s3_connect_timeout_s}: claims would expire while a picture is being fetched"
            )
        if self.webhook_connect_timeout_s > self.webhook_timeout_s:
            raise ValueError(
                f"SAFEGUARD_WEBHOOK_CONNECT_TIMEOUT_S={self.webhook_connect_timeout_s} is above"
                f" SAFEGUARD_WEBHOOK_TIMEOUT_S={self.webhook_timeout_s}"
            )
        if self.quarantine_history_s < 2 * self.quarantine_window_s:
            raise ValueError(
                f"SAFEGUARD_QUARANTINE_HISTORY_S={self.quarantine_history_s} is under twice"
                f" SAFEGUARD_QUARANTINE_WINDOW_S={self.quarantine_window_s}: nothing would be usual"
            )
        if self.s3_bucket == self.s3_vectors_bucket:
            raise ValueError(
                f"SAFEGUARD_S3_BUCKET and SAFEGUARD_S3_VECTORS_BUCKET are both {self.s3_bucket!r}; use two buckets"
            )
        return self


def load_settings(home: Path | None = None) -> Settings:
    """Reads the settings of one installation.

    Args:
        home: state folder; None takes ``default_home()``.
    Returns:
        Settings, environment first, then ``<home>/settings.env``, then defaults.
    Raises:
        pydantic.ValidationError: an option is malformed or two contradict each other.
    """
    folder = home or default_home()
    return Settings(home=folder, _env_file=folder / SETTINGS_FILE)
