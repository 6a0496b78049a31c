"""The demo: real photographs and edited copies go through the REST API; a table and a contact sheet show what was found."""

import io
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import skimage
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.client import Client
from benchmarks.edits import EVERYDAY

PHOTOS = {
    "astronaut.png": "an astronaut",
    "chelsea.png": "a cat",
    "coffee.png": "a cup of coffee",
    "camera.png": "a cameraman",
    "rocket.jpg": "a rocket",
    "motorcycle_left.png": "a motorcycle",
    "coins.png": "coins",
    "hubble_deep_field.jpg": "galaxies",
    "retina.jpg": "a retina",
    "moon.png": "the moon",
    "clock_motion.png": "a clock",
    "ihc.png": "cells",
}
EDITED = list(PHOTOS)[:6]
SHOWN = ("crop70", "mirror", "meme", "recolour", "border", "pasted")
TILE = 150


class Service(Protocol):
    """Where the service is and its key."""

    @property
    def url(self) -> str:
        """Address of the API."""

    @property
    def key(self) -> str:
        """API key."""

    @property
    def key_file(self) -> Path:
        """Where the key lies."""

    @property
    def dashboard(self) -> str:
        """Address of the Ray dashboard."""


@dataclass
class _Upload:
    name: str
    picture: Image.Image
    origin: str
    edit: str | None
    id: int = 0
    matches: dict[int, dict[str, Any]] = field(default_factory=dict)
    objects: list[dict[str, Any]] = field(default_factory=list)


def _uploads() -> list[_Upload]:
    folder = Path(skimage.__file__).parent / "data"
    photos = {name: Image.open(folder / name).convert("RGB") for name in PHOTOS}
    rng = np.random.default_rng(7)
    grounds = [photos[name] for name in PHOTOS if name not in EDITED]
    uploads = [_Upload(name, photo, name, None) for name, photo in photos.items()]
    for name in EDITED:
        for edit in SHOWN:
            edited = EVERYDAY[edit](photos[name], rng, grounds)
            uploads.append(_Upload(f"{Path(name).stem}_{edit}.jpg", edited, name, edit))
    return uploads


def _file(upload: _Upload) -> bytes:
    buffer = io.BytesIO()
    kind = "PNG" if upload.name.endswith(".png") else "JPEG"
    upload.picture.save(buffer, kind, **({"quality": 85} if kind == "JPEG" else {}))
    return buffer.getvalue()


def _draw_boxes(tile: Image.Image, upload: _Upload) -> None:
    """The boxes of people and objects, and of the region by which the picture was matched, on a thumbnail."""
    draw = ImageDraw.Draw(tile)
    share = tile.width / upload.picture.width
    for found in upload.objects[:3]:
        box = found["box"]
        draw.rectangle([box[edge] * share for edge in ("x0", "y0", "x1", "y1")], outline="#4575b4", width=1)
        draw.text((box["x0"] * share + 3, box["y0"] * share + 2), found["label"], fill="#4575b4")
    for match in upload.matches.values():
        boxes = match["evidence"].get("boxes", {})
        if match["evidence"].get("view") == "region" and str(upload.id) in boxes:
            x0, y0, x1, y1 = boxes[str(upload.id)]
            area = (x0 * tile.width, y0 * tile.height, x1 * tile.width - 1, y1 * tile.height - 1)
            draw.rectangle(area, outline="#fee090", width=2)


def _sheet(uploads: list[_Upload], path: Path) -> None:
    """One row a photograph: itself, then its copies, framed green where the service linked them to it."""
    font = ImageFont.load_default(13)
    cell = TILE + 28
    sheet = Image.new("RGB", (cell * (len(SHOWN) + 1) + 10, cell * len(EDITED) + 10), "white")
    draw = ImageDraw.Draw(sheet)
    for row, name in enumerate(EDITED):
        family = [upload for upload in uploads if upload.origin == name]
        for column, upload in enumerate(family):
            tile = upload.picture.copy()
            tile.thumbnail((TILE, TILE))
            _draw_boxes(tile, upload)
            x, y = 10 + column * cell, 10 + row * cell
            match = upload.matches.get(family[0].id)
            colour = "#444444" if column == 0 else "#1a9850" if match else "#d73027"
            sheet.paste(tile, (x + 2, y + 2))
            draw.rectangle((x, y, x + tile.width + 3, y + tile.height + 3), outline=colour, width=3)
            said = f"{match['kind']} {match['score']:.2f}" if match else "missed"
            text = "uploaded" if column == 0 else f"{upload.edit}: {said}"
            draw.text((x, y + tile.height + 6), text, fill=colour, font=font)
    sheet.save(path)


