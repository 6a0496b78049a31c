"""A disk in memory is really full, and has room again."""

import errno
from pathlib import Path

import pytest

from benchmarks.disks import NoDisk, mounted


def test_a_disk_is_full_and_has_room_again(tmp_path: Path) -> None:
    try:
        with mounted(tmp_path / "disk", 8) as disk:
            (disk.folder / "before").write_bytes(bytes(2**20))
            disk.fill()
            with pytest.raises(OSError) as caught:
                (disk.folder / "no").write_bytes(b"x")
            assert caught.value.errno == errno.ENOSPC
            disk.empty()
            (disk.folder / "after").write_bytes(bytes(2**22))
            assert (disk.folder / "before").stat().st_size == 2**20
    except NoDisk as reason:
        pytest.skip(str(reason))
    assert not list((tmp_path / "disk").iterdir())
