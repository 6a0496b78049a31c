"""POST /search through the application; ranking itself is tested with the pipeline."""

import io
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.deployments.ingress.conftest import PdqPlatform, Upload, is_problem, picture


def smaller(data: bytes) -> bytes:
    """The same picture edited: smaller and a strong JPEG."""
    file = io.BytesIO()
    image = Image.open(io.BytesIO(data))
    image.resize((image.width * 3 // 4, image.height * 3 // 4)).save(file, "JPEG", quality=60)
    return file.getvalue()


async def test_a_copy_is_found_by_file_and_by_id(client: httpx.AsyncClient, upload: Upload) -> None:
    data = picture((320, 240))
    first, second = await upload(data), await upload(smaller(data), "копия.jpg")
    by_file = await client.post("/search", files={"file": ("q", data)})
    assert by_file.status_code == 200
    assert by_file.json()["model_name"]
    best, next_best = by_file.json()["matches"][:2]
    assert list(best) == ["id", "name", "s3_path", "kind", "method", "score", "threshold", "evidence"]
    assert (best["id"], best["kind"], best["score"]) == (first, "exact", 1.0)
    assert (next_best["id"], next_best["kind"], next_best["name"]) == (second, "copy", "копия.jpg")
    by_id = (await client.post("/search", data={"image_id": str(first)})).json()
    assert first not in [match["id"] for match in by_id["matches"]]
    assert second in [match["id"] for match in by_id["matches"]]


async def test_k_score_and_kinds_narrow(client: httpx.AsyncClient, upload: Upload) -> None:
    data = picture((320, 240))
    first, second = await upload(data), await upload(smaller(data))

    async def ids(**fields: Any) -> list[int]:
        answer = await client.post("/search", data=fields, files={"file": ("q", data)})
        assert answer.status_code == 200, answer.text
        return [match["id"] for match in answer.json()["matches"]]

    assert await ids(k="1") == [first]
    assert await ids(kinds="copy", k="1") == [second]
    assert await ids(kinds="exact, copy") == [first, second]
    assert await ids(kinds=["exact", "copy"]) == [first, second]
    assert await ids(kinds="semantic") == []
    assert await ids(min_score="1.0") == [first]
    assert await ids(model_name="", unknown="x") == [first, second]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"k": "0"}, "k"),
        ({"k": "201"}, "k"),
        ({"k": "x"}, "k"),
        ({"min_score": "-0.1"}, "min_score"),
        ({"min_score": "1.1"}, "min_score"),
        ({"min_score": "nan"}, "min_score"),
        ({"kinds": "external"}, "kinds"),
        ({"kinds": "copy,"}, "kinds.1"),
        ({"kinds": ""}, "kinds.0"),
        ({"model_name": "no-such-model"}, "model_name"),
        ({"model_name": "a b"}, "model_name"),
        ({"image_id": "1"}, "file"),
    ],
)
async def test_search_refuses_a_field(client: httpx.AsyncClient, fields: dict[str, str], field: str) -> None:
    answer = await client.post("/search", data=fields, files={"file": ("q", picture())})
    assert is_problem(answer, 422)["errors"][0]["field"] == field


async def test_search_refuses_what_it_cannot_search(client: httpx.AsyncClient, platform: PdqPlatform) -> None:
    is_problem(await client.post("/search"), 422)
    is_problem(await client.post("/search", data={"k": "1"}), 422)
    for bad in ("0", "x", "-1", str(2**63), "1.5", "٣"):
        is_problem(await client.post("/search", data={"image_id": bad}), 422)
    is_problem(await client.post("/search", data={"image_id": str(2**62)}), 404)
    is_problem(await client.post("/search", files={"file": ("q", b"")}), 422)
    is_problem(await client.post("/search", files={"file": ("q", b"no image")}), 415)
    platform.down = True
    is_problem(await client.post("/search", files={"file": ("q", picture())}), 503)
