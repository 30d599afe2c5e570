"""Checkpoints: tensors and primitives only, so that reading one can run no code."""

from __future__ import annotations

import pickle
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from dltrain.errors import UserError
from dltrain.folder import RunFolder

LAST = "checkpoints/last.pt"
BEST = "checkpoints/best.pt"
FORMAT = 1


def save(folder: RunFolder, name: str, state: Mapping[str, Any]) -> None:
    """Write ``state`` to ``name`` in the run folder: temporary file, fsync, rename."""
    folder.write(name, lambda file: torch.save({"format": FORMAT, **state}, file))


def load(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint onto ``device``.

    Raises :class:`UserError` if it is missing, damaged, of another format, or holds anything
    but tensors and primitives.
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        raise UserError(
            f"{path} does not exist: the run ended before its first checkpoint."
        ) from error
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} cannot be read as a checkpoint: {reason}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise UserError(f"{path} is not a checkpoint of this version of dltrain.")
    return state


def random_state(device: torch.device) -> dict[str, Any]:
    """The state of every generator that training draws from."""
    version, internal, gauss = random.getstate()
    state: dict[str, Any] = {
        "python": [version, list(internal), gauss],
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        state["device"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        state["device"] = torch.mps.get_rng_state()
    return state


def set_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    """Restore what :func:`random_state` returned."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    torch.set_rng_state(state["torch"].cpu())
    if "device" in state and device.type == "cuda":
        torch.cuda.set_rng_state(state["device"].cpu(), device)
    elif "device" in state and device.type == "mps":
        torch.mps.set_rng_state(state["device"].cpu())
