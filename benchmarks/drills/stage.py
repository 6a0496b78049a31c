"""An installation in which drills happen: short leases, a bank with members, a webhook, disks that can be filled."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.client import Client
from benchmarks.disks import Disk, NoDisk, mounted
from benchmarks.drills.drill import Drill
from benchmarks.drills.health import Health
from benchmarks.drills.load import Item
from benchmarks.receiver import Receiver, receiving
from benchmarks.servers import installation
from configs.settings import SETTINGS_FILE
from graphs.service import Running, down, up

OPTIONS: dict[str, object] = {
    "lease_s": 12, "worker_lease_s": 10, "webhook_allow_private": "127.0.0.1/32", "webhook_retry_s": 0.5,
    "webhook_timeout_s": 5,
}  # fmt: skip
"""Leases are short so that what was in work is taken up again soon."""
_DATA = {"PostgreSQL": "postgres", "S3": "objects"}
"""Where below the home the data of each lie."""
_DISK_MIB = 4096
_BANK = "Reported"


@dataclass(frozen=True)
class Stage:
    """A running installation.

    Args:
        accepted: ids of the members of its bank, by name; drills add their own.
        disks: see ``benchmarks.drills.drill.Scene``.
    """

    home: Path
    running: Running
    receiver: Receiver
    disks: Mapping[str, Disk]
    health: Health
    accepted: dict[str, int]


def _fill(running: Running, members: list[Item], hook: str) -> dict[str, int]:
    """A webhook for every event, and a bank of the members, whose look-back has ended."""
    with Client(running.url, running.key) as client:
        client.post("/webhooks", url=hook)
        ids = {name: client.upload(name, data, key=f"drill-{name}") for name, data in members}
        client.wait(ids.values(), timeout_s=300)
        bank = client.post("/banks", name=_BANK, kind="unacceptable")["id"]
        for image in ids.values():
            client.put(f"/banks/{bank}/images/{image}")
        client.until("/lookbacks", lambda found: all(one["state"] == "done" for one in found), timeout_s=300)
    return ids


@contextmanager
def staged(members: list[Item], drill: Drill | None = None) -> Iterator[Stage]:
    """An installation until the end; with ``drill`` as that drill wants it.

    Args:
        members: pictures that are put into its bank.
    """
    with installation() as home, receiving() as receiver, ExitStack() as stack:
        disks = {}
        with suppress(NoDisk):
            for part, folder in _DATA.items():
                disks[part] = stack.enter_context(mounted(home / folder, _DISK_MIB))
        options = dict(OPTIONS)
        if drill is not None and drill.around is not None:
            options |= stack.enter_context(drill.around(home))
        lines = [f"SAFEGUARD_{name.upper()}='{value}'\n" for name, value in options.items()]
        (home / SETTINGS_FILE).write_text("".join(lines))
        running = up(home, say=lambda _: None)
        stack.callback(down, home)
        accepted = _fill(running, members, receiver.url)
        yield Stage(home, running, receiver, disks, Health(home, running), accepted)
