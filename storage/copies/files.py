"""The files of a backup: closed to others, whole or not there, with their size and SHA-256. Imports errors only."""

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from storage.errors import ConfigurationError, Conflict, StorageFull

_BLOCK = 1 << 20


class Sum(NamedTuple):
    """What a manifest says of a file: size in bytes, SHA-256 in hexadecimal."""

    size: int
    sha256: str


class NewFile:
    """A file (0600) that has its name only when ``finish`` was called; left without it, nothing stays.

    Args:
        path: its name; the two folders above are made (0700).
    """

    def __init__(self, path: Path) -> None:
        self._path, self._draft = path, path.with_name(f"{path.name}.draft")
        for folder in (path.parent.parent, path.parent):
            folder.mkdir(mode=0o700, exist_ok=True)
        self._draft.unlink(missing_ok=True)
        self._stream = os.fdopen(os.open(self._draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        self._hash, self._size = hashlib.sha256(), 0

    def write(self, data: bytes) -> None:
        """Appends."""
        self._stream.write(data)
        self._hash.update(data)
        self._size += len(data)

    def finish(self) -> Sum:
        """Puts it on the disk under its name."""
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()
        self._draft.rename(self._path)
        return Sum(self._size, self._hash.hexdigest())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if not self._stream.closed:
            try:
                self._stream.close()
            finally:
                self._draft.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """A JSON file in one step."""
    with NewFile(path) as file:
        file.write(json.dumps(content, indent=1, ensure_ascii=False).encode())
        file.finish()


def read_json(path: Path) -> Any:
    """The content of a JSON file, None where there is none.

    Raises:
        ConfigurationError: it is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error


def sum_of(path: Path) -> Sum | None:
    """Size and SHA-256 of a file, None where there is none."""
    made, size = hashlib.sha256(), 0
    try:
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                made.update(block)
                size += len(block)
    except FileNotFoundError:
        return None
    return Sum(size, made.hexdigest())


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One process at a time works on a folder (0700), which is made where it is missing.

    Raises:
        Conflict: another one does.
        StorageFull: its disk is full.
        ConfigurationError: it cannot be used.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_WRONLY | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Conflict(f"another command works on {folder}") from error
            yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(f"the disk of {folder} is full; make room and repeat the command: it goes on") from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EPERM, errno.ENOENT):
            raise ConfigurationError(f"{folder} cannot be used: {error.strerror}") from error
        raise
