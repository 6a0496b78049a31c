"""The pipeline in this process, for what works on a whole installation."""

from tests.deployments.conftest import sandbox
from tests.deployments.pipeline.conftest import model, networks, other, processor, put, shipped

__all__ = ["model", "networks", "other", "processor", "put", "sandbox", "shipped"]
