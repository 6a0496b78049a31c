"""Another machine on this one, and a cable to it that can be cut."""

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from benchmarks.drills.namespaces import Machine, possible

_TICKS = """
import socket, sys, time
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5)
while True:
    connection.sendall(b"x")
    time.sleep(0.1)
"""


@pytest.fixture
def allowed() -> None:
    if not possible():
        pytest.skip("network namespaces take root, its rights and iproute2")


@pytest.fixture
def machine(allowed: None) -> Iterator[Machine]:
    with Machine() as made:
        yield made


def test_a_cut_loses_packets_and_no_connection(machine: Machine) -> None:
    with socket.create_server((machine.here, 0)) as listening:
        command = [*machine.within, sys.executable, "-c", _TICKS, machine.here, str(listening.getsockname()[1])]
        ticking = subprocess.Popen(command)
        try:
            connection, (address, _) = listening.accept()
            with connection:
                connection.settimeout(5.0)
                assert address == machine.there and connection.recv(1) == b"x"
                machine.cut()
                connection.settimeout(1.0)
                with pytest.raises(TimeoutError):
                    while connection.recv(4096):  # what was on its way
                        pass
                assert ticking.poll() is None, "it is not told"
                machine.heal()
                connection.settimeout(10.0)
                assert connection.recv(1) == b"x"
        finally:
            ticking.kill()
            ticking.wait()


def test_nothing_of_it_is_left(allowed: None) -> None:
    with Machine() as made:
        name = made.within[3]
        assert name in subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
    for command in (["ip", "netns"], ["ip", "-brief", "link"]):
        assert name not in subprocess.run(command, capture_output=True, text=True, check=True).stdout
