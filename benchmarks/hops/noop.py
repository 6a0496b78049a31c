"""A Serve application that does nothing, and measures what it costs to call one by its handle."""

import asyncio
import time
from typing import Any

from ray import serve
from ray.serve import Application
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

PREFIX = "/noop"
APPLICATION = {
    "name": "noop",
    "route_prefix": PREFIX,
    "import_path": "benchmarks.hops.noop:build",
    "deployments": [
        {"name": name, "num_replicas": 1, "max_ongoing_requests": 64, "ray_actor_options": {"num_cpus": 0}}
        for name in ("Front", "Noop")
    ],
}
"""Its entry in a Serve configuration."""


class Noop:
    """Is called by its handle and does nothing."""

    async def __call__(self) -> str:
        return "ok"


class Front:
    """Answers requests without a further hop; with ``clients`` and ``seconds`` it calls the no-op for so long instead.

    Args:
        noop: handle of Noop.
    """

    def __init__(self, noop: Any) -> None:
        self._noop = noop

    async def __call__(self, request: Request) -> Response:
        asked = request.query_params
        if "clients" not in asked:
            return PlainTextResponse("ok")
        end = time.perf_counter() + float(asked["seconds"])
        taken = await asyncio.gather(*(self._calls(end) for _ in range(int(asked["clients"]))))
        return JSONResponse([one for client in taken for one in client])

    async def _calls(self, end: float) -> list[float]:
        """Seconds that each call took, one after another until ``end``."""
        taken = []
        while (begun := time.perf_counter()) < end:
            await self._noop.remote()
            taken.append(time.perf_counter() - begun)
        return taken


def build(args: dict[str, Any]) -> Application:
    """Binds both."""
    noop = serve.deployment(Noop, name="Noop").bind()
    return serve.deployment(Front, name="Front").bind(noop)
