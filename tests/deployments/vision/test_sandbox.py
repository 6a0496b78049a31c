"""Decoding elsewhere gives what decoding here gives; what crashes or hangs its decoder is refused and harms nothing."""

import contextlib
import io
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from deployments.vision.confinement import landlock_version
from deployments.vision.decoding import decode, probe
from deployments.vision.sandbox import Sandbox
from deployments.vision.sandboxed import receive, send
from storage.errors import TooLarge, Unavailable, UnsupportedImage
from tests.deployments.vision.test_decoding import halves, saved

PROBE = {"max_bytes": 10**8, "max_pixels": 10**8, "max_frames": 100}
DECODE = {"max_pixels": 10**8, "long_side": 64}
HASTY_S = 0.2
"""Processor time in which a small picture is decoded, and ``slow()`` is not."""


@cache
def noise(side: int) -> bytes:
    """A PNG of noise."""
    pixels = np.random.default_rng(1).integers(0, 256, (side, side), np.uint8)
    return saved(Image.fromarray(pixels), "PNG", compress_level=1)


@cache
def slow() -> bytes:
    """A WebP of 16 megapixels of noise, which takes a second or two: many times HASTY_S on any machine."""
    pixels = np.random.default_rng(1).integers(0, 256, (4000, 4000, 3), np.uint8)
    return saved(Image.fromarray(pixels), "WEBP", quality=80, method=0)


def zeros(side: int) -> bytes:
    """A small PNG of one bit a pixel that needs a byte a pixel in memory."""
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0),
        b"IDAT": zlib.compress(bytes(side * (side // 8 + 1)), 1),
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks.items()
    )


@contextmanager
def made(**options: float) -> Iterator[Sandbox]:
    sandbox = Sandbox(**{"workers": 1, "cpu_s": 10.0, "max_pixels": 10**8, **options})  # type: ignore[arg-type]
    try:
        yield sandbox
    finally:
        sandbox.close()


def decoders() -> list[psutil.Process]:
    """The running ones of this process."""
    found = []
    for one in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):  # one that has ended, and that nobody has waited for yet
            if "deployments.vision.sandboxed" in one.cmdline():
                found.append(one)
    return found


def awaited(ready: object, limit_s: float = 30.0) -> None:
    end = time.monotonic() + limit_s
    while not ready():  # type: ignore[operator]
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.002)


