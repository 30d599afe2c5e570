"""The one loop.

In full, it is::

    for epoch in epochs:
        for batch in loader:                       # already on the device
            learning rate = schedule(step)
            metrics = task.train_step(batch, optimize)
        judge the validation split; tell the callbacks; checkpoint
    judge the test split, once

Nothing here knows which model, data set or task it trains, and no step waits for the device:
what a step returns stays there until it is logged.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal

import torch

from dltrain import checkpoint, signals
from dltrain.compilation import Compile, train_step
from dltrain.environment import choose_precision
from dltrain.errors import UserError
from dltrain.folder import RunFolder
from dltrain.history import History
from dltrain.optimize import Optimize
from dltrain.recording import CudaGraph, replayed_step
from dltrain.types import Callback, Evaluation, Loader, Loaders, Schedule, Task


class Trainer:
    """Settings of the loop, and its state.

    ``epochs`` counts passes over the training split; ``steps``, when given, counts batches
    instead. ``channels_last`` keeps the weights of convolutions in that order of memory, which they
    hand on to their outputs. ``compile`` is as in :mod:`dltrain.compilation`, ``cuda_graph`` as in
    :mod:`dltrain.recording`. ``accumulate`` batches make one optimizer step. ``evaluate_every`` is
    in epochs, ``log_every`` in steps. A checkpoint is written when ``checkpoint_seconds`` have
    passed since the last, and at every end. ``overfit`` trains on that many batches, as a sanity
    check.
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
        log_every: int = 50,
        checkpoint_seconds: float = 30.0,
        test_weights: Literal["last", "best"] = "last",
        overfit: int = 0,
        deterministic: bool = False,
    ) -> None:
        counts = {
            "accumulate": accumulate,
            "evaluate_every": evaluate_every,
            "log_every": log_every,
        }
        for name, value in counts.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if epochs < 1 or (steps is not None and steps < 1):
            raise ValueError("epochs and steps must be at least 1")
        if clip_norm is not None and clip_norm <= 0:
            raise ValueError(f"clip_norm must be above 0, or null; got {clip_norm}")
        if overfit < 0 or checkpoint_seconds < 0:
            raise ValueError("overfit and checkpoint_seconds are not negative")
        self.device = device
        self.epochs, self.steps = epochs, steps
        self.precision = choose_precision(precision, device)
        self.memory_format = torch.channels_last if channels_last else torch.preserve_format
        if cuda_graph == "on" and device.type != "cuda":
            raise ValueError(f"cuda_graph=on needs a CUDA device, and this is {device}")
        if compile == "auto" and cuda_graph != "off":
            raise ValueError("compile=auto compares steps, which are not replayed: cuda_graph=off")
        self.compile, self.cuda_graph = compile, cuda_graph
        self.clip_norm, self.accumulate = clip_norm, accumulate
        self.evaluate_every, self.log_every = evaluate_every, log_every
        self.checkpoint_seconds = checkpoint_seconds
        self.test_weights = test_weights
        self.overfit, self.deterministic = overfit, deterministic

        self.step = 0
        """Batches trained on so far."""
        self.epoch = 0
        """Epochs completed."""
        self.results: dict[str, dict[str, float]] = {}
        """The latest scalars of each split."""
        self.seconds = {"setup": 0.0, "train": 0.0, "evaluate": 0.0}
        self.latest: dict[str, float] = {}
        """The training means that were logged last."""
        self.samples = 0
        """Examples trained on so far."""
        self.samples_per_second = 0.0
        """Training throughput over the last ``log_every`` steps, evaluation left out."""
        self.best_value: float | None = None
        self.signal: int | None = None
        self.stop_reason = ""

    def check(self, loaders: Loaders) -> None:
        """Raise :class:`UserError` where the data cannot give what the settings ask for."""
        if self.test_weights == "best" and loaders.validation is None:
            raise UserError(
                "trainer.test_weights: there is no validation split to tell the best weights by; "
                "set data.validation above 0."
            )

    def total_steps(self, steps_per_epoch: int) -> int:
        """How many batches the whole run will train on."""
        return self.steps if self.steps is not None else self.epochs * steps_per_epoch

    def fit(
        self,
        task: Task,
        loaders: Loaders,
        optimize: Optimize,
        schedule: Schedule,
        callbacks: Sequence[Callback],
        folder: RunFolder,
        resume: Mapping[str, Any] | None = None,
    ) -> str:
        """Train to the end, or to an interruption; return the status.

        ``resume`` is the state of a checkpoint, after which the run ends with the same bytes
        as if it had never been interrupted. Raises :class:`UserError` on a loss that is not
        finite.
        """
        self.task, self.loaders, self.optimize = task, loaders, optimize
        self.schedule, self.callbacks, self.folder = schedule, callbacks, folder
        self.max_steps = self.total_steps(len(loaders.train))
        self._history = History()
        self._position = 0
        self._best_state: dict[str, Any] | None = None
        self._best_saved = True
        self._last_save = time.perf_counter()
        for callback in callbacks:
            callback.start(self)
        if resume is not None:
            self._load_state(resume)
        steps = self.max_steps - self.step
        step = train_step(self.compile, task, optimize, self.device, steps, self._settle)
        self._train_step = replayed_step(
            self.cuda_graph, step, task, optimize, self.device, self._note
        )
        self._measured_seconds, self._measured_samples = self.seconds["train"], self.samples
        with signals.asking(self._ask):
            self._train()
            if self.signal is not None:
                return "interrupted"
            self._finish()
        return "finished"

    def stop(self, reason: str) -> None:
        """Ask for an early, regular end: the test split is still judged."""
        self.stop_reason = reason

    @property
    def progress(self) -> float:
        """The share of the run's steps that are done."""
        return self.step / self.max_steps

    def _train(self) -> None:
        self.task.train()
        self._resume_clock()
        while not self._stopping and (self.step < self.max_steps or self._history):
            self._train_epoch()
            if self.signal is not None:
                break
            if self._position == len(self.loaders.train):
                self.epoch += 1
                self._position = 0
            if self.epoch % self.evaluate_every == 0 or self._stopping or self._at_the_end:
                self._judge()
        self._read()
        self._save()
        self._pause_clock()

    def _train_epoch(self) -> None:
        """Train on what is left of the epoch, unless an end comes first."""
        if self._at_the_end:
            return
        self.loaders.train.set_epoch(self.epoch)
        for batch in self.loaders.train.batches(self._position):
            self._step(batch)
            if self._at_the_end or self._stopping:
                return

    @property
    def _at_the_end(self) -> bool:
        return self.step >= self.max_steps

    @property
    def _stopping(self) -> bool:
        return self.signal is not None or bool(self.stop_reason)

    def _resume_clock(self) -> None:
        self._clock = time.perf_counter()

    def _pause_clock(self) -> None:
        """Book the time since :meth:`_resume_clock` as training."""
        now = time.perf_counter()
        self.seconds["train"] += now - self._clock
        self._clock = now

    def _step(self, batch: dict[str, torch.Tensor]) -> None:
        optimize = self.optimize
        logged = (self.step + 1) % self.log_every == 0
        optimize.measure = logged or self.accumulate > 1
        optimize.set_multiplier(self.schedule(self.step))
        with self._autocast():
            metrics = self._train_step(batch)
        size = len(next(iter(batch.values())))
        self._history.add(metrics, size)
        self.samples += size
        self.step += 1
        self._position += 1
        if self._at_the_end:
            optimize.finish()
        if logged:
            self._log()
        if time.perf_counter() - self._last_save >= self.checkpoint_seconds:
            self._read()
            self._save()

    def _log(self) -> None:
        self._read()
        self._measure_throughput()
        values = self._history.window()
        self.latest = dict(values)
        rates, norms = self.optimize.learning_rates(), self.optimize.gradient_norms
        several = len(rates) > 1
        for name, rate in rates.items():
            values[f"learning_rate/{name}" if several else "learning_rate"] = rate
        for name, norm in norms.items():
            values[f"gradient_norm/{name}" if several else "gradient_norm"] = float(norm)
        for callback in self.callbacks:
            callback.log(self, values)

    def _read(self) -> None:
        """Fetch what the steps since the last reading returned, and see that it is finite."""
        bad = self._history.read()
        if bad is None:
            return
        step = self.step - bad
        epoch, position = divmod(step - 1, len(self.loaders.train))
        self.loaders.train.set_epoch(epoch)
        shown = self.loaders.train.indices(position).tolist()
        last_good = self.folder.path / checkpoint.LAST
        raise UserError(
            f"The loss is not finite at step {step:,}.\n"
            f"  batch:  examples {', '.join(map(str, shown[:16]))}"
            + (f", … ({len(shown)} in all)" if len(shown) > 16 else "")
            + f" of the training split\n  weights of the last good step saved: "
            f"{last_good if last_good.exists() else 'none yet'}\n"
            "Lower optimizer.lr, set trainer.clip_norm=1, or look at those examples."
        )

    def _judge(self) -> None:
        """The end of an evaluation period: training means, the validation split, the best."""
        self._read()
        self._pause_clock()
        with self.optimize.evaluation_weights():
            self._tell("train", Evaluation(scalars=self._history.period()))
            self._history.clear()
            if self.loaders.validation is not None:
                self._tell("validation", self._evaluate("validation", self.loaders.validation))
                self._keep_if_best(self.results["validation"][self.task.monitor.name])
        self._resume_clock()

    def _keep_if_best(self, value: float) -> None:
        if self.task.monitor.better(value, self.best_value):
            self.best_value = value
            self._best_state = {k: v.clone() for k, v in self.task.state_dict().items()}
            self._best_saved = False

    def _measure_throughput(self) -> None:
        self._pause_clock()
        seconds = self.seconds["train"] - self._measured_seconds
        self.samples_per_second = (self.samples - self._measured_samples) / max(seconds, 1e-9)
        self._measured_seconds, self._measured_samples = self.seconds["train"], self.samples

    def _finish(self) -> None:
        for modifier in self.optimize.modifiers:
            modifier.finish(self.task)
        best = self.folder.path / checkpoint.BEST
        if self.test_weights == "best" and best.exists():
            self.task.load_state_dict(checkpoint.load(best, self.device)["task"])
        self._tell("test", self._evaluate("test", self.loaders.test))

    def _evaluate(self, split: str, loader: Loader) -> Evaluation:
        """What the task says of a split, and the callbacks add."""
        judge = self.task.evaluate_test if split == "test" else self.task.evaluate
        started = time.perf_counter()
        self.task.eval()
        with torch.inference_mode(), self._autocast():
            evaluation = judge(loader)
            for callback in self.callbacks:
                evaluation |= callback.judge(self, split)
        self.task.train()
        self.seconds["evaluate"] += time.perf_counter() - started
        return evaluation

    def _tell(self, split: str, evaluation: Evaluation) -> None:
        self.results[split] = dict(evaluation.scalars)
        for callback in self.callbacks:
            callback.evaluate(self, split, evaluation)

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.precision != "bfloat16":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def _settle(self, compile: Compile, why: str) -> None:
        self.compile = compile
        self._note(f"trainer.compile=auto: {compile}, {why}")

    def _note(self, text: str) -> None:
        for callback in self.callbacks:
            callback.note(self, text)

    def _ask(self, number: int) -> None:
        self.signal = number

    def _save(self) -> None:
        """Write a checkpoint from which the run goes on as if nothing had happened."""
        if not self._best_saved:
            best = {"task": self._best_state, "step": self.step}
            checkpoint.save(self.folder, checkpoint.BEST, best)
            self._best_saved = True
        checkpoint.save(self.folder, checkpoint.LAST, self._state())
        self._last_save = time.perf_counter()

    def _state(self) -> dict[str, Any]:
        return {
            "task": self.task.state_dict(),
            "training": self.task.training_state(),
            "optimize": self.optimize.state_dict(),
            "modifiers": [modifier.state_dict() for modifier in self.optimize.modifiers],
            "random": checkpoint.random_state(self.device),
            "history": self._history.state_dict(),
            "compile": self.compile,
            "callbacks": [callback.state_dict() for callback in self.callbacks],
            "step": self.step,
            "epoch": self.epoch,
            "position": self._position,
            "samples": self.samples,
            "best_value": self.best_value,
            "stop_reason": self.stop_reason,
            "results": self.results,
            "seconds": self.seconds,
        }

    def _load_state(self, state: Mapping[str, Any]) -> None:
        self.task.load_state_dict(state["task"])
        self.task.load_training_state(state["training"])
        self.optimize.load_state_dict(state["optimize"])
        for modifier, modifier_state in zip(
            self.optimize.modifiers, state["modifiers"], strict=True
        ):
            modifier.load_state_dict(modifier_state)
        self._history.load_state_dict(state["history"])
        self.compile = state["compile"]
        for callback, callback_state in zip(self.callbacks, state["callbacks"], strict=True):
            callback.load_state_dict(callback_state)
        self.step, self.epoch = state["step"], state["epoch"]
        self._position, self.samples = state["position"], state["samples"]
        self.best_value, self.stop_reason = state["best_value"], state["stop_reason"]
        self.results = {split: dict(values) for split, values in state["results"].items()}
        self.seconds = dict(state["seconds"])
        checkpoint.set_random_state(state["random"], self.device)
