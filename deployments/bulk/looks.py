"""Looks as bytes: what was seen in the pictures of a unit is kept until their links are made. Knows nothing of Ray."""

import io
import json
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deployments.pipeline.look import Look
from deployments.vision.details import Details
from deployments.vision.interfaces import Box
from deployments.vision.views import View

VERSION = 1
_ARRAYS = ("pdq", "shapes", "grey")


def to_bytes(looks: Sequence[tuple[int, Look]]) -> bytes:
    """Pictures by id with what was seen in each: a NumPy archive without pickled objects."""
    arrays: dict[str, Any] = {}
    heads = []
    for number, (image_id, found) in enumerate(looks):
        arrays |= {f"{number}.{name}": getattr(found, name) for name in _ARRAYS}
        arrays |= {f"{number}.vectors.{place}": some for place, some in enumerate(found.vectors.values())}
        if found.semantic is not None:
            arrays[f"{number}.semantic"] = found.semantic
        if found.details is not None:
            arrays[f"{number}.details"] = np.frombuffer(found.details.to_bytes(), np.uint8)
        heads.append(
            {
                "image_id": image_id,
                "descriptors": list(found.vectors),
                "sha256": found.sha256.hex(),
                "pdq_quality": found.pdq_quality,
                "unsafe": found.unsafe,
                "inner": found.inner,
                "boxes": [[box.label, box.score, *box.corners] for box in found.boxes],
                "views": [[view.name, view.box, view.turns, view.stored] for view in found.views],
                "shape_views": [[view.name, view.box, view.turns, view.stored] for view in found.shape_views],
            }
        )
    head = json.dumps({"version": VERSION, "looks": heads}).encode()
    buffer = io.BytesIO()
    np.savez(buffer, head=np.frombuffer(head, np.uint8), **arrays)
    return buffer.getvalue()


def from_bytes(data: bytes) -> list[tuple[int, Look]]:
    """What ``to_bytes`` wrote.

    Raises:
        ValueError: cut short, damaged, or of another version.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            head = json.loads(archive["head"].tobytes())
            if head["version"] != VERSION:
                raise ValueError(f"looks of version {head['version']}, not {VERSION}")
            return [(one["image_id"], _look(archive, number, one)) for number, one in enumerate(head["looks"])]
    except (zipfile.BadZipFile, KeyError, EOFError, OSError) as error:
        raise ValueError(f"{len(data)} bytes are not looks: cut short or damaged") from error


def _look(archive: Any, number: int, head: dict[str, Any]) -> Look:
    def optional(name: str) -> NDArray[Any] | None:
        found: NDArray[Any] | None = archive.get(f"{number}.{name}")
        return found

    def views(name: str) -> list[View]:
        return [View(title, tuple(box), turns, stored) for title, box, turns, stored in head[name]]

    pdq, shapes, grey = (archive[f"{number}.{name}"] for name in _ARRAYS)
    details = optional("details")
    return Look(
        sha256=bytes.fromhex(head["sha256"]),
        pdq=pdq,
        pdq_quality=head["pdq_quality"],
        boxes=[Box(*box) for box in head["boxes"]],
        unsafe=head["unsafe"],
        views=views("views"),
        vectors={name: archive[f"{number}.vectors.{place}"] for place, name in enumerate(head["descriptors"])},
        shape_views=views("shape_views"),
        shapes=shapes,
        semantic=optional("semantic"),
        details=Details.from_bytes(details.tobytes()) if details is not None else None,
        grey=grey,
        inner=tuple(head["inner"]) if head["inner"] is not None else None,
    )
