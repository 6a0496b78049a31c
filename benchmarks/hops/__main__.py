"""What each hop of a request costs, and which proxy stands in front: HAProxy beside Ray Serve's own, with the ports of each.

    python -m benchmarks.hops [--seconds 2] [--rounds 3]

Two installations, one after another, in folders of their own (removed afterwards), which differ in SAFEGUARD_USE_HAPROXY.
Beside the service a Serve application runs that does nothing. In each the same is asked by one and by 16 clients: the no-op
by its handle, on its replica's own port (only HAProxy has those) and through the proxy; then the service's /health/live, which
asks nobody, and GET /image/{id}. Ratios are to the no-op by its handle in the same installation. Exit code 1 if a port is
open to other machines and asks for no secret.
"""

import argparse
import json
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table

from benchmarks.client import Client
from benchmarks.hops.clients import Times, get, joined
from benchmarks.hops.noop import APPLICATION, PREFIX
from benchmarks.load.pictures import write
from benchmarks.rest import protection
from benchmarks.servers import installation
from graphs.cluster import CONFIG, RayCluster
from graphs.doctor import processes
from graphs.doctor_ports import Listening, listening
from graphs.service import Running, up

HANDLE = "no-op: handle"
PROXIES = {"HAProxy": "true", "Serve's own proxy": "false"}
CLIENTS = (1, 16)
_WARM_S = 0.5
Measure = Callable[[int, float], Times]


@dataclass
class Mode:
    """What was measured with one proxy: times by what was asked and the number of clients, and what listens."""

    times: dict[str, dict[int, Times]] = field(default_factory=dict)
    ports: list[Listening] = field(default_factory=list)


def with_noop(home: Path) -> Path:
    """The service's configuration with the no-op application beside it."""
    content = yaml.safe_load(CONFIG.read_text())
    content["applications"].append(APPLICATION)
    path = home / "serve_with_noop.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def by_handle(url: str, clients: int, seconds: float) -> Times:
    """Calls of the no-op by its handle, inside of the cluster."""
    with urllib.request.urlopen(f"{url}{PREFIX}?clients={clients}&seconds={seconds}", timeout=seconds + 30) as answer:
        taken = json.load(answer)
    return Times(taken, len(taken) / seconds)


def own_port(ports: list[Listening], path: str) -> int | None:
    """The port of a replica that answers ``path`` with 200 itself, without a proxy; None where replicas have none."""
    for one in ports:
        if one.name == "ingress_replicas":
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{one.port}{path}", timeout=5):
                    return one.port
            except (urllib.error.URLError, OSError):
                continue
    return None


def asked(running: Running, proxy: str, ports: list[Listening], image: int) -> dict[str, Measure]:
    """What is measured in one installation, by name."""
    front = int(running.url.rsplit(":", 1)[1])
    wanted: dict[str, Measure] = {HANDLE: lambda clients, seconds: by_handle(running.url, clients, seconds)}

    def ask(port: int, path: str) -> Measure:
        return lambda clients, seconds: get(port, path, running.key, clients=clients, seconds=seconds)

    for what, path, probe in (
        ("no-op", PREFIX, PREFIX),
        ("/health/live", "/health/live", "/health/live"),
        ("GET /image/{id}", f"/api/v1/image/{image}", "/health/live"),
    ):
        own = own_port(ports, probe)
        if own is not None:
            wanted[f"{what}: replica's own port"] = ask(own, path)
        wanted[f"{what}: {proxy}"] = ask(front, path)
    return wanted


def measure(proxy: str, seconds: float, rounds: int) -> Mode:
    """Brings the service up behind one of PROXIES, with the no-op, and measures in turns."""
    mode = Mode()
    with installation() as home:
        (home / "settings.env").write_text(f"SAFEGUARD_USE_HAPROXY='{PROXIES[proxy]}'\n")
        running = up(home, say=lambda _: None)
        mode.ports = listening(home, processes(running.settings))
        RayCluster(running.settings).deploy(with_noop(home))
        picture = write(home / "pictures", None, 2)[0]
        with Client(running.url, running.key) as client:
            image = client.upload(picture.name, picture.read_bytes())
            client.wait([image])
        calls = asked(running, proxy, listening(home, processes(running.settings)), image)
        for call in calls.values():
            call(CLIENTS[-1], _WARM_S)
        found: dict[str, dict[int, list[Times]]] = {name: {number: [] for number in CLIENTS} for name in calls}
        for _ in range(rounds):
            for name, call in calls.items():
                for number in CLIENTS:
                    found[name][number].append(call(number, seconds))
    mode.times = {name: {n: joined(rows) for n, rows in by.items()} for name, by in found.items()}
    return mode


def of_times(proxy: str, mode: Mode) -> Table:
    """A line for each thing that was asked."""
    columns = (f"{count} × {what}" for count in CLIENTS for what in ("p50, ms", "p95, ms", "÷ handle", "requests/s"))
    table = Table("asked, by so many clients ×", *columns, title=f"{proxy} in front")
    for name, by_clients in mode.times.items():
        cells = []
        for count, times in by_clients.items():
            ratio = times.ms(0.5) / mode.times[HANDLE][count].ms(0.5)
            cells += [f"{times.ms(0.5):.2f}", f"{times.ms(0.95):.2f}", f"{ratio:.2f}", f"{times.per_s:.0f}"]
        table.add_row(name, *cells)
    return table


def of_ports(modes: dict[str, Mode]) -> Table:
    """How many ports of each kind listen where, by proxy."""
    counts = {proxy: Counter((one.text, one.address) for one in mode.ports) for proxy, mode in modes.items()}
    table = Table("what listens", "on", *modes)
    for what, address in sorted({kind for count in counts.values() for kind in count}):
        table.add_row(what, address, *(str(count[what, address] or "–") for count in counts.values()))
    table.add_row("all", "", *(str(count.total()) for count in counts.values()))
    return table


def main() -> None:
    """Measures both and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement in each round")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    console = Console(width=150, highlight=False)
    modes = {proxy: measure(proxy, options.seconds, options.rounds) for proxy in PROXIES}
    for proxy, mode in modes.items():
        console.print(of_times(proxy, mode))
    console.print(of_ports(modes))
    for what in ("no-op", "/health/live", "GET /image/{id}"):
        front, own = (mode.times[f"{what}: {proxy}"] for proxy, mode in modes.items())
        ratios = (f"{front[n].ms(0.5) / own[n].ms(0.5):.2f} with {n}" for n in CLIENTS)
        console.print(f"{what}: p50 through HAProxy ÷ through Serve's own proxy: {', '.join(ratios)}")
    bare = [one for mode in modes.values() for one in mode.ports if protection(one) is None]
    for one in bare:
        console.print(f"open to other machines, asks for no secret: {one}")
    console.print("every port is on loopback or asks for a secret" if not bare else f"{len(bare)} troubles")
    sys.exit(bool(bare))


if __name__ == "__main__":
    main()
