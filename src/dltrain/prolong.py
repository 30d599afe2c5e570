"""Train a finished run for longer: a new run that goes on from the state of its parent.

Its config is the parent's, with a few keys changed, whose values are read as Hydra reads them.
"""

from __future__ import annotations

import bisect
import copy
import itertools
import logging
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from dltrain import messages
from dltrain.assemble import Assembly
from dltrain.callbacks.record import METRICS
from dltrain.config import compose as composition
from dltrain.config.build import plan
from dltrain.config.suggest import did_you_mean
from dltrain.contracts.run import Schedule
from dltrain.data.kept import IDENTITY, KeptData
from dltrain.engine import clock
from dltrain.errors import ConfigError, Fault, UserError
from dltrain.files import open_within, own
from dltrain.optim.by_phase import by_phase
from dltrain.runs import checkpoint
from dltrain.runs.finding import find_run
from dltrain.runs.folder import CONFIG, RunFolder, known_status
from dltrain.runs.load import ID, SPEC, allowed_packages, no_larger_than, read_config, spec_of_run
from dltrain.training import Run, begun, described, phases_of

logger = logging.getLogger(__name__)

LENGTH = ("trainer.epochs", "trainer.steps")
TRAINER = (
    *LENGTH,
    "trainer.evaluate_every",
    "trainer.evaluate_steps",
    "trainer.log_every",
    "trainer.checkpoint_seconds",
    "trainer.test_weights",
)
"""Keys that change how long a run is and when it looks up, and nothing that it has learned by."""
EVENTS = "events.out.*"
"""TensorBoard's files."""


def prolong(
    run: str, output_dir: Path, typed: Sequence[str], changed_data: bool = False
) -> dict[str, Any]:
    """Train on where the finished ``run`` ended, with the overrides ``typed``; return the summary.

    The new run lies beside its parent and begins with its weights, optimizer, averages, random
    generators, metrics and best weights. The schedule is laid over the whole new length; what
    that does to the learning rate is told. Raises :class:`UserError` for a run that has not
    finished, overrides that are not those of length, schedule and callbacks, a length that is no
    longer, and data that has changed, unless ``changed_data``.
    """
    started = clock.seconds()
    foreign = _foreign(composition.assignments(typed))
    if foreign:  # whichever run it is
        raise ConfigError(list(foreign.values()))
    parent = find_run(run, output_dir)
    summary = parent.summary()
    status = known_status(parent.path, summary.get("status"))
    if status != "finished":
        raise UserError(
            f"{parent.path} is {status}, not finished: resume it first, without "
            f"{typed[0]}; then it can be trained for longer."
        )
    before = read_config(parent)
    config = changed(before, typed)
    identity = parent.read_json(SPEC).get(IDENTITY, {}) if (parent.path / SPEC).is_file() else {}
    kept = KeptData(parent.path, spec_of_run(parent), identity, changed_data)
    with messages.shown() as shown, ExitStack() as stack:
        try:
            with no_larger_than(parent.path / checkpoint.LAST):
                parts = stack.enter_context(Assembly(config, allowed_packages())).read(kept)
        except ConfigError as error:
            raise UserError(f"{parent.path / CONFIG}: {error}") from error
        last = own(parent.path, checkpoint.LAST)
        parent.identity = summary.get(ID, "")
        state = checkpoint.load(last, parts.settings.device, parent.identity)
        step = _step(state, parent)
        from_here = {"run": str(parent.path.resolve()), "step": step}
        longer = Run(config, parts, shown, started, (), from_here)
        if longer.schedule.total_steps <= step:
            raise UserError(
                f"{parent.path} has trained {step:,} steps, and {' '.join(typed)} asks for "
                f"{longer.schedule.total_steps:,} in all: give more."
            )
        outputs = parent.path.parent.parent
        folder = RunFolder.create(outputs, parent.path.parent.name)
        with described(folder):
            longer.begin(folder)
            _inherit(parent, folder)
            state = _going_on(state, longer)
            # So that it can be resumed before its own first checkpoint.
            checkpoint.save(folder, checkpoint.LAST, state)
            overrides = parent.read("overrides.txt").decode().splitlines()
            longer.describe([*overrides, *typed])
            folder.publish(outputs)
        with begun(folder):
            logger.info("goes on from step %s of %s.", f"{step:,}", parent.path)
            logger.info(_schedules(before, longer, step))
            return longer.go(state)


