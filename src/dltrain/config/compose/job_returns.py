"""What Hydra keeps of each job of a sweep until the last one has ended."""

from __future__ import annotations

from typing import Any

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from omegaconf import DictConfig


class WithoutConfigs(Callback):
    """Takes the configs out of a job's return once all callbacks have seen them.

    Hydra's launcher holds the returns of a sweep's jobs, each with two configs: a thousand objects
    of which nobody asks any more.
    """

    def __init__(self) -> None:
        self._last: JobReturn | None = None

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Empty the return of the job before this one."""
        if self._last is not None:
            self._last.cfg = self._last.hydra_cfg = None

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Remember it."""
        self._last = job_return
