"""Ports are remembered, and waited for where the process that held them is still on its way out."""

import socket
import threading
from pathlib import Path

import pytest

from storage.embedded import ports
from storage.embedded.ports import Ports


def listener(port: int) -> socket.socket:
    made = socket.create_server(("127.0.0.1", port))
    assert not ports.is_free(port)
    return made


def test_the_port_of_a_server_that_is_still_ending_is_waited_for(tmp_path: Path) -> None:
    port = Ports(tmp_path).take("s3")
    ending = listener(port)
    threading.Timer(1.0, ending.close).start()
    assert Ports(tmp_path).take("s3") == port, "replicas that run know S3 under this port alone"


def test_the_port_of_a_stranger_is_given_up_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_FREED_S", 0.3)
    port = Ports(tmp_path).take("s3")
    with listener(port):
        other = Ports(tmp_path).take("s3")
    assert other != port and Ports(tmp_path).get("s3") == other


def test_a_wanted_port_that_is_taken_is_not_waited_for(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        wanted = stranger.getsockname()[1]
        assert Ports(tmp_path).take("http", wanted=wanted) != wanted
