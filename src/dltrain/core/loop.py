"""The one loop.

In full, it is::

    for phase in plan.phases(steps, …):                      # most tasks have one
        for epoch in epochs:
            for batch in streams[phase.stream].batches(epoch):   # already on the device
                learning rate = schedule(step); modifiers look at the step
                metrics = task.train_step(batch, optimize)
            every evaluate_every epochs, or evaluate_steps batches:
                evaluate the validation split; ask the probes; tell the callbacks; checkpoint
    take the best weights, where they are asked for
    evaluate the test split, once

Nothing here knows which model, data set or task it trains, and no step waits for the device:
what a step returns stays there until it is logged.
"""

from __future__ import annotations

import bisect
import itertools
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from dltrain.contracts.data import Batch, Streams
from dltrain.contracts.metric import Evaluation
from dltrain.contracts.run import (
    Callback,
    Modifier,
    Plan,
    Probe,
    Schedule,
    evaluation_weights,
)
from dltrain.contracts.task import Phase, Task
from dltrain.core.evaluate import evaluate
from dltrain.core.settings import Settings
from dltrain.core.state import Place, State
from dltrain.core.update import Optimize
from dltrain.core.view import RunProgress, RunView
from dltrain.engine import clock, generators, malloc, signals
from dltrain.engine.compile import Compile, TrainStep, train_step
from dltrain.engine.cuda_graph import replayed_step
from dltrain.engine.eval_mode import eval_mode
from dltrain.engine.parallel.ranks import Ranks
from dltrain.engine.precision import autocast
from dltrain.errors import Diverged, UserError
from dltrain.metrics.history import History
from dltrain.runs import checkpoint
from dltrain.runs.folder import RunFolder

logger = logging.getLogger(__name__)

ADVICE = "Lower optimizer.lr, set trainer.clip_norm=1"
"""What may help a run that diverged."""


