"""The state of every random generator that training draws from."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import torch


def state(device: torch.device) -> dict[str, Any]:
    """The state of every generator that training draws from."""
    version, internal, gauss = random.getstate()
    found: dict[str, Any] = {
        "python": [version, list(internal), gauss],
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        found["device"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        found["device"] = torch.mps.get_rng_state()
    return found


def restore(saved: Mapping[str, Any], device: torch.device) -> None:
    """Restore what :func:`state` returned."""
    version, internal, gauss = saved["python"]
    random.setstate((version, tuple(internal), gauss))
    torch.set_rng_state(saved["torch"].cpu())
    if "device" in saved and device.type == "cuda":
        torch.cuda.set_rng_state(saved["device"].cpu(), device)
    elif "device" in saved and device.type == "mps":
        torch.mps.set_rng_state(saved["device"].cpu())
