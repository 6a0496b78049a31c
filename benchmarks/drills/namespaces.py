"""Another machine on this one: a network namespace at the end of a cable that can be cut. Needs root and iproute2."""

import os
import secrets
import shutil
import subprocess
from functools import cache
from types import TracebackType
from typing import Self

_SWALLOW = ("bfifo", "limit", "1")
"""A queue with room for one byte takes no packet: what is sent is lost, as in a dead cable; neither end sees its link go
down, and no connection is told."""


@cache
def possible() -> bool:
    """Whether such a machine can be made here: tried once, since root may lack the rights, as in a container."""
    if os.geteuid() or not (shutil.which("ip") and shutil.which("tc")):
        return False
    try:
        with Machine() as made:
            made.cut()
            made.heal()
            return True
    except subprocess.CalledProcessError:
        return False


class Machine:
    """A network namespace with two virtual interfaces between it and the rest; a context in which it exists.

    Attributes:
        here: address of this machine on the cable.
        there: address of the other one.
    """

    def __init__(self) -> None:
        self._name = f"sg-{secrets.token_hex(4)}"
        network = f"10.{200 + secrets.randbelow(50)}.{secrets.randbelow(256)}"
        self.here, self.there = f"{network}.1", f"{network}.2"

    def __enter__(self) -> Self:
        name = self._name
        _run("ip", "netns", "add", name)
        try:
            _run("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
            _run("ip", "address", "add", f"{self.here}/30", "dev", name)
            _run("ip", "link", "set", name, "up")
            _run("ip", "-n", name, "address", "add", f"{self.there}/30", "dev", "eth0")
            for interface in ("lo", "eth0"):
                _run("ip", "-n", name, "link", "set", interface, "up")
            _run("ip", "-n", name, "route", "add", "default", "via", self.here)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _run("ip", "netns", "delete", self._name)  # and with it, sooner or later, the cable
        subprocess.run(["ip", "link", "delete", self._name], check=False, capture_output=True)

    @property
    def within(self) -> tuple[str, ...]:
        """Put before a command, it runs there."""
        return ("ip", "netns", "exec", self._name)

    def cut(self) -> None:
        """From now on every packet is lost, in both directions."""
        _run("tc", "qdisc", "replace", "dev", self._name, "root", *_SWALLOW)
        _run("tc", "-n", self._name, "qdisc", "replace", "dev", "eth0", "root", *_SWALLOW)

    def heal(self) -> None:
        """Undoes ``cut``."""
        _run("tc", "qdisc", "delete", "dev", self._name, "root")
        _run("tc", "-n", self._name, "qdisc", "delete", "dev", "eth0", "root")


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
