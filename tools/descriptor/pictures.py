"""Training pictures: read once from folders and tar files, kept decoded in one memory-mapped file."""

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

Picture = NDArray[np.uint8]
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


def _files(source: Path) -> Iterator[tuple[str, bytes]]:
    if source.is_dir():
        for path in sorted(source.rglob("*")):
            if path.suffix.lower() in SUFFIXES:
                yield str(path.relative_to(source)), path.read_bytes()
    elif tarfile.is_tarfile(source):
        with tarfile.open(source) as archive:
            for member in archive:
                held = archive.extractfile(member) if Path(member.name).suffix.lower() in SUFFIXES else None
                if held is not None:
                    yield member.name, held.read()
    else:
        raise ValueError(f"{source} is neither a folder nor a tar file")


def _decode(data: bytes) -> Picture | None:
    """uint8[h, w, 3] RGB; what is transparent becomes white."""
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if picture is None or picture.dtype != np.uint8 or min(picture.shape[:2]) < 32:
        return None
    if picture.ndim == 2:
        return np.asarray(cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB), np.uint8)
    if picture.shape[2] == 4:
        opacity = picture[:, :, 3:].astype(np.float32) / 255
        picture = (picture[:, :, :3] * opacity + 255 * (1 - opacity)).astype(np.uint8)
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)


def _fit(picture: Picture, side: int) -> Picture:
    scale = side / max(picture.shape[:2])
    if scale >= 1:
        return picture
    size = (max(8, round(picture.shape[1] * scale)), max(8, round(picture.shape[0] * scale)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def _tiles(picture: Picture, side: int) -> Iterator[Picture]:
    """The picture, and of a large one its four corners and its centre, each of half its sides."""
    yield picture
    height, width = picture.shape[:2]
    if max(height, width) >= 2 * side:
        for y, x in ((0, 0), (0, 1), (1, 0), (1, 1), (0.5, 0.5)):
            top, left = int(y * (height - height // 2)), int(x * (width - width // 2))
            yield picture[top : top + height // 2, left : left + width // 2]


class Pictures:
    """Decoded pictures by number; ``groups[i]`` says which file picture i was cut from.

    Args:
        store: folder with the files that ``gather`` wrote.
    """

    def __init__(self, store: Path) -> None:
        described = json.loads((store / "pictures.json").read_text())
        self._shapes, self.groups = described["shapes"], np.asarray(described["groups"])
        self._starts = np.concatenate([[0], np.cumsum([3 * height * width for height, width in self._shapes])])
        self._pixels = np.memmap(store / "pictures.raw", np.uint8, "r")

    def __len__(self) -> int:
        return len(self._shapes)

    def __getitem__(self, number: int) -> Picture:
        height, width = self._shapes[number]
        start = self._starts[number]
        return np.asarray(self._pixels[start : start + 3 * height * width]).reshape(height, width, 3)


def gather(sources: list[Path], store: Path, side: int = 224) -> Pictures:
    """Decodes every picture of the sources into the store, which is made once and then only read.

    Args:
        sources: folders and tar files.
        store: folder for the decoded pictures (about 1.2 GB for 10,000).
        side: long side of a kept picture, pixels; larger ones are also cut into tiles.
    Raises:
        ValueError: a source holds no pictures.
    """
    if not (store / "pictures.json").exists():
        store.mkdir(parents=True, exist_ok=True)
        shapes: list[tuple[int, int]] = []
        groups: list[int] = []
        group = unreadable = 0
        with (store / "pictures.raw").open("wb") as raw:
            for source in sources:
                before = group
                for _name, data in tqdm(_files(source), desc=source.name, unit="picture"):
                    picture = _decode(data)
                    if picture is None:
                        unreadable += 1
                        continue
                    for tile in _tiles(picture, side):
                        kept = np.ascontiguousarray(_fit(tile, side))
                        raw.write(kept.tobytes())
                        shapes.append((kept.shape[0], kept.shape[1]))
                        groups.append(group)
                    group += 1
                if group == before:
                    raise ValueError(f"{source} holds no pictures")
        (store / "pictures.json").write_text(json.dumps({"shapes": shapes, "groups": groups}))
        print(f"{len(shapes)} pictures cut from {group} files; {unreadable} files could not be used")
    return Pictures(store)
