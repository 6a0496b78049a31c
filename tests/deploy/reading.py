"""Reading what lies in deploy/: the instructions of a Dockerfile, and YAML in which nothing is said twice."""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from configs.settings import Settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
OPTIONS = {f"SAFEGUARD_{name.upper()}" for name in Settings.model_fields}


class Strict(yaml.SafeLoader):
    """Refuses a key that is there twice, of which YAML would keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"a key twice at {node.start_mark}"
        return super().construct_mapping(node, deep)


def documents(path: Path) -> list[dict[str, Any]]:
    """All documents of a YAML file."""
    return list(yaml.load_all(path.read_text(), Strict))


class Step(NamedTuple):
    """An instruction of a Dockerfile and what it is given."""

    name: str
    words: str

    @property
    def as_list(self) -> list[str] | None:
        """The exec form, None for the shell form."""
        return json.loads(self.words) if self.words.startswith("[") else None


def dockerfile(path: Path) -> list[list[Step]]:
    """Its stages."""
    text = "\n".join(line for line in path.read_text().splitlines() if not line.lstrip().startswith("#"))
    stages: list[list[Step]] = []
    for line in re.sub(r"\s*\\\n\s*", " ", text).splitlines():
        if line.strip():
            name, _, words = line.partition(" ")
            if name == "FROM":
                stages.append([])
            stages[-1].append(Step(name, words.strip()))
    return stages