def changed(config: Mapping[str, Any], typed: Sequence[str]) -> dict[str, Any]:
    """The config of a run with the overrides ``typed``.

    Raises :class:`ConfigError` for those that would make it another run.
    """
    found = copy.deepcopy(dict(config))
    values = composition.assignments(typed)
    foreign = _foreign(values)
    faults = list(foreign.values())
    for key, value in values.items():
        if key == "schedule":
            lines = [line for line in typed if line.startswith("schedule")]
            found["schedule"] = composition.compose(lines)["schedule"]
        elif key not in foreign:
            faults += _set(found, key, value)
    if "trainer.epochs" in values and found["trainer"].get("steps") is not None:
        faults.append(Fault("trainer.epochs", "this run counts steps: give trainer.steps."))
    if not faults and not {*LENGTH} & {*values}:
        faults.append(Fault("trainer.epochs", "say how long it is to be in all."))
    if faults:
        raise ConfigError(faults)
    return found


def _foreign(keys: Iterable[str]) -> dict[str, Fault]:
    """The faults of ``keys`` that would make it another run."""
    faults = {}
    for key in keys:
        of_schedule = key.partition(".")[0] == "schedule"
        if key in TRAINER or of_schedule or re.match(r"callbacks\.[^.]+\.", key):
            continue
        hint = did_you_mean(key, [*TRAINER, "output_dir"]) or (
            "Only the length (trainer.epochs, trainer.steps), when it looks up "
            f"({', '.join(name.partition('.')[2] for name in TRAINER[2:])}), schedule, keys of its "
            "callbacks and output_dir=DIR can be given; for all else, a new run with init_from."
        )
        faults[key] = Fault(key, "a run goes on with its own.", hint)
    return faults


def _set(config: dict[str, Any], key: str, value: Any) -> list[Fault]:
    """Set ``key``; the fault of a key that is not there."""
    *path, last = key.split(".")
    node: Any = config
    for name in path:
        node = node.get(name) if isinstance(node, dict) else None
    if not isinstance(node, dict) or last not in node:
        names = [f"{'.'.join(path)}.{name}" for name in node] if isinstance(node, dict) else []
        return [Fault(key, "this run has no such key.", did_you_mean(key, names))]
    node[last] = value
    return []


def _step(state: Mapping[str, Any], parent: RunFolder) -> int:
    with checkpoint.fitting(parent.path / checkpoint.LAST):
        step = state["loop"]["step"]
        if not isinstance(step, int):
            raise TypeError(f"{step!r} is no number of steps")
        return step


def _inherit(parent: RunFolder, folder: RunFolder) -> None:
    """Copy what a run adds to as it goes on: curves, and the best weights so far."""
    files = [METRICS, *(path.relative_to(parent.path).as_posix() for path in _events(parent.path))]
    for name in files:
        if (parent.path / name).is_file():
            with open_within(parent.path, name, "rb") as file:
                folder.write(name, partial(shutil.copyfileobj, file))
    best = own(parent.path, checkpoint.BEST)
    if best.is_file():
        state = checkpoint.load(best, run=parent.identity)
        checkpoint.save(folder, checkpoint.BEST, checkpoint.without_origin(state))


def _events(folder: Path) -> Iterable[Path]:
    return folder.rglob(EVENTS)


def _going_on(state: Mapping[str, Any], run: Run) -> dict[str, Any]:
    """The parent's last state, as one in the middle of ``run``: nothing has ended."""
    ends = list(itertools.accumulate(phase.steps for phase in run.trainer.phases))
    loop = state["loop"]
    unfinished = {"stop_reason": "", "left": bisect.bisect_right(ends, loop["step"])}
    return {**checkpoint.without_origin(state), "loop": {**loop, **unfinished}}


def _schedules(before: Mapping[str, Any], run: Run, step: int) -> str:
    """What the schedule of the new length does to the learning rate, as a sentence."""
    now, each = run.schedule, run.schedule.steps_per_epoch
    length = before["trainer"]["steps"] or before["trainer"]["epochs"] * each

    # The parent's, which nobody has typed; where another schedule was typed, it is not looked at
    # before.
    def make(total_steps: int) -> Schedule:
        given = {"total_steps": total_steps, "steps_per_epoch": each}
        return plan(before["schedule"], Schedule, "schedule", given, allowed_packages()).make()

    old = by_phase(phases_of(run.parts, run.streams, length), make)
    base = {
        name: optimizer.param_groups[0]["initial_lr"]
        for name, optimizer in run.optimize.optimizers.items()
    }
    rates = ", ".join(
        f"{'' if len(base) == 1 else name + ' '}{rate * old(step - 1):.3g} before and "
        f"{rate * now(step):.3g} from here"
        for name, rate in base.items()
    )
    return (
        f"the schedule is laid over all {now.total_steps:,} steps, which were {length:,}: the "
        f"learning rate was {rates}."
    )
