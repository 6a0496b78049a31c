"""docs/runbook.md as an operator uses it: the section of an alert, the panels it names, and its commands."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from graphs.cluster import PROJECT
from tools.panels import BOARDS, Panel

RUNBOOK = PROJECT / "docs" / "runbook.md"
_LIMIT_S = 120.0


@dataclass(frozen=True)
class Section:
    """What the runbook says of one alert.

    Args:
        panels: those that its text names in quotation marks, in that order.
        looks: the commands of its first block, which say what is wrong.
        remedies: those of the later blocks.
    """

    alert: str
    panels: tuple[Panel, ...]
    looks: tuple[str, ...]
    remedies: tuple[str, ...]


def sections(text: str) -> dict[str, Section]:
    """Each alert's section."""
    parts = re.split(r"^## (\S+)\n", text, flags=re.MULTILINE)
    titles = {panel.title: panel for _, panels in BOARDS.values() for panel in panels}
    found = {}
    for alert, body in zip(parts[1::2], parts[2::2], strict=True):
        blocks = [tuple(_commands(block)) for block in re.findall(r"```sh\n(.*?)```", body, re.DOTALL)]
        named = re.findall(r'"([^"]+)"', re.sub(r"```.*?```", "", body, flags=re.DOTALL).replace("\n", " "))
        panels = tuple(titles[name] for name in named if name in titles)
        remedies = tuple(command for block in blocks[1:] for command in block)
        found[alert] = Section(alert, panels, blocks[0] if blocks else (), remedies)
    return found


def _commands(block: str) -> list[str]:
    lines = (re.sub(r"\s+#.*", "", line).strip() for line in block.splitlines())
    return [line for line in lines if line]


def run(command: str, home: Path, labels: Mapping[str, str]) -> str:
    """What a command of the runbook prints; the labels of the alert are its variables, as the runbook says.

    Raises:
        subprocess.CalledProcessError: the shell could not run it. A command of ours that finds something may exit with 1.
    """
    names = {name: value for name, value in labels.items() if re.fullmatch(r"[a-z_]+", name)}
    environment = os.environ | {"SAFEGUARD_HOME": str(home), "COLUMNS": "300"} | names
    shell = f'safeguard() {{ "{sys.executable}" "{PROJECT}/safeguard.py" "$@"; }}\n{command}'
    done = subprocess.run(
        ["bash", "-c", shell], cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=_LIMIT_S
    )
    if done.returncode > 1:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
    return done.stdout
