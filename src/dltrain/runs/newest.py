"""Which run is meant where a folder of several is given: a model's runs, or a sweep."""

from __future__ import annotations

import logging
from pathlib import Path

from dltrain.errors import UserError
from dltrain.runs import sweep
from dltrain.runs.finding import find_run
from dltrain.runs.folder import CONFIG, RunFolder, shortest
from dltrain.runs.listing import listed_run, run_paths

logger = logging.getLogger(__name__)


def newest_run(run: str, output_dir: Path) -> RunFolder:
    """As :func:`find_run`; of a folder of runs, or a sweep, the newest that has finished.

    Which one that is, and of how many, is told. Raises :class:`UserError` where none has finished.
    """
    path = Path(run).expanduser()
    if not path.is_dir() or (path / CONFIG).is_file():
        return find_run(run, output_dir)
    found = _runs_of(path, output_dir)
    if not found:
        return find_run(run, output_dir)  # which tells what it is not
    listed = [listed_run(folder) for folder in found]
    finished = [one for one in listed if one.status == "finished"]
    if not finished:
        none = "which has not finished" if len(listed) == 1 else "none of which has finished"
        raise UserError(f"{run} has {_runs(len(listed))}, {none}")
    newest = max(finished, key=lambda one: (one.when, one.path.name, str(one.path)))
    logger.info(f"{run} has {_runs(len(listed))}; taken is {shortest(newest.path)}, the newest.")
    return RunFolder(shortest(newest.path.resolve()))


def _runs_of(path: Path, output_dir: Path) -> list[Path]:
    several = sweep.find(str(path), output_dir)
    if several is None:
        return list(run_paths(path))
    runs = [several.run_of(number) for number in several.jobs()]
    return [run for run in runs if run is not None]


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"
