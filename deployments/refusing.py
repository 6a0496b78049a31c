"""Modules that a process does without although a library would load them. May import the standard library only."""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import FrameType, ModuleType


class _Refusing(MetaPathFinder):
    """Finds nothing, and lets nobody else look where an import is refused."""

    def __init__(self, module: str, importer: str | None) -> None:
        self._module, self._importer = module, importer

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == self._module and self._importer in (None, _importing(sys._getframe(1))):
            raise ModuleNotFoundError(f"{self._importer or 'this process'} does without {fullname}", name=fullname)
        return None


def _importing(frame: FrameType | None) -> str:
    """The module whose import statement is being run."""
    while frame is not None and "importlib" in frame.f_globals.get("__name__", ""):
        frame = frame.f_back
    if frame is None:
        return ""
    spec = frame.f_globals.get("__spec__")  # also of what `python -m` runs, which is called __main__
    return str(spec.name if spec is not None else frame.f_globals.get("__name__", ""))


def refuse(module: str, importer: str | None = None) -> None:
    """From now on an import of ``module`` in this process fails as if it were not installed; what is loaded stays.

    Args:
        importer: the only module that is refused it; None refuses it to all.
    """
    sys.meta_path.insert(0, _Refusing(module, importer))
