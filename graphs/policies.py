"""Policies of one installation, for the command line: checked, tried, applied, taken back, replayed. May import all below."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from configs.models import load_models
from configs.policies import Policy
from configs.policy_yaml import MAX_BYTES
from configs.settings import default_home, load_settings
from deployments.policy_names import names_in, names_of
from graphs.opening import opened
from storage import policies, policy_changes, replays
from storage.errors import ConfigurationError, InvalidInput, Unavailable
from storage.moderation_tables import PolicyVersion
from storage.policies import PolicyHead, read_policy
from storage.policy_changes import Applied
from storage.policy_trials import Trial, trial
from storage.replays import Replay

_ACTOR = "command line"


@dataclass(frozen=True)
class CheckedFile:
    """A policy without mistakes, and what its names were not compared with."""

    policy: Policy
    unchecked: list[str]


def read_file(file: Path) -> str:
    """The text of a file.

    Raises:
        InvalidInput: it cannot be read, is too large or is not UTF-8.
    """
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_BYTES + 4)
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise InvalidInput(f"{file} has more than {MAX_BYTES} bytes, the limit of a policy")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InvalidInput(f"{file}:{line}: this is not UTF-8 text") from error


async def check(home: Path | None, source: str) -> CheckedFile:
    """Checks a text with all that is known: without the database, all but banks and queues.

    Raises:
        InvalidPolicy: it is no policy.
    """
    settings = load_settings(home or default_home())
    registry, strict = load_models(settings.models_file), settings.strict_models
    try:
        async with opened(home) as (_, engine):
            known = await names_in(engine, registry, strict=strict)
            policy, _banks = await policy_changes.check(engine, source, known)
            return CheckedFile(policy, [one for one in known.unchecked() if one != "banks"])
    except (Unavailable, ConfigurationError):
        known = names_of(registry, strict=strict)
        return CheckedFile(await read_policy(source, known), known.unchecked())


async def try_out(
    home: Path | None, source: str, *, last: int, since: datetime | None, seen: Callable[[Trial], Any]
) -> tuple[Policy, Trial]:
    """See ``storage.policy_trials.trial``."""
    async with opened(home) as (settings, engine):
        known = await names_in(engine, load_models(settings.models_file), strict=settings.strict_models)
        policy, _banks = await policy_changes.check(engine, source, known)
        return policy, await trial(engine, policy, last=last, since=since, seen=seen)


async def apply(home: Path | None, source: str, *, note: str, rejudge: bool) -> Applied:
    """See ``storage.policy_changes.apply``."""
    async with opened(home) as (settings, engine):
        known = await names_in(engine, load_models(settings.models_file), strict=settings.strict_models)
        return await policy_changes.apply(engine, source, known, actor=_ACTOR, note=note, rejudge=rejudge)


async def roll_back(home: Path | None, version: int, *, note: str, rejudge: bool) -> Applied:
    """See ``storage.policy_changes.rollback``."""
    async with opened(home) as (settings, engine):
        known = await names_in(engine, load_models(settings.models_file), strict=settings.strict_models)
        return await policy_changes.rollback(engine, version, known, actor=_ACTOR, note=note, rejudge=rejudge)


async def versions(home: Path | None) -> list[PolicyHead]:
    """The newest hundred versions."""
    async with opened(home) as (_, engine):
        return await policies.listing(engine)


async def version(home: Path | None, number: int | None) -> PolicyVersion:
    """One version; None: the active one."""
    async with opened(home) as (_, engine):
        return await policies.get(engine, number)


async def replay(home: Path | None, decision_id: int | None, image_id: int | None) -> Replay:
    """Makes a decision, or the last one on an image, again.

    Raises:
        NotFound: there is none.
    """
    async with opened(home) as (_, engine):
        if decision_id is None:
            assert image_id is not None
            decision_id = await replays.latest_of(engine, image_id)
        return await replays.replay(engine, decision_id)


async def replay_all(home: Path | None) -> AsyncIterator[Replay]:
    """Makes every decision again, oldest first."""
    async with opened(home) as (_, engine):
        async for one in replays.replay_all(engine):
            yield one
