"""As a console of Hasher-Matcher-Actioner would use it: its requests one after another, its shapes of answers."""

import hashlib
import io
import re
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import Settings
from deployments.ingress.hma.fetching import Fetcher
from storage.bank_changes import change_banks
from storage.errors import InvalidInput
from tests.banks import bank, bank_of, member
from tests.deployments.ingress.conftest import MakeApp, MakeClient, PdqPlatform, Upload, is_problem, picture
from tests.deployments.webhooks.test_client import raw
from tests.events import LOOPBACK, self_signed

HEX = re.compile(r"[0-9a-f]{64}")


@pytest.fixture(autouse=True)
async def _no_banks_after(engine: AsyncEngine) -> AsyncIterator[None]:
    yield
    async with engine.begin() as connection:
        await change_banks(connection, hashes=True)
        await connection.execute(text("DELETE FROM bank"))


@pytest.fixture
async def console(make_client: MakeClient) -> httpx.AsyncClient:
    """A console's client: its base address is where the service of Meta would be."""
    client = await make_client("image:read", "moderate")
    client.base_url = f"{client.base_url}hma/"
    return client


def flipped(signal: str, bits: int) -> str:
    found = np.unpackbits(np.frombuffer(bytes.fromhex(signal), np.uint8))
    found[:bits] ^= 1
    return np.packbits(found).tobytes().hex()


def photo(data: bytes) -> dict[str, tuple[str, bytes]]:
    return {"photo": ("example.png", data)}


async def hash_of(console: httpx.AsyncClient, data: bytes) -> str:
    answer = await console.post("/h/hash", files=photo(data))
    assert answer.status_code == 200 and list(answer.json()) == ["pdq"]
    return str(answer.json()["pdq"])


async def test_a_console_hashes_looks_up_and_reads_what_matched(
    console: httpx.AsyncClient, engine: AsyncEngine, upload: Upload
) -> None:
    assert (await console.get("/status")).text == "I-AM-ALIVE"
    data, name = picture(), f"SCAMS {uuid4()}"
    signal = await hash_of(console, data)
    assert HEX.fullmatch(signal)
    asked = {"signal_type": "pdq", "signal": signal}
    assert (await console.get("/m/lookup", params=asked)).json() == {}
    assert (await console.get("/m/raw_lookup", params=asked)).json() == {"matches": []}

    near, far = flipped(signal, 12), flipped(signal, 32)
    _, (hashed, _) = await bank_of(engine, [bytes.fromhex(near), bytes.fromhex(far)], name=name)
    stored = await upload(data)
    async with engine.begin() as connection:
        await change_banks(connection, hashes=False)
        other = await bank(connection, name="мошенники \"и\" 'другие' 🙈")
        held = await member(connection, other, image_id=stored)
        await member(connection, other, sha256=b"s" * 32)
    matches = {
        name: [{"bank_content_id": hashed, "distance": "12"}],
        "мошенники \"и\" 'другие' 🙈": [{"bank_content_id": held, "distance": "0"}],
    }
    assert (await console.get("/m/lookup", params=asked)).json() == matches
    assert (await console.get("/m/lookup", params=asked | {"banks": name})).json() == {name: matches[name]}
    assert (await console.post("/m/lookup", files=photo(data))).json() == {"pdq": matches}
    assert (await console.get("/m/raw_lookup", params=asked)).json() == {"matches": [held, hashed]}
    distances = await console.get("/m/raw_lookup", params=asked | {"include_distance": "true", "banks": name})
    assert distances.json() == {"matches": [{"bank_content_id": hashed, "distance": "12"}]}

    banks = {one["name"]: one["matching_enabled_ratio"] for one in (await console.get("/c/banks")).json()}
    assert banks[name] == 1.0 and set(matches) <= set(banks)
    shown = {"name": name, "matching_enabled_ratio": 1.0}
    assert (await console.get(f"/c/bank/{name}")).json() == shown
    content = await console.get(f"/c/bank/{name}/content/{hashed}", params={"include_signals": "true"})
    assert content.json() == {
        "id": hashed, "disable_until_ts": 1, "collab_metadata": {}, "original_media_uri": None, "bank": shown,
        "signals": {"pdq": near},
    }  # fmt: skip
    content = await console.get(f"/c/bank/мошенники \"и\" 'другие' 🙈/content/{held}")
    assert content.json()["original_media_uri"] == f"/api/v1/image/{stored}/file" and "signals" not in content.json()
    status = (await console.get("/m/index/status")).json()["pdq"]
    assert status["present"] is True and status["size"] >= 2 and status["built_to"] > 1_700_000_000
    assert [one["name"] for one in (await console.get("/c/signal_type")).json()] == ["pdq", "sha256"]
    assert (await console.get("/c/content_type")).json() == [{"name": "photo", "enabled": True}]


