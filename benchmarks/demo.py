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
from benchmarks.edits import EDITS

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
    def dashboard(self) -> str:
        """Address of the Ray dashboard."""


@dataclass
class _Upload:
    name: str
    picture: Image.Image
    origin: str
    edit: str | None
    id: int = 0
    related: list[int] = field(default_factory=list)


def _uploads() -> list[_Upload]:
    folder = Path(skimage.__file__).parent / "data"
    photos = {name: Image.open(folder / name).convert("RGB") for name in PHOTOS}
    rng = np.random.default_rng(7)
    grounds = [photos[name] for name in PHOTOS if name not in EDITED]
    uploads = [_Upload(name, photo, name, None) for name, photo in photos.items()]
    for name in EDITED:
        for edit in SHOWN:
            edited = EDITS[edit](photos[name], rng, grounds)
            uploads.append(_Upload(f"{Path(name).stem}_{edit}.jpg", edited, name, edit))
    return uploads


def _file(upload: _Upload) -> bytes:
    buffer = io.BytesIO()
    kind = "PNG" if upload.name.endswith(".png") else "JPEG"
    upload.picture.save(buffer, kind, **({"quality": 85} if kind == "JPEG" else {}))
    return buffer.getvalue()


def _sheet(uploads: list[_Upload], path: Path) -> None:
    """One row a photograph: itself, then its copies, green where the service linked it to the photograph."""
    font = ImageFont.load_default(13)
    cell = TILE + 28
    sheet = Image.new("RGB", (cell * (len(SHOWN) + 1) + 10, cell * len(EDITED) + 10), "white")
    draw = ImageDraw.Draw(sheet)
    for row, name in enumerate(EDITED):
        family = [upload for upload in uploads if upload.origin == name]
        for column, upload in enumerate(family):
            tile = upload.picture.copy()
            tile.thumbnail((TILE, TILE))
            x, y = 10 + column * cell, 10 + row * cell
            found = family[0].id in upload.related
            colour = "#444444" if column == 0 else "#1a9850" if found else "#d73027"
            sheet.paste(tile, (x + 2, y + 2))
            draw.rectangle((x, y, x + tile.width + 3, y + tile.height + 3), outline=colour, width=3)
            text = "uploaded" if column == 0 else f"{upload.edit}: {'found' if found else 'missed'}"
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
        seen: dict[int, tuple[list[Any], Any]] = {}
        for upload in uploads:
            upload.related = [row["id"] for row in client.get(f"/image/{upload.id}/return_images") if row["id"] in ids]
            if upload.edit is None:
                seen[upload.id] = (
                    client.get(f"/image/{upload.id}/detections"),
                    client.get(f"/image/{upload.id}/moderation"),
                )
    table = Table(
        "picture", "copies found among the uploads", "people and objects", "may it stay?", title="What was found"
    )
    for upload in uploads:
        if upload.edit is not None:
            continue
        objects, verdict = seen[upload.id]
        copies = [ids[other] for other in upload.related]
        right = ", ".join(copy.edit or copy.name for copy in copies if copy.origin == upload.origin)
        wrong = ", ".join(copy.name for copy in copies if copy.origin != upload.origin)
        labels = ", ".join(f"{found['label']} {found['score']:.2f}" for found in objects[:3])
        table.add_row(
            upload.name, right + (f" [red]wrongly: {wrong}[/red]" if wrong else ""), labels or "–", _verdict(verdict)
        )
    console.print(table)
    edited = [upload for upload in uploads if upload.edit is not None]
    origins = {upload.origin: upload.id for upload in uploads if upload.edit is None}
    found = sum(origins[upload.origin] in upload.related for upload in edited)
    sheet = output / "contact_sheet.png"
    _sheet(uploads, sheet)
    failed = sum(status == "FAILED" for status in ended.values())
    console.print(
        f"{found} of {len(edited)} edited copies were linked to their photograph; {len(uploads)} pictures in "
        f"{seconds:.1f} s, {failed} failed."
    )
    console.print(
        f"Contact sheet: {sheet}\nThe service still runs: {service.url}/docs   {service.dashboard}", highlight=False
    )
    console.print("Stop it with `make down`; all data are kept.", highlight=False)


def _verdict(moderation: dict[str, Any]) -> str:
    scores = ", ".join(f"unsafe {one['score']:.1%}" for one in moderation["evidence"])
    return f"{moderation['verdict']} ({scores})" if scores else str(moderation["verdict"])
