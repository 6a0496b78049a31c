"""Runs drills one after another, judges what each left behind, and prints the table."""

import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.client import Client
from benchmarks.drills.drill import Drill, Scene, random_of
from benchmarks.drills.load import Batch, Load
from benchmarks.drills.order import Order
from benchmarks.drills.outcome import Outcome, broken_promises, deliveries, differences, examine, named
from benchmarks.drills.stage import Stage, staged
from configs.settings import Settings
from storage.errors import SafeGuardError

_END_S = 300.0
_TOLD_S = 60.0


@dataclass
class Result:
    """What one drill gave; a line of the table.

    Args:
        healthy_s: from the end of the disturbance until all parts ran and all uploads were accepted.
        claims: how many pictures took how many claims.
        failed: pictures that are FAILED, with a reason.
        refused: answers after which a client tried again, by status; 0 where there was none.
    """

    name: str
    healthy_s: float | None = None
    accepted: int = 0
    claims: Counter[int] = field(default_factory=Counter)
    failed: int = 0
    refused: Counter[int] = field(default_factory=Counter)
    troubles: list[str] = field(default_factory=list)


class Runner:
    """Judges drills by one undisturbed run of the same uploads.

    Args:
        photos: folder that the pictures are of.
        clients: that upload at the same time.
        seed: of all that is drawn.
    """

    def __init__(
        self, photos: Path, plan: list[tuple[Drill, Batch]], clients: int, seed: int, console: Console
    ) -> None:
        self._photos, self._plan, self._clients, self._seed, self._console = photos, plan, clients, seed, console
        self._calm = Outcome()
        self._order: Order | None = None

    def run(self) -> list[Result]:
        """The undisturbed run, all drills of the common installation, then those that need one of their own."""
        self._say("undisturbed: all uploads")
        with staged([batch.member for _, batch in self._plan]) as stage:
            begun = time.monotonic()
            result = Result("undisturbed")
            for _, batch in self._plan:
                self._upload(stage, batch, result)
            self._calm = self._judge(stage, result)
            self._say(f"undisturbed: {result.accepted} uploads were done after {time.monotonic() - begun:.0f} s")
        results = [result]
        common = [(drill, batch) for drill, batch in self._plan if drill.around is None]
        with ExitStack() as stack:
            members = [batch.member for _, batch in common]
            stage_of_all = stack.enter_context(staged(members)) if common else None
            for drill, batch in common:
                assert stage_of_all is not None
                results.append(self._perform(stage_of_all, drill, batch))
        for drill, batch in self._plan:
            if drill.around is not None:
                with staged([batch.member], drill) as stage:
                    results.append(self._perform(stage, drill, batch))
        return results

    def _say(self, what: str) -> None:
        self._console.print(what, highlight=False, markup=False)

    def _upload(self, stage: Stage, batch: Batch, result: Result) -> None:
        load = Load(stage.running.url, stage.running.key, batch.load, self._clients)
        load.wait(load.size)
        self._end(stage, load, result)

    def _end(self, stage: Stage, load: Load, result: Result) -> None:
        load.close()
        stage.accepted.update(load.accepted)
        result.accepted += len(load.accepted)
        result.refused += load.refused
        result.troubles += load.troubles

    def _perform(self, stage: Stage, drill: Drill, batch: Batch) -> Result:
        self._say(f"{drill.name}: {drill.about}")
        result = Result(drill.name)
        load = Load(stage.running.url, stage.running.key, batch.load, self._clients)
        scene = Scene(
            stage.home,
            stage.running,
            self._photos,
            batch.items,
            load,
            stage.receiver,
            stage.disks,
            random_of(self._seed, drill.name),
            self._console,
        )
        try:
            drill.act(scene)
            result.healthy_s = stage.health.wait(scene.revive, lambda: load.over)
            scene.say("whole again, all uploads accepted")
        except Exception as error:  # the drills after it are worth running
            result.troubles.append(f"the drill ended with {type(error).__name__}: {error}")
        self._end(stage, load, result)
        stage.accepted.update(scene.own)
        result.troubles += scene.troubles
        try:
            self._compare(self._judge(stage, result), stage, load, result)
        except SafeGuardError as error:
            result.troubles.append(f"what is left cannot be looked at: {error}")
        scene.say(f"{len(result.troubles)} troubles" if result.troubles else "nothing was lost")
        for line in result.troubles:
            self._say(f"           {line}")
        return result

    def _compare(self, outcome: Outcome, stage: Stage, load: Load, result: Result) -> None:
        """Counts what became of the drill's uploads, and looks for differences to the undisturbed run."""
        result.troubles += differences(self._calm, outcome, partial(self._allows, stage.running.settings))
        for name in load.accepted:
            for picture in outcome.pictures.get(name, []):
                result.claims[picture.attempts] += 1
                result.failed += picture.status == "FAILED"

    def _allows(self, settings: Settings, first: str, second: str, linked: bool) -> bool:
        """See ``benchmarks.drills.order``; what is left to the order is said, and is no trouble."""
        if self._order is None:
            pictures = dict(item for _, batch in self._plan for item in batch.items)
            self._order = Order(pictures, settings)
        allowed = self._order.allows(first, second, linked=linked)
        if allowed:
            self._say(f"           {'a new' if linked else 'no'} weak link of {first} and {second}: the order decides")
        return allowed

    def _judge(self, stage: Stage, result: Result) -> Outcome:
        """Waits until all is done, and looks whether every promise was kept."""
        with Client(stage.running.url, stage.running.key) as client:
            try:
                client.wait(stage.accepted.values(), timeout_s=_END_S, pause_s=0.5)
            except TimeoutError as error:
                result.troubles.append(str(error))
        result.troubles += self._untold(stage)
        outcome = examine(stage.home)
        result.troubles += broken_promises(outcome, stage.accepted)
        return outcome

    @staticmethod
    def _untold(stage: Stage) -> list[str]:
        """What is wrong with the webhook's deliveries once they have had time to come."""
        end, states = time.monotonic() + _TOLD_S, deliveries(stage.home)
        while "waiting" in states.values() and time.monotonic() < end:
            time.sleep(0.5)
            states = deliveries(stage.home)
        open_ones = [f"{message} is {state}" for message, state in states.items() if state != "delivered"]
        never = states.keys() - stage.receiver.ids()
        return named("deliveries are not made", open_ones) + named("events never came to the webhook", never)


def show(results: list[Result], console: Console) -> int:
    """Prints the table and every trouble; returns how many there were."""
    table = Table("drill", "healthy after", "uploads", "tried again", "claims a picture took", "failed", "troubles")
    for one in results:
        seconds = f"{one.healthy_s:.1f} s" if one.healthy_s is not None else "–"
        claims = ", ".join(f"{count} × {times}" for times, count in sorted(one.claims.items()))
        refused = ", ".join(f"{count} × {status or 'cut'}" for status, count in sorted(one.refused.items()))
        numbers = str(one.accepted), refused or "–", claims or "–", str(one.failed), str(len(one.troubles))
        table.add_row(one.name, seconds, *numbers)
    console.print(table)
    troubles = [f"{one.name}: {line}" for one in results for line in one.troubles]
    for line in troubles:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print("nothing was lost" if not troubles else f"{len(troubles)} troubles")
    return len(troubles)
