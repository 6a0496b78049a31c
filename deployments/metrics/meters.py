"""The metrics of this process, made when the first one is recorded; one line where something is measured."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from deployments.metrics.registry import RaySink, Registry, Sink

_lock = threading.Lock()
_registry: Registry | None = None


def meters() -> Registry:
    """The registry of this process; Ray's unless ``recording_to`` says otherwise."""
    global _registry
    if _registry is None:
        with _lock:
            _registry = _registry or Registry(RaySink())
    return _registry


@contextmanager
def recording_to(sink: Sink) -> Iterator[Registry]:
    """What this process records goes to another sink inside the block."""
    global _registry
    before, _registry = _registry, Registry(sink)
    try:
        yield _registry
    finally:
        _registry = before


@contextmanager
def stage(name: str, items: int) -> Iterator[None]:
    """Measures a call of a stage of processing, however it ends.

    Args:
        name: of ``catalogue.STAGES``.
        items: pictures or frames of the call.
    """
    began = time.monotonic()
    try:
        yield
    finally:
        held = meters()
        held.add("safeguard_stage_seconds_total", time.monotonic() - began, stage=name)
        held.add("safeguard_stage_calls_total", stage=name)
        held.add("safeguard_stage_items_total", items, stage=name)


def slots(deployment: str, count: int) -> None:
    """Says how much this replica can work on at the same time."""
    meters().set("safeguard_slots", count, deployment=deployment)


@contextmanager
def busy(deployment: str) -> Iterator[None]:
    """One of the slots of this replica is at work inside the block."""
    with meters().timed("safeguard_busy_seconds_total", deployment=deployment):
        yield


def leases_expired(count: int) -> None:
    """Claims were taken back."""
    meters().add("safeguard_leases_expired_total", count)