def variants() -> dict[str, bytes]:
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = Image.fromarray((np.arange(64 * 64).reshape(64, 64) * 16).astype(np.uint16))
    clear = halves().convert("RGBA")
    clear.putalpha(100)
    files = {kind: saved(halves(), kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")}
    files |= {"turned": saved(halves(), "JPEG", exif=exif), "deep": saved(deep, "PNG"), "clear": saved(clear, "PNG")}
    files |= {"cmyk": saved(halves().convert("CMYK"), "JPEG"), "lzw": saved(halves(), "TIFF", compression="tiff_lzw")}
    floats = Image.fromarray(np.linspace(-3, 9, 64 * 64, dtype=np.float32).reshape(64, 64))
    return files | {"floats": saved(floats, "TIFF"), "palette": saved(halves().convert("P"), "PNG")}


@pytest.mark.parametrize("name", variants())
def test_it_gives_the_same(sandbox: Sandbox, name: str) -> None:
    data = variants()[name]
    assert sandbox.probe(data, **PROBE) == probe(data, **PROBE)
    here, there = decode(data, **DECODE), sandbox.decode(data, **DECODE)
    assert (here.pixels == there.pixels).all()
    assert (here.width, here.height, here.media_type) == (there.width, there.height, there.media_type)


def test_it_refuses_the_same(sandbox: Sandbox) -> None:
    for call, error in (
        (lambda: sandbox.probe(b"hello", **PROBE), UnsupportedImage),
        (lambda: sandbox.probe(noise(64)[:-99], **PROBE), UnsupportedImage),
        (lambda: sandbox.decode(noise(64), max_pixels=100, long_side=64), TooLarge),
        (lambda: sandbox.probe(noise(64), **{**PROBE, "max_bytes": 10}), TooLarge),
        (lambda: sandbox.probe(b"", **PROBE), UnsupportedImage),
    ):
        with pytest.raises(error):
            call()
    assert sandbox.killed == 0


def test_a_process_is_used_again_and_only_the_last_one_outlives_its_idle_time() -> None:
    with made(workers=2, idle_s=6.0, cpu_s=30.0) as sandbox:
        sandbox.probe(noise(32), **PROBE)
        first = sandbox.pids
        sandbox.probe(noise(32), **PROBE)
        assert sandbox.pids == first and len(first) == 1
        together = threading.Barrier(2)

        def ask(_: int) -> None:
            together.wait(60)
            sandbox.decode(slow(), **DECODE)

        with ThreadPoolExecutor(2) as threads:
            list(threads.map(ask, range(2)))
        both = sandbox.pids
        assert len(both) == 2
        awaited(lambda: sandbox.pids == both[-1:])
        awaited(lambda: not psutil.pid_exists(both[0]))
        sandbox.probe(noise(32), **PROBE)
        assert sandbox.pids == both[-1:]
    assert not sandbox.pids


def test_what_takes_too_long_is_refused_and_others_go_on() -> None:
    late, good = slow(), noise(64)
    with made(workers=2, cpu_s=HASTY_S) as sandbox:
        sandbox.probe(good, **PROBE)
        results: list[object] = []

        def ask() -> None:
            try:
                results.append(sandbox.decode(late, **DECODE))
            except Exception as error:
                results.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        for _ in range(5):
            assert sandbox.probe(good, **PROBE).width == 64
        asking.join()
        (error,) = results
        assert isinstance(error, UnsupportedImage) and f"over {HASTY_S} s" in str(error)
        assert sandbox.killed == 1
        assert sandbox.probe(good, **PROBE).width == 64


@pytest.mark.parametrize(("deaths", "refused"), [(1, False), (2, True)])
def test_a_decoder_that_crashes_twice_was_crashed_by_its_picture(deaths: int, refused: bool) -> None:
    picture = slow()
    before = {one.pid for one in decoders()}
    with made() as sandbox:
        done = threading.Event()

        def kill() -> None:
            seen: set[int] = set()
            while len(seen) < deaths and not done.is_set():
                for one in decoders():
                    with contextlib.suppress(psutil.NoSuchProcess):
                        # Memory of the file and of its pixels: it is in work.
                        if one.pid not in before | seen and one.memory_info().rss > 60 * 2**20:
                            seen.add(one.pid)
                            one.send_signal(signal.SIGSEGV)
                time.sleep(0.005)

        killing = threading.Thread(target=kill)
        killing.start()
        try:
            if refused:
                with pytest.raises(UnsupportedImage, match="crashed"):
                    sandbox.decode(picture, **DECODE)
            else:
                assert sandbox.decode(picture, **DECODE).width == 4000
        finally:
            done.set()
            killing.join()
        assert sandbox.killed == int(refused)
        assert sandbox.probe(noise(32), **PROBE).width == 32


def test_a_process_without_a_processor_is_no_fault_of_the_picture() -> None:
    with made(cpu_s=0.3) as sandbox:
        sandbox.probe(noise(32), **PROBE)
        (pid,) = sandbox.pids
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(Unavailable):
            sandbox.probe(noise(32), **PROBE)
        assert not psutil.pid_exists(pid)
        assert sandbox.killed == 0 and sandbox.probe(noise(32), **PROBE).width == 32


def test_memory_is_limited() -> None:
    with made(max_pixels=1) as sandbox, pytest.raises(TooLarge):
        sandbox.decode(zeros(24_000), max_pixels=10**9, long_side=64)


def test_a_decoder_has_no_rights_and_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAFEGUARD_S3_SECRET_KEY", "a-secret-of-ours")
    with made() as sandbox:
        sandbox.probe(noise(32), **PROBE)
        process = psutil.Process(sandbox.pids[0])
        assert not any("SAFEGUARD" in name or "a-secret" in value for name, value in process.environ().items())
        limits = [" ".join(line.split()) for line in Path(f"/proc/{process.pid}/limits").read_text().splitlines()]
        assert {"Max core file size 0 0 bytes", "Max file size 0 0 bytes"} <= set(limits)
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert "NoNewPrivs:\t1" in status
        if os.geteuid() == 0:
            assert process.uids().real not in (0, 65534)  # nor that of our servers


CONFINED = """
import os, socket, sys
from deployments.vision.confinement import confine, landlock_version
secret, parent, port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
confine(2**30)
def refused(call):
    try:
        call()
    except OSError:
        return True
    return False
print(landlock_version(), [
    refused(lambda: open(secret)), refused(lambda: os.listdir("/proc")), refused(lambda: open(f"/proc/{parent}/environ")),
    refused(lambda: os.kill(parent, 0)), refused(lambda: socket.socket().connect(("127.0.0.1", port))),
    refused(lambda: open("/tmp/written-by-a-decoder", "w").write("x")), refused(lambda: os.execv("/bin/true", ["true"])),
])
"""


def test_a_decoder_reaches_no_file_no_process_and_no_port(tmp_path: Path) -> None:
    if landlock_version() < 6:
        pytest.skip("this kernel's Landlock is older than version 6")
    secret = tmp_path / "settings.env"
    secret.write_text("secret")
    tmp_path.chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = subprocess.run(
            [sys.executable, "-c", CONFINED, str(secret), str(os.getpid()), str(server.getsockname()[1])],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.stdout.split(" ", 1)[1].strip() == str([True] * 7), done.stderr


def test_it_ends_with_the_process_that_asked() -> None:
    program = (
        "from deployments.vision.sandbox import Sandbox; import os;"
        "s = Sandbox(workers=1, cpu_s=1, max_pixels=10**6);"
        "worker = s._taken(); print(worker.pid, flush=True); os._exit(9)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    pid = int(ended.stdout)
    awaited(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


@pytest.mark.parametrize("sent", [b"", b"\x00\x00\x00\x02{}", b"\xff\xff\xff\xff", b"\x00\x00\x00\x01x"])
def test_what_is_no_message_is_refused(sent: bytes) -> None:
    with pytest.raises((EOFError, ValueError)):
        receive(io.BytesIO(sent), most_bytes=10)
    stream = io.BytesIO()
    send(stream, {"a": 1}, b"12345678901")
    stream.seek(0)
    with pytest.raises(ValueError, match="too long"):
        receive(stream, most_bytes=10)
