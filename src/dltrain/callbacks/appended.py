"""A text file that grows as a run does, and that a resumed run cuts back to its checkpoint."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from dltrain.contracts.run import Callback, View
from dltrain.errors import UserError
from dltrain.files import open_within

CHUNK = 1 << 20
REMOVE = "Remove it to go on without the lines so far."
logger = logging.getLogger(__name__)


class Appended(Callback):
    """Keeps the file ``name`` of the run folder open, as ``file``, from the start to the end."""

    name: str

    def __init__(self) -> None:
        self._file: IO[str] | None = None
        self._place = Path()
        self._digest, self._digested = hashlib.sha256(), 0
        self._removed = False

    @property
    def file(self) -> IO[str]:
        """Open from :meth:`start` on."""
        assert self._file is not None
        return self._file

    def start(self, view: View) -> None:
        """Open the file; a resumed run cuts it back to its checkpoint afterwards.

        Whatever a run left that was killed before its first checkpoint is written again.
        """
        self._place = view.path
        self._removed = not (view.path / self.name).exists()
        mode = "a" if view.resumed else "w"
        self._file = open_within(view.path, self.name, mode, newline="")

    def end(self, view: View, status: str) -> None:
        if self._file is not None:
            self._file.close()

    def state_dict(self) -> dict[str, Any]:
        """How long the file is, and its checksum; it is on the disk before the checkpoint is."""
        self.file.flush()
        os.fsync(self.file.fileno())
        length = self.file.tell()
        self._read_to(length)
        return {"length": length, "sha256": self._digest.hexdigest()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Forget what was written after the checkpoint: it will be written again.

        Raises :class:`UserError` where the file is not what it was then.
        """
        path, length = self._place / self.name, state["length"]
        if self._removed:
            logger.warning(f"{path} was removed: it begins anew, with what this run still does.")
            return
        found = os.fstat(self.file.fileno()).st_size
        if found < length:
            raise UserError(
                f"{path} has {found:,} bytes, and had {length:,} when the checkpoint was saved: "
                f"lines of it are lost. {REMOVE}"
            )
        self._read_to(length)
        # An earlier version kept no checksum.
        if state.get("sha256", self._digest.hexdigest()) != self._digest.hexdigest():
            raise UserError(
                f"{path} is not what the run had written when the checkpoint was saved: it was "
                f"damaged, or edited. {REMOVE}"
            )
        self.file.truncate(length)
        self.file.seek(0, 2)

    def _read_to(self, length: int) -> None:
        """Have the checksum of the file's first ``length`` bytes."""
        with open_within(self._place, self.name, "rb") as file:
            file.seek(self._digested)
            while self._digested < length:
                chunk = file.read(min(CHUNK, length - self._digested))
                if not chunk:
                    break
                self._digest.update(chunk)
                self._digested += len(chunk)
