"""Whom servers run as: the caller, or, where that is root, an unprivileged user. Imports errors only."""

import os
import pwd
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.errors import ConfigurationError

_NOBODY = 65534


@dataclass(frozen=True)
class ServiceUser:
    """An unprivileged user and group."""

    uid: int
    gid: int

    def arguments(self) -> dict[str, Any]:
        """For ``subprocess``."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


def service_user() -> ServiceUser | None:
    """``nobody`` where we are root (PostgreSQL refuses to run as root), else None: the caller."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return ServiceUser(_NOBODY, _NOBODY)
    return ServiceUser(entry.pw_uid, entry.pw_gid)


def own(folder: Path, user: ServiceUser | None) -> Path:
    """Makes ``folder`` (0700) and gives it and all in it to ``user``."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if user is not None:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, user.uid, user.gid, follow_symlinks=False)
    return folder


def closed_folder(path: Path, user: ServiceUser | None) -> Path | None:
    """The first folder above ``path`` that ``user`` may not enter, None where all are open."""
    if user is None:
        return None
    for parent in reversed(path.resolve().parents):
        held = parent.stat()
        mine = stat.S_IXUSR if held.st_uid == user.uid else stat.S_IXGRP if held.st_gid == user.gid else stat.S_IXOTH
        if not held.st_mode & mine:
            return parent
    return None


def require_reachable(home: Path, user: ServiceUser | None) -> None:
    """Makes sure that the servers can reach their folders.

    Raises:
        ConfigurationError: a folder above is closed to them; the message names it.
    """
    closed = closed_folder(home / "any", user)
    if closed is not None:
        raise ConfigurationError(
            f"as root the servers run as an unprivileged user, which may not enter {closed}; "
            f"choose another folder with SAFEGUARD_HOME, or open that one: chmod o+x {closed}"
        )


def runnable(program: Path, tree: Path, home: Path, user: ServiceUser | None) -> Path:
    """A path of ``program`` that ``user`` may run; where its place is closed, ``tree`` is copied below ``home``.

    Args:
        program: inside ``tree``, or ``tree`` itself.
        tree: all that the program needs.
    """
    if closed_folder(program, user) is None:
        return program
    copy = home / "programs" / tree.name
    if not copy.exists():
        copy.parent.mkdir(mode=0o755, exist_ok=True)
        draft = copy.with_name(f"{copy.name}.draft")
        shutil.rmtree(draft, ignore_errors=True)
        if tree.is_dir():
            shutil.copytree(tree, draft, symlinks=True)
        else:
            shutil.copy2(tree, draft)
        draft.rename(copy)
    return copy / program.relative_to(tree) if program != tree else copy
