"""The command line, a module a concept. Only argument handling; what is heavy is imported by the command that needs it."""

from types import ModuleType

from graphs.commands import (
    audit,
    backup,
    banks,
    bulk,
    doctor,
    images,
    jobs,
    keys,
    lookbacks,
    operating,
    policies,
    review,
    webhooks,
)

# Each has ``register(app)``; in the order in which ``--help`` lists them.
MODULES: tuple[ModuleType, ...] = (
    operating,
    backup,
    doctor,
    images,
    bulk,
    keys,
    jobs,
    lookbacks,
    review,
    audit,
    webhooks,
    policies,
    banks,
)