async def test_members_that_are_not_wanted_crowd_none_out(
    console: httpx.AsyncClient, engine: AsyncEngine, upload: Upload, platform: PdqPlatform
) -> None:
    signal = "f8" * 32
    turned = [[one, other] for one in range(48) for other in range(one)][:1001]
    crowd = []
    for places in turned:
        bits = np.unpackbits(np.frombuffer(bytes.fromhex(signal), np.uint8))
        bits[places] ^= 1
        crowd.append(np.packbits(bits).tobytes())
    await bank_of(engine, crowd, kind="allowed")
    _, (hashed,) = await bank_of(engine, [bytes.fromhex(flipped(signal, 5))], name=(name := str(uuid4())))
    asked = {"signal_type": "pdq", "signal": signal}
    found = [{"bank_content_id": hashed, "distance": "5"}]
    assert (await console.get("/m/lookup", params=asked)).json() == {name: found}
    assert (await console.get("/m/raw_lookup", params=asked)).json() == {"matches": [hashed]}

    stored = await upload(picture())
    async with engine.begin() as connection:
        await change_banks(connection, hashes=False)
        held = await member(connection, await bank(connection, name=(images := str(uuid4()))), image_id=stored)
    near = {10**12 + n: 2 for n in range(1000)} | {stored: 7}

    async def nearest(_pdq: bytes, _newest: int, k: int) -> dict[int, int]:
        return dict(list(near.items())[:k])

    platform.near_members = nearest  # type: ignore[method-assign]
    found_too = [{"bank_content_id": held, "distance": "7"}]
    assert (await console.get("/m/lookup", params=asked)).json() == {name: found, images: found_too}


async def test_sha256_where_it_is_asked_for(console: httpx.AsyncClient, engine: AsyncEngine, upload: Upload) -> None:
    data = picture()
    digest = hashlib.sha256(data).hexdigest()
    answer = await console.post("/h/hash", files=photo(data), params={"types": "sha256, pdq"})
    assert answer.json()["sha256"] == digest and set(answer.json()) == {"pdq", "sha256"}
    image_id = await upload(data)
    async with engine.begin() as connection:
        await change_banks(connection, hashes=False)
        made = await bank(connection, name=(name := str(uuid4())))
        members = [
            await member(connection, made, sha256=bytes.fromhex(digest)),
            await member(connection, made, image_id=image_id),
        ]
    asked = {"signal_type": "sha256", "signal": digest.upper()}
    found = [{"bank_content_id": one, "distance": "0"} for one in members]
    assert (await console.get("/m/lookup", params=asked)).json() == {name: found}
    answer = await console.post("/m/lookup", files=photo(data), params={"types": "sha256"})
    assert answer.json() == {"sha256": {name: found}}
    assert (await console.get("/m/index/status", params={"signal_type": "sha256"})).json() == {}


async def test_what_does_not_count_is_not_found(console: httpx.AsyncClient, engine: AsyncEngine) -> None:
    signal = np.random.default_rng().integers(0, 256, 32, np.uint8).tobytes()
    banks = {}
    for kind in ("unacceptable", "unacceptable", "unacceptable", "allowed"):
        made, (one,) = await bank_of(engine, [signal], kind, name=(name := str(uuid4())))
        banks[name] = (made, one)
    (disabled, quarantined, removed, allowed) = banks
    async with engine.begin() as connection:
        await change_banks(connection, hashes=True)
        for statement, number in (
            ("UPDATE bank SET enabled = false WHERE id = :id", banks[disabled][0]),
            ("UPDATE bank_member SET quarantined_at = now() WHERE id = :id", banks[quarantined][1]),
            ("UPDATE bank_member SET removed_at = now() WHERE id = :id", banks[removed][1]),
        ):
            await connection.execute(text(statement), {"id": number})
    asked = {"signal_type": "pdq", "signal": signal.hex()}
    assert (await console.get("/m/lookup", params=asked)).json() == {}
    assert set((await console.get("/m/lookup", params=asked | {"banks": ",".join(banks)})).json()) == {allowed}
    assert set((await console.get("/m/lookup", params=asked | {"bypass_coinflip": "true"})).json()) == {disabled}
    raw_ids = (await console.get("/m/raw_lookup", params=asked)).json()["matches"]
    assert sorted(raw_ids) == sorted(banks[name][1] for name in (disabled, quarantined))
    ratios = {one["name"]: one["matching_enabled_ratio"] for one in (await console.get("/c/banks")).json()}
    assert ratios[disabled] == 0.0 and ratios[quarantined] == 1.0
    content = f"/c/bank/{quarantined}/content/{banks[quarantined][1]}"
    assert (await console.get(content)).json()["disable_until_ts"] == 0
    is_problem(await console.get(f"/c/bank/{removed}/content/{banks[removed][1]}"), 404)
    is_problem(await console.get(f"/c/bank/{allowed}/content/{banks[disabled][1]}"), 404)
    is_problem(await console.get("/c/bank/nothing"), 404)


