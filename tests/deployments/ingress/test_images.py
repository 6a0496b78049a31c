"""Documented endpoints 1 to 3, and deleting."""

import asyncio
import json
import re
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from deployments.vision.sandbox import Sandbox
from storage.objects import ObjectStore
from tests.deployments.ingress.conftest import MakeApp, MakeClient, PdqPlatform, Upload, is_problem, picture
from tests.deployments.vision.test_sandbox import HASTY_S, slow

TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00$")


async def test_upload_answers_exactly_the_document(client: httpx.AsyncClient, queue: str) -> None:
    form = {"name": "image1.jpg", "model_name": queue, "an_old_field": "x"}
    answer = await client.post("/image?unknown=1", data=form, files={"file": ("x", picture(), "text/plain")})
    shown = answer.json()
    assert answer.status_code == 201
    assert list(shown) == ["id", "name", "status", "created_at"]
    assert type(shown["id"]) is int and shown["name"] == "image1.jpg" and shown["status"] == "UPLOADED"
    assert TIME.match(shown["created_at"])
    assert answer.headers["location"] == f"/api/v1/image/{shown['id']}"


async def test_one_image_answers_exactly_the_document(
    client: httpx.AsyncClient, upload: Upload, objects: ObjectStore
) -> None:
    data = picture()
    image_id = await upload(data)
    answer = await client.get(f"/image/{image_id}")
    shown = answer.json()
    assert answer.status_code == 200
    assert list(shown) == ["id", "name", "status", "created_at", "uploaded_at", "s3_path"]
    assert (shown["id"], shown["name"], shown["status"]) == (image_id, "image1.jpg", "UPLOADED")
    assert TIME.match(shown["created_at"]) and TIME.match(shown["uploaded_at"])
    assert re.match(r"^images/[0-9a-f-]{36}_image1\.jpg$", shown["s3_path"])
    assert await objects.get(shown["s3_path"]) == data


async def test_list_answers_exactly_the_document(client: httpx.AsyncClient, upload: Upload) -> None:
    first, second = await upload(), await upload(name="кот «7».png")
    answer = await client.get("/image/all", params={"status": "UPLOADED", "after": first - 1})
    rows = answer.json()
    assert answer.headers["content-type"] == "application/json"
    assert [row["id"] for row in rows] == [first, second]
    assert all(list(row) == ["id", "name", "s3_path"] for row in rows)
    assert rows[1]["name"] == "кот «7».png"


