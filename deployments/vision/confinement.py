"""What a process gives up for good before it decodes what strangers send. Imports nothing of ours."""

import contextlib
import ctypes
import os
import resource
import struct
import sys
from pathlib import Path

from PIL import Image

_NOBODY_ELSE = (65533, 65534)
"""An id that no server of ours runs as, else ``nobody``: within the same id processes may look into one another."""
_NO_NEW_PRIVILEGES = 38
_CREATE, _ADD, _RESTRICT = 444, 445, 446
_VERSION, _PATH_BENEATH = 1, 1
_READ = 1 << 2 | 1 << 3
_EVERYTHING = {1: 2**13 - 1, 2: 2**14 - 1, 3: 2**15 - 1, 5: 2**16 - 1}
"""Rights over files that each version of Landlock knows. Source: Linux, include/uapi/linux/landlock.h."""
_BIND_AND_CONNECT, _SOCKETS_AND_SIGNALS = 0b11, 0b11


def _call(number: int, *arguments: object) -> int:
    return int(ctypes.CDLL(None, use_errno=True).syscall(number, *arguments))


def landlock_version() -> int:
    """Which Landlock this kernel has; 0 is none: then a decoder can read what its user can read."""
    if sys.platform != "linux":
        return 0
    return max(0, _call(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION)))


def confine(memory_bytes: int) -> None:
    """Limits memory, forbids to write files, and takes away root, secrets' files, other processes and TCP.

    Only the interpreter and its packages can still be read; no program can be started.

    Args:
        memory_bytes: address space at most.
    """
    Image.init()
    for kind, most in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 64),
    ):
        resource.setrlimit(kind, (most, most))
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    _lock_files(landlock_version())
    _leave_root()


def _leave_root() -> None:
    if os.geteuid() != 0:
        return
    for user in _NOBODY_ELSE:
        with contextlib.suppress(OSError):  # a container that knows fewer ids, or may not change them
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
            return


def _lock_files(version: int) -> None:
    if version < 1:
        return
    handled = _EVERYTHING[max(known for known in _EVERYTHING if known <= version)]
    net = _BIND_AND_CONNECT if version >= 4 else 0
    scoped = _SOCKETS_AND_SIGNALS if version >= 6 else 0
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    rules = _call(_CREATE, struct.pack("QQQ", handled, net, scoped), ctypes.c_size_t(size), ctypes.c_uint32(0))
    if rules < 0:
        return
    for place in {*sys.path, sys.base_prefix + "/lib", "/usr/lib", "/lib", "/lib64"}:
        if place and Path(place).is_dir():
            folder = os.open(place, os.O_PATH | os.O_CLOEXEC)
            _call(_ADD, rules, _PATH_BENEATH, struct.pack("=Qi", _READ, folder), ctypes.c_uint32(0))
            os.close(folder)
    _call(_RESTRICT, rules, ctypes.c_uint32(0))
    os.close(rules)
