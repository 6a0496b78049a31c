"""The disks of an installation: each once, with whose data are on it."""

import shutil
from pathlib import Path

from storage.embedded.disks import disks
from tests.full_disk import small_disk


def test_what_shares_a_disk_is_one(tmp_path: Path) -> None:
    for below in ("objects/data", "postgres/data"):
        (tmp_path / below).mkdir(parents=True)
    (disk,) = disks(tmp_path)
    assert disk.parts == ("home", "postgresql", "s3") and disk.folder == tmp_path
    assert 0 < disk.free_bytes < disk.total_bytes


def test_a_disk_of_its_own_is_told_apart() -> None:
    with small_disk(4) as folder:
        home = folder.parent / f"{folder.name}-home"
        (home / "objects").mkdir(parents=True)
        try:
            (home / "objects" / "data").symlink_to(folder)
            whole, s3 = disks(home)
            assert whole.parts == ("home",) and s3.parts == ("s3",)
            assert s3.total_bytes == 4 * 2**20 and s3.free_bytes <= s3.total_bytes
            (folder / "filler").write_bytes(bytes(3 * 2**20))
            assert disks(home)[1].free_bytes <= 2**20
        finally:
            shutil.rmtree(home)


def test_servers_elsewhere_have_none(tmp_path: Path) -> None:
    assert [disk.parts for disk in disks(tmp_path)] == [("home",)]
