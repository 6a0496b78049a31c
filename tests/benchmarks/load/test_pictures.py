"""What is stored and drawn from: real pictures, all of them different, as many as wanted."""

from pathlib import Path

import pytest
from PIL import Image

from benchmarks.load.pictures import write


@pytest.mark.parametrize("count", [10, 40])
def test_without_a_folder_they_are_the_demo_s(tmp_path: Path, count: int) -> None:
    files = write(tmp_path / "pictures", None, count)
    assert sorted((tmp_path / "pictures").iterdir()) == files and len(files) == count
    assert len({file.read_bytes() for file in files}) == count
    for file in files:
        with Image.open(file) as picture:
            picture.load()


def test_photos_of_a_folder_and_edited_copies_of_them(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for shade in (40, 120, 200):
        Image.new("RGB", (64, 48), (shade, shade, 0)).save(photos / f"{shade}.jpg")
    files = write(tmp_path / "pictures", photos, 4)
    assert [file.name.split("-", 1)[1] for file in files] == ["120.jpg", "edited-120.jpg", "200.jpg", "edited-200.jpg"]
    assert files[0].read_bytes() == (photos / "120.jpg").read_bytes()
