"""Are edited copies found among hundreds of other pictures, through the API?

    python -m benchmarks.copies PHOTOS

Brings the service up in a folder of its own (removed afterwards), uploads PHOTOS, then photographs of scikit-image and
every edit of each by ``POST /image``, and asks ``GET /image/{id}/matches`` of each photograph.
"""

import argparse
import io
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import skimage
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.client import Client
from benchmarks.edits import EVERYDAY
from graphs.service import down, up

SOURCES = ("astronaut.png", "chelsea.png", "coffee.png", "camera.png", "motorcycle_left.png", "rocket.jpg")


def jpeg(picture: Image.Image) -> bytes:
    """A JPEG file of quality 90."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def main() -> None:
    """Uploads, asks, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    options = parser.parse_args()
    others = sorted(options.photos.glob("*.jpg"))
    grounds = [Image.open(path).convert("RGB") for path in others[:20]]
    folder = Path(skimage.__file__).parent / "data"
    rng = np.random.default_rng(1)
    uploads = [(path.name, path.read_bytes()) for path in others]
    for source in SOURCES:
        photo = Image.open(folder / source).convert("RGB")
        uploads.append((source, jpeg(photo)))
        uploads += [(f"{source}:{name}", jpeg(edit(photo, rng, grounds))) for name, edit in EVERYDAY.items()]
    home = Path(tempfile.mkdtemp(prefix="sg-copies-"))
    home.chmod(0o755)
    console = Console(width=110)
    try:
        running = up(home, say=lambda _: None)
        with Client(running.url, running.key) as client, ThreadPoolExecutor(8) as pool:
            ids = dict(
                zip((u[0] for u in uploads), pool.map(lambda u: client.upload(*u, key=u[0]), uploads), strict=True)
            )
            ended = client.wait(ids.values())
            names = {number: name for name, number in ids.items()}
            matches = {s: {names[row["id"]]: row for row in client.get(f"/image/{ids[s]}/matches")} for s in SOURCES}
    finally:
        down(home)
        shutil.rmtree(home, ignore_errors=True)
    table = Table("edit", *SOURCES, title=f"edited copies found among {len(others)} other photographs")
    for edit in EVERYDAY:
        found = (matches[source].get(f"{source}:{edit}") for source in SOURCES)
        table.add_row(edit, *(f"{row['method']} {row['score']:.3f}" if row else "missed" for row in found))
    hits = {s: sum(f"{s}:{edit}" in matches[s] for edit in EVERYDAY) for s in SOURCES}
    table.add_row("found", *(f"{hits[source]} of {len(EVERYDAY)}" for source in SOURCES))
    wrong = {s: sum(not name.startswith(s) for name in matches[s]) for s in SOURCES}
    table.add_row("wrongly matched", *(str(wrong[source]) for source in SOURCES))
    console.print(table)
    console.print(f"{sum(status == 'PROCESSED' for status in ended.values())} of {len(uploads)} uploads PROCESSED")


if __name__ == "__main__":
    main()
