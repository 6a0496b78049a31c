"""A replica loads no library that only others use: each costs tens of MiB in every process."""

import subprocess
import sys

import pytest

HEAVY = ("cv2", "lancedb", "onnxruntime", "scipy", "sqlalchemy", "torch", "transformers")
NEEDS = {
    "deployments.detector": {"cv2"},
    "deployments.embedder": {"cv2", "sqlalchemy"},
    "deployments.ingress.replica": {"cv2", "sqlalchemy"},
    "deployments.pipeline.replica": {"cv2", "scipy", "sqlalchemy"},
    "deployments.similarity.replicas": {"lancedb", "sqlalchemy"},
    "deployments.webhooks.replica": {"sqlalchemy"},
}
"""Networks are loaded with what runs them; see deployments/vision/factory.py."""


@pytest.mark.parametrize("module", NEEDS)
def test_a_replica_loads_what_it_needs(module: str) -> None:
    code = f"import sys, {module}; print(*sorted(set({HEAVY!r}) & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == NEEDS[module]
