"""Whether the process that has a trial still lives, as any other process can tell.

On one machine a lock tells at once: the system opens it when the process that held it has ended,
in whatever way. Of another machine one sees only whether it still counts.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock
from optuna import Study
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, Trial

from dltrain.runs.folder import is_locked

HOLDER = "holder"
"""The attribute of a trial that says which process has it."""
BEAT = 15.0
"""Seconds between two counts of a living process."""
GRACE = 120.0
"""Seconds without one after which a process of another machine counts as dead."""
BOOT = Path("/proc/sys/kernel/random/boot_id")


class Holder:
    """The process that we are, as one that has trials: ``attributes`` say so in the study."""

    def __init__(self, folder: Path) -> None:
        path = folder / "locks" / f"{uuid.uuid4().hex}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(path)
        self._lock.acquire(timeout=0)
        self.attributes = {"machine": machine(), "lock": str(path.resolve()), "pid": os.getpid()}

    def release(self, done: bool) -> None:
        """Let others have what this process has begun; ``done``: there is nothing like that."""
        self._lock.release()
        if done:
            Path(self._lock.lock_file).unlink(missing_ok=True)


class Watch:
    """What this process sees of others."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[Any, float]] = {}

    def is_dead(self, trial: FrozenTrial) -> bool:
        """Whether the process that has a running ``trial`` has ended."""
        had: Mapping[str, Any] = trial.user_attrs.get(HOLDER, {})
        path = Path(had.get("lock", ""))
        # Two containers are one machine, but may not see one another's files.
        if had.get("machine") == machine() and path.is_file():
            return not is_locked(path)  # whatever it is: the study's file may be a stranger's
        beat, now = trial.user_attrs.get("beat"), time.monotonic()
        before, since = self._seen.get(trial.number, (None, now))
        if trial.number not in self._seen or before != beat:
            self._seen[trial.number] = beat, now
            return False
        return now - since > GRACE


@contextmanager
def beating(study: Study, trial: Trial) -> Iterator[None]:
    """While inside, a thread counts, for other machines to see."""
    ended = threading.Event()

    def beat() -> None:
        count = 0
        while not ended.wait(BEAT):
            count += 1
            try:
                trial.set_user_attr("beat", f"{os.getpid()}.{count}")
            except UpdateFinishedTrialError:  # another process took us for dead
                return

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def machine() -> str:
    """What tells a machine from all others, and from itself before it was started anew."""
    try:
        return BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return f"{uuid.getnode():x}"
