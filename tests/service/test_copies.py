"""The platform's own processing: copies are linked with evidence, people are seen, searches agree, deletion is complete."""

import uuid

import httpx
import pytest

from benchmarks.client import Client
from graphs.service import Running
from tests.service.pictures import NAMES, edited, jpeg, photo

pytestmark = pytest.mark.service
FOUND = ("jpeg10", "shrink", "crop70", "mirror", "quarter_turn", "blur", "recolour", "greyscale", "meme", "border")


def test_edited_copies_are_linked_and_strangers_are_not(client: Client) -> None:
    originals = {name: client.upload(name, jpeg(photo(name))) for name in NAMES}
    copies = {edit: client.upload(f"{edit}.jpg", edited("astronaut.png", edit)) for edit in FOUND}
    ids = [*originals.values(), *copies.values()]
    assert set(client.wait(ids, timeout_s=120).values()) == {"PROCESSED"}
    astronaut = originals["astronaut.png"]
    matches = {row["id"]: row for row in client.get(f"/image/{astronaut}/matches")}
    assert set(copies.values()) <= set(matches), "every edit is found"
    strangers = set(originals.values()) - {astronaut}
    assert not strangers & set(matches)
    for row in matches.values():
        assert row["kind"] in ("copy", "exact", "semantic") and row["threshold"] <= row["score"] <= 1
        assert row["method"] in ("pdq", "descriptor", "shape", "geometry", "sha256") and row["evidence"]
    mirror = matches[copies["mirror"]]
    back = client.get(f"/image/{copies['mirror']}/matches")
    assert [(r["score"], r["method"]) for r in back if r["id"] == astronaut] == [(mirror["score"], mirror["method"])]
    result = client.get(f"/image/{astronaut}/processed")["result"]
    assert [int(other) for other in result] == [row["id"] for row in client.get(f"/image/{astronaut}/return_images")]

    people = client.get(f"/image/{astronaut}/detections")
    assert people[0]["label"] == "person" and people[0]["box"]["x1"] <= 512
    assert client.get(f"/image/{astronaut}/moderation")["verdict"] == "allow"


def test_a_search_finds_without_storing(client: Client, service: Running) -> None:
    # No other test stores it: of a picture with many copies a search looks at the nearest dozen.
    stored = client.upload("ihc.png", jpeg(photo("ihc.png")))
    client.wait([stored], timeout_s=60)
    before = client.get("/image/all", status="PROCESSED")
    found = client.search("query.jpg", edited("ihc.png", "mirror"))
    assert stored in [row["id"] for row in found if row["kind"] == "copy"]
    exact = client.search("query.jpg", jpeg(photo("ihc.png")))
    assert exact[0]["kind"] == "exact"
    assert client.get("/image/all", status="PROCESSED") == before


def test_a_deleted_image_is_found_no_more(client: Client, service: Running) -> None:
    file = edited("rocket.jpg", "recolour", seed=3)
    image = client.upload("rocket.jpg", file)
    client.wait([image], timeout_s=60)
    link = client.get(f"/image/{image}")["s3_path"]
    assert image in [row["id"] for row in client.search("q.jpg", file)]
    with httpx.Client(base_url=f"{service.url}/api/v1", headers={"X-API-Key": service.key}) as http:
        address = http.get(f"/image/{image}/file").headers["location"]
        assert httpx.get(address).content == file and link.split("/")[1] in address
        assert http.delete(f"/image/{image}").status_code == 204
        assert http.get(f"/image/{image}").status_code == 404
        assert httpx.get(address).status_code == 404
    assert image not in [row["id"] for row in client.search("q.jpg", file)]


def test_a_broken_picture_harms_no_batch_mate(client: Client, service: Running) -> None:
    import io

    import numpy as np
    from PIL import Image

    # Damaged in a way that the upload's check lets pass on purpose: too many pixels to be decoded by the ingress.
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (5200, 5200), np.uint8))
    buffer = io.BytesIO()
    noise.save(buffer, "GIF")
    damaged = bytearray(buffer.getvalue())
    damaged[len(damaged) // 2 :] = b"\x00" * 40
    names = [f"{uuid.uuid4().hex}.jpg" for _ in range(6)]
    good = [client.upload(name, edited("coins.png", "crop70", seed)) for seed, name in enumerate(names)]
    bad = client.upload("damaged.gif", bytes(damaged))
    more = [client.upload(name, edited("coins.png", "crop50", seed)) for seed, name in enumerate(names)]
    ended = client.wait([*good, bad, *more], timeout_s=120)
    assert ended[bad] == "FAILED"
    assert {ended[image] for image in (*good, *more)} == {"PROCESSED"}
    with httpx.Client(base_url=f"{service.url}/api/v1", headers={"X-API-Key": service.key}) as http:
        answer = http.get(f"/image/{bad}/processed")
    assert answer.status_code == 409 and "damaged" in answer.json()["detail"]
