"""A run from its beginning to its end: parts are trained, and one folder tells all of it.

Knows nothing of Hydra: a config here is a plain dict, composed or read from a run folder.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml

from dltrain import messages
from dltrain.assemble import Assembly, Config, Parts, optimizer_settings
from dltrain.callbacks.console import Console
from dltrain.config.build import build
from dltrain.config.paths import absolute, has_initial_weights
from dltrain.contracts.data import Placement, Streams
from dltrain.contracts.metric import Metric, Mode, Table
from dltrain.contracts.run import Callback, Probe, Schedule, Setup
from dltrain.contracts.task import Phase
from dltrain.core.loop import Trainer
from dltrain.core.release import ReleasingOptimize
from dltrain.core.scaled import ScaledOptimize
from dltrain.core.settings import Settings
from dltrain.core.update import Optimize
from dltrain.data.images.others import open_images
from dltrain.data.kept import IDENTITY, KeptData, identity_of
from dltrain.data.streams.first_batches import FirstBatches
from dltrain.engine import clock, signals
from dltrain.engine.batch_norm import require_variance
from dltrain.engine.parallel.environment import TIMEOUT
from dltrain.engine.parallel.joining import joined
from dltrain.engine.parallel.ranks import Ranks
from dltrain.engine.parallel.several import RankLost
from dltrain.errors import ConfigError, Diverged, Interrupted, UserError, going_on
from dltrain.optim.by_phase import by_phase
from dltrain.optim.groups import gives_rows, groups_of
from dltrain.optim.optimizers import make_optimizer
from dltrain.optim.patterns import named_by
from dltrain.parallel_checks import require_dividable, require_own_passes
from dltrain.runs import checkpoint, checksums
from dltrain.runs.elastic import OVERRIDES, forget_run, note_run, run_to_go_on
from dltrain.runs.environment import choose_device, describe
from dltrain.runs.examples import EXAMPLES, keep_examples
from dltrain.runs.finding import find_run
from dltrain.runs.folder import CONFIG, SUMMARY, FolderOfAnother, RunFolder, room_for
from dltrain.runs.forward_failure import explain
from dltrain.runs.init_from import init_from
from dltrain.runs.load import (
    GROWING,
    ID,
    READER,
    SPEC,
    allowed_packages,
    no_larger_than,
    read_config,
    spec_of_run,
)
from dltrain.runs.model_summary import summarize
from dltrain.runs.monitor import chosen_monitor
from dltrain.runs.others import open_runs
from dltrain.runs.sweep import JOB

REPORT = "tables/data"
logger = logging.getLogger(__name__)
PARENT = "parent"
"""The key of ``summary.json`` for the run that this one goes on with, and from which step."""


def train(
    config: Config,
    overrides: Sequence[str] = (),
    watchers: Sequence[Callback] = (),
    created: Callable[[Path], object] = lambda path: None,
    typed: bool = True,
    job: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Train a new run of ``config``; return its summary, with ``signal`` and the folder's ``path``.

    ``watchers`` are callbacks that the config does not name, and that leave nothing in the run.
    ``created`` is told the run's folder as soon as there is one. A config that is not ``typed``,
    but from a file, may name what a run folder may, see :func:`resume`. ``job`` is what its
    ``job.json`` says: which run of which sweep it is.

    Raises :class:`ConfigError` with every fault of the config, before any data is loaded or
    any file written, and :class:`UserError` for what goes wrong later.
    """
    started = clock.seconds()
    packages = None if typed else allowed_packages()
    with ExitStack() as stack:
        place = joined(lambda: choose_device(config["device"]), _timeout_of(config))
        ranks = stack.enter_context(place)
        outputs = Path(config["output_dir"]).expanduser()
        begun_before = ranks.found(lambda: run_to_go_on(outputs / config["name"], overrides))
        if begun_before is not None:
            return _go_on(Path(begun_before), started, watchers, created, ranks, packages)
        shown = stack.enter_context(messages.shown(ranks.first))
        assembly = stack.enter_context(Assembly(config, packages))
        parts = assembly.read()
        others = has_initial_weights(config)
        if config["init_from"] is not None:
            others = True
            init_from(parts.task, parts.spec, config["init_from"], outputs)
        run = Run(absolute(config, Path.cwd()), parts, shown, started, watchers, ranks=ranks)
        make = RunFolder.create if ranks.first else FolderOfAnother.create
        folder = make(outputs, config["name"])
        with described(folder):
            run.begin(folder)
            if others:
                checkpoint.save(folder, checkpoint.INITIAL, {"task": parts.task.state_dict()})
            run.describe(overrides, job)
            folder.publish(outputs)
            folder.path = Path(ranks.told(str(folder.path)))
        with begun(folder):
            if ranks.first:
                note_run(folder)
            created(folder.path)
            return run.go(None)


