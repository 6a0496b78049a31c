"""The surroundings that Serve gives a replica, in this process and without a cluster."""

from collections.abc import Iterator

import pytest
from ray.serve import context
from ray.serve._private.common import DeploymentID, ReplicaID
from ray.serve._private.config import DeploymentConfig
from ray.serve.schema import ReplicaRank

from deployments.vision.sandbox import Sandbox


@pytest.fixture(scope="module")
def within_serve() -> Iterator[None]:
    """``serve.batch`` asks for the replica that it runs in; Ray's own tests of batching set it the same way."""
    context._set_internal_replica_context(
        replica_id=ReplicaID("test", DeploymentID("test", "test")),
        servable_object=None,
        _deployment_config=DeploymentConfig(max_ongoing_requests=32),
        rank=ReplicaRank(rank=0, node_rank=0, local_rank=0),
        world_size=1,
    )
    yield
    context._INTERNAL_REPLICA_CONTEXT = None


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """Processes that decode, as each replica has them."""
    made = Sandbox(workers=2, cpu_s=10.0, max_pixels=10**8)
    yield made
    made.close()
