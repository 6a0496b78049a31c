"""The locustfile needs Locust's own environment, so here it is only read: docs/load.md tells of each thing a user does."""

import ast
import re
import sys
from pathlib import Path

from benchmarks.load.steps import USERS_FILE

DOCUMENT = Path(__file__).parents[3] / "docs" / "load.md"
TREE = ast.parse(USERS_FILE.read_text())


def weights() -> dict[str, int]:
    """How often each thing is drawn by default."""
    for node in TREE.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "WEIGHTS":
            return {kind: weight for kind, (weight, _) in ast.literal_eval(node.value).items()}
    raise AssertionError("users.py has no WEIGHTS")


def test_the_document_tells_of_each_weight() -> None:
    rows = re.findall(r"^\| `--(\w+)-weight` \| (\d+) \|", DOCUMENT.read_text(), re.MULTILINE)
    assert {kind: int(weight) for kind, weight in rows} == weights()


def test_a_user_can_do_each_of_them() -> None:
    (user,) = (node for node in TREE.body if isinstance(node, ast.ClassDef))
    assert weights().keys() <= {node.name for node in user.body if isinstance(node, ast.FunctionDef)}


def test_it_imports_only_locust_and_the_standard_library() -> None:
    names = [alias.name for node in TREE.body if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in TREE.body if isinstance(node, ast.ImportFrom)]
    assert {name.split(".")[0] for name in names} - sys.stdlib_module_names == {"locust"}
