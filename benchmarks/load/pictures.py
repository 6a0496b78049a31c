"""The files that are stored before the load and drawn from under it."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import skimage
from PIL import Image

from benchmarks.client import Client
from benchmarks.demo import PHOTOS
from benchmarks.pictures import stream
from graphs.service import Running


def write(folder: Path, photos: Path | None, count: int) -> list[Path]:
    """Writes ``count`` pictures into a new folder: photos and edited copies of them, further variants where those run out.

    Args:
        photos: folder of JPEG files; None takes the demo's photographs.
    """
    folder.mkdir()
    if photos is None:
        photos = folder.with_name(f"{folder.name}-of-the-demo")
        photos.mkdir()
        for name in PHOTOS:
            with Image.open(Path(skimage.__file__).parent / "data" / name) as photo:
                photo.convert("RGB").save(photos / f"{Path(name).stem}.jpg", quality=90)
    files = []
    for number, (name, content) in enumerate(stream(photos, count)):
        files.append(folder / f"{number:05}-{name}")
        files[-1].write_bytes(content)
    return files


def store(running: Running, files: list[Path]) -> None:
    """Uploads pictures and waits until they are PROCESSED."""
    with Client(running.url, running.key) as client, ThreadPoolExecutor(8) as pool:
        client.wait(pool.map(lambda file: client.upload(file.name, file.read_bytes(), key=file.name), files))
