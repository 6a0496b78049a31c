"""A client written only from the document in spec/: upload, list, poll, call back, read the result, read the related."""

import json
import re
import urllib.request
import uuid
from datetime import datetime
from typing import Any

import pytest

from graphs.service import Running
from tests.service.pictures import jpeg, photo

pytestmark = pytest.mark.service
TIME = re.compile(r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\+00:00$")


class DocumentClient:
    """Knows the document's six endpoints and a header, and nothing else: the standard library only."""

    def __init__(self, service: Running) -> None:
        self._base = f"{service.url}/api/v1"
        self._headers = {"Authorization": f"Bearer {service.key}"}

    def call(self, method: str, url: str, body: bytes | None = None, kind: str | None = None) -> tuple[int, Any]:
        address = url if url.startswith("http") else self._base + url
        headers = self._headers | ({"Content-Type": kind} if kind else {})
        request = urllib.request.Request(address, body, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)

    def upload(self, name: str, data: bytes, model_name: str) -> tuple[int, Any]:
        boundary = uuid.uuid4().hex
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="name"\r\n\r\n{name}\r\n'.encode(),
            f'--{boundary}\r\nContent-Disposition: form-data; name="model_name"\r\n\r\n{model_name}\r\n'.encode(),
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'.encode()
            + b"Content-Type: image/jpeg\r\n\r\n" + data + f"\r\n--{boundary}--\r\n".encode(),
        ]  # fmt: skip
        return self.call("POST", "/image", b"".join(parts), f"multipart/form-data; boundary={boundary}")


def test_the_story_of_the_document(service: Running) -> None:
    client = DocumentClient(service)
    queue = f"worker-{uuid.uuid4().hex[:8]}"
    status, first = client.upload("image1.jpg", jpeg(photo("coffee.png")), queue)
    assert status == 201 and set(first) == {"id", "name", "status", "created_at"}
    assert (first["name"], first["status"]) == ("image1.jpg", "UPLOADED") and isinstance(first["id"], int)
    assert TIME.match(first["created_at"]) and datetime.fromisoformat(first["created_at"])
    _, second = client.upload("image2.jpg", jpeg(photo("coins.png")), queue)

    _, listed = client.call("GET", "/image/all?status=UPLOADED")
    mine = [row for row in listed if row["id"] in (first["id"], second["id"])]
    assert [row["id"] for row in mine] == [first["id"], second["id"]]
    assert all(set(row) == {"id", "name", "s3_path"} for row in listed)
    assert re.fullmatch(r"images/[0-9a-f-]{36}_image1\.jpg", mine[0]["s3_path"])

    _, info = client.call("GET", f"/image/{first['id']}")
    assert set(info) == {"id", "name", "status", "created_at", "uploaded_at", "s3_path"}
    assert info["s3_path"] == mine[0]["s3_path"] and TIME.match(info["uploaded_at"])

    _, work = client.call("GET", f"/image/poll/{queue}")
    assert set(work) == {"id", "s3_path", "img_callback_url"} and work["id"] == first["id"]
    assert client.call("GET", f"/image/{first['id']}")[1]["status"] == "PROCESSING"

    result = {"img_url": work["s3_path"], "return": "true", "id": str(work["id"]), "result": [str(second["id"])]}
    status, _ = client.call("POST", work["img_callback_url"], json.dumps(result).encode(), "application/json")
    assert status == 200
    _, more = client.call("GET", f"/image/poll/{queue}")
    empty = {"img_url": more["s3_path"], "return": "false", "id": str(more["id"]), "result": []}
    client.call("POST", more["img_callback_url"], json.dumps(empty).encode(), "application/json")
    _, nothing = client.call("GET", f"/image/poll/{queue}")
    assert nothing == {"detail": f"no new images for model {queue}"}

    _, processed = client.call("GET", f"/image/{first['id']}/processed")
    assert processed == {
        "img_url": info["s3_path"],
        "return": "true",
        "id": str(first["id"]),
        "result": [str(second["id"])],
    }
    _, related = client.call("GET", f"/image/{first['id']}/return_images")
    assert related == [{"id": second["id"], "file_link": mine[1]["s3_path"]}]
    _, back = client.call("GET", f"/image/{second['id']}/return_images")
    assert back == [{"id": first["id"], "file_link": info["s3_path"]}]
