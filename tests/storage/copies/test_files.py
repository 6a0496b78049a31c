"""Files of a backup: whole or not there, closed to others, one process at a time."""

import errno
import fcntl
import os
import stat
from pathlib import Path

import pytest

from storage.copies.files import NewFile, alone, read_json, sum_of, write_json
from storage.errors import ConfigurationError, Conflict, StorageFull
from tests.full_disk import small_disk


def test_a_file_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    with NewFile(path) as file:
        file.write(b"one")
        assert not path.exists()
    assert list(path.parent.iterdir()) == [], "what was not finished leaves nothing"
    with NewFile(path) as file:
        file.write(b"one")
        file.write(b"two")
        made = file.finish()
    assert path.read_bytes() == b"onetwo" and sum_of(path) == made and made.size == 6
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert sum_of(tmp_path / "none") is None


def test_json_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    assert read_json(path) is None
    write_json(path, {"ё": [1, None]})
    assert read_json(path) == {"ё": [1, None]}
    path.write_bytes(b"{\xff")
    with pytest.raises(ConfigurationError, match=r"a\.json cannot be read"):
        read_json(path)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    with alone(folder), pytest.raises(Conflict), alone(folder):
        pass
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Conflict, match="another command works"), alone(folder):
            pass
    with pytest.raises(OSError, match="something else"), alone(folder):
        raise OSError(errno.EIO, "something else")


def fill(path: Path) -> None:
    with NewFile(path) as file:
        for _ in range(4):
            file.write(os.urandom(2**19))
        file.finish()


def test_a_full_disk_is_said() -> None:
    with small_disk(1) as disk, pytest.raises(StorageFull, match="make room and repeat"), alone(disk / "copy"):
        fill(disk / "copy" / "a")