async def test_comparing_hashes(console: httpx.AsyncClient) -> None:
    signal = "f8" * 32
    pairs = {"pdq": [signal, flipped(signal, 31)], "sha256": [signal, signal]}
    answer = await console.post("/m/compare", json=pairs)
    assert answer.json() == {"pdq": [True, {"distance": 31}], "sha256": [True, {"distance": 0}]}
    assert (await console.post("/m/compare", json={"pdq": [signal, flipped(signal, 32)]})).json()["pdq"][0] is False
    for wrong in ({"pdq": [signal]}, {"pdq": signal}, {"md5": [signal, signal]}, {"pdq": [signal, "f8"]}, [signal]):
        is_problem(await console.post("/m/compare", json=wrong), 422)


async def test_a_photo_without_structure_has_no_hash_and_no_match(console: httpx.AsyncClient) -> None:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), (90, 90, 90)).save(file, "PNG")
    assert await hash_of(console, file.getvalue()) == ""
    assert (await console.post("/m/lookup", files=photo(file.getvalue()))).json() == {"pdq": {}}


LOOKUPS = [
    ({"signal_type": "pdq", "signal": "f8" * 31}, "62 characters"),
    ({"signal_type": "pdq", "signal": "xx" * 32}, "others among them"),
    ({"signal_type": "pdq", "signal": "f8" * 16 + "\0" * 32}, "match pattern"),
    ({"signal_type": "tmk", "signal": "f8" * 32}, "no signal type 'tmk'; known are pdq, sha256"),
    ({"signal": "f8" * 32}, "signal_type"),
    ({"signal_type": "pdq"}, "signal"),
    ({"signal_type": "pdq", "signal": "f8" * 32, "banks": "x" * 401}, "400 characters"),
    ({"signal_type": "pdq", "signal": "f8" * 32, "banks": "a\0"}, "match pattern"),
]


@pytest.mark.parametrize(("asked", "said"), LOOKUPS)
@pytest.mark.parametrize("path", ["/m/lookup", "/m/raw_lookup"])
async def test_bad_lookups_say_what_is_wrong(console: httpx.AsyncClient, path: str, asked: dict, said: str) -> None:
    assert said in str(is_problem(await console.get(path, params=asked), 422))


async def test_bad_photos_say_what_is_wrong(console: httpx.AsyncClient) -> None:
    for path in ("/h/hash", "/m/lookup"):
        is_problem(await console.post(path, files=photo(b"no picture")), 415)
        is_problem(await console.post(path, files=photo(b"")), 422)
        is_problem(await console.post(path, data={"photo": "text"}), 422)
        two = [("photo", ("a", picture())), ("photo", ("b", picture()))]
        assert "there are 2" in is_problem(await console.post(path, files=two), 422)["detail"]
        film = {"video": ("a.mp4", picture())}
        assert "no content type 'video'" in is_problem(await console.post(path, files=film), 422)["detail"]
        types = await console.post(path, files=photo(picture()), params={"types": "pdq,md5"})
        assert "no signal type 'md5'" in is_problem(types, 422)["detail"]
    is_problem(await console.get(f"/c/bank/a/content/{10**19}"), 422)
    is_problem(await console.get(f"/c/bank/a/content/{10**18}"), 404)
    is_problem(await console.get("/c/bank/a%00b"), 422)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "url is required"),
        ("http://169.254.169.254/latest/meta-data", "not on the public internet"),
        ("https://127.0.0.1/a.png", "not on the public internet"),
        ("https://[::1]/a.png", "not on the public internet"),
        ("https://localhost/a.png", "not on the public internet"),
        ("https://nobody.invalid/a.png", "does not resolve"),
        ("file:///etc/passwd", "not an address of the form"),
        ("https://user:secret@example.org/", "with a password"),
    ],
)
async def test_addresses_that_are_not_read(console: httpx.AsyncClient, url: str, said: str) -> None:
    for path in ("/h/hash", "/m/lookup"):
        if url or path == "/h/hash":
            assert said in is_problem(await console.get(path, params={"url": url}), 422)["detail"]


