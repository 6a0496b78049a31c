"""A replica of the vectors works without pandas, which pyarrow would load with its first array."""

import subprocess
import sys

import pytest

WRITE_AND_READ = """
import asyncio, sys, tempfile
import lancedb, numpy as np, pyarrow as pa
from storage.vector_rows import VectorRows, VectorSpace
from storage.vectors import VectorTable

async def main():
    rows = VectorRows(np.arange(3), np.zeros(3, np.int16), np.zeros((3, 4), np.float32), np.eye(3, dtype=np.float16))
    with tempfile.TemporaryDirectory() as folder:
        table = await VectorTable.open(await lancedb.connect_async(folder), VectorSpace("a@1", 3), create=True)
        await table.append(rows, 0)
        back, newest = await table.read_since(-1)
    assert np.array_equal(back.vectors, rows.vectors) and newest == 2

asyncio.run(main())
print("pandas" in sys.modules)
"""


REFUSED = "from deployments.refusing import refuse; refuse('pandas')"


@pytest.mark.parametrize(("before", "loaded"), [("", "True"), (REFUSED, "False")])
def test_vectors_without_pandas(before: str, loaded: str) -> None:
    done = subprocess.run([sys.executable, "-c", before + WRITE_AND_READ], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == loaded
