"""A real Prometheus for a while, on a port and in a folder of its own."""

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MISSING = "prometheus is not installed (Debian: apt-get install prometheus)"


def installed() -> bool:
    """Whether there is one."""
    return shutil.which("prometheus") is not None


class Prometheus:
    """Its HTTP API.

    Args:
        url: where it listens.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def ask(self, path: str, **values: str) -> Any:
        """The data of an answer.

        Raises:
            ValueError: it refuses the question; the message says why.
        """
        address = f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(values)}"
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise ValueError(f"{values}: {error.read().decode()}") from error

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that a query gives now; a scalar is one without labels."""
        data = self.ask("query", query=expression)
        found: list[dict[str, Any]] = data["result"]
        return [{"metric": {}, "value": found}] if data["resultType"] == "scalar" else found


@contextmanager
def prometheus(config: Path, data: Path, *, limit_s: float = 60.0) -> Iterator[Prometheus]:
    """Runs with a configuration until the block ends.

    Args:
        data: folder for its database; its log lies beside it.
    Raises:
        RuntimeError: it does not come up; the message ends with its log.
    """
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    command = [
        "prometheus", f"--config.file={config}", f"--storage.tsdb.path={data}", "--log.level=warn",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    log = data.with_suffix(".log")
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream)
    try:
        url = f"http://127.0.0.1:{port}"
        end = time.monotonic() + limit_s
        while True:
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"Prometheus does not come up: {log.read_text()[-2000:]}")
            try:
                with urllib.request.urlopen(f"{url}/-/ready", timeout=5):
                    break
            except OSError:
                time.sleep(0.1)
        yield Prometheus(url)
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=20)
