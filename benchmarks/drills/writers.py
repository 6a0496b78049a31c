"""Two similarity writers at once: a second one begins while the service's own still writes, and both go on."""

import asyncio
import time
from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.drills.drill import Drill, Scene
from benchmarks.drills.outcome import named
from configs.models import load_models
from configs.settings import Settings
from deployments.similarity.replicas import known_spaces, spaces_of
from deployments.similarity.writer import VectorWriter
from storage.database import create_engine
from storage.errors import FencedOut, Unavailable
from storage.vector_rows import VectorRows
from storage.vectors import VectorTable, connect

_SHARES = (0.2, 0.6)
_IMAGES = 8
_BACK_S = 90.0
"""The service's own writer must be back by then."""
_ROUNDING = 1e-3
"""Of a number of a vector: a picture that is looked at twice may be rounded otherwise."""
_Rows = dict[str, VectorRows]
_Key = tuple[str, int, int]
_Stored = dict[_Key, tuple[float, ...]]


class _Intruder:
    """A writer as the service has one, in this process; it replaces vectors that are there by the same ones."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._engine = settings, create_engine(settings, pool_size=3)
        registry = load_models(settings.models_file)
        self._all, self._spaces = known_spaces(registry), spaces_of(registry)

    async def rows(self, some: Sequence[int] | None = None) -> _Rows:
        """The rows of some images, or of all, by table."""
        connection, found = await connect(self._settings), {}
        for space in self._spaces:
            table = await VectorTable.open(connection, space, create=False)
            if table is not None:
                found[space.name] = (await table.read_since(-1))[0] if some is None else await table.read_of(some)
        return found

    async def intrude(self, scene: Scene) -> int:
        """Takes over from the service's writer, and writes until that one has taken over again.

        Returns:
            Its commits.
        Raises:
            Unavailable: the service's writer did not come back.
        """
        writer = VectorWriter(self._engine, self._settings, self._all, holder="a second writer of the drill")
        await writer.start()
        scene.say("a second writer has taken the fence")
        begun, commits = time.monotonic(), 0
        try:
            ids = np.unique((await self.rows())[self._spaces[0].name].image_ids)
            while time.monotonic() - begun < _BACK_S:
                some = scene.draw.choice(ids, min(_IMAGES, len(ids)), replace=False).tolist()
                await writer.add(await self.rows(some), replace=some)
                commits += 1
        except FencedOut:
            scene.say(f"shut out after {time.monotonic() - begun:.0f} s and {commits} commits: the service's is back")
            return commits
        finally:
            await writer.close()
        raise Unavailable(f"the service's own writer was not back after {_BACK_S:.0f} s")

    async def close(self) -> None:
        """Frees connections."""
        await self._engine.dispose()


def _stored(rows: _Rows) -> _Stored:
    return {
        (name, image, region): (*box, *vector)
        for name, some in rows.items()
        for image, region, box, vector in zip(
            some.image_ids.tolist(), some.regions.tolist(), some.boxes.tolist(), some.vectors.tolist(), strict=True
        )
    }


def changed(before: Mapping[_Key, Sequence[float]], after: Mapping[_Key, Sequence[float]]) -> list[str]:
    """What of the vectors that were there is lost or another one's."""
    there = before.keys() & after.keys()
    other = [key for key in there if not np.allclose(before[key], after[key], rtol=0, atol=_ROUNDING)]
    return named("vectors are lost", before.keys() - after.keys()) + named("vectors are others", other)


async def _intrude(scene: Scene) -> None:
    intruder = _Intruder(scene.running.settings)
    try:
        for share in _SHARES:
            await asyncio.to_thread(scene.wait_for_uploads, share)
            before = await intruder.rows()
            if not await intruder.intrude(scene):
                scene.troubles.append("the second writer wrote nothing: nothing was tried")
            scene.troubles += changed(_stored(before), _stored(await intruder.rows()))
    finally:
        await intruder.close()


def _act(scene: Scene) -> None:
    asyncio.run(_intrude(scene))


WRITERS = (Drill("two-writers", "a second similarity writer begins while the first still writes, twice", _act),)
