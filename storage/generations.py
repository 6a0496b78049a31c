"""Generations: which descriptors the pictures of a model are written with, and the switch between them. Below deployments.

A model has a ``live`` descriptor, which searches and shown links use, and at most one other: one that is ``building``,
or the ``previous`` one. Uploads are written with both, so either can become live at any moment:

    ensure_live → live        begin → live + building        switch → live + previous        rollback: the two change places

Every change locks the model's live row, and ``storage.claims.finish`` shares that lock: a picture that becomes PROCESSED
after a ``begin`` has the new vectors and links, and after an ``abandon`` no link of the dropped descriptor comes back.
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as insert_if_new
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlmodel import col

from storage import lookbacks
from storage.audit import record
from storage.database import reading
from storage.errors import Conflict, NotFound
from storage.lookback_tables import LookBackKind
from storage.tables import Generation, columns_of


class State(StrEnum):
    """Of a generation; live comes first in every list."""

    LIVE = "live"
    BUILDING = "building"
    PREVIOUS = "previous"


_BATCH = 10_000
_BACKFILL = text("""
SELECT id FROM job WHERE kind = 'backfill' AND model_name = :model AND status NOT IN ('done', 'cancelled')
ORDER BY id LIMIT 1
""")
_DELETE_LINKS = text("""
WITH page AS (
    SELECT image_a, image_b, descriptor FROM image_match
    WHERE (image_a, image_b, descriptor) > (:image_a, :image_b, :after)
    ORDER BY image_a, image_b, descriptor LIMIT :batch
), gone AS (
    DELETE FROM image_match AS link USING page
    WHERE link.image_a = page.image_a AND link.image_b = page.image_b AND link.descriptor = page.descriptor
          AND page.descriptor = :descriptor AND NOT EXISTS (
              SELECT FROM generation JOIN image ON image.model_name = generation.model_name
              WHERE generation.descriptor = :descriptor AND image.id IN (page.image_a, page.image_b))
)
SELECT image_a, image_b, descriptor FROM page ORDER BY image_a DESC, image_b DESC, descriptor DESC LIMIT 1
""")


async def ensure_live(engine: AsyncEngine, descriptors: Mapping[str, str]) -> None:
    """Makes a descriptor live for each model that has no live one yet; changes nothing else.

    Args:
        descriptors: model name -> name@version, as models.yaml has them.
    """
    if descriptors:
        rows = [{"model_name": name, "state": State.LIVE, "descriptor": one} for name, one in descriptors.items()]
        async with engine.begin() as connection:
            await connection.execute(insert_if_new(Generation).values(rows).on_conflict_do_nothing())


async def generations(engine: AsyncEngine, model_name: str | None = None) -> dict[str, list[Generation]]:
    """The generations of one model or of all, by model, the live one first; a model without any is absent."""
    statement = select(*columns_of(Generation))
    if model_name is not None:
        statement = statement.where(col(Generation.model_name) == model_name)
    ordered = statement.order_by(col(Generation.model_name), col(Generation.state) != State.LIVE)
    found: dict[str, list[Generation]] = {}
    async with reading(engine) as connection:
        for row in (await connection.execute(ordered)).all():
            found.setdefault(row.model_name, []).append(Generation(**row._mapping))
    return found


async def models_of(engine: AsyncEngine, descriptor: str) -> list[str]:
    """The models that are written with a descriptor, in whatever state, by name."""
    statement = select(col(Generation.model_name)).where(col(Generation.descriptor) == descriptor)
    async with reading(engine) as connection:
        return list((await connection.execute(statement.order_by(col(Generation.model_name)))).scalars())


async def hold(connection: AsyncConnection, model_names: Iterable[str]) -> dict[str, set[str]]:
    """Keeps the generations of some models as they are until the transaction ends.

    Returns:
        Model name -> descriptors; a model without generations is absent.
    """
    names = sorted(set(model_names))
    mine = col(Generation.model_name).in_(names)
    live = select(col(Generation.model_name)).where(mine, col(Generation.state) == State.LIVE)
    await connection.execute(live.order_by(col(Generation.model_name)).with_for_update(read=True))
    # A statement of its own: that above sees no row which was committed while it waited for the lock.
    held: dict[str, set[str]] = {}
    rows = await connection.execute(select(col(Generation.model_name), col(Generation.descriptor)).where(mine))
    for model_name, descriptor in rows.all():
        held.setdefault(model_name, set()).add(descriptor)
    return held


@asynccontextmanager
async def _changing(engine: AsyncEngine, model_name: str) -> AsyncIterator[tuple[AsyncConnection, dict[str, str]]]:
    """A transaction that is alone in changing a model's generations, and its descriptors by state."""
    mine = col(Generation.model_name) == model_name
    async with engine.begin() as connection:
        live = select(col(Generation.state)).where(mine, col(Generation.state) == State.LIVE).with_for_update()
        if (await connection.execute(live)).one_or_none() is None:
            raise NotFound(f"{model_name} has no live descriptor yet: the pipeline makes it when it starts")
        rows = await connection.execute(select(col(Generation.state), col(Generation.descriptor)).where(mine))
        yield connection, {state: descriptor for state, descriptor in rows.all()}


