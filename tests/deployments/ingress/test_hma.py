"""As a console of Hasher-Matcher-Actioner would use it: its requests one after another, its shapes of answers."""

import hashlib
import io
from uuid import uuid4

import httpx
import numpy as np
import pytest
from PIL import Image
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from storage.bank_changes import change_banks
from tests.banks import bank, bank_of, member
from tests.deployments.ingress.conftest import PdqPlatform, Upload, is_problem, picture
from tests.deployments.ingress.hma_console import HEX, _no_banks_after, console, flipped, hash_of, photo

__all__ = ["_no_banks_after", "console"]


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
