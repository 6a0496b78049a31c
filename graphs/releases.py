"""Which release of the code replicas run: a name among the options of the application. Serve replaces them where it changes."""

from datetime import UTC, datetime
from typing import Any


def new_release() -> str:
    """A name that no release had before: the time, in UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def release_of(application: dict[str, Any]) -> str | None:
    """The release of an application, as Serve tells of it; None where none was named."""
    args = (application.get("deployed_app_config") or {}).get("args") or {}
    return args.get("release") or None


def name_release(content: dict[str, Any], running: dict[str, Any], release: str | None) -> None:
    """Names the release in a Serve configuration.

    Args:
        content: of serve_config.yaml; changed in place.
        running: Serve's account of what runs, by name.
        release: None keeps the one that runs, so that deploying the same file again replaces nothing.
    """
    for application in content["applications"]:
        wanted = release or release_of(running.get(application["name"], {}))
        if wanted:
            application["args"] = {**(application.get("args") or {}), "release": wanted}
