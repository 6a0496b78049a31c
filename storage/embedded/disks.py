"""The disks that an installation's data lie on, each named by whose they are. Imports nothing of ours."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

_FOLDERS = {"home": Path(), "postgresql": Path("postgres/data"), "s3": Path("objects/data")}
"""What lies where below a home; servers that are not embedded have no folder there."""


@dataclass(frozen=True)
class Disk:
    """A disk; ``parts`` are those whose data are on it, such as s3, and ``folder`` is where those of the first are."""

    parts: tuple[str, ...]
    folder: Path
    free_bytes: int
    total_bytes: int


def disks(home: Path) -> list[Disk]:
    """Each disk once, that of the home first. Blocking.

    Raises:
        OSError: one does not say how full it is.
    """
    folders = {part: home / below for part, below in _FOLDERS.items() if (home / below).is_dir()}
    devices: dict[int, list[str]] = {}
    for part, folder in folders.items():
        devices.setdefault(os.stat(folder).st_dev, []).append(part)
    found = []
    for parts in devices.values():
        usage = shutil.disk_usage(folders[parts[0]])
        found.append(Disk(tuple(parts), folders[parts[0]], usage.free, usage.total))
    return found
