"""A text file that grows as a run does, and that a resumed run cuts back to its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

from dltrain.contracts.run import Callback, View
from dltrain.files import open_within


class Appended(Callback):
    """Keeps the file ``name`` of the run folder open, as ``file``, from the start to the end."""

    name: str

    def __init__(self) -> None:
        self._file: IO[str] | None = None

    @property
    def file(self) -> IO[str]:
        """Open from :meth:`start` on."""
        assert self._file is not None
        return self._file

    def start(self, view: View) -> None:
        """Open the file; a resumed run cuts it back to its checkpoint afterwards."""
        self._file = open_within(view.path, self.name, "a", newline="")

    def end(self, view: View, status: str) -> None:
        if self._file is not None:
            self._file.close()

    def state_dict(self) -> dict[str, Any]:
        """How long the file was."""
        self.file.flush()
        return {"length": self.file.tell()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Forget what was written after the checkpoint: it will be written again."""
        self.file.truncate(state["length"])
        self.file.seek(0, 2)
