"""Matches, detections and the file of a stored image."""

import io

import httpx
import numpy as np
from PIL import Image
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import Settings
from deployments.ingress.evidence import blurred
from storage import claims
from storage.claims import FoundObject, Outcome
from storage.links import Link
from storage.objects import ObjectStore
from tests.deployments.ingress.conftest import MakeApp, MakeClient, Upload, is_problem, picture
from tests.filtering import SAFE, UNSAFE, processed


async def test_matches_and_detections_show_the_evidence(
    client: httpx.AsyncClient, engine: AsyncEngine, upload: Upload, queue: str
) -> None:
    ids = [await upload(name=f"{number}.png") for number in range(3)]
    held = await claims.claim(engine, [queue], 3, lease_s=60, max_attempts=3)
    links = [
        Link(ids[0], "copy", "descriptor", 0.8, 0.6, {"view": "mirrored"}),
        Link(ids[1], "exact", "sha256", 1.0, 1.0, {}),
    ]
    box = FoundObject("person", 0.9, (1.0, 2.0, 30.0, 40.5), "nanodet@1")
    done = await claims.finish(engine, [Outcome(held[0]), Outcome(held[1]), Outcome(held[2], links, [box])])
    assert done == set(ids)

    shown = (await client.get(f"/image/{ids[2]}/matches")).json()
    assert [match["id"] for match in shown] == [ids[1], ids[0]]
    assert shown[1].pop("created_at").endswith("+00:00")
    path = (await client.get(f"/image/{ids[0]}")).json()["s3_path"]
    assert shown[1] == {
        "id": ids[0], "name": "0.png", "s3_path": path, "kind": "copy", "method": "descriptor", "score": 0.8,
        "threshold": 0.6, "evidence": {"view": "mirrored"},
    }  # fmt: skip
    assert [match["id"] for match in (await client.get(f"/image/{ids[0]}/matches")).json()] == [ids[2]]

    assert (await client.get(f"/image/{ids[2]}/detections")).json() == [
        {"label": "person", "score": 0.9, "box": {"x0": 1.0, "y0": 2.0, "x1": 30.0, "y1": 40.5}, "model": "nanodet@1"}
    ]
    assert (await client.get(f"/image/{ids[0]}/detections")).json() == []


async def test_the_file_is_behind_a_signed_address(client: httpx.AsyncClient, upload: Upload) -> None:
    data = picture()
    answer = await client.get(f"/image/{await upload(data)}/file")
    assert answer.status_code == 307
    address = answer.headers["location"]
    async with httpx.AsyncClient(timeout=10) as anyone:
        assert (await anyone.get(address)).content == data
        assert (await anyone.get(address.split("?")[0])).status_code == 403


async def test_the_preview_is_small_and_blurred(client: httpx.AsyncClient, upload: Upload) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (500, 900, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    image_id = await upload(file.getvalue())
    answer = await client.get(f"/image/{image_id}/file?preview=blurred")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    shown = Image.open(io.BytesIO(answer.content))
    assert (shown.format, max(shown.size)) == ("JPEG", 320)
    # Noise of neighbouring pixels is gone: their difference falls from tens of grey levels to about one.
    grey = np.asarray(shown.convert("L"), np.float32)
    assert np.abs(np.diff(grey, axis=1)).mean() < 3
    is_problem(await client.get(f"/image/{image_id}/file?preview=sharp"), 422)


async def test_an_object_of_a_corpus_that_has_grown_is_not_read(
    make_app: MakeApp, make_client: MakeClient, upload: Upload, engine: AsyncEngine, objects: ObjectStore,
    servers: Settings,
) -> None:  # fmt: skip
    image_id = await upload()
    async with engine.begin() as connection:
        statement = text("UPDATE image SET s3_path = :home || s3_path WHERE id = :id")
        await connection.execute(statement, {"home": objects.address(""), "id": image_id})
    small = ObjectStore(servers.model_copy(update={"max_upload_bytes": 100}))
    reader = await make_client("image:read", target=await make_app({"objects": small}))
    for answer in (
        await reader.get(f"/image/{image_id}/file?preview=blurred"),
        await reader.post("/search", data={"image_id": str(image_id)}),
    ):
        assert is_problem(answer, 413)["detail"] == "the object is over the limit of 100 bytes"
    small.close()


async def test_guarded_files_are_clear_only_for_whom_asks(
    make_app: MakeApp, make_client: MakeClient, upload: Upload, engine: AsyncEngine, objects: ObjectStore
) -> None:
    safe, unsafe = await processed(engine, objects, [SAFE, UNSAFE])
    waiting = await upload()
    guarded = await make_client("image:read", target=await make_app(guard_files=True))
    for image, status in ((safe, 307), (unsafe, 200), (waiting, 200)):
        answer = await guarded.get(f"/image/{image}/file")
        assert answer.status_code == status
        assert (answer.headers.get("content-type") == "image/jpeg") == (status == 200)
        assert (await guarded.get(f"/image/{image}/file?clear=true")).status_code == 307
        assert (await guarded.get(f"/image/{image}/file?clear=true&preview=blurred")).status_code == 200
    open_one = await make_client("image:read")
    assert (await open_one.get(f"/image/{unsafe}/file")).status_code == 307, (
        "the documented call, unless told otherwise"
    )


def test_a_small_picture_is_not_enlarged() -> None:
    assert Image.open(io.BytesIO(blurred(picture((40, 30)), 10_000))).size == (40, 30)
