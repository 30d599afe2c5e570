"""Opening the runs that a task learns from."""

from __future__ import annotations

from pathlib import Path

import torch

from dltrain.contracts.other_run import LearnsFromRuns
from dltrain.contracts.task import Task
from dltrain.errors import ConfigError, Fault, UserError
from dltrain.runs.folder import LATEST
from dltrain.runs.load import load_run, spec_of_run
from dltrain.runs.newest import newest_run


def open_runs(task: Task, output_dir: Path, device: torch.device) -> dict[str, str]:
    """Open all runs that ``task`` learns from, on ``device``, with the weights of their test.

    ``output_dir`` is where their names are looked up. Returns, by argument, the run that was taken
    where a folder of several was given. Raises :class:`ConfigError` with what is wrong with them.
    """
    if not isinstance(task, LearnsFromRuns):
        return {}
    faults, taken = [], {}
    for name, other in task.others().items():
        try:
            folder = newest_run(other.run, output_dir)
            if Path(other.run).name == LATEST:
                raise ValueError(
                    f"{LATEST} moves on with every run, and this one could not go on with it; "
                    f"give task.{name}={folder.path}"
                )
            other.open(load_run(folder).task.to(device), spec_of_run(folder))
            given = Path(other.run).expanduser()
            if given.is_dir() and given.resolve() != folder.path.resolve():
                taken[name] = str(folder.path.resolve())
        except (UserError, ValueError) as error:
            # The lines after the first list runs; a fault is one line.
            faults.append(Fault(f"task.{name}", str(error).partition("\n")[0]))
    if faults:
        raise ConfigError(faults)
    return taken
