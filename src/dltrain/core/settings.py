"""What a user chooses of the loop: how long, how precisely, how often it looks up."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import torch

from dltrain.contracts.metric import Mode
from dltrain.engine.compile import Compile
from dltrain.engine.cuda_graph import CudaGraph
from dltrain.errors import UserError
from dltrain.runs.environment import choose_precision


class Settings:
    """Settings of the loop; the config group ``trainer``.

    ``epochs`` counts passes over the training split; ``steps``, when given, counts batches
    instead. ``channels_last`` keeps the weights of convolutions in that order of memory, which they
    hand on to their outputs. ``compile`` is as in :mod:`dltrain.engine.compile`, ``cuda_graph`` as
    in :mod:`dltrain.engine.cuda_graph`. ``accumulate`` batches make one optimizer step. The
    validation split is evaluated every ``evaluate_every`` epochs or, when given, every
    ``evaluate_steps`` batches, within epochs too. ``log_every`` is in batches. A checkpoint is
    written when ``checkpoint_seconds`` have passed since the last, and at every end.
    ``monitor`` is the validation metric by which weights are best (null: the task's own), and
    ``monitor_mode`` which way it is better, where the metric does not tell.
    ``test_weights`` are those that the run is tested and used with: of the last step, or of the
    best evaluation; ``auto`` is best where there is a validation split. ``overfit``
    trains on that many batches, as a sanity check. ``deterministic`` and ``tune_process`` are as in
    :func:`dltrain.engine.runtime.settings`.

    Raises :class:`ValueError` for what is out of bounds or contradicts itself.
    """

    def __init__(
        self,
        device: torch.device,
        epochs: int = 10,
        steps: int | None = None,
        precision: Literal["float32", "tf32", "bfloat16", "auto"] = "float32",
        channels_last: bool = True,
        compile: Compile = "off",
        cuda_graph: CudaGraph = "off",
        clip_norm: float | None = None,
        accumulate: int = 1,
        evaluate_every: int = 1,
        evaluate_steps: int | None = None,
        log_every: int = 50,
        checkpoint_seconds: float = 30.0,
        monitor: str | None = None,
        monitor_mode: Mode | None = None,
        test_weights: Literal["last", "best", "auto"] = "last",
        overfit: int = 0,
        deterministic: bool = False,
        tune_process: bool = True,
    ) -> None:
        counts = {
            "epochs": epochs,
            "steps": steps,
            "accumulate": accumulate,
            "evaluate_every": evaluate_every,
            "evaluate_steps": evaluate_steps,
            "log_every": log_every,
        }
        for name, value in counts.items():
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if clip_norm is not None and clip_norm <= 0:
            raise ValueError(f"clip_norm must be above 0, or null; got {clip_norm}")
        if overfit < 0 or checkpoint_seconds < 0:
            raise ValueError("overfit and checkpoint_seconds are not negative")
        if cuda_graph == "on" and device.type != "cuda":
            raise ValueError(f"cuda_graph=on needs a CUDA device, and this is {device}")
        if compile == "auto" and cuda_graph != "off":
            raise ValueError("compile=auto compares steps, which are not replayed: cuda_graph=off")
        self.device = device
        self.epochs, self.steps = epochs, steps
        self.precision = choose_precision(precision, device)
        self.memory_format = torch.channels_last if channels_last else torch.preserve_format
        self.compile: Compile = compile
        self.cuda_graph: CudaGraph = cuda_graph
        self.clip_norm, self.accumulate = clip_norm, accumulate
        self.evaluate_every, self.evaluate_steps = evaluate_every, evaluate_steps
        self.log_every, self.checkpoint_seconds = log_every, checkpoint_seconds
        if monitor is None and monitor_mode is not None:
            raise ValueError("monitor_mode is of a monitor, which must be given beside it")
        self.monitor, self.monitor_mode = monitor, monitor_mode
        self.test_weights = test_weights
        self.overfit, self.deterministic = overfit, deterministic
        self.tune_process = tune_process

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

    def total_steps(self, steps_per_epoch: int | None) -> int:
        """How many batches the whole run will train on."""
        if self.steps is not None:
            return self.steps
        assert steps_per_epoch is not None, "check before you ask"
        return self.epochs * steps_per_epoch
