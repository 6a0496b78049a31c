"""Our warnings go where Serve's own lines of a replica go: its log file, and the dashboard that shows it."""

import logging


def log_to_replica() -> None:
    """Gives our loggers the handlers of Serve's; without them a replica's warnings are lost."""
    serve = logging.getLogger("ray.serve")
    for name in ("deployments", "storage"):
        ours = logging.getLogger(name)
        ours.handlers = list(serve.handlers)
        ours.setLevel(logging.INFO)
        ours.propagate = not ours.handlers