def _go_on(
    path: Path,
    started: float,
    watchers: Sequence[Callback],
    created: Callable[[Path], object],
    ranks: Ranks,
    packages: frozenset[str] | None,
) -> dict[str, Any]:
    """Go on with a run whose processes torchrun has started again."""
    folder = _held(RunFolder(path), ranks)
    with begun(folder):
        created(folder.path)
        return _resume(folder, started, False, watchers, ranks, packages)


def resume(
    run: str, output_dir: Path, changed_data: bool = False, watchers: Sequence[Callback] = ()
) -> dict[str, Any]:
    """Go on with an interrupted run, as if it had never been interrupted; return its summary.

    One that was killed before its first checkpoint begins again.

    Raises :class:`UserError` where its data is not what it began with, unless ``changed_data``.
    Its config may name only models, tasks and so on from dltrain, from what torch and torchvision
    have of them, and from the packages listed in the environment variable ``DLTRAIN_PACKAGES``.
    """
    started = clock.seconds()
    waits = _timeout_of(read_config(find_run(run, output_dir)))
    with joined(lambda: choose_device(_device_of(run, output_dir)), waits) as ranks:
        folder = _held(find_run(run, output_dir), ranks)
        with begun(folder):
            return _resume(folder, started, changed_data, watchers, ranks, allowed_packages())


def _timeout_of(config: Mapping[str, Any]) -> float:
    """How long a process waits for another; what is no such number is told with other faults."""
    trainer = config.get("trainer")
    found = trainer.get("timeout") if isinstance(trainer, Mapping) else None
    return found if isinstance(found, (int, float)) and found > 0 else TIMEOUT


def _device_of(run: str, output_dir: Path) -> str:
    """Where a run that goes on is to be trained."""
    device = read_config(find_run(run, output_dir)).get("device", "auto")
    return device if isinstance(device, str) else "auto"


def _held(folder: RunFolder, ranks: Ranks) -> RunFolder:
    """The folder of a run that goes on, which rank 0 holds."""
    path = Path(ranks.found(lambda: _hold(folder)))
    return folder if ranks.first else FolderOfAnother(path)


def _hold(folder: RunFolder) -> str:
    folder.hold()
    return str(folder.path)


def _resume(
    folder: RunFolder,
    started: float,
    changed_data: bool,
    watchers: Sequence[Callback],
    ranks: Ranks,
    packages: frozenset[str] | None,
) -> dict[str, Any]:
    summary = folder.summary()
    if summary.get("status") == "finished":
        longer = shlex.join(["dltrain", "resume", str(folder.path), "trainer.epochs=N"])
        raise UserError(
            f"{folder.path} is finished: there is nothing to resume. To train it for longer: "
            f"{longer}"
        )
    folder.identity = summary.get(ID, "")
    checksums.require_listed(folder.path, GROWING, every=True)
    config = read_config(folder)
    identity = folder.read_json(SPEC).get(IDENTITY, {}) if (folder.path / SPEC).is_file() else {}
    kept = KeptData(folder.path, spec_of_run(folder), identity, changed_data)
    with messages.shown(ranks.first) as shown, ExitStack() as stack:
        try:
            with no_larger_than(folder.path / checkpoint.LAST):
                parts = stack.enter_context(Assembly(config, packages)).read(kept)
        except ConfigError as error:
            raise UserError(f"{folder.path / CONFIG}: {error}") from error
        divided = ranks.several and parts.settings.parallel is not None
        state = checkpoint.resumable(folder, parts.settings.device, ranks, divided)
        if state is None:
            _begin_again(folder, config, parts, summary)
        continued = Run(config, parts, shown, started, watchers, summary.get(PARENT), ranks)
        continued.begin(folder)
        ranks.told(True)  # all have read what is written anew
        # A kill after the last step may have left the list of a finished run.
        listed = checksums.read(folder.path)
        results = {n for n in listed if "/" in n or n.startswith(GROWING)} - {f"{REPORT}.csv"}
        if results:
            folder.write_text(checksums.FILE, checksums.forget(folder.path, results))
        if identity_of(parts.source) != kept.identity:  # of the data that it goes on with
            continued.describe_data()
            folder.write_checksums({*checksums.read(folder.path), READER, SPEC, EXAMPLES})
        return continued.go(state)


