"""The platform behind Ray Serve handles; the one place where Ray's errors become ours. Knows no HTTP."""

import asyncio
from collections.abc import Mapping
from typing import Any

import numpy as np
from ray import serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle

from configs.settings import Settings
from deployments.ingress.crowd import Crowd
from deployments.job_submission import submit
from deployments.pipeline.found import Found
from deployments.similarity.queries import Hit, Query
from storage.bank_rules import MOST_PDQ_DISTANCE
from storage.errors import Crowded, SafeGuardError, SearchesFull, Unavailable
from storage.vector_rows import PDQ_SPACE

_NETWORKS = ("Pipeline", "Embedder", "Detector")
_ANSWER = ("RUNNING", "PENDING_MIGRATION")
"""States of a replica to which Serve sends calls."""

_LEAST_S, _MOST_S = 2.0, 60.0
"""Of the time that a search that is turned away should wait."""
_RETURNS = 2.0


async def call(handle: Any, timeout_s: float, *arguments: Any, stop: bool = True) -> Any:
    """Calls one method of a handle.

    Args:
        handle: ``deployment_handle.method``.
        timeout_s: limit, seconds.
        stop: a call that nobody waits for any more is stopped over there; else it goes on.
    Raises:
        SafeGuardError: as the other side raised it.
        Crowded: as many calls as may wait for it do.
        Unavailable: no answer in time, a dead replica.
    """
    try:
        response = handle.remote(*arguments)
        try:
            async with asyncio.timeout(timeout_s):
                return await response
        except (TimeoutError, asyncio.CancelledError):
            if stop:
                response.cancel()
            raise
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, SafeGuardError):
            raise cause from error
        if isinstance(cause, OSError | TimeoutError | RayError | RayServeException):
            raise Unavailable("a part of the service does not answer; try again") from error
        raise
    except BackPressureError as error:
        raise Crowded("a part of the service has more work than it can take; try again") from error
    except (TimeoutError, RayError, RayServeException) as error:
        raise Unavailable("a part of the service does not answer; try again") from error


class RemotePlatform:
    """See ``deployments.ingress.context.Platform``.

    Args:
        settings: where Ray's dashboard is.
        pipeline, reader, writer: handles.
        call_timeout_s: limit of each call, seconds.
    """

    def __init__(
        self,
        settings: Settings,
        pipeline: DeploymentHandle,
        reader: DeploymentHandle,
        writer: DeploymentHandle,
        call_timeout_s: float,
    ) -> None:
        self._settings = settings
        self._pipeline = pipeline
        self._reader = reader
        self._writer = writer
        self._timeout_s = call_timeout_s
        self._searching = Crowd(_LEAST_S, _MOST_S, returns=_RETURNS)

    async def search(self, data: bytes, model_name: str, k: int, exclude: int | None) -> list[Found]:
        """See ``Platform.search``."""
        had_a_place = True
        try:
            found: list[Found] = await call(self._pipeline.search, self._timeout_s, data, model_name, k, exclude)
        except Crowded as error:
            had_a_place = False
            raise SearchesFull(
                "as many searches as may wait do; try again later", self._searching.turned_away()
            ) from error
        finally:
            if had_a_place:
                self._searching.let_in()
        return found

    async def remove(self, image_ids: list[int]) -> None:
        """See ``Platform.remove``."""
        await call(self._writer.remove, self._timeout_s, image_ids, stop=False)

    async def submit_job(self, job_id: int) -> None:
        """See ``Platform.submit_job``."""
        if self._settings.ray_dashboard is None:
            raise Unavailable("no Ray dashboard is set (SAFEGUARD_RAY_DASHBOARD), so no bulk job can be started")
        await submit(self._settings.ray_dashboard, job_id)

    async def near_members(self, pdq: bytes, newest: int, k: int) -> dict[int, int]:
        """See ``Platform.near_members``."""
        least = 1.0 - 2.0 * MOST_PDQ_DISTANCE / 256
        hashes = np.frombuffer(pdq, np.uint8)[None]
        query = Query({PDQ_SPACE.name: hashes}, {PDQ_SPACE.name: least}, k=k, members=newest)
        found: list[list[Hit]] = await call(self._reader.search, self._timeout_s, [query], None)
        return {hit.image_id: round((1.0 - hit.score) * 128) for hit in found[0] if hit.member}

    async def index_info(self) -> dict[str, Any]:
        """See ``Platform.index_info``."""
        info: dict[str, Any] = await call(self._reader.info, self._timeout_s)
        return info

    async def check_models(self) -> None:
        """See ``Platform.check_models``.

        Serve is asked, not a pipeline: one that is full of searches turns callers away and is as healthy as before. Serve's own
        health checks, which run each network on a canary picture, take a replica that fails them out of those that run.
        """
        application = serve.get_replica_context().app_name
        status = await asyncio.wait_for(asyncio.to_thread(serve.status), self._timeout_s)
        check_networks({name: one.replica_states for name, one in status.applications[application].deployments.items()})


def check_networks(replicas: Mapping[str, Mapping[str, int]]) -> None:
    """Returns where each deployment that networks need has a replica that answers, also while others come and go.

    Args:
        replicas: how many are in which of Serve's states, by deployment.
    Raises:
        Unavailable: one has none; it is named.
    """
    ill = [name for name in _NETWORKS if not any(replicas.get(name, {}).get(state) for state in _ANSWER)]
    if ill:
        raise Unavailable(f"no replica runs: {', '.join(ill)}")
