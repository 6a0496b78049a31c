"""Webhooks that are replayed, twice at once, on a way on which answers are lost: a receiver counts by ``webhook-id``."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from urllib.parse import urlsplit

import numpy as np

from benchmarks.client import Client
from benchmarks.drills.drill import Drill, Scene
from benchmarks.drills.outcome import named
from benchmarks.drills.relay import RESET, Fate, Relay
from benchmarks.receiver import Receiver, receiving

_ANSWERS_BYTES = 500
"""About four answers of a receiver."""
_END_S = 120.0


def _contents(receiver: Receiver) -> dict[str, set[bytes]]:
    """What came, by ``webhook-id``."""
    found: dict[str, set[bytes]] = {}
    for headers, body in zip(list(receiver.headers), list(receiver.bodies), strict=False):
        found.setdefault(headers["webhook-id"], set()).add(body)
    return found


def _lost_answers(draw: np.random.Generator) -> Iterator[Fate]:
    """Each connection breaks in the middle of an answer, or between two."""
    while True:
        yield Fate(RESET, False, int(draw.integers(1, _ANSWERS_BYTES)), 0.0)


def _replay(scene: Scene) -> None:
    """What became of the uploads is sent to a second webhook, asked for twice at once."""
    since = datetime.now(UTC)
    scene.wait_for_uploads(1.0)
    with receiving() as receiver, Client(scene.running.url, scene.running.key) as client:
        address = urlsplit(receiver.url)
        client.wait(scene.load.accepted.values(), timeout_s=_END_S, pause_s=0.5)
        relay = Relay(address.hostname or "", address.port or 0)
        hook = f"/webhooks/{client.post('/webhooks', url=f'http://{relay.address}{address.path}')['id']}"
        relay.disturb(_lost_answers(scene.draw))
        try:
            with ThreadPoolExecutor(2) as pool:
                asked = pool.map(lambda _: client.post(f"{hook}/replay", since=since.isoformat()), range(2))
                replayed = [one["replayed"] for one in asked]
            last = client.until(hook, lambda found: found["waiting"] == 0, timeout_s=_END_S)
        finally:
            relay.calm()
            client.remove(hook)
            relay.close()
        came, before = _contents(receiver), _contents(scene.receiver)
        scene.say(
            f"{max(replayed)} events were replayed: {len(receiver.bodies)} messages came of {len(came)} events, "
            f"{relay.befell[RESET]} answers were lost"
        )
        if last["dead"] or len(came) < max(replayed):
            scene.troubles.append(f"of {max(replayed)} replayed events {len(came)} came, {last['dead']} were given up")
        if len(receiver.bodies) <= len(came):
            scene.troubles.append("no message came twice: nothing was tried")
        unlike = [one for one, some in came.items() if len(some | before.get(one, set())) > 1]
        scene.troubles += named("events came with two contents", unlike)


REPLAYS = (
    Drill("replay-webhooks", "events are replayed, twice at once, to a receiver whose answers are lost", _replay),
)