def _begin_again(
    folder: RunFolder, config: Config, parts: Parts, summary: Mapping[str, Any]
) -> None:
    """Make a run ready that was killed before it had a checkpoint."""
    if PARENT in summary:
        raise UserError(
            f"{folder.path} has no checkpoint to go on from. It went on with "
            f"{summary[PARENT].get('run')}: train that for longer once more."
        )
    initial = folder.path / checkpoint.INITIAL
    if initial.exists():
        weights = checkpoint.load(initial, parts.settings.device, folder.identity)["task"]
        checkpoint.load_weights(parts.task, weights, initial)
    elif config.get("init_from") is not None or has_initial_weights(config):
        raise UserError(
            f"{folder.path} has no checkpoint, and not the weights that it began with: start it "
            "again."
        )
    checkpoint.remove(folder, checkpoint.BEST)
    logger.info("the run was ended before its first checkpoint: it begins again.")


@contextmanager
def described(folder: RunFolder) -> Iterator[None]:
    """What goes wrong in here, before a new run is published, leaves nothing of it."""
    try:
        with room_for(folder):
            yield
    except BaseException:
        folder.release()
        folder.discard()
        raise


@contextmanager
def begun(folder: RunFolder) -> Iterator[None]:
    """An interruption in here names the run, which exists; in the end others may claim it.

    So does a full disk.
    """
    try:
        with room_for(folder), signals.unfinished(going_on(folder.path)):
            yield
    except KeyboardInterrupt as error:
        number = signals.number_of(error)
        raise Interrupted(folder.path, number, signals.said(number)) from error
    finally:
        folder.release()


