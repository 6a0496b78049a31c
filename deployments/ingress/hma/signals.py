"""Signals as Hasher-Matcher-Actioner names them: PDQ and SHA-256 of a photo, in hexadecimal. Knows no route."""

import hashlib
import re

from configs.models import ModelRegistry
from configs.settings import Settings
from deployments.vision.pdq import pdq_hashes
from deployments.vision.sandbox import Sandbox
from storage.errors import InvalidInput

PDQ, SHA256, PHOTO = "pdq", "sha256", "photo"
SIGNAL_TYPES = (PDQ, SHA256)
_HASH = re.compile(r"[0-9A-Fa-f]{64}")


def types_of(given: str | None) -> list[str]:
    """The signals asked for: PDQ unless others are named.

    Args:
        given: names, by commas.
    Raises:
        InvalidInput: one is unknown, or none is left.
    """
    if given is None:
        return [PDQ]
    wanted = [one.strip() for one in given.split(",") if one.strip()]
    for one in wanted:
        type_of(one, "types")
    if not wanted:
        raise InvalidInput("names no signal type", "types")
    return list(dict.fromkeys(wanted))


def type_of(given: str, field: str = "signal_type") -> str:
    """A signal type.

    Raises:
        InvalidInput: it is unknown.
    """
    if given not in SIGNAL_TYPES:
        raise InvalidInput(f"there is no signal type {given!r}; known are {', '.join(SIGNAL_TYPES)}", field)
    return given


def check_content_type(given: str | None, field: str = "content_type") -> None:
    """Photos only.

    Raises:
        InvalidInput: something else.
    """
    if given not in (None, "", PHOTO):
        raise InvalidInput(f"there is no content type {given!r}; known is {PHOTO}", field)


def hash_of(signal: str, field: str = "signal") -> bytes:
    """The 32 bytes of a PDQ hash or a SHA-256.

    Raises:
        InvalidInput: it has not 64 hexadecimal digits.
    """
    if not _HASH.fullmatch(signal):
        said = f"{len(signal)} characters" if len(signal) != 64 else "others among them"
        raise InvalidInput(f"a hash has 64 hexadecimal digits; this one has {said}", field)
    return bytes.fromhex(signal)


def signals_of(
    data: bytes, wanted: list[str], settings: Settings, registry: ModelRegistry, sandbox: Sandbox
) -> dict[str, str]:
    """The signals of a picture; PDQ is empty where it has too little structure, as Hasher-Matcher-Actioner has it. Blocking.

    Raises:
        UnsupportedImage, TooLarge: it cannot be read.
    """
    least = registry[registry.default].thresholds.pdq_min_quality
    limits = {"max_pixels": settings.max_pixels, "max_frames": settings.max_frames}
    sandbox.probe(data, max_bytes=settings.max_upload_bytes, **limits)
    found = {}
    for one in wanted:
        if one == PDQ:
            decoded = sandbox.decode(data, max_pixels=settings.max_pixels, long_side=settings.decode_long_side)
            hashes, quality = pdq_hashes(decoded.pixels)
            found[one] = hashes[0].tobytes().hex() if quality >= least else ""
        else:
            found[one] = hashlib.sha256(data).hexdigest()
    return found
