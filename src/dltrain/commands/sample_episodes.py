"""``dltrain sample RUN`` where the run acts in an environment: episodes of its best actions."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from dltrain.errors import UserError
from dltrain.runs.folder import RunFolder

if TYPE_CHECKING:
    from dltrain.contracts.acting import Acts, Plays
    from dltrain.contracts.task import Task

MOST = 1000
EVERY, FRAMES = 3, 1000
"""Steps from one frame to the next, and frames of an episode."""
ORIGIN = 4
"""What the seeds of these episodes are made of, besides ``--seed``."""


def add_episode_options(parser: argparse.ArgumentParser) -> None:
    """The option that only runs in environments have."""
    parser.add_argument(
        "--episodes", type=int, metavar="N", help="of an environment: how many (default 1)"
    )


def played(task: Task, folder: RunFolder, asked: argparse.Namespace) -> bool:
    """Play, print returns and write a GIF, where the run acts; say whether it does."""
    from dltrain.contracts.acting import Acts, Plays
    from dltrain.runs.load import reader_of_run

    if not isinstance(task, Acts):
        if asked.episodes is not None:
            raise UserError(f"--episodes: {folder.path} acts in no environment.")
        return False
    for name in ("n", "prompt", "count", "label", "each", "interpolate"):
        if getattr(asked, name):
            raise UserError(f"--{name}: {folder.path} acts in an environment: --episodes N.")
    count = 1 if asked.episodes is None else asked.episodes
    if not 1 <= count <= MOST:
        raise UserError(f"--episodes is from 1 to {MOST:,}, got {count:,}.")
    out = Path(asked.out).expanduser() if asked.out else folder.place("samples")
    name = f"episodes{count}_seed{asked.seed}"
    name += "" if asked.weights == "last" else f"_{asked.weights}"
    path = out if out.suffix == ".gif" else out / f"{name}.gif"
    reader = reader_of_run(folder.path)
    if not isinstance(reader, Plays):
        raise UserError(f"{folder.path} keeps no environment to play in.")
    try:
        _play(task, reader, count, asked.seed, path)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{folder.path}: {error}") from error
    except OSError as error:
        raise UserError(f"--out: {path} cannot be written: {error.strerror}.") from error
    return True


def _play(task: Acts, reader: Plays, count: int, seed: int, path: Path) -> None:
    import torch
    from PIL import Image

    from dltrain.contracts.data import epoch_seed
    from dltrain.reports.moving import gif

    seeds = [epoch_seed(epoch_seed(ORIGIN, seed), number) for number in range(count)]
    frames, totals = [], []
    with torch.inference_mode():
        for number, one in enumerate(reader.play(task.best_action, seeds, EVERY, FRAMES)):
            print(f"episode {number}  return {one.total:.4f}  length {one.length:,}")
            frames += [Image.fromarray(frame) for frame in one.frames]
            totals.append(one.total)
    print(f"mean return {sum(totals) / count:.4f}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gif(frames))
    print(f"{count:,} {'episodes' if count > 1 else 'episode'} in {path}")
