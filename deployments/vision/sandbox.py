"""Decoding in processes that can be killed: a picture that crashes, hangs or bloats its decoder harms nothing else."""

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from configs.settings import Settings
from deployments.vision.decoding import DecodedImage, ImageInfo
from deployments.vision.sandboxed import receive, send
from storage.errors import TooLarge, Unavailable, UnsupportedImage

_PROJECT = Path(__file__).parents[2]
_START_S = 60.0
_WALL, _WALL_S = 3, 3.0
"""A picture may take so many times its processor time and so many seconds: a process that gets no processor proves nothing."""
_BYTES_PER_PIXEL = 24
"""Decoding a transparent picture holds it four times with 4 bytes a pixel, one of 16 bits in floats a little more."""
_PIPE_BYTES = 2**20
_ERRORS = {kind.__name__: kind for kind in (TooLarge, UnsupportedImage)}
_CRASHED = "the image is damaged: its decoder crashed"
T = TypeVar("T")
_log = logging.getLogger(__name__)


class _Died(Exception):
    """The process ended before it answered; ``code`` as subprocess gives it."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class _Worker:
    """One process. Used by one thread at a time."""

    def __init__(self, memory_bytes: int) -> None:
        # Nothing of our environment: it may hold the secrets that a decoder in a stranger's hands would look for.
        environment = {
            "PATH": os.defpath, "PYTHONPATH": str(_PROJECT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "1", "MALLOC_ARENA_MAX": "2",
        }  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "deployments.vision.sandboxed", str(memory_bytes)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd="/", env=environment,
        )  # fmt: skip
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):  # beyond what the machine allows; 64 KiB at a time will do
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)  # type: ignore[arg-type]
        self.used = time.monotonic()
        self.overdue = False
        if not self._within(_START_S, lambda: receive(self._output, most_bytes=0)):
            raise Unavailable("a decoder does not start")

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def _output(self) -> Any:
        return self._process.stdout

    def ask(self, header: dict[str, Any], data: bytes, wall_s: float, most_bytes: int) -> tuple[dict[str, Any], bytes]:
        """One picture.

        Raises:
            _Died: it ended, or was ended after ``wall_s``; then ``overdue`` is true.
        """

        def call() -> tuple[dict[str, Any], bytes]:
            send(self._process.stdin, header, data)  # type: ignore[arg-type]  # a pipe, as asked for
            return receive(self._output, most_bytes=most_bytes)

        answer = self._within(wall_s, call)
        self.used = time.monotonic()
        if answer is None:
            raise _Died(self._process.returncode)
        return answer

    def _within(self, limit_s: float, call: Any) -> tuple[dict[str, Any], bytes] | None:
        """What ``call`` returns; None, and the process is gone, where it does not answer properly in time."""

        def end() -> None:
            self.overdue = True
            self._process.kill()

        timer = threading.Timer(limit_s, end)
        timer.daemon = True
        timer.start()
        try:
            answer: tuple[dict[str, Any], bytes] = call()
            return answer
        except (OSError, EOFError, ValueError):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.5)  # it says itself what it died of
            self.close()
            return None
        finally:
            timer.cancel()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            try:
                if stream is not None:
                    stream.close()
            except OSError:
                continue


class Sandbox:
    """Some processes that decode, started when they are needed and ended when they were idle for long. Thread-safe.

    Its methods stand for those of decoding.py and take the same limits. All block.

    Args:
        workers: processes at most; further callers wait for one.
        cpu_s: processor time that one picture may take, seconds.
        max_pixels: of the largest picture; it bounds the memory of a process.
        idle_s: a process that had nothing to do for so long is ended, but for the one that worked last.
    """

    def __init__(self, *, workers: int, cpu_s: float, max_pixels: int, idle_s: float = 60.0) -> None:
        self._cpu_s = cpu_s
        self._memory = 2**29 + _BYTES_PER_PIXEL * max_pixels
        self._idle_s = idle_s
        self._places = threading.BoundedSemaphore(workers)
        self._threads = ThreadPoolExecutor(workers, "sandbox")
        self._idle: list[_Worker] = []
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self.killed = 0
        """Pictures that ended their process."""

    @property
    def pids(self) -> list[int]:
        """Processes that wait for work."""
        with self._lock:
            return [worker.pid for worker in self._idle]

    async def run(self, work: Callable[[], T]) -> T:
        """What ``work`` returns, called on a thread that is there for this: waiting takes none of the shared ones."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def probe(self, data: bytes, *, max_bytes: int, max_pixels: int, max_frames: int) -> ImageInfo:
        """See ``decoding.probe``.

        Raises:
            TooLarge, UnsupportedImage: also a picture that crashes its decoder or takes more than its time.
            Unavailable: the machine has no processor left for it, or no process starts.
        """
        if len(data) > max_bytes:
            raise TooLarge(f"{len(data)} bytes are over the limit of {max_bytes}")
        limits = {"max_bytes": max_bytes, "max_pixels": max_pixels, "max_frames": max_frames}
        header, _ = self._ask({"work": "probe", "limits": limits}, data, 0)
        return ImageInfo(**_info(header))

    def decode(self, data: bytes, *, max_pixels: int, long_side: int) -> DecodedImage:
        """See ``decoding.decode``; raises as ``probe`` does."""
        limits = {"max_pixels": max_pixels, "long_side": long_side}
        header, body = self._ask({"work": "decode", "limits": limits}, data, 3 * long_side**2)
        try:
            height, width = (int(side) for side in header["shape"])
            pixels = np.frombuffer(body, np.uint8).reshape(height, width, 3)
        except (KeyError, TypeError, ValueError) as error:
            raise UnsupportedImage(_CRASHED) from error
        return DecodedImage(pixels, **_info(header))

    def _ask(self, request: dict[str, Any], data: bytes, most_bytes: int) -> tuple[dict[str, Any], bytes]:
        request["cpu_s"] = self._cpu_s
        with self._places:
            try:
                header, body = self._once(request, data, most_bytes)
            except _Died as death:
                # A process may die of something else, such as a machine without memory: one death proves nothing.
                if death.code == -signal.SIGPROF:
                    raise self._blamed(f"the image is damaged: decoding it takes over {self._cpu_s:g} s") from death
                try:
                    header, body = self._once(request, data, most_bytes)
                except _Died as again:
                    raise self._blamed(_CRASHED) from again
        kind = _ERRORS.get(str(header.get("error")))
        if kind is not None:
            raise kind(str(header.get("message", ""))[:300])
        return header, body

    def _blamed(self, reason: str) -> UnsupportedImage:
        self.killed += 1
        _log.warning("a picture ended its decoder: %s", reason)
        return UnsupportedImage(reason)

    def _once(self, request: dict[str, Any], data: bytes, most_bytes: int) -> tuple[dict[str, Any], bytes]:
        worker = self._taken()
        try:
            answer = worker.ask(request, data, _WALL * self._cpu_s + _WALL_S, most_bytes)
        except _Died as death:
            if worker.overdue:
                raise Unavailable("decoding gets no processor time; try again") from death
            raise
        except BaseException:
            worker.close()
            raise
        with self._lock:
            self._idle.append(worker)
            self._look_later()
        return answer

    def _look_later(self) -> None:
        """Has idle processes ended in time where there is more than one; called with the lock held."""
        if len(self._idle) > 1 and self._timer is None:
            due = min(one.used for one in self._idle[:-1]) + self._idle_s
            self._timer = threading.Timer(max(0.0, due - time.monotonic()), self._end_idle)
            self._timer.daemon = True
            self._timer.start()

    def _end_idle(self) -> None:
        with self._lock:
            oldest = time.monotonic() - self._idle_s
            idle = [one for one in self._idle[:-1] if one.used <= oldest]
            self._idle = [one for one in self._idle if one not in idle]
            self._timer = None
            self._look_later()
        for one in idle:
            one.close()

    def _taken(self) -> _Worker:
        """The process used last, or a new one."""
        with self._lock:
            worker = self._idle.pop() if self._idle else None
        return worker or _Worker(self._memory)

    def close(self) -> None:
        """Ends the processes that wait for work; one in work ends with its picture's time."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.close()
        self._threads.shutdown(wait=False, cancel_futures=True)


def sandbox_of(settings: Settings) -> Sandbox:
    """A sandbox with the limits of the settings."""
    return Sandbox(workers=settings.decode_workers, cpu_s=settings.decode_cpu_s, max_pixels=settings.max_pixels)


def _info(header: dict[str, Any]) -> dict[str, Any]:
    info = header.get("info")
    wanted = {"media_type": str, "width": int, "height": int}
    if not isinstance(info, dict) or {name: type(value) for name, value in info.items()} != wanted:
        raise UnsupportedImage(_CRASHED)
    return info
