"""What a policy may name, as the models and the queues say. Knows nothing of Ray."""

from sqlalchemy.ext.asyncio import AsyncEngine

from configs.models import ModelRegistry
from configs.policy_references import Known
from deployments.vision.decoding import MEDIA_TYPES
from deployments.vision.nanodet import LABELS
from storage.queues import queues


def names_of(registry: ModelRegistry, *, strict: bool) -> Known:
    """What is known without the database: no banks; models only where no others are accepted.

    Args:
        registry: models.yaml. Labels are not checked where a detector brings labels of its own.
        strict: uploads for a name that is no model are refused.
    """
    own_labels = any(one.source != "onnx" for one in registry.detectors.values())
    return Known(
        labels=None if own_labels else frozenset(LABELS),
        filters=frozenset(registry.filters),
        models=frozenset(registry.known()) if strict else None,
        media_types=MEDIA_TYPES,
    )


async def names_in(engine: AsyncEngine, registry: ModelRegistry, *, strict: bool) -> Known:
    """The same with the queues of outside workers: those that hold an image or were ever asked for one.

    Banks are read where a policy is checked against them (``storage.policy_changes``).
    """
    known = names_of(registry, strict=strict)
    if known.models is not None:
        return known
    used = frozenset(queue.model_name for queue in await queues(engine))
    return Known(known.banks, known.labels, known.filters, used | frozenset(registry.known()), known.media_types)
