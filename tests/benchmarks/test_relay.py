"""The relay that breaks connections: what arrives at which end, and when."""

import itertools
import socket
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from benchmarks.drills.relay import RESET, STALL, VANISH, Fate, Relay, fates


class Echo:
    """Sends back what comes, and keeps what each connection brought and how it ended."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.ended: list[tuple[float, str]] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        for number in itertools.count():
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.got.append(b"")
            threading.Thread(target=self._echo, args=(connection, number), daemon=True).start()

    def _echo(self, connection: socket.socket, number: int) -> None:
        how = "closed"
        with connection:
            try:
                while data := connection.recv(65_536):
                    self.got[number] += data
                    connection.sendall(data)
            except OSError:
                how = "reset"
        self.ended.append((time.monotonic(), how))

    def close(self) -> None:
        self._listening.close()

    def end(self) -> tuple[float, str]:
        """When and how the first connection that ended did."""
        limit = time.monotonic() + 60
        while not self.ended:
            assert time.monotonic() < limit
            time.sleep(0.01)
        return self.ended[0]


@pytest.fixture
def echo() -> Iterator[Echo]:
    made = Echo()
    yield made
    made.close()


@pytest.fixture
def relay(echo: Echo) -> Iterator[Relay]:
    made = Relay("127.0.0.1", echo.port)
    yield made
    made.close()


def received(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (some := connection.recv(65_536)):
        data += some
    return data


def connected(relay: Relay) -> socket.socket:
    return socket.create_connection(("127.0.0.1", relay.port), timeout=60)


def test_all_passes_while_nothing_is_wrong(relay: Relay, echo: Echo) -> None:
    data = np.random.default_rng(1).bytes(3_000_000)
    with connected(relay) as connection:
        threading.Thread(target=connection.sendall, args=(data,), daemon=True).start()
        assert received(connection, len(data)) == data
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b"", "the end of one side reaches the other, and comes back"
    assert echo.end()[1] == "closed" and not relay.befell


def test_a_reset_towards_the_server_leaves_it_with_a_part(relay: Relay, echo: Echo) -> None:
    relay.disturb(iter([Fate(RESET, True, 1000, 0.0)]))
    with connected(relay) as connection:
        connection.sendall(b"x" * 5000)
        with pytest.raises(ConnectionResetError):
            while connection.recv(65_536):
                pass
    assert echo.end()[1] == "reset" and len(echo.got[0]) <= 1000
    assert relay.befell == {RESET: 1}
    with connected(relay) as next_one:  # no fate is left
        next_one.sendall(b"y" * 5000)
        assert received(next_one, 5000) == b"y" * 5000


def test_a_reset_of_the_answer_comes_after_the_server_has_done_its_work(relay: Relay, echo: Echo) -> None:
    relay.disturb(iter([Fate(RESET, False, 1, 0.0)]))
    with connected(relay) as connection:
        connection.sendall(b"z" * 3000)
        with pytest.raises(ConnectionResetError):
            while connection.recv(65_536):
                pass
    assert echo.end()[1] == "reset" and echo.got == [b"z" * 3000]


def test_what_stalls_arrives_later_and_whole(relay: Relay) -> None:
    with connected(relay) as connection:
        connection.sendall(b"a")
        assert received(connection, 1) == b"a"
        relay.disturb(iter([Fate(STALL, True, 10, 1.0)]))  # reaches connections that are there, counted from now on
        begun = time.monotonic()
        connection.sendall(b"b" * 20_000)
        assert received(connection, 20_000) == b"b" * 20_000
        assert time.monotonic() - begun > 0.9
    assert relay.befell == {STALL: 1}


def test_a_client_that_vanishes_is_missed_later(relay: Relay, echo: Echo) -> None:
    relay.disturb(iter([Fate(VANISH, True, 5, 3.0)]))
    with connected(relay) as connection:
        begun = time.monotonic()
        connection.sendall(b"c" * 10)
        with pytest.raises(ConnectionResetError):
            while connection.recv(65_536):
                pass
        heard = time.monotonic()
    when, how = echo.end()
    assert how == "reset" and when - begun > 2.9 and heard < when


def test_a_calm_relay_breaks_nothing(relay: Relay) -> None:
    with connected(relay) as connection:
        connection.sendall(b"a")
        assert received(connection, 1) == b"a"
        relay.disturb(fates(np.random.default_rng(1), most_bytes=200, most_s=1.0))
        relay.calm()
        connection.sendall(b"b" * 20_000)
        assert received(connection, 20_000) == b"b" * 20_000
    assert not relay.befell


def test_a_relay_that_ends_breaks_its_connections_and_says_nothing(
    relay: Relay, echo: Echo, caplog: pytest.LogCaptureFixture
) -> None:
    with connected(relay) as connection:
        connection.sendall(b"a")
        assert received(connection, 1) == b"a"
        relay.close()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    assert echo.end()[1] == "reset" and not caplog.records


def test_without_a_server_the_client_is_told_at_once() -> None:
    made = Relay("127.0.0.1", 1)
    with pytest.raises(ConnectionResetError), connected(made) as connection:  # may be told while it connects
        connection.sendall(b"a")
        connection.recv(1)
    made.close()


def test_a_seed_gives_the_same_fates() -> None:
    def drawn(seed: int) -> list[Fate]:
        return list(itertools.islice(fates(np.random.default_rng(seed), most_bytes=10_000, most_s=8.0), 200))

    assert drawn(1) == drawn(1) != drawn(2)
    assert {one.kind for one in drawn(1)} == {RESET, STALL, VANISH} and {one.upward for one in drawn(1)} == {
        True,
        False,
    }
    assert all(100 <= one.after <= 10_000 and 2.0 <= one.seconds <= 8.0 for one in drawn(1))
