"""The process that decodes untrusted bytes for sandbox.py: without rights, secrets or much time and memory.

A request and an answer are a length, JSON and bytes; never pickles, since the decoder may be in a stranger's hands.
"""

import dataclasses
import json
import os
import signal
import struct
import sys
from typing import IO, Any

from deployments.vision.confinement import confine
from deployments.vision.decoding import decode, probe
from storage.errors import SafeGuardError, TooLarge

_LENGTH = struct.Struct(">I")


def send(stream: IO[bytes], header: dict[str, Any], body: bytes | memoryview = b"") -> None:
    """Writes one message; ``header["bytes"]`` is set to the length of the body."""
    text = json.dumps({**header, "bytes": len(body)}).encode()
    stream.write(_LENGTH.pack(len(text)) + text)
    stream.write(body)
    stream.flush()


def receive(stream: IO[bytes], *, most_bytes: int) -> tuple[dict[str, Any], bytes]:
    """Reads one message.

    Args:
        most_bytes: longest body.
    Raises:
        EOFError: the other side is gone.
        ValueError: it is not a message, or a longer one.
    """
    (length,) = _LENGTH.unpack(_exactly(stream, _LENGTH.size))
    if length > 2**16:
        raise ValueError("the header is too long")
    header = json.loads(_exactly(stream, length))
    if not isinstance(header, dict) or not isinstance(header.get("bytes"), int) or header["bytes"] < 0:
        raise ValueError("the header is none")
    if header["bytes"] > most_bytes:
        raise ValueError("the body is too long")
    return header, _exactly(stream, header["bytes"])


def _exactly(stream: IO[bytes], length: int) -> bytes:
    data = stream.read(length)
    if len(data) < length:
        raise EOFError
    return data


def _answer(request: dict[str, Any], data: bytes, output: IO[bytes]) -> None:
    """Decodes, within ``cpu_s`` seconds of processor time: then the kernel ends this process."""
    signal.setitimer(signal.ITIMER_PROF, request["cpu_s"])
    try:
        header, body = _done(request["work"], request["limits"], data)
    except SafeGuardError as error:
        header, body = {"error": type(error).__name__, "message": str(error)}, memoryview(b"")
    except MemoryError:
        header, body = {"error": TooLarge.__name__, "message": "the image does not fit into memory"}, memoryview(b"")
    signal.setitimer(signal.ITIMER_PROF, 0)
    send(output, header, body)


def _done(work: str, limits: dict[str, int], data: bytes) -> tuple[dict[str, Any], memoryview]:
    if work == "probe":
        return {"info": dataclasses.asdict(probe(data, **limits))}, memoryview(b"")
    image = decode(data, **limits)
    info = {"media_type": image.media_type, "width": image.width, "height": image.height}
    return {"info": info, "shape": image.pixels.shape[:2]}, memoryview(image.pixels.tobytes())


def main() -> None:
    """Answers one request after the other until the other side closes."""
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    confine(int(sys.argv[1]))
    send(output, {"ready": True})
    while True:
        try:
            request, data = receive(sys.stdin.buffer, most_bytes=2**31)
        except EOFError:
            return
        _answer(request, data, output)


if __name__ == "__main__":
    main()