async def test_list_of_5000_streams_and_pages(client: httpx.AsyncClient, engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        ids = list(
            (
                await connection.execute(
                    text(
                        "INSERT INTO image (name, status, model_name, s3_path, sha256, size_bytes, media_type, width,"
                        " height, uploaded_at) SELECT 'n', 'PROCESSED', 'many', 'images/none_' || gen_random_uuid(),"
                        " sha256(n::text::bytea), 1, 'image/png', 1, 1, now() FROM generate_series(1, 5000) n RETURNING id"
                    )
                )
            ).scalars()
        )
    try:
        async with client.stream("GET", f"/image/all?status=PROCESSED&after={ids[0] - 1}") as answer:
            chunks = [chunk async for chunk in answer.aiter_raw()]
        listed = [row["id"] for row in json.loads(b"".join(chunks))]
        assert [one for one in listed if one in set(ids)] == sorted(ids)
        assert "content-length" not in answer.headers

        address: str | None = f"/image/all?status=PROCESSED&after={ids[0] - 1}&limit=1500"
        pages: list[list[int]] = []
        while address:
            page = await client.get(address.removeprefix("/api/v1"))
            pages.append([row["id"] for row in page.json()])
            link = page.headers.get("link")
            match = re.match(r'^<(/api/v1/image/all\?[^>]+)>; rel="next"$', link) if link else None
            assert bool(match) == bool(link)
            address = match[1] if match else None
        assert [one for page_ids in pages for one in page_ids] == listed
        assert [len(page_ids) for page_ids in pages[:3]] == [1500] * 3
    finally:
        async with engine.begin() as connection:
            await connection.execute(text("DELETE FROM image WHERE model_name = 'many'"))


async def test_a_full_last_page_has_no_next(client: httpx.AsyncClient, upload: Upload) -> None:
    first, _ = await upload(), await upload()
    answer = await client.get("/image/all", params={"status": "UPLOADED", "after": first - 1, "limit": 2})
    assert len(answer.json()) == 2 and "link" not in answer.headers


async def test_an_empty_list_is_an_array(client: httpx.AsyncClient) -> None:
    answer = await client.get("/image/all", params={"status": "FAILED", "after": 2**62})
    assert answer.json() == []


@pytest.mark.parametrize(
    "query", ["", "status=", "status=uploaded", "status=DELETED", "status=UPLOADED&limit=0", "status=UPLOADED&limit=10001",
              "status=UPLOADED&after=-1", f"status=UPLOADED&after={2**63}", "status=UPLOADED&limit=x"],
)  # fmt: skip
async def test_list_refuses(client: httpx.AsyncClient, query: str) -> None:
    shown = is_problem(await client.get(f"/image/all?{query}"), 422)
    assert shown["errors"][0]["field"] in ("status", "limit", "after")


@pytest.mark.parametrize("bad", ["0", "-1", str(2**63), str(10**30), "9" * 5000, "x", "1.5", "%00", "1%00"])
@pytest.mark.parametrize(
    "tail", ["", "/processed", "/return_images", "/matches", "/detections", "/moderation", "/file"]
)
async def test_an_impossible_id_is_no_500(client: httpx.AsyncClient, bad: str, tail: str) -> None:
    is_problem(await client.get(f"/image/{bad}{tail}"), 422)


@pytest.mark.parametrize(
    "tail", ["", "/processed", "/return_images", "/matches", "/detections", "/moderation", "/file"]
)
async def test_an_absent_image_is_404(client: httpx.AsyncClient, tail: str) -> None:
    is_problem(await client.get(f"/image/{2**63 - 1}{tail}"), 404)


@pytest.mark.parametrize(
    ("fields", "at_fault"),
    [
        ({"name": ""}, "name"),
        ({"name": "   "}, "name"),
        ({"name": "n" * 256}, "name"),
        ({"name": "a\x00b"}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": None}, "name"),
        ({"model_name": ""}, "model_name"),
        ({"model_name": "a b"}, "model_name"),
        ({"model_name": "a/b"}, "model_name"),
        ({"model_name": "m" * 129}, "model_name"),
        ({"model_name": "m\n"}, "model_name"),
        ({"model_name": None}, "model_name"),
    ],
)
async def test_upload_refuses_a_field(client: httpx.AsyncClient, fields: dict[str, Any], at_fault: str) -> None:
    form = {key: value for key, value in {"name": "n", "model_name": "m", **fields}.items() if value is not None}
    shown = is_problem(await client.post("/image", data=form, files={"file": ("f", picture())}), 422)
    assert [error["field"] for error in shown["errors"]] == [at_fault]


async def test_upload_refuses_a_body_without_a_file(client: httpx.AsyncClient) -> None:
    form = {"name": "n", "model_name": "m"}
    for body in ({"data": form}, {"data": {**form, "file": "text"}}, {"json": form}, {"content": b"\xff" * 40}, {}):
        is_problem(await client.post("/image", **body), 422)
    broken = {"content-type": "multipart/form-data; boundary=x"}
    is_problem(await client.post("/image", content=b"--x\r\nnonsense", headers=broken), 422)
    is_problem(await client.post("/image", content=b"--x", headers={"content-type": "multipart/form-data"}), 422)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", 422),
        (b"GIF89a", 415),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415),
        (b"%PDF-1.7", 415),
        (None, 415),
    ],
)
async def test_upload_refuses_what_is_no_image(
    client: httpx.AsyncClient, queue: str, data: bytes | None, status: int
) -> None:
    cut = picture((400, 300), kind="JPEG")[:2000]
    sent = {"file": ("cat.jpg", cut if data is None else data, "image/jpeg")}
    is_problem(await client.post("/image", data={"name": "n", "model_name": queue}, files=sent), status)


async def test_upload_refuses_too_many_pixels_and_bytes(make_app: MakeApp, make_client: MakeClient, queue: str) -> None:
    small = await make_client("image:write", target=await make_app(max_pixels=5000, max_upload_bytes=20_000))
    form = {"name": "n", "model_name": queue}
    is_problem(await small.post("/image", data=form, files={"file": ("f", picture((96, 64)))}), 413)
    is_problem(await small.post("/image", data=form, files={"file": ("f", bytes(20_001))}), 413)
    assert (await small.post("/image", data=form, files={"file": ("f", picture((60, 60)))})).status_code == 201