class OwnPhases(Plan):
    """The phases that the task itself asks for: of most, one of all steps."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def phases(self, steps: int, steps_per_epoch: Mapping[str, int | None]) -> Sequence[Phase]:
        return self._task.phases(steps, steps_per_epoch)


class Trainer:
    """Trains ``task`` on ``streams``, which are on the device already.

    ``state`` tells how far it is. ``seed`` is the run's, which a task's evaluation may depend on.
    ``saved`` is called whenever a checkpoint was written. ``watchers`` are told what callbacks are
    told, and belong to whoever started this process: no checkpoint has their state. ``ranks`` are
    the processes that train together; of them this is one, and rank 0 alone has callbacks.
    ``train_step`` takes the place of the task's own, where a plan has one.
    """

    def __init__(
        self,
        settings: Settings,
        task: Task,
        streams: Streams,
        optimize: Optimize,
        schedule: Schedule,
        folder: RunFolder,
        modifiers: Sequence[Modifier] = (),
        callbacks: Sequence[Callback] = (),
        phases: Sequence[Phase] | None = None,
        seed: int = 0,
        saved: Callable[[], object] = lambda: None,
        watchers: Sequence[Callback] = (),
        ranks: Ranks | None = None,
        train_step: TrainStep | None = None,
    ) -> None:
        self.ranks = ranks or Ranks()
        self.settings, self.task, self.streams = settings, task, streams
        self.optimize, self.schedule, self.folder = optimize, schedule, folder
        self.modifiers, self._kept = list(modifiers), list(callbacks)
        self.callbacks = [*callbacks, *watchers]
        self.seed, self._saved, self._given_step = seed, saved, train_step
        steps_per_epoch = streams["train"].steps_per_epoch
        self.max_steps = settings.total_steps(steps_per_epoch)
        self._log_interval = settings.log_interval(self.max_steps)
        self.phases = [Phase("train", self.max_steps)] if phases is None else list(phases)
        assert sum(phase.steps for phase in self.phases) == self.max_steps, "a plan of other steps"
        assert all(phase.stream in streams for phase in self.phases), "a phase without a stream"
        self._phase_ends = list(itertools.accumulate(phase.steps for phase in self.phases))
        self._probes = [one for one in self.callbacks if isinstance(one, Probe)]

        self.state = State(compile=settings.compile)
        self._own = {
            name: self.ranks.shard(streams[name]) for name in {p.stream for p in self.phases}
        }
        """This rank's rows of what is trained on."""
        self._progress = RunProgress(self.state, self.max_steps, steps_per_epoch)
        examples = {name: stream.examples for name, stream in streams.items()}
        self._view = RunView(
            self.state,
            self._progress,
            settings,
            folder,
            task.monitor,
            examples,
            self.callbacks,
        )
        self._history = History(self.ranks.averaged)
        self._best: dict[str, Any] | None = None
        """What ``best.pt`` is to hold, until it does."""
        self._last_save = self.started = clock.seconds()
        """``started`` is when the work on this run began, as far as this process knows."""
        self._earlier = 0.0
        """Seconds that went into the run before it was gone on with."""
        self._validated = False
        """Whether the callbacks of this process have what the last weights say."""
        self._phase: Phase | None = None
        self._train_step: TrainStep | None = None
        self._not_ended = list(self.callbacks)

    def fit(self, resume: Mapping[str, Any] | None = None) -> str:
        """Train to the end, or to an interruption; return the status.

        ``resume`` is the state of a checkpoint, after which the run ends with the same bytes
        as if it had never been interrupted. Raises :class:`Diverged` on a loss, weights or a
        last evaluation that are not finite.
        """
        self._view.resumed = resume is not None
        for callback in self.callbacks:
            callback.start(self._view)
        if self._probes:
            with self._asking():
                for probe in self._probes:
                    probe.begin(self.task, self.streams, self._view)
        if resume is not None:
            setup = self.state.seconds["setup"]
            self._load_state(resume)
            self._earlier = self.state.seconds.get("total", 0.0)
            self.state.seconds["setup"] += setup
        self._draw_on(resume)
        self._train_step = self._given_step or self._own_step()
        self._measured_seconds = self.state.seconds["train"]
        self._measured_samples = self.state.samples
        with signals.asking(self.ranks.ask):
            self._train()
            if self.signal is not None:
                return "interrupted"
            self._test()
            self._require_finite_results()
        return "finished"

    def train_phase(self, number: int) -> dict[str, float]:
        """Train phase ``number`` alone, whatever was trained before; return its training means.

        It neither evaluates nor saves, and has no callbacks: for a process that trains what another
        asks it to.
        """
        if self._train_step is None:
            self._train_step = self._own_step()
            self.task.train()
        phase = self.phases[number]
        self.state.step = self._phase_ends[number] - phase.steps
        place, length = self.state.place(phase.stream), self.streams[phase.stream].steps_per_epoch
        assert length is not None, "phases of an epoch"
        place.epoch, place.position = divmod(self.state.step, length)
        self._phase = None
        self._train_on(self._enter_phase())
        self._history.read()
        means = self._history.period()
        self._history.clear()
        return means

    def end(self, status: str) -> None:
        """The probes' last look, unless the run failed, and the callbacks' end.

        Whatever goes wrong, each callback is ended, once; then the first failure is raised.
        """
        failure: BaseException | None = None
        probes, self._probes = self._probes, []
        try:
            if status != "failed" and probes:
                with self._asking():
                    for probe in probes:
                        probe.finish(self.task, self.streams, self._view)
        except (Exception, KeyboardInterrupt) as error:
            failure, status = error, _after(error)
        while self._not_ended:
            callback = self._not_ended.pop(0)
            try:
                callback.end(self._view, status)
            except (Exception, KeyboardInterrupt) as error:
                failure = failure or error
                status = _after(failure)
        if failure is not None:
            raise failure

    def _own_step(self) -> TrainStep:
        """The task's, compiled or replayed as the settings say."""
        device, steps = self.settings.device, self.max_steps - self.state.step
        step = train_step(self.state.compile, self.task, self.optimize, device, steps, self._settle)
        return replayed_step(self.settings.cuda_graph, step, self.task, self.optimize, device)

    def _train(self) -> None:
        self.task.train()
        if self.state.step:
            # It may be evaluated before its next step, and left.
            self._phase = self.phases[bisect.bisect_left(self._phase_ends, self.state.step)]
            self.task.enter(self._phase)
        self._resume_clock()
        while True:
            # The phase of the last step, or the first of all.
            phase = self.phases[bisect.bisect_left(self._phase_ends, self.state.step)]
            self._turn_epoch(phase)
            if self.signal is not None:
                break
            self._leave_phases()
            if self._evaluation_is_due(phase):
                self._end_period()
            if self._at_the_end or self._stopping:
                break
            self._train_on(self._enter_phase())
        self._read()
        self._save()
        self._pause_clock()

    def _leave_phases(self) -> None:
        """Tell the task of what is over, once each."""
        while self.state.left < bisect.bisect_right(self._phase_ends, self.state.step):
            phase = self.phases[self.state.left]
            self.task.leave(phase)
            self.optimize.end_phase(phase)
            self.state.left += 1

    def _enter_phase(self) -> int:
        """The phase of the next step, of which the task hears when it is another; its number."""
        number = bisect.bisect_right(self._phase_ends, self.state.step)
        if self._phase is not self.phases[number]:
            self._phase = self.phases[number]
            self.task.enter(self._phase)
            if self.state.step == self._phase_ends[number] - self._phase.steps:
                self.optimize.begin_phase(self._phase)
        return number

    def _turn_epoch(self, phase: Phase) -> None:
        place = self.state.place(phase.stream)
        if place.position == self.streams[phase.stream].steps_per_epoch:
            place.epoch, place.position = place.epoch + 1, 0

    def _evaluation_is_due(self, phase: Phase) -> bool:
        state, settings = self.state, self.settings
        if state.evaluated_at == state.step:
            return False
        if self._at_the_end or self._stopping:
            return True
        if settings.evaluate_steps is not None:
            return state.step % settings.evaluate_steps == 0
        place = state.place(phase.stream)
        return place.position == 0 and place.epoch % settings.evaluate_every == 0

    def _train_on(self, number: int) -> None:
        """Train to the end of the epoch, unless that of the phase or an evaluation comes first."""
        phase, until = self.phases[number], self._phase_ends[number]
        every = self.settings.evaluate_steps
        if every is not None:
            until = min(until, (self.state.step // every + 1) * every)
        self._phase_end = self._phase_ends[number]
        state, stream, place = (
            self.state,
            self._own[phase.stream],
            self.state.place(phase.stream),
        )
        for batch in stream.batches(place.epoch, place.position):
            self._step(batch, place)
            if state.step >= until or self.signal is not None or state.stop_reason:
                return
        assert place.position == stream.steps_per_epoch, "an epoch of another length"

    @property
    def _at_the_end(self) -> bool:
        return self.state.step >= self.max_steps

    @property
    def _stopping(self) -> bool:
        return self.signal is not None or bool(self.state.stop_reason)

    def _resume_clock(self) -> None:
        self._clock = clock.seconds()

    def _pause_clock(self) -> None:
        """Book the time since :meth:`_resume_clock` as training."""
        now = clock.seconds()
        self.state.seconds["train"] += now - self._clock
        self._clock = now

    def _step(self, batch: Batch, place: Place) -> None:
        optimize, state, settings = self.optimize, self.state, self.settings
        logged = (state.step + 1) % self._log_interval == 0
        optimize.measure = logged or settings.accumulate > 1
        optimize.set_multiplier(self.schedule(state.step))
        for modifier in self.modifiers:
            modifier.before_step(self._progress)
        assert self._train_step is not None, "it has begun"
        with self._autocast():
            metrics = self._train_step(batch)
        size = self.ranks.examples(batch)
        self._history.add(metrics, size, self.ranks.fraction)
        state.samples += size
        state.step += 1
        place.position += 1
        if state.step == self._phase_end:
            optimize.finish()
        if logged:
            self._log()
        if self.ranks.meet(clock.seconds() - self._last_save >= settings.checkpoint_seconds):
            self._read()
            self._save()

    def _log(self) -> None:
        self._read()
        self._measure_throughput()
        values = self._history.window() | self._scalars()
        self._view.latest = dict(values)
        rates, norms = self.optimize.learning_rates(), self.optimize.gradient_norms
        several = len(rates) > 1
        for name, rate in rates.items():
            values[f"learning_rate/{name}" if several else "learning_rate"] = rate
        for name, norm in norms.items():
            values[f"gradient_norm/{name}" if several else "gradient_norm"] = float(norm)
        for callback in self.callbacks:
            callback.log(self._view, values)
        self._hear()

    def _hear(self) -> None:
        """Whether a callback has asked for an end, which those of rank 0 do for all."""
        self.state.stop_reason = self.ranks.told(self.state.stop_reason)

    def _read(self) -> None:
        """Fetch what the steps since the last reading returned, and see that it is finite."""
        steps_ago = self._history.read()
        if steps_ago is None:
            return
        what = f"The loss is not finite at step {self.state.step - steps_ago:,}."
        raise self._diverged(what, self._examples_of(steps_ago))

    def _require_finite_weights(self) -> None:
        """See that the last steps left weights that can be used, before they are kept."""
        trained = [p for p in self.task.parameters() if p.requires_grad]
        found = [self.ranks.plain(p.isfinite().all()) for p in trained]
        if found and not bool(torch.stack(found).all()):
            what = f"The weights are not finite after step {self.state.step:,}."
            raise self._diverged(what, self._examples_of(0))

    def _require_finite_results(self) -> None:
        """See that the run's last evaluations are numbers."""
        bad = [
            f"{split} {name} is {value}"
            for split, results in self.state.results.items()
            for name, value in results.items()
            if split != "train" and self._counts(split, name) and not math.isfinite(value)
        ]
        if bad:
            raise self._diverged(f"The run ended with no numbers: {', '.join(bad)}.", "")

    def _counts(self, split: str, name: str) -> bool:
        """Whether a metric that is not finite says that the network is none any more.

        A mean over something does. The monitor may have no value on this data at all, unless it
        once had one.
        """
        monitored = name == self.task.monitor.name and self.state.best_value is not None
        return name in self.state.means.get(split, ()) or monitored

    def _diverged(self, what: str, examples: str) -> Diverged:
        """An error about ``what``, with the checkpoints that there are."""
        if self._best is not None:
            checkpoint.save(self.folder, checkpoint.BEST, self._best, self.ranks)
        last, best = (self.folder.path / name for name in (checkpoint.LAST, checkpoint.BEST))
        saved = f"  weights saved last: {last if last.exists() else 'none yet'}\n"
        if best.exists():
            saved += f"  weights of the best evaluation: {best}\n"
        advice = f"{ADVICE}, or look at those examples." if examples else f"{ADVICE}."
        return Diverged(f"{what}\n{examples}{saved}{advice}")

    def _examples_of(self, steps_ago: int) -> str:
        """A line about the batch of so many steps ago, where that can be told."""
        assert self._phase is not None
        stream, place = self.streams[self._phase.stream], self.state.place(self._phase.stream)
        if stream.steps_per_epoch is None:
            return ""
        number = place.epoch * stream.steps_per_epoch + place.position - 1 - steps_ago
        if number < 0:  # it belongs to an earlier phase
            return ""
        shown = stream.rows(*divmod(number, stream.steps_per_epoch)).tolist()
        more = f", … ({len(shown)} in all)" if len(shown) > 16 else ""
        return f"  batch:  examples {', '.join(map(str, shown[:16]))}{more} of the training split\n"

    def _end_period(self) -> None:
        """Training means, the validation split, the best."""
        self._read()
        self._require_finite_weights()
        self._pause_clock()
        period = Evaluation(self._history.period() | self._scalars())
        self._history.clear()
        self.state.evaluated_at = self.state.step
        self._tell("train", period | self._look("train"))
        if "validation" in self.streams:
            self._tell("validation", self._evaluate("validation", final=False))
            self._validated = True
            # A task may have nothing to say of it yet, in a phase that is about something else.
            self._keep_if_best(self.state.results["validation"])
        self._resume_clock()

    def _keep_if_best(self, results: Mapping[str, float]) -> None:
        bad = [
            name
            for name, value in results.items()
            if self._counts("validation", name) and not math.isfinite(value)
        ]
        if bad:
            logger.warning(
                f"validation {bad[0]} is {results[bad[0]]} at step {self.state.step:,}: "
                "these weights are not taken for the best."
            )
            return
        value = results.get(self.task.monitor.name, math.nan)
        if not self.task.monitor.better(value, self.state.best_value):
            return
        if not all(modifier.settled for modifier in self.modifiers):
            return
        self.state.best_value, self.state.best_step = value, self.state.step
        self.state.best_results = dict(results)
        with self._evaluation_weights():
            weights = {k: v.clone() for k, v in self.task.state_dict().items()}
        self._best = {"task": weights, "step": self.state.step}

    def _scalars(self) -> dict[str, float]:
        """What modifiers have to show."""
        return {name: value for one in self.modifiers for name, value in one.scalars().items()}

    def _measure_throughput(self) -> None:
        self._pause_clock()
        seconds = self.state.seconds["train"] - self._measured_seconds
        samples = self.state.samples - self._measured_samples
        self._progress.samples_per_second = samples / max(seconds, 1e-9)
        self._measured_seconds = self.state.seconds["train"]
        self._measured_samples = self.state.samples

    def _test(self) -> None:
        if self.settings.tests_best(self.streams):
            self._take_best()
        if not self._validated:
            # An earlier process trained to the end; its figures and tables went with it.
            self._validate_again()
        if "test" in self.streams:
            self._tell("test", self._evaluate("test", final=True))

    def _take_best(self) -> None:
        """Give the task the best weights; the results are theirs from here on."""
        best, name = self.folder.path / checkpoint.BEST, self.task.monitor.name
        if self.state.best_step is None or not self.ranks.found(best.exists):
            logger.warning(
                f"trainer.test_weights={self.settings.test_weights}: no evaluation gave a number "
                f"for {name}, so there are no best weights: the last ones are used."
            )
            return
        saved = checkpoint.load(best, self.settings.device, divided=self.ranks.divides)
        self._load_weights(saved["task"], best)
        self.state.uses_best = True
        if self.state.best_step != self.state.evaluated_at:
            # Figures and tables are still those of the last weights.
            self._validate_again()
        self.state.results["validation"] = dict(self.state.best_results)
        logger.info(
            f"weights: those of step {self.state.best_step:,}, the best by validation {name} "
            f"({self.state.best_value:.6g}). trainer.test_weights=last takes the last ones."
        )

    def _validate_again(self) -> None:
        """Have the callbacks show what the weights say of the validation split, if there is one."""
        if "validation" in self.streams:
            evaluation = self._evaluate("validation", final=False)
            for callback in self.callbacks:
                callback.reevaluated(self._view, "validation", evaluation)
        self._validated = True

    def _evaluate(self, split: str, final: bool) -> Evaluation:
        """What the task's metrics say of a split, and the probes add."""
        started = clock.seconds()
        with self._evaluation_weights(), eval_mode(self.task):
            with torch.inference_mode(), self._autocast():
                evaluation = evaluate(
                    self.task,
                    self.streams[split],
                    seed=self.seed,
                    epoch=self.state.place("train").epoch,
                    final=final,
                    ranks=self.ranks,
                )
            self.state.seconds["evaluate"] += clock.seconds() - started
        return evaluation | Evaluation(self._scalars()) | self._look(split)

    def _look(self, split: str) -> Evaluation:
        """What the probes say."""
        found = Evaluation()
        if not self._probes:
            return found
        started = clock.seconds()
        with self._asking():
            for probe in self._probes:
                found |= probe.look(self.task, self.streams, self._view, split)
        self.state.seconds["evaluate"] += clock.seconds() - started
        return found

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """What a probe may rely on, and cannot spoil."""
        device = self.settings.device
        random = generators.state(device)
        try:
            with self._evaluation_weights(), eval_mode(self.task), torch.no_grad():
                yield
        finally:
            generators.restore(random, device)

    def _evaluation_weights(self) -> AbstractContextManager[Any]:
        """The weights that the task is evaluated with, as the modifiers have them."""
        # The best weights were kept as they were evaluated.
        return evaluation_weights(() if self.state.uses_best else self.modifiers)

    def _tell(self, split: str, evaluation: Evaluation) -> None:
        # A metric may give numbers of numpy's or 0-d tensors, which no checkpoint and no csv takes.
        scalars = {
            name: value if isinstance(value, int) else float(value)
            for name, value in evaluation.scalars.items()
        }
        # Those of rank 0, which alone has probes; and all decide by the same numbers.
        scalars = self.ranks.told(scalars)
        evaluation = replace(evaluation, scalars=scalars)
        self.state.results[split] = dict(scalars)
        self.state.means[split] = [name for name, weight in evaluation.weights.items() if weight]
        self.state.signatures |= evaluation.signatures
        for warning in evaluation.warnings:
            logger.warning(warning)
        for callback in self.callbacks:
            callback.evaluated(self._view, split, evaluation)
        self._hear()

    def _autocast(self) -> AbstractContextManager[Any]:
        return autocast(self.settings.precision, self.settings.device)

    def _settle(self, compile: Compile, why: str) -> None:
        self.state.compile = compile
        logger.info("trainer.compile=auto: %s, %s", compile, why)

    @property
    def signal(self) -> int | None:
        """What asked for an end."""
        return self.ranks.signal

    def elapsed(self) -> float:
        """Seconds that went into the run, those before an interruption included."""
        return self._earlier + clock.seconds() - self.started

    def _save(self) -> None:
        """Write a checkpoint from which the run goes on as if nothing had happened."""
        self._require_finite_weights()
        self.state.seconds["total"] = self.elapsed()
        if self._best is not None:
            checkpoint.save(self.folder, checkpoint.BEST, self._best, self.ranks)
            self._best = None
        checkpoint.save_last(self.folder, self._state(), self.ranks)
        self._saved()
        malloc.give_back()  # seldom enough not to be felt, often enough for a heap that stays small
        self._last_save = clock.seconds()

    def _state(self) -> dict[str, Any]:
        return {
            "task": self.task.state_dict(),
            "training": self.ranks.joined(self.task.training_state()),
            "modifiers": [modifier.state_dict() for modifier in self.modifiers],
            "optimize": self.optimize.state_dict(),
            "streams": {name: stream.state_dict() for name, stream in self.streams.items()},
            **self._random(),
            "history": self._history.state_dict(),
            "callbacks": [callback.state_dict() for callback in self._kept],
            "loop": self.state.state_dict(),
        }

    def _random(self) -> dict[str, Any]:
        """The generators of rank 0, and those of each other rank where there are several."""
        first, *others = self.ranks.gathered(generators.state(self.settings.device))
        return {"random": first, **({"others": others} if others else {})}

    def _draw_on(self, saved: Mapping[str, Any] | None) -> None:
        """Have each rank draw for itself, from where it was in a run that goes on."""
        states = [] if saved is None else [saved["random"], *saved.get("others", ())]
        path = self.folder.path / checkpoint.LAST
        with checkpoint.fitting(path):
            self.ranks.begin(self.seed, self.state.step, self.settings.device, states)

    def _load_state(self, saved: Mapping[str, Any]) -> None:
        path = self.folder.path / checkpoint.LAST
        with checkpoint.fitting(path):  # first: a run that cannot go on still tells how far it was
            self.state.load_state_dict(saved["loop"])
        self._load_weights(saved["task"], path)
        with checkpoint.fitting(path):
            self.task.load_training_state(self.ranks.own(saved["training"]))
            for modifier, state in zip(self.modifiers, saved["modifiers"], strict=True):
                modifier.load_state_dict(state)
            self.optimize.load_state_dict(saved["optimize"])
            for name, stream in self.streams.items():
                stream.load_state_dict(saved["streams"][name])
            self._history.load_state_dict(saved["history"])
            states = saved["callbacks"] if self.ranks.first else ()
            for callback, state in zip(self._kept, states, strict=True):
                callback.load_state_dict(state)
        self._require_best()

    def _load_weights(self, weights: Mapping[str, Any], path: Path) -> None:
        own = self.ranks.placed(weights, self.task.state_dict())
        checkpoint.load_weights(self.task, own, path)

    def _require_best(self) -> None:
        """See now that the best weights so far are whole: they are used when the run ends."""
        best = self.folder.path / checkpoint.BEST
        if self.state.best_step is None:
            return
        if not self.ranks.found(best.exists):
            logger.warning(
                f"{best} was removed: the best weights will be those of an evaluation to come."
            )
            self.state.best_value = self.state.best_step = None
            return
        try:
            self.ranks.found(lambda: _whole(best, self.folder.identity))
        except checkpoint.Damaged as error:
            raise UserError(
                f"{error} Remove it to go on without the best weights so far."
            ) from error


def _whole(path: Path, run: str) -> bool:
    """Read a checkpoint, which raises what is wrong with it."""
    checkpoint.load(path, run=run, divided=True)
    return True


def _after(error: BaseException) -> str:
    """The status of a run that ``error`` has ended."""
    return "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