def run(service: Service, output: Path, console: Console) -> None:
    """Uploads, waits, prints the table, writes the contact sheet. The service is left running.

    Args:
        service: a running one.
        output: folder of the contact sheet; made where it is missing.
    """
    output.mkdir(parents=True, exist_ok=True)
    uploads = _uploads()
    batch = uuid.uuid4().hex
    bar = (TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Client(service.url, service.key) as client, Progress(*bar, console=console) as progress:
        task = progress.add_task("uploaded", total=len(uploads))
        begun = time.monotonic()
        for upload in uploads:
            upload.id = client.upload(upload.name, _file(upload), key=f"{batch}-{upload.name}")
            progress.advance(task)
        task = progress.add_task("processed", total=len(uploads))
        ended = client.wait(
            [upload.id for upload in uploads], pause_s=0.3, progress=lambda done: progress.update(task, completed=done)
        )
        seconds = time.monotonic() - begun
        ids = {upload.id: upload for upload in uploads}
        for upload in uploads:
            upload.matches = {row["id"]: row for row in client.get(f"/image/{upload.id}/matches") if row["id"] in ids}
            upload.objects = client.get(f"/image/{upload.id}/detections")
        originals = [upload for upload in uploads if upload.edit is None]
        verdicts = {upload.id: client.get(f"/image/{upload.id}/moderation") for upload in originals}
    found = _report(uploads, verdicts, console)
    sheet = output / "contact_sheet.png"
    _sheet(uploads, sheet)
    failed = sum(status == "FAILED" for status in ended.values())
    edited = sum(upload.edit is not None for upload in uploads)
    console.print(
        f"{found} of {edited} edited copies were linked to their photograph; {len(uploads)} pictures in "
        f"{seconds:.1f} s, {failed} failed.\nContact sheet: {sheet}",
        highlight=False,
    )
    _next_steps(service, uploads[0].id, console)


def _report(uploads: list[_Upload], verdicts: dict[int, Any], console: Console) -> int:
    """Prints what matched what; returns how many edited copies were linked to their photograph."""
    ids = {upload.id: upload for upload in uploads}
    table = Table("photograph", "match", "kind", "by", "score", "needed", title="What matched what")
    found = 0
    for upload in uploads:
        if upload.edit is not None:
            continue
        for place, row in enumerate(sorted(upload.matches.values(), key=lambda row: -row["score"])):
            other = ids[row["id"]]
            right = other.origin == upload.origin
            found += right
            name = other.name if right else f"[red]{other.name} (another picture)[/red]"
            first = upload.name if place == 0 else ""
            table.add_row(first, name, row["kind"], row["method"], f"{row['score']:.3f}", f"{row['threshold']:.3f}")
        table.add_section()
    console.print(table)
    table = Table("photograph", "people and objects", "may it stay?", title="What is in them")
    for upload in uploads:
        if upload.edit is None:
            labels = ", ".join(f"{one['label']} {one['score']:.2f}" for one in upload.objects[:4])
            table.add_row(upload.name, labels or "–", _verdict(verdicts[upload.id]))
    console.print(table)
    return found


def _next_steps(service: Service, image: int, console: Console) -> None:
    key = f'-H "Authorization: Bearer $(cat {service.key_file})"'
    console.print("\nThe service still runs. Try:", highlight=False)
    for line in (
        f"curl {key} -F file=@picture.jpg {service.url}/api/v1/search",
        f"curl {key} {service.url}/api/v1/image/{image}/matches",
        f"open {service.url}/docs   (every call, with examples)",
        f"open {service.dashboard}   (the Ray dashboard; its token is in ray.token beside the key)",
        "make status     make down   (all data are kept)",
    ):
        console.print(f"  {line}", highlight=False, soft_wrap=True)


def _verdict(moderation: dict[str, Any]) -> str:
    scores = ", ".join(f"unsafe {score:.1%}" for score in moderation["evidence"]["content_scores"].values())
    return f"{moderation['verdict']} ({scores})" if scores else str(moderation["verdict"])
