"""Ray's processes do without what they only import: whoever uses it gets it all the same."""

import os
import subprocess
import sys

import pytest

from graphs.cluster import PROJECT, SITE

HEAVY = "print(*sorted({'pandas', 'ray.serve'} & sys.modules.keys()))"

START = f"""
import runpy, sys
sys.argv = ["ray", "--version"]
try:
    runpy.run_module("ray.scripts.scripts", run_name="__main__")
except SystemExit:
    {HEAVY}
"""


@pytest.mark.parametrize(
    ("code", "loaded"),
    [
        (f"import sys, ray.serve; {HEAVY}", ["ray.serve"]),
        (f"import sys, ray.serve, pandas; pandas.DataFrame(); {HEAVY}", ["pandas", "ray.serve"]),
        (f"import sys, ray.serve, ray.data; ray.data.DataContext; {HEAVY}", ["pandas", "ray.serve"]),
        (START, []),
        (f"import sys, ray.serve.scripts; {HEAVY}", ["ray.serve"]),
    ],
)  # fmt: skip
def test_only_those_that_do_not_use_it_do_without(code: str, loaded: list[str]) -> None:
    environment = os.environ | {"PYTHONPATH": f"{SITE}{os.pathsep}{PROJECT}"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines()[-1].split() == loaded
