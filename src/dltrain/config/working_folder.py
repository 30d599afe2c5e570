"""The folder where a command is typed: a user's own modules are found in it, by nobody else.

On ``sys.path`` it would answer whatever a library looks for in vain, and libraries look for much:
``psutil``, ``lz4``, ``msvcrt``, plugins of Hydra's. In a folder from elsewhere, a file of such a
name would be run by the mere command. So the folder is on no path. A config's target is looked
for there if it is installed nowhere; and what was found there finds the rest of the folder at any
time, in a function that is called late or in a forked worker as well. A process that starts
afresh knows nothing of this: what it is to unpickle must be installed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

IMPORTS_TARGETS = "dltrain.config.build"


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Let configs name the modules that lie in ``folder``, and those import each other."""
    finder = _Finder(folder)
    sys.meta_path.append(finder)  # the last: what is installed is found before
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Finder:  # as importlib.abc.MetaPathFinder, whose import takes longer than a query should
    def __init__(self, folder: Path) -> None:
        self._path = [str(folder)]
        self._found: set[str] = set()

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find ``name`` in the folder, if it is for us to say: submodules are found as ever."""
        if path is not None:
            return None
        importer = _importer()
        if importer != IMPORTS_TARGETS and importer.partition(".")[0] not in self._found:
            return None
        spec = PathFinder.find_spec(name, self._path)
        if spec is not None:
            self._found.add(name)
        return spec


def _importer() -> str:
    """The module whose import statement, or call of ``importlib``, is being served."""
    frame = sys._getframe(2)
    while True:
        name: str = frame.f_globals.get("__name__", "")
        if name.partition(".")[0] not in ("importlib", "_frozen_importlib"):
            return name
        if frame.f_back is None:
            return ""
        frame = frame.f_back