class Run:
    """A run from its first step to its last line; keeps ``summary.json`` true throughout."""

    def __init__(
        self,
        config: Config,
        parts: Parts,
        shown: messages.Messages,
        started: float,
        watchers: Sequence[Callback] = (),
        parent: Mapping[str, Any] | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.ranks = ranks or Ranks()
        self.config, self.parts, self._shown, self._started = config, parts, shown, started
        self._watchers, self._parent = watchers, parent
        settings = parts.settings
        taken = open_runs(parts.task, Path(config["output_dir"]).expanduser(), settings.device)
        if taken:  # a folder of several has a newer one tomorrow
            self.config = {**config, "task": {**config["task"], **taken}}
        open_images(parts.task, settings.device)
        if settings.sync_batch_norm:
            self.ranks.synchronize(parts.task, settings.device)
        self.streams = _open(parts, config["seed"], self.ranks)
        parts.task.opened(self.streams)
        steps_per_epoch = self.streams["train"].steps_per_epoch
        settings.check(self.streams, steps_per_epoch)
        require_dividable(parts, groups_of(parts.task), self.ranks)
        self._better = _check(parts, self.streams, watchers, self.ranks)
        self.ranks.start(parts.task)
        if settings.parallel is not None:
            self.ranks = settings.parallel.divided(parts.task, self.ranks)
        self.groups = groups_of(parts.task)
        optimizers, penalties = {}, {}
        rates = optimizer_settings(config)
        named = named_by(rates.patterns, parts.task)
        for name, group in self.groups.items():
            optimizers[name], penalties[name] = make_optimizer(
                rates.own.get(name, rates.common),
                rates.patterns,
                named,
                group,
                parts.regularizers,
                settings.device,
                parts.modifiers,
                gives_rows(parts.task, group),
            )
        self.ranks.started(optimizers.values())
        for modifier in parts.modifiers:
            modifier.start(self.groups)
        self.optimize = _kind_of_step(settings)(
            optimizers,
            self.groups,
            penalties,
            settings.device.type,
            settings.clip_norm,
            settings.accumulate,
            parts.modifiers,
            self.ranks,
        )
        total = settings.total_steps(steps_per_epoch)
        self.phases = phases_of(parts, self.streams, total)
        # Data that never ends has one epoch: the run.
        given = {"steps_per_epoch": steps_per_epoch or total}
        self.schedule: Schedule = by_phase(
            self.phases,
            partial(build, config["schedule"], Schedule, "schedule", **given),
        )
        self._step = parts.plan.step(self.config, parts.task)
        self._layers = self._summary_of_layers()

    def begin(self, folder: RunFolder) -> None:
        """Take ``folder`` for this run's."""
        parts, self.folder = self.parts, folder
        folder.identity = folder.identity or self._identity()
        callbacks = [*parts.callbacks, Console(self._layers, self._shown)]
        self.trainer = Trainer(
            parts.settings,
            parts.task,
            self.streams,
            self.optimize,
            self.schedule,
            folder,
            parts.modifiers,
            self.ranks.watching(callbacks),
            self.phases,
            self.config["seed"],
            saved=lambda: self._summarize("running"),
            watchers=self._watchers if self.ranks.first else (),
            ranks=self.ranks,
            train_step=self._step,
        )

    def describe(self, overrides: Sequence[str], job: Mapping[str, Any] | None = None) -> None:
        """Write what a new run's folder has from the beginning, whatever fails after it."""
        if not self.ranks.first:
            return
        folder, settings = self.folder, self.parts.settings
        if job is not None:
            folder.write_json(JOB, job)
        folder.write_text(OVERRIDES, "".join(f"{line}\n" for line in overrides))
        folder.write_json("environment.json", describe(settings.device, settings.precision))
        self.describe_data()
        self._summarize("running")
        folder.write_text(CONFIG, yaml.safe_dump(dict(self.config), sort_keys=False, width=100))
        folder.write_checksums(name for name in folder.file_names() if not name.startswith(GROWING))

    def describe_data(self) -> None:
        """Write what the data is and what reads new examples."""
        if not self.ranks.first:
            return
        parts, folder = self.parts, self.folder
        reader = parts.source.reader()
        folder.write_json(READER, {} if reader is None else reader.node(folder.path))
        keep_examples(folder, self.streams)
        report = parts.source.report()
        if report:
            folder.write_table(REPORT, report)
        # Last: what has it was written whole, by a version that has this format.
        identity = identity_of(parts.source)
        folder.write_json(SPEC, parts.spec.to_json() | {IDENTITY: identity})

    def _identity(self) -> str:
        """What the checkpoints of this run have in common with those of no other kind of run."""
        place = ("name", "output_dir")
        config = {key: value for key, value in self.config.items() if key not in place}
        whole = [config, self.parts.spec.to_json(), dict(self._parent or {})]
        return hashlib.sha256(json.dumps(whole, default=str).encode()).hexdigest()[:16]

    def go(self, state: Mapping[str, Any] | None) -> dict[str, Any]:
        """Train, and end in order whatever happens; return the summary.

        That the run has finished is the last that is written of it.
        """
        trainer = self.trainer
        trainer.started = self._started
        trainer.state.seconds["setup"] = trainer.elapsed()
        self._summarize("running")
        try:
            status = self._end(self._fit(state))
            summary = self._summarize(status)
        except BaseException as error:
            self._fail(error)
            raise
        finally:
            self.parts.plan.close()
            # It refers to this run, by `saved`: in a circle, weights and data would stay in memory
            # until garbage is collected, beside those of the next run.
            del self.trainer
        return summary | {"signal": trainer.signal, "path": self.folder.path}

    def _fit(self, state: Mapping[str, Any] | None) -> str:
        """Train; return the status. What the user can mend becomes a :class:`UserError`."""
        try:
            return self.trainer.fit(state)
        except KeyboardInterrupt as error:
            self.trainer.ranks.interrupted(signals.number_of(error))
            return "interrupted"
        except torch.OutOfMemoryError as error:
            raise UserError(self._out_of_memory()) from error
        except RankLost:
            raise
        except RuntimeError as error:
            if "can't allocate memory" in str(error):
                raise UserError(self._out_of_memory()) from error
            require_own_passes(error)
            self._explain(error)
            raise
        except UserError:
            raise
        # What a network that cannot read the data may raise, beside RuntimeError.
        except (TypeError, LookupError, AttributeError, NotImplementedError, ValueError) as error:
            self._explain(error)
            raise

    def _end(self, status: str) -> str:
        """Have the figures drawn and every file closed; return the status after that."""
        try:
            self.trainer.end(status)
        except KeyboardInterrupt as error:
            self.trainer.ranks.interrupted(signals.number_of(error))
            return "interrupted"
        if status == "finished":
            if self.ranks.first:
                checkpoint.remove(self.folder, checkpoint.PREVIOUS)
                forget_run(self.folder.path.parent)
            self.folder.sync()
            self.folder.write_checksums()
        return status

    def _fail(self, error: BaseException) -> None:
        """Close what can be closed; ``error``, which ended the run, is what matters."""
        status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        try:
            # To whatever watches it, a run that diverged has failed.
            self.trainer.end(status)
            self._summarize("diverged" if isinstance(error, Diverged) else status)
        except Exception as other:
            first = f"{type(other).__name__}: {other}".splitlines()[0]
            logger.debug(f"the failed run could not be ended in order: {first}")

    def _summary_of_layers(self) -> Table:
        """The network's first answer: what cannot read this data fails before there is a folder."""
        batch = self._first_batch()
        try:
            return summarize(self.parts.task, batch)
        except Exception as error:
            require_own_passes(error)
            found = explain(self.parts.task, {n: column[:1] for n, column in batch.items()}, error)
            if found is None:
                raise
            raise found from error

    def _explain(self, error: Exception) -> None:
        """Raise a :class:`UserError` where the user's own network has ended the first step."""
        found = None
        if not self.trainer.state.step:
            found = explain(self.parts.task, self._first_batch(), error)
        if found is not None:
            raise found from error

    def _first_batch(self) -> dict[str, torch.Tensor]:
        return self.streams["train"].first()

    def _summarize(self, status: str) -> dict[str, Any]:
        state = self.trainer.state
        train_seconds = state.seconds["train"]
        summary = {
            "status": status,
            ID: self.folder.identity,
            "epochs": state.place("train").epoch,
            "steps": state.step,
            **({} if self._parent is None else {PARENT: self._parent}),
            "seed": self.config["seed"],
            "device": str(self.parts.settings.device),
            "parameters": sum(p.numel() for p in self.parts.task.parameters()),
            "monitor": self.parts.task.monitor.name,
            "better": self._better,
            "test": state.results.get("test", {}),
            "validation": state.results.get("validation", {}),
            **({"signatures": dict(state.signatures)} if state.signatures else {}),
            "weights": "best" if state.uses_best else "last",
            "best_step": state.best_step,
            "seconds": {
                name: round(seconds, 3)
                for name, seconds in {**state.seconds, "total": self.trainer.elapsed()}.items()
            },
            "samples_per_second": round(state.samples / train_seconds, 1) if train_seconds else 0,
        }
        self.folder.write_json(SUMMARY, summary, sealed=True)
        return summary

    def _out_of_memory(self) -> str:
        batch_size = self.config["data"].get("batch_size")
        return (
            f"Out of memory on {self.parts.settings.device}. Lower data.batch_size (now "
            f"{batch_size}; trainer.accumulate=2 keeps the effective size), lower "
            f"data.evaluation_batch_size, or set trainer.precision=auto."
        )


def _kind_of_step(settings: Settings) -> type[Optimize]:
    """How weights are stepped."""
    if settings.release_gradients:
        return ReleasingOptimize
    return ScaledOptimize if settings.precision == "float16" else Optimize


def phases_of(parts: Parts, streams: Streams, steps: int) -> list[Phase]:
    """The phases of a run of so many steps.

    Raises :class:`UserError` where that is impossible.
    """
    lengths = {name: stream.steps_per_epoch for name, stream in streams.items()}
    try:
        return list(parts.plan.phases(steps, lengths))
    except ValueError as error:
        raise UserError(str(error)) from error


def _open(parts: Parts, seed: int, ranks: Ranks) -> Streams:
    place = Placement(parts.settings.device, seed, parts.task, ranks.rank, ranks.world)
    streams = parts.source.open(place)
    if parts.settings.overfit:
        few = FirstBatches(streams["train"], parts.settings.overfit)
        streams = {**streams, "train": few}
    try:
        return parts.plan.streams(streams)
    except ValueError as error:
        raise UserError(str(error)) from error


def _check(
    parts: Parts,
    streams: Streams,
    watchers: Iterable[Callback],
    ranks: Ranks,
) -> dict[str, Mode]:
    """Which way each metric is better, where that is known.

    Raises :class:`UserError` where the run cannot give what its parts ask of it.
    """
    parts.task.eval()
    givers: list[Metric | Probe] = list(parts.task.metrics(False))
    parts.task.train()
    givers += [one for one in parts.callbacks if isinstance(one, Probe)]
    metrics = [name for one in givers for name in one.names]
    better = {name: mode for one in givers for name, mode in one.better.items() if name in metrics}
    chosen = parts.settings.monitor, parts.settings.monitor_mode
    monitor = chosen_monitor(parts.task.monitor, *chosen, metrics, better)
    if "validation" in streams and monitor.name not in metrics:
        raise UserError(
            f"task: {type(parts.task).__name__} monitors {monitor.name!r}, which its evaluation "
            f"does not give. It gives {', '.join(metrics) or 'nothing'}."
        )
    parts.task.monitor = monitor
    require_variance(parts.task, ranks.shard(streams["train"]))
    groups = list(parts.task.parameter_groups())
    setup = Setup(parts.spec, frozenset(streams), metrics, groups, better)
    for callback in (*parts.callbacks, *watchers):
        callback.check(setup)
    return {monitor.name: monitor.mode, **better}
