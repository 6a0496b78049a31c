"""Finding the file of a network and making sure that it is the one meant. Knows nothing of Ray."""

import hashlib
import importlib.util
from pathlib import Path

from configs.models import NetworkSpec
from storage.errors import ConfigurationError


def weights_file(spec: NetworkSpec) -> Path:
    """The file of a network, checked against its SHA-256.

    Raises:
        ConfigurationError: the package or file is missing, or the file is not the one meant (cut short, or another).
    """
    if spec.package is not None:
        found = importlib.util.find_spec(spec.package)
        if found is None or not found.submodule_search_locations:
            raise ConfigurationError(f"{spec.name} needs the package {spec.package}; install the project's lock file")
        path = Path(next(iter(found.submodule_search_locations))) / spec.path
    else:
        path = spec.file
    return checked_file(path, spec.sha256, spec.name)


def checked_file(path: Path, sha256: str | None, name: str) -> Path:
    """The file itself, once it is known to be there and to be the one meant.

    Raises:
        ConfigurationError: it is missing, cut short, or another.
    """
    if not path.is_file():
        raise ConfigurationError(f"the weights of {name} are missing: {path}")
    if sha256 is not None:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if digest != sha256:
            raise ConfigurationError(
                f"the weights of {name} are damaged or of another version: {path} has SHA-256 {digest}, "
                f"models.yaml says {sha256}"
            )
    return path
