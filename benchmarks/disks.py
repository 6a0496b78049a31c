"""Disks in memory that can be full to the last page and have room again, for servers whose data lie on them; for root only."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TRIES = 50


class NoDisk(Exception):
    """This user, or this system, cannot mount one."""


class Disk:
    """A mounted tmpfs.

    Args:
        folder: where it is mounted.
        mib: its size; what is stored on it takes memory, what is free takes none.
    """

    def __init__(self, folder: Path, mib: int) -> None:
        self.folder, self._mib = folder, mib

    def _resize(self, kib: int) -> bool:
        command = ["mount", "-o", f"remount,size={kib}k", str(self.folder)]
        return not subprocess.run(command, check=False, capture_output=True).returncode

    def fill(self) -> None:
        """Leaves no room: the disk shrinks to what is on it."""
        for _ in range(_TRIES):  # somebody may write meanwhile, and nothing shrinks below what is there
            held = shutil.disk_usage(self.folder).used // 1024
            if self._resize(held) and shutil.disk_usage(self.folder).free == 0:
                return
        raise RuntimeError(f"{self.folder} cannot be filled")

    def empty(self) -> None:
        """Gives the room back."""
        if not self._resize(self._mib * 1024):
            raise RuntimeError(f"{self.folder} cannot be given room")


@contextmanager
def mounted(folder: Path, mib: int) -> Iterator[Disk]:
    """A disk of so many MiB at an empty folder, until the end.

    Raises:
        NoDisk: it cannot be mounted.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=755", "tmpfs", str(folder)]
    if os.geteuid() or shutil.which("mount") is None or subprocess.run(command, check=False).returncode:
        raise NoDisk("a disk in memory can be mounted by root only")
    try:
        yield Disk(folder, mib)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