async def _audit(connection: AsyncConnection, actor: str, action: str, model_name: str, **detail: str) -> None:
    await record(connection, actor, f"generation.{action}", f"model/{model_name}", detail)


def refuse_begin(model_name: str, descriptor: str, held: Mapping[str, str]) -> None:
    """Raises Conflict, which says what to do, where a model that has ``held`` (state -> descriptor) cannot begin another."""
    if State.BUILDING in held:
        raise Conflict(
            f"{held[State.BUILDING]} is being built for {model_name} already: switch to it, or abandon it, first"
        )
    if State.PREVIOUS in held:
        raise Conflict(
            f"the previous descriptor of {model_name}, {held[State.PREVIOUS]}, is still kept: drop it, or roll back, first"
        )
    if held[State.LIVE] == descriptor:
        raise Conflict(f"{descriptor} is the live descriptor of {model_name} already")


async def begin(engine: AsyncEngine, model_name: str, descriptor: str, *, actor: str = "safeguard") -> None:
    """Starts to write a model's uploads with another descriptor too.

    Every picture that becomes PROCESSED from now on has its vectors and links; those PROCESSED before are the caller's
    to fill in. What an earlier, broken-off attempt left of its links is deleted first; its vectors are the similarity
    writer's to ``drop`` before this is called.

    Args:
        descriptor: name@version; the caller makes sure that models.yaml knows it (``ModelRegistry.with_descriptor``).
        actor: who, for the audit.
    Raises:
        Conflict: another one is building, a previous one has not been dropped, it is live already, or a bulk job that
            would not write it is unfinished.
        NotFound: the model has no live descriptor.
    """
    async with _changing(engine, model_name) as (_, held):
        refuse_begin(model_name, descriptor, held)
    await _delete_links(engine, descriptor)
    async with _changing(engine, model_name) as (connection, held):
        refuse_begin(model_name, descriptor, held)
        if (job := (await connection.execute(_BACKFILL, {"model": model_name})).scalar()) is not None:
            raise Conflict(f"job {job} indexes pictures for {model_name}: wait for its end, or cancel it, first")
        row = {"model_name": model_name, "state": State.BUILDING, "descriptor": descriptor}
        await connection.execute(insert(Generation).values(**row))
        await _audit(connection, actor, "begin", model_name, building=descriptor, live=held[State.LIVE])


async def switch(engine: AsyncEngine, model_name: str, *, actor: str = "safeguard") -> None:
    """Makes the building descriptor live and the live one previous, in one step.

    Raises:
        Conflict: none is building.
        NotFound: the model has no live descriptor.
    """
    await _swap(engine, model_name, State.BUILDING, "switch", actor)


async def rollback(engine: AsyncEngine, model_name: str, *, actor: str = "safeguard") -> None:
    """Makes the previous descriptor live again and the live one previous, in one step; a second call undoes the first.

    Raises:
        Conflict: there is no previous one.
        NotFound: the model has no live descriptor.
    """
    await _swap(engine, model_name, State.PREVIOUS, "rollback", actor)