async def test_where_webhooks_may_lead_is_not_for_those_who_look_up(make_app: MakeApp, make_client: MakeClient) -> None:
    client = await make_client("image:read", target=await make_app(webhook_allow_private=LOOPBACK))
    server = await raw(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nnot image")
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    for path in ("/hma/h/hash", "/hma/m/lookup"):
        refused = is_problem(await client.get(path, params={"url": url}), 422)["detail"]
        assert "SAFEGUARD_FETCH_ALLOW_PRIVATE can allow its network" in refused
    server.close()


@pytest.mark.usefixtures("busy_threads")
async def test_names_are_asked_for_in_threads_of_their_own(make_app: MakeApp, make_client: MakeClient) -> None:
    client = await make_client("image:read", "admin", target=await make_app(webhook_connect_timeout_s=2.0))
    url = "https://localhost/a.png"
    for answer in (
        await client.get("/hma/h/hash", params={"url": url}),
        await client.get("/hma/m/lookup", params={"url": url}),
        await client.post("/webhooks", json={"url": url}),
    ):
        assert "not on the public internet" in is_problem(answer, 422)["detail"]


@pytest.fixture
async def loopback(make_app: MakeApp) -> FastAPI:
    """An installation that may read addresses on this machine."""
    return await make_app(
        fetch_allow_private=LOOPBACK, webhook_timeout_s=1.0, webhook_connect_timeout_s=0.5, max_upload_bytes=100_000
    )


async def test_a_photo_at_an_address(make_client: MakeClient, loopback: FastAPI, engine: AsyncEngine) -> None:
    client = await make_client("image:read", target=loopback)
    data = picture()
    signal = (await client.post("/hma/h/hash", files=photo(data))).json()["pdq"]
    _, (one,) = await bank_of(engine, [bytes.fromhex(signal)], name=(name := str(uuid4())))
    match = {name: [{"bank_content_id": one, "distance": "0"}]}
    good = f"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data
    server = await raw(good)
    here = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/a.png"
    onward = await raw(f"HTTP/1.1 302 Found\r\nlocation: {here}#top\r\ncontent-length: 0\r\n\r\n".encode())
    redirected = f"http://127.0.0.1:{onward.sockets[0].getsockname()[1]}/"
    for url in (here, redirected):
        assert (await client.get("/hma/h/hash", params={"url": url})).json() == {"pdq": signal}
    assert (await client.get("/hma/m/lookup", params={"url": here})).json() == {"pdq": match}
    assert (await client.get("/hma/m/lookup", params={"url": here, "signal_type": "pdq"})).json() == match
    is_problem(await client.get("/hma/h/hash", params={"url": here, "content_type": "video"}), 422)
    server.close()
    onward.close()


async def test_https_with_the_certificates_that_were_read_once(
    servers: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def names(_host: str, _port: int) -> list[str]:
        return ["127.0.0.1"]

    served, trusting = self_signed(tmp_path)
    fetcher = Fetcher(servers.model_copy(update={"fetch_allow_private": LOOPBACK}), names, trusting)

    def again(*_: object, **__: object) -> None:
        raise AssertionError("certificates are read on the event loop")

    monkeypatch.setattr(ssl, "create_default_context", again)
    server = await raw(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\npicture", tls=served)
    port = server.sockets[0].getsockname()[1]
    assert await fetcher.fetch(f"https://hook.invalid:{port}/") == b"picture"
    with pytest.raises(InvalidInput, match="could not be read: ConnectError"):
        await fetcher.fetch(f"https://other.invalid:{port}/")
    server.close()


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", 422, "answers 404"),
        (b"HTTP/1.1 302 Found\r\nlocation: http://10.0.0.1/\r\ncontent-length: 0\r\n\r\n", 422, "not on the public"),
        (b"HTTP/1.1 302 Found\r\nlocation: /again\r\ncontent-length: 0\r\n\r\n", 422, "leads on more than 3 times"),
        (b"HTTP/1.1 301 Moved\r\ncontent-length: 0\r\n\r\n", 422, "does not say where to"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nnot image", 415, ""),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\ncut short", 422, "could not be read"),
        (b"nonsense\r\n\r\n", 422, "could not be read"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_001, 413, "more than 100000 bytes"),
    ],
)
async def test_addresses_that_answer_something_else(
    make_client: MakeClient, loopback: FastAPI, answer: bytes, status: int, said: str
) -> None:
    client = await make_client("image:read", target=loopback)
    server = await raw(answer)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    assert said in is_problem(await client.get("/hma/h/hash", params={"url": url}), status)["detail"]
    server.close()


async def test_an_address_that_does_not_end(make_client: MakeClient, loopback: FastAPI) -> None:
    client = await make_client("image:read", target=loopback)
    server = await raw(b"HTTP/1.1 200 OK\r\n\r\n", drip=True)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    assert (await client.get("/hma/h/hash", params={"url": url})).status_code in (413, 422)
    server.close()
