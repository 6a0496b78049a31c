"""Which failures of a call through Serve are nobody's fault: they must not count against a picture."""

import asyncio

import pytest
from ray.exceptions import ActorDiedError, RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from deployments.pipeline.replica import _REFUSALS, _answered
from storage.errors import FencedOut, Unavailable

REFUSED = [BackPressureError(num_queued_requests=9, max_queued_requests=9), DeploymentUnavailableError("Embedder")]


@pytest.mark.parametrize("error", REFUSED, ids=lambda error: type(error).__name__)
async def test_a_refusal_of_serve_is_an_outage(error: Exception) -> None:
    with pytest.raises(Unavailable):
        async with _answered(5.0, _REFUSALS):
            raise error


async def test_the_death_of_a_network_may_be_the_pictures_fault_that_of_a_writer_not() -> None:
    with pytest.raises(ActorDiedError):
        async with _answered(5.0, _REFUSALS):
            raise ActorDiedError()
    with pytest.raises(Unavailable):
        async with _answered(5.0, (*_REFUSALS, RayActorError)):
            raise ActorDiedError()


async def test_our_errors_keep_their_kind_across_processes() -> None:
    across = RayTaskError("add", "traceback", FencedOut("another writer")).as_instanceof_cause()
    with pytest.raises(FencedOut):
        async with _answered(5.0, _REFUSALS):
            raise across


async def test_a_call_has_a_time_limit() -> None:
    with pytest.raises(TimeoutError):
        async with _answered(0.05, _REFUSALS):
            await asyncio.sleep(3600)
