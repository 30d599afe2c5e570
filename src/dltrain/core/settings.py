"""What a user chooses of the loop: how long, how precisely, how often it looks up."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import torch

from dltrain.contracts.metric import Mode
from dltrain.contracts.parallel import Parallel
from dltrain.engine.compile import Compile
from dltrain.engine.cuda_graph import CudaGraph
from dltrain.engine.parallel.environment import TIMEOUT
from dltrain.errors import UserError
from dltrain.runs.environment import Precision, choose_precision

LOG_EVERY, LEAST_LOGS = 50, 20
COUNTS = ("epochs", "steps", "accumulate", "evaluate_every", "evaluate_steps", "log_every")


@dataclass
class Settings:
    """Settings of the loop; the config group ``trainer``.

    ``epochs`` counts passes over the training split; ``steps``, when given, counts batches
    instead. ``channels_last`` keeps the weights of convolutions in that order of memory, which they
    hand on to their outputs. ``compile`` is as in :mod:`dltrain.engine.compile`, ``cuda_graph`` as
    in :mod:`dltrain.engine.cuda_graph`. ``accumulate`` batches make one optimizer step, unless
    ``release_gradients`` has each weight stepped as its gradient comes, and no gradient kept. The
    validation split is evaluated every ``evaluate_every`` epochs or, when given, every
    ``evaluate_steps`` batches, within epochs too. ``log_every`` is in batches; null is
    ``LOG_EVERY``, or less where the run would have fewer than ``LEAST_LOGS`` of them. A checkpoint
    is written when ``checkpoint_seconds`` have passed since the last, and at every end.
    ``monitor`` is the validation metric by which weights are best (null: the task's own), and
    ``monitor_mode`` which way it is better, where the metric does not tell.
    ``test_weights`` are those that the run is tested and used with: of the last step, or of the
    best evaluation; ``auto`` is best where there is a validation split. ``overfit``
    trains on that many batches, as a sanity check. ``sync_batch_norm``: of several processes that
    train one run, batch norm counts the rows of all; ``parallel`` divides the weights among them,
    of which each has all otherwise. A process that waits ``timeout`` seconds for another's part
    ends the run. ``deterministic`` and ``tune_process`` are as in
    :func:`dltrain.engine.runtime.settings`.

    Raises :class:`ValueError` for what is out of bounds or contradicts itself.
    """

    device: torch.device
    epochs: int = 10
    steps: int | None = None
    precision: Precision = "float32"
    channels_last: bool = True
    compile: Compile = "off"
    cuda_graph: CudaGraph = "auto"
    clip_norm: float | None = None
    accumulate: int = 1
    release_gradients: bool = False
    evaluate_every: int = 1
    evaluate_steps: int | None = None
    log_every: int | None = None
    checkpoint_seconds: float = 30.0
    monitor: str | None = None
    monitor_mode: Mode | None = None
    test_weights: Literal["last", "best", "auto"] = "last"
    overfit: int = 0
    deterministic: bool = False
    tune_process: bool = True
    sync_batch_norm: bool = False
    parallel: Parallel | None = None
    timeout: float = TIMEOUT

    def __post_init__(self) -> None:
        """See that the values are possible, and choose what is ``auto``."""
        for name in COUNTS:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise ValueError(f"clip_norm must be above 0, or null; got {self.clip_norm}")
        if self.overfit < 0 or self.checkpoint_seconds < 0:
            raise ValueError("overfit and checkpoint_seconds are not negative")
        if self.timeout <= 0:
            raise ValueError(f"timeout must be above 0 seconds, got {self.timeout}")
        if self.release_gradients:
            self._check_release()
        if self.cuda_graph == "on" and self.device.type != "cuda":
            raise ValueError(f"cuda_graph=on needs a CUDA device, and this is {self.device}")
        if self.compile == "auto":
            if self.cuda_graph == "on":
                raise ValueError(
                    "compile=auto compares steps that are not replayed: cuda_graph=off"
                )
            self.cuda_graph = "off"
        if self.monitor is None and self.monitor_mode is not None:
            raise ValueError("monitor_mode is of a monitor, which must be given beside it")
        self.precision = choose_precision(self.precision, self.device)

    def _check_release(self) -> None:
        """Refuse what needs all gradients at once."""
        needs = {
            "clip_norm, whose norm is that of all": self.clip_norm is not None,
            "accumulate, which keeps them": self.accumulate > 1,
            "precision=float16, where one that overflows skips the step": self.precision
            == "float16",
        }
        for need, wanted in needs.items():
            if wanted:
                raise ValueError(f"release_gradients keeps none; it does not go with {need}")

    @property
    def memory_format(self) -> torch.memory_format:
        """The order in memory of images and of the weights of convolutions."""
        return torch.channels_last if self.channels_last else torch.preserve_format

    def check(self, splits: Collection[str], steps_per_epoch: int | None) -> None:
        """Raise :class:`UserError` where the data cannot give what the settings ask for."""
        if self.monitor is not None and "validation" not in splits:
            raise UserError(
                "trainer.monitor: there is no validation split to monitor; set data.validation "
                "above 0."
            )
        if self.test_weights == "best" and "validation" not in splits:
            raise UserError(
                "trainer.test_weights: there is no validation split to tell the best weights by; "
                "set data.validation above 0."
            )
        if steps_per_epoch is not None:
            return
        if self.steps is None:
            raise UserError("trainer.steps must be given: this data never ends, so has no epochs.")
        if self.evaluate_steps is None:
            raise UserError(
                "trainer.evaluate_steps must be given: this data never ends, so has no epochs."
            )

    def tests_best(self, splits: Collection[str]) -> bool:
        """Whether the test split, of these ``splits``, is evaluated with the best weights."""
        return self.test_weights == "best" or (
            self.test_weights == "auto" and "validation" in splits
        )

    def log_interval(self, total_steps: int) -> int:
        """Batches from one logging to the next, in a run of so many steps."""
        return self.log_every or min(LOG_EVERY, -(-total_steps // LEAST_LOGS))

    def total_steps(self, steps_per_epoch: int | None) -> int:
        """How many batches the whole run will train on."""
        if self.steps is not None:
            return self.steps
        assert steps_per_epoch is not None, "check before you ask"
        return self.epochs * steps_per_epoch
