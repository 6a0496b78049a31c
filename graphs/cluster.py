"""The Ray head of one installation and the Serve application on it. Of deployments it imports the call of the dashboard only."""

import contextlib
import json
import os
import re
import secrets
import shutil
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import yaml

from configs.settings import Settings
from deployments.job_submission import ask_dashboard
from graphs import haproxy
from graphs.releases import name_release
from storage.embedded.ports import Ports
from storage.embedded.process import ManagedProcess
from storage.errors import ConfigurationError, SafeGuardError, Unavailable

PROJECT = Path(__file__).parent.parent
CONFIG = PROJECT / "serve_config.yaml"
SITE = Path(__file__).parent / "site"
"""What Python runs first in each process of Ray; see sitecustomize.py there."""
_SOCKET_ROOM = 40
"""Ray puts sockets with up to 65 more characters below its folder; a socket's path may have 107. HAProxy takes 97, with
70 more, so its sockets always lie below /tmp."""

_MOST_TEXT = 1_000
"""Characters of one error of Ray."""
_MORE_NODES = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


class RayCluster:
    """A Ray head that belongs to one home: own ports, own token, own folder; other clusters are left alone.

    With ``RAY_ADDRESS`` set to a dashboard's address (http://…) nothing is started and the application is deployed there.

    Args:
        settings: gives the home.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        home = settings.home
        self._outside = os.environ.get("RAY_ADDRESS")
        if self._outside and not self._outside.startswith(("http://", "https://")):
            raise ConfigurationError("RAY_ADDRESS must be the address of a Ray dashboard, such as http://ray-head:8265")
        self._ports = Ports(home)
        self._process = ManagedProcess(home, "ray")
        self._token = home / "ray.token"
        short = Path("/tmp") if os.access("/tmp", os.W_OK | os.X_OK) else Path(tempfile.gettempdir())
        self._sockets = short / f"sg-{sha256(str(home).encode()).hexdigest()[:8]}"
        # Ray opens its folder to everybody again and again; the one around it stays closed.
        folder = home / "ray" / "head"
        self._folder = folder if len(str(folder)) <= _SOCKET_ROOM else self._sockets / "ray"

    @property
    def outside(self) -> bool:
        """Whether the cluster is one that others run."""
        return bool(self._outside)

    @property
    def dashboard(self) -> str:
        """Address of the Ray dashboard."""
        return self._outside or f"http://127.0.0.1:{self._ports.get('ray_dashboard')}"

    @property
    def url(self) -> str:
        """Address of the REST API. On another's cluster: Serve's port on the machine of its dashboard.

        Raises:
            Unavailable: that cluster's dashboard does not answer.
        """
        if not self._outside:
            return f"http://127.0.0.1:{self._ports.get('http')}"
        try:
            port = self._ask("GET")["http_options"]["port"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Unavailable(f"the Ray dashboard at {self.dashboard} does not say where the REST API is") from error
        host = str(urlsplit(self._outside).hostname)
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    @property
    def pid(self) -> int | None:
        """Process id of the head's guard, None where it does not run."""
        return self._process.pid

    @property
    def crashed(self) -> bool:
        """True if the head was started and has gone away by itself."""
        return self._process.crashed

    @property
    def alive(self) -> bool:
        """Whether the head runs, as far as is known: one that was not started here is taken for running."""
        return bool(self._outside) or self._process.alive

    @property
    def token_file(self) -> Path:
        """Holds the cluster's token."""
        return self._token

    @property
    def metrics_targets(self) -> Path:
        """Ray's list of what Prometheus has to scrape, kept up to date as nodes come and go."""
        return self._folder / "prom_metrics_service_discovery.json"

    @property
    def rays_dashboards(self) -> Path:
        """Ray's own dashboards for Grafana, which its dashboard's pages embed."""
        return self._folder / "session_latest" / "metrics" / "grafana" / "dashboards"

    def environment(self) -> dict[str, str]:
        """What every process of the cluster, and every client of it, runs with."""
        return {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self._token),
            "RAY_USAGE_STATS_ENABLED": "0",
            # The one way to loopback: a head that can have no further nodes binds every port there. Without it Ray takes
            # the machine's own address whatever --node-ip-address says, and listens on every interface.
            _MORE_NODES: os.environ.get(_MORE_NODES, "0"),
            "RAY_TMPDIR": str(self._folder),
            "RAY_SERVE_LOG_TO_STDERR": "0",
            "RAY_DEDUP_LOGS": "0",
            # Serve's control loop looks at everything ten times a second by default: an eighth of a core, always.
            "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",
            # User code, router and replica share one event loop: less time a call. RAY_SERVE_THROUGHPUT_OPTIMIZED,
            # which also sends calls by gRPC, made batches of 32 pictures fail again and again.
            "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
            "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
            "RAY_worker_niceness": "0",  # 15 by default: any other program would push the service aside
            "RAY_metrics_report_interval_ms": "10000",
            # Ray 2.60 reads `metrics_interval_s` of the Serve configuration; later releases are announced to read these.
            "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "2",
            "RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "2",
            "SAFEGUARD_HOME": str(self._settings.home),
            "SAFEGUARD_RAY_DASHBOARD": self.dashboard,
            "SAFEGUARD_PYTHON": sys.executable,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(SITE), str(PROJECT), os.environ.get("PYTHONPATH", "")])),
            "TRANSFORMERS_OFFLINE": os.environ.get("TRANSFORMERS_OFFLINE", "0"),
        }

    def start(self, *, timeout_s: float = 120.0) -> None:
        """Starts the head, or finds it running.

        Raises:
            Unavailable: it did not come up in time; the message names the log.
        """
        if self._outside or self._process.alive:
            return
        self.stop()  # a crashed head may have left workers behind
        self._sockets.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._sockets.stat().st_uid != os.geteuid():
            raise ConfigurationError(f"{self._sockets} belongs to another user; remove it")
        self._folder.mkdir(parents=True, exist_ok=True)
        self._folder.parent.chmod(0o700)
        if not self._token.exists():
            descriptor = os.open(self._token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as stream:
                stream.write(secrets.token_urlsafe(32))
        port = self._ports.take
        command = [
            sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats",
            "--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", "--include-dashboard=true",
            f"--temp-dir={self._folder}", f"--port={port('ray_gcs')}", f"--dashboard-port={port('ray_dashboard')}",
            f"--dashboard-agent-listen-port={port('ray_agent')}",
            f"--dashboard-agent-grpc-port={port('ray_agent_grpc')}",
            f"--runtime-env-agent-port={port('ray_runtime_env')}",
            f"--node-manager-port={port('ray_node')}", f"--object-manager-port={port('ray_objects')}",
            f"--metrics-export-port={port('ray_metrics')}",
            "--include-log-monitor=false",  # no driver here prints what its workers print
            "--min-worker-port=0", "--max-worker-port=0",
            f"--object-store-memory={_object_store_bytes()}",
            # Beside the CPUs that Serve's replicas reserve: what bulk jobs may use of this machine.
            f"--resources={json.dumps({'bulk': os.cpu_count() or 1})}",
        ]  # fmt: skip
        metrics = {  # by default the same two ports for every cluster of a machine
            "AUTOSCALER_METRIC_PORT": str(port("ray_autoscaler_metrics")),
            "DASHBOARD_METRIC_PORT": str(port("ray_dashboard_metrics")),
        }
        environment = (
            self.environment() | metrics | haproxy.environment(self._settings, self._ports, self._sockets / "h")
        )
        self._process.start(command, environment=environment, folder=PROJECT)
        log = self._process.log
        self._wait(self._answers, timeout_s, f"the Ray head did not come up within {timeout_s:.0f} s; see {log}")

    def _answers(self) -> bool:
        if not self._process.alive:
            raise Unavailable(f"the Ray head ended while starting; see {self._process.log}")
        try:
            self._ask("GET")
        except (OSError, ValueError):
            return False
        return True

    def _ask(self, method: str, content: dict[str, Any] | None = None) -> dict[str, Any]:
        """One call of Serve's REST API on the dashboard. Ray's own client keeps the first token it reads for good."""
        return ask_dashboard(self.dashboard, self._token, method, "/api/serve/applications/", content)

    @staticmethod
    def _wait(ready: Callable[[], bool], timeout_s: float, message: str) -> None:
        end = time.monotonic() + timeout_s
        while not ready():
            if time.monotonic() > end:
                raise Unavailable(message)
            time.sleep(0.5)

    def ray_version(self) -> str:
        """The version of Ray that runs.

        Raises:
            Unavailable: the dashboard does not answer.
        """
        try:
            return str(ask_dashboard(self.dashboard, self._token, "GET", "/api/version")["ray_version"])
        except (OSError, ValueError, KeyError) as error:
            raise Unavailable(f"the Ray dashboard at {self.dashboard} does not answer") from error

    def deploy(self, config: Path = CONFIG, *, release: str | None = None, timeout_s: float = 300.0) -> None:
        """Deploys the application and returns when it is RUNNING. A repeat with the same file changes nothing.

        Args:
            config: the Serve configuration.
            release: another name than that of the running one replaces every replica; None keeps the name.
        Raises:
            ConfigurationError: the file is missing or malformed, or a deployment failed; the message says why.
            Unavailable: it is not RUNNING in time.
        """
        try:
            content = yaml.safe_load(config.read_text())
            http_options = content["http_options"]
            name_release(content, self.applications(), release)
        except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
            raise ConfigurationError(f"{config} is not a Serve configuration: {error}") from error
        if not self._outside:
            port = self._http_port(http_options.get("port"))
            http_options |= {"host": str(self._settings.http_host), "port": port}
        try:
            self._ask("PUT", content)
        except urllib.error.HTTPError as error:
            with error:
                said = error.read().decode(errors="replace")[-2000:]
            raise ConfigurationError(f"Ray Serve does not take {config}: {said}") from error
        wanted = [application["name"] for application in content["applications"]]

        def running() -> bool:
            found = self.applications()
            states = {name: found.get(name, {}) for name in wanted}
            for name, application in states.items():
                if application.get("status") == "DEPLOY_FAILED":  # UNHEALTHY may be a replica that is being replaced
                    raise ConfigurationError(f"{name} cannot be deployed: {why_not(application)}")
            return all(application.get("status") == "RUNNING" for application in states.values())

        self._wait(running, timeout_s, f"the application is not RUNNING after {timeout_s:.0f} s; see {self.dashboard}")

    def _http_port(self, wanted: int | None) -> int:
        """The port in use where the application runs already: a second deployment must not move it."""
        return self._ports.get("http") if self.applications() else self._ports.take("http", wanted=wanted)

    def applications(self) -> dict[str, Any]:
        """Serve's own account of the applications.

        Raises:
            Unavailable: the dashboard does not answer.
        """
        try:
            applications: dict[str, Any] = self._ask("GET").get("applications", {})
        except (OSError, ValueError) as error:
            raise Unavailable(f"the Ray dashboard at {self.dashboard} does not answer") from error
        return applications

    def stop(self, *, grace_s: float = 60.0) -> None:
        """Ends the application gracefully, then the head and every process of this cluster; data stay."""
        if self._outside:
            self._ask("DELETE")
            return
        if self._process.alive:
            try:
                self._ask("DELETE")
                self._wait(lambda: not self.applications(), grace_s, "the application takes too long to end")
            except (OSError, ValueError, SafeGuardError):
                print("the application did not end gracefully; its leases will expire", file=sys.stderr)
        self._process.stop(grace_s=20.0)
        left = list(self.processes())
        for process in left:
            _signal(process.terminate)
        _, stubborn = psutil.wait_procs(left, timeout=5)
        for process in stubborn:
            _signal(process.kill)
        psutil.wait_procs(stubborn, timeout=5)
        shutil.rmtree(self._sockets, ignore_errors=True)

    def processes(self) -> Iterator[psutil.Process]:
        """Processes of this cluster: each has one of its folders in its arguments or its environment."""
        for process in psutil.process_iter():
            try:
                command = " ".join(process.cmdline())
                ours = str(self._folder) in command or str(self._sockets) in command
                ours |= "ray::" in command and process.environ().get("RAY_TMPDIR") == str(self._folder)
                if ours and process.pid != os.getpid():
                    yield process
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue


def _signal(send: Callable[[], None]) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        send()


def _object_store_bytes() -> int:
    """Shared memory for Ray's objects: small tensors pass through, so a quarter gigabyte, or less where less is free."""
    free = psutil.disk_usage("/dev/shm").free if Path("/dev/shm").exists() else psutil.virtual_memory().available // 4
    return int(max(80 * 2**20, min(256 * 2**20, free // 2)))


def why_not(application: dict[str, Any]) -> str:
    """Why an application cannot be deployed: of each deployment that is ill the error at the end of its traceback."""
    ill = {
        name: deployment.get("message", "")
        for name, deployment in application.get("deployments", {}).items()
        if deployment.get("status") in ("DEPLOY_FAILED", "UNHEALTHY")
    }
    said = [f"{name}: {_error(message)}" for name, message in ill.items() if message]
    return "; ".join(said) or _error(application.get("message", "")) or "Ray gives no reason"


def _error(message: str) -> str:
    """The last error that a traceback names, with its text; the end of a message that names none."""
    named = list(re.finditer(r"^(?:\w+\.)*[A-Z]\w*(?:: |$)", message, re.MULTILINE))
    return message[named[-1].start() if named else -_MOST_TEXT :].strip()[:_MOST_TEXT]