async def test_names_of_any_language_and_full_length(client: httpx.AsyncClient, upload: Upload) -> None:
    for name in ("я" * 255, "🐈.png", "../../etc/passwd", "a'; DROP TABLE image; --", "%s{}"):
        shown = (await client.get(f"/image/{await upload(name=name)}")).json()
        assert shown["name"] == name
        assert shown["s3_path"].startswith("images/") and "/" not in shown["s3_path"].removeprefix("images/")


async def test_an_idempotency_key_returns_the_first_answer(client: httpx.AsyncClient, queue: str) -> None:
    data, headers = picture(), {"Idempotency-Key": f"key of {queue}"}

    async def send(name: str = "n") -> httpx.Response:
        form = {"name": name, "model_name": queue}
        return await client.post("/image", data=form, files={"file": ("f", data)}, headers=headers)

    first, *others = await asyncio.gather(*(send() for _ in range(4)))
    assert first.status_code == 201
    await client.get(f"/image/poll/{queue}")
    others.append(await send())
    assert all((one.status_code, one.json()) == (201, first.json()) for one in others)
    is_problem(await send("another name"), 409)
    without = await client.post("/image", data={"name": "n", "model_name": queue}, files={"file": ("f", data)})
    assert without.json()["id"] != first.json()["id"]


@pytest.mark.parametrize("key", ["", "k" * 256, "k\x7f"])
async def test_an_idempotency_key_has_limits(client: httpx.AsyncClient, queue: str, key: str) -> None:
    form = {"name": "n", "model_name": queue}
    answer = await client.post("/image", data=form, files={"file": ("f", picture())}, headers={"Idempotency-Key": key})
    is_problem(answer, 422)


async def test_strict_models_name_the_known_ones(make_app: MakeApp, make_client: MakeClient, queue: str) -> None:
    app = await make_app(strict_models=True)
    strict = await make_client("image:write", "image:process", target=app)
    known = app.state.context.registry.known()
    form = {"name": "n", "model_name": queue}
    answer = await strict.post("/image", data=form, files={"file": ("f", picture())})
    assert known[0] in is_problem(answer, 422)["detail"]
    is_problem(await strict.get(f"/image/poll/{queue}"), 422)
    form["model_name"] = known[0]
    assert (await strict.post("/image", data=form, files={"file": ("f", picture())})).status_code == 201


async def test_delete_removes_rows_file_and_vectors(
    client: httpx.AsyncClient, upload: Upload, platform: PdqPlatform, engine: AsyncEngine
) -> None:
    image_id = await upload()
    answer = await client.delete(f"/image/{image_id}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert platform.removed == [image_id]
    is_problem(await client.get(f"/image/{image_id}"), 404)
    is_problem(await client.delete(f"/image/{image_id}"), 404)
    async with engine.connect() as connection:
        statement = text("SELECT count(*) FROM audit WHERE subject = :subject AND action = 'image.delete'")
        assert (await connection.execute(statement, {"subject": f"image/{image_id}"})).scalar_one() == 1


async def test_delete_stands_when_vectors_cannot_be_removed_now(
    client: httpx.AsyncClient, upload: Upload, platform: PdqPlatform
) -> None:
    image_id = await upload()
    platform.down = True
    assert (await client.delete(f"/image/{image_id}")).status_code == 204
    is_problem(await client.get(f"/image/{image_id}"), 404)


async def test_a_picture_that_takes_its_decoder_too_long_is_refused_and_harms_no_other(
    make_app: MakeApp, make_client: MakeClient, queue: str
) -> None:
    hasty = Sandbox(workers=2, cpu_s=HASTY_S, max_pixels=10**8)
    client = await make_client("image:write", target=await make_app({"sandbox": hasty}))
    files = [slow(), picture(), picture()]
    answers = await asyncio.gather(
        *(client.post("/image", data={"name": "n", "model_name": queue}, files={"file": one}) for one in files)
    )
    assert "decoding it takes over" in is_problem(answers[0], 415)["detail"]
    assert [answer.status_code for answer in answers[1:]] == [201, 201]
    hasty.close()
