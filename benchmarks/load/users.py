"""The mixed user of the load test: a locustfile. It runs in Locust's own environment, so it imports nothing else.

    .venv-load/bin/locust -f benchmarks/load/users.py --headless --host http://127.0.0.1:8000 --users 8 --run-time 30s
        --stop-timeout 60 --key-file ~/.safeguard/admin.key --pictures FOLDER [--acknowledged FILE] [--read-weight 10 …]

A user does one thing after another and knows no pause by default, so the number of users is that of requests under way.
What is drawn how often: see WEIGHTS. With another file beside it (``-f users.py,shape.py``) a LoadTestShape can drive them.
"""

import itertools
import json
import random
import sys
import urllib.request
import uuid
from argparse import ArgumentParser
from pathlib import Path
from typing import Any, ClassVar

from locust import FastHttpUser, events
from locust.env import Environment

API = "/api/v1"
WEIGHTS = {
    "read": (10, "GET /image/{id} of a picture that was there before"),
    "result": (4, "GET /image/{id}/processed and /return_images of such a picture"),
    "search": (2, "POST /search with a picture"),
    "list": (2, "a page of 100 of GET /image/all"),
    "upload": (1, "POST /image for the service's own model"),
    "work": (1, "an outside worker: POST /image into its queue, GET /image/poll, POST of the result"),
}
"""How often each is drawn, by default, and what it is; an option of the command line for each."""
_PAGE = 100
_numbers = itertools.count()


@events.init_command_line_parser.add_listener
def _options(parser: ArgumentParser) -> None:
    parser.add_argument("--key-file", type=Path, required=True, help="holds the API key, which needs every scope")
    parser.add_argument("--pictures", type=Path, required=True, help="folder of what is uploaded and searched for")
    parser.add_argument(
        "--acknowledged", type=Path, help="a line is added for each upload that was answered 201: its id"
    )
    parser.add_argument("--model", default="safeguard-v1", help="model_name of uploads for the service itself")
    parser.add_argument("--queue", default="load-worker", help="model_name of the outside workers' queue")
    parser.add_argument("--pause-s", type=float, default=0.0, help="pause of a user between two things it does")
    for kind, (weight, what) in WEIGHTS.items():
        parser.add_argument(f"--{kind}-weight", type=int, default=weight, help=f"how often: {what}")


@events.init.add_listener
def _prepare(environment: Environment, **_: object) -> None:
    """Reads what all users share, before the first request that counts."""
    options = environment.parsed_options
    assert options is not None
    MixedUser.key = options.key_file.read_text().strip()
    MixedUser.files = [path.read_bytes() for path in sorted(options.pictures.iterdir()) if path.is_file()]
    address = f"{environment.host}{API}/image/all?status=PROCESSED&limit=10000"
    request = urllib.request.Request(address, headers={"Authorization": f"Bearer {MixedUser.key}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        MixedUser.stored = [row["id"] for row in json.load(answer)]
    if not MixedUser.stored or not MixedUser.files:
        sys.exit("there must be pictures in the folder, and PROCESSED ones in the service, to begin with")
    MixedUser.tasks = [
        getattr(MixedUser, kind) for kind in WEIGHTS for _ in range(getattr(options, f"{kind}_weight"))
    ]  # fmt: skip


class MixedUser(FastHttpUser):
    """Uploads, reads, searches, lists, and works off a queue, in the shares of WEIGHTS."""

    key: ClassVar[str] = ""
    files: ClassVar[list[bytes]] = []
    stored: ClassVar[list[int]] = []

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        assert environment.parsed_options is not None
        self.options = environment.parsed_options
        self.draw = random.Random(next(_numbers))

    def wait_time(self) -> float:
        """Seconds between two things that the user does."""
        return float(self.options.pause_s)

    def call(self, method: str, path: str, name: str, *, wanted: int = 200, **sent: Any) -> Any:
        """The JSON answer of one request, None where the status is another than ``wanted``: that is a failure.

        Args:
            path: below the API's address, or a whole address.
            name: under which it is counted.
        """
        headers = {"Authorization": f"Bearer {self.key}", **sent.pop("headers", {})}
        url = path if path.startswith("http") else API + path
        with self.client.request(method, url, name=name, headers=headers, catch_response=True, **sent) as answer:
            if answer.status_code == wanted:
                return answer.json()
            wait = "with" if "retry-after" in (answer.headers or {}) else "without"
            refused = answer.status_code in (429, 503)
            answer.failure(
                f"{answer.status_code} {wait} Retry-After" if refused else str(answer.status_code or "no answer")
            )
        return None

    def send(self, path: str, fields: dict[str, str], *, wanted: int) -> Any:
        """Posts a picture, with bytes that no other upload has, as the file of a form with ``fields``."""
        boundary = uuid.uuid4().hex
        picture = self.draw.choice(self.files) + uuid.uuid4().bytes
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'.encode()
            for field, value in fields.items()
        ]
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="picture.jpg"\r\n'
        parts += [head.encode(), b"Content-Type: image/jpeg\r\n\r\n", picture, f"\r\n--{boundary}--\r\n".encode()]
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        return self.call("POST", path, path, wanted=wanted, data=b"".join(parts), headers=headers)

    def store(self, model_name: str) -> int | None:
        """Uploads a picture and notes that this was acknowledged; its id."""
        fields = {"name": f"load-{uuid.uuid4().hex}.jpg", "model_name": model_name}
        answer = self.send("/image", fields, wanted=201)
        if answer is None:
            return None
        if self.options.acknowledged is not None:
            with self.options.acknowledged.open("a") as file:
                file.write(f"{answer['id']}\n")
        return int(answer["id"])

    def upload(self) -> None:
        """A picture for the service itself."""
        self.store(self.options.model)

    def read(self) -> None:
        """One image."""
        self.call("GET", f"/image/{self.draw.choice(self.stored)}", "/image/{id}")

    def result(self) -> None:
        """What was found for one image, and the images related to it."""
        image = self.draw.choice(self.stored)
        self.call("GET", f"/image/{image}/processed", "/image/{id}/processed")
        self.call("GET", f"/image/{image}/return_images", "/image/{id}/return_images")

    def search(self) -> None:
        """Matches of a picture that is not stored."""
        self.send("/search", {"k": "10"}, wanted=200)

    def list(self) -> None:
        """A page of the list, from a place drawn at random."""
        after = self.draw.choice(self.stored)
        self.call("GET", f"/image/all?status=PROCESSED&limit={_PAGE}&after={after}", "/image/all")

    def work(self) -> None:
        """Puts a picture into the queue, then takes the oldest one out of it and delivers a result, as the document has it."""
        self.store(self.options.queue)
        claimed = self.call("GET", f"/image/poll/{self.options.queue}", "/image/poll/{model_name}")
        if claimed is None or "img_callback_url" not in claimed:
            return
        result = {
            "img_url": claimed["s3_path"],
            "return": "true",
            "id": str(claimed["id"]),
            "result": [str(self.draw.choice(self.stored))],
        }
        self.call("POST", claimed["img_callback_url"], "/image/{id}/processed", json=result)