async def _swap(engine: AsyncEngine, model_name: str, state: State, action: str, actor: str) -> None:
    async with _changing(engine, model_name) as (connection, held):
        old, new = held[State.LIVE], _wanted(model_name, held, state)
        mine = col(Generation.model_name) == model_name
        for of_state, values in (
            (State.LIVE, {"descriptor": new}),
            (state, {"descriptor": old, "state": State.PREVIOUS}),
        ):
            changed = update(Generation).where(mine, col(Generation.state) == of_state)
            await connection.execute(changed.values(**values, changed_at=func.now(), held_up=None))
        # Other links are shown from now on, so past verdicts may not hold any more.
        cause = f"{new} is live for {model_name}"
        await lookbacks.begin(connection, LookBackKind.JUDGE, cause=cause, actor=actor)
        await _audit(connection, actor, action, model_name, live=new, previous=old)


def _wanted(model_name: str, held: Mapping[str, str], state: State) -> str:
    if state not in held:
        raise Conflict(f"{model_name} has no {state} descriptor")
    return held[state]


async def abandon(engine: AsyncEngine, model_name: str, *, actor: str = "safeguard") -> str:
    """Stops writing with the building descriptor and deletes its links, in batches.

    Returns:
        The descriptor, whose vectors the caller has the similarity writer ``drop``.
    Raises:
        Conflict: none is building.
        NotFound: the model has no live descriptor.
    """
    return await _drop(engine, model_name, State.BUILDING, "abandon", actor)


async def drop_previous(engine: AsyncEngine, model_name: str, *, actor: str = "safeguard") -> str:
    """Stops writing with the previous descriptor and deletes its links, in batches; there is no way back after it.

    Pipelines read the generations once a second: wait for as long as a search may take after a ``switch``.

    Returns:
        The descriptor, whose vectors the caller has the similarity writer ``drop``.
    Raises:
        Conflict: there is no previous one.
        NotFound: the model has no live descriptor.
    """
    return await _drop(engine, model_name, State.PREVIOUS, "drop_previous", actor)


async def _drop(engine: AsyncEngine, model_name: str, state: State, action: str, actor: str) -> str:
    async with _changing(engine, model_name) as (connection, held):
        descriptor = _wanted(model_name, held, state)
        await connection.execute(
            delete(Generation).where(col(Generation.model_name) == model_name, col(Generation.state) == state)
        )
        await _audit(connection, actor, action, model_name, dropped=descriptor, live=held[State.LIVE])
    await _delete_links(engine, descriptor)
    return descriptor


async def _delete_links(engine: AsyncEngine, descriptor: str, *, batch: int = _BATCH) -> None:
    """Deletes the links of a descriptor between pictures whose models are not written with it: one walk over the key."""
    place = {"image_a": 0, "image_b": 0, "after": ""}
    while True:
        async with engine.begin() as connection:
            arguments = {**place, "descriptor": descriptor, "batch": batch}
            last = (await connection.execute(_DELETE_LINKS, arguments)).one_or_none()
        if last is None:
            return
        place = {"image_a": last.image_a, "image_b": last.image_b, "after": last.descriptor}


@dataclass(frozen=True)
class Agreement:
    """Pairs of pictures that are copies by one descriptor, by the other, and by both."""

    live: int
    other: int
    both: int


_AGREEMENT = text("""
WITH one AS (SELECT image_a, image_b FROM image_match WHERE descriptor = :live AND relation = 'copy'),
     two AS (SELECT image_a, image_b FROM image_match WHERE descriptor = :other AND relation = 'copy')
SELECT (SELECT count(*) FROM one) AS live, (SELECT count(*) FROM two) AS other,
       (SELECT count(*) FROM one JOIN two USING (image_a, image_b)) AS both
""")


async def agreement(engine: AsyncEngine, live: str, other: str) -> Agreement:
    """How far the links of two descriptors agree: reads all of them once."""
    async with reading(engine) as connection:
        row = (await connection.execute(_AGREEMENT, {"live": live, "other": other})).one()
    return Agreement(row.live, row.other, row.both)
