"""Which run a group of processes goes on with, that torchrun has started once more.

torchrun starts every process again when one has died, or another machine has joined, and each of
them types the same command. The first time makes a new run, and leaves a note of it beside it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from dltrain.errors import UserError
from dltrain.files import read_within
from dltrain.runs import durable
from dltrain.runs.folder import CONFIG, RunFolder

OVERRIDES = "overrides.txt"
"""What was typed for a run, in its folder."""
UNNAMED = {"", "none"}
"""What torchrun calls a job whose ``--rdzv-id`` nobody has given."""


def note_run(folder: RunFolder) -> None:
    """Note that ``folder`` is the run of this job, where it is one of torchrun's."""
    file = _note(folder.path.parent)
    if file is not None:
        line = f"{folder.path.name}\n".encode()
        durable.write_whole(file, lambda out: out.write(line), sync=False)


def forget_run(place: Path) -> None:
    """The run of this job, in ``place``, has finished: the next begins a new one."""
    file = _note(place)
    if file is not None:
        file.unlink(missing_ok=True)


def run_to_go_on(place: Path, overrides: Sequence[str]) -> str | None:
    """The run in ``place`` that this job has begun by the same command, and not finished."""
    file = _note(place)
    if file is None or not file.is_file():
        return None
    noted = read_within(file.parent, file.name, 1000).decode().strip()
    path = file.parent / noted
    if Path(noted).name != noted or not (path / CONFIG).is_file():
        return None
    folder = RunFolder(path)
    try:
        finished = folder.summary().get("status") == "finished"
        typed = folder.read(OVERRIDES).decode(errors="replace").splitlines()
    except UserError:
        return None
    return None if finished or typed != list(overrides) else str(path)


def _note(place: Path) -> Path | None:
    """Where the run of this job is noted; None where torchrun has not started this process."""
    job = os.environ.get("TORCHELASTIC_RUN_ID")
    if job is None:
        return None
    if job in UNNAMED:
        # Of one machine then, and as long as that torchrun lives.
        job = f"{os.getppid()} {_started(os.getppid())}"
    digest = hashlib.sha256(job.encode()).hexdigest()[:16]
    return place / f".torchrun-{digest}"


def _started(process: int) -> str:
    """When ``process`` was started, where the system tells: its number may be another's later."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
