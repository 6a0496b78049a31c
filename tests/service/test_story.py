"""The content filter as its users meet it: a bank, a look-back, blocked copies, a reviewer, the audit and signed webhooks."""

import base64
import hashlib
import hmac
import io
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import httpx
import numpy as np
import pytest
from PIL import Image

from benchmarks.client import Client
from benchmarks.receiver import Receiver, receiving
from graphs.service import Running
from tests.service.pictures import edited, jpeg, photo

pytestmark = pytest.mark.service
BEFORE = ("jpeg10", "crop70", "mirror", "meme", "recolour")
AFTER = ("shrink", "blur", "quarter_turn", "greyscale", "border")
ORIGINAL = "rocket.jpg"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A customer's server, which fails the first three times."""
    with receiving(refusals=3) as made:
        yield made


@contextmanager
def api(service: Running) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=f"{service.url}/api/v1", headers={"Authorization": f"Bearer {service.key}"}, timeout=60
    ) as http:
        yield http


def until(what: Callable[[], Any], limit_s: float = 120.0) -> Any:
    """What ``what`` returns as soon as it is true."""
    end = time.monotonic() + limit_s
    while not (found := what()):
        assert time.monotonic() < end, f"still {found!r} after {limit_s:.0f} s"
        time.sleep(0.3)
    return found


def signed(secret: str, headers: dict[str, str], body: bytes) -> bool:
    """Whether a delivery carries the signature of Standard Webhooks."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    wanted = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    return f"v1,{wanted}" in headers["webhook-signature"].split()


def noise(seed: int) -> bytes:
    """A picture like no other."""
    coarse = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (9, 12, 3), np.uint8))
    buffer = io.BytesIO()
    coarse.resize((480, 360), Image.Resampling.BICUBIC).save(buffer, "JPEG")
    return buffer.getvalue()


def test_the_story(service: Running, client: Client, receiver: Receiver) -> None:
    with api(service) as http:

        def ok(answer: httpx.Response) -> Any:
            assert answer.is_success, answer.text
            return answer.json() if answer.content else None

        def verdicts(ids: list[int]) -> list[str]:
            return [ok(http.get(f"/image/{one}/moderation"))["verdict"] for one in ids]

        hook = ok(http.post("/webhooks", json={"url": receiver.url}))
        original = client.upload(ORIGINAL, jpeg(photo(ORIGINAL)))
        before = [client.upload(f"{edit}.jpg", edited(ORIGINAL, edit)) for edit in BEFORE]
        stranger = client.upload("stranger.jpg", noise(1))
        assert set(client.wait([original, *before, stranger], timeout_s=180).values()) == {"PROCESSED"}
        assert set(verdicts([original, *before, stranger])) == {"allow"}

        # A member is added: the look-back finds the five copies that were there before.
        bank = ok(http.post("/banks", json={"name": f'запрещённое "A" {uuid4().hex[:6]}', "kind": "unacceptable"}))
        ok(http.put(f"/banks/{bank['id']}/images/{original}", json={"note": "reported by a user"}))
        until(lambda: verdicts(before) == ["block"] * 5)
        assert verdicts([original, stranger]) == ["block", "allow"]
        (lookback,) = [one for one in ok(http.get("/lookbacks")) if one.get("bank_id") == bank["id"]]
        until(lambda: ok(http.get(f"/lookbacks/{lookback['id']}"))["state"] == "done")

        # Five copies that come after are blocked as they are processed.
        after = [client.upload(f"{edit}.jpg", edited(ORIGINAL, edit, seed=7)) for edit in AFTER]
        client.wait(after, timeout_s=180)
        assert verdicts(after) == ["block"] * 5

        # A picture of an allowed bank passes, though it is a copy of the member.
        allowed = ok(
            http.post("/banks", json={"name": f"press {uuid4().hex[:6]}", "kind": "allowed", "relations": ["exact"]})
        )
        ok(http.put(f"/banks/{allowed['id']}/images/{after[0]}", json={"note": "licensed"}))
        until(lambda: verdicts(after) == ["allow", *["block"] * 4])

        # A reviewer reverses one.
        said = ok(http.put(f"/image/{after[1]}/moderation", json={"verdict": "allow", "reason": "news coverage"}))
        assert said["verdict"] == "allow"
        explained = ok(http.get(f"/image/{after[1]}/moderation", params={"explain": "true"}))
        assert "news coverage" in json.dumps(explained)
        assert verdicts(after) == ["allow", "allow", *["block"] * 3]

        # Every step is in the webhooks, though the receiver failed three times, once each and in order.
        def told() -> bool:
            return all(
                [event["verdict"] for event in receiver.events("image.decided", one)] == wanted
                for one, wanted in [
                    *((one, ["allow", "block"]) for one in before),
                    (stranger, ["allow"]),
                    (after[0], ["block", "allow"]),
                    (after[1], ["block", "allow"]),
                    *((one, ["block"]) for one in after[2:]),
                ]
            )

        until(told)
        assert receiver.refused == 3
        until(lambda: len(receiver.events("bank.member_added")) == 2)
        assert all(
            signed(hook["secret"], headers, body)
            for headers, body in zip(receiver.headers, receiver.bodies, strict=True)
        )

        # … and in the audit, whose chain is whole.
        subject = f"image/{after[1]}"
        entries = ok(http.get("/audit", params={"subject": subject}))
        assert [entry["action"] for entry in entries].count("image.decide") == 2
        assert "news coverage" in json.dumps(entries, ensure_ascii=False)
        for action in ("bank.create", "bank.member_add"):
            assert ok(http.get("/audit", params={"action": action})), action

        # Taking the member out takes its effect back; what a person said stands.
        ok(http.delete(f"/banks/{bank['id']}/images/{original}"))
        until(lambda: verdicts([original, *before, *after]) == ["allow"] * 11)
        ok(http.delete(f"/webhooks/{hook['id']}"))
