"""What a run ran on: enough to explain a difference, nothing that names a person or a host."""

from __future__ import annotations

import logging
import os
import platform
import subprocess
from importlib.metadata import version
from typing import Any, Literal

import torch

from dltrain.engine.parallel import environment
from dltrain.engine.precision import REDUCED, is_multiplied
from dltrain.errors import UserError

logger = logging.getLogger(__name__)

SLOW = {
    "bfloat16": "trainer.precision=%s: the %s here has no instructions for it, so a step takes "
    "1.6 to 2.2 times as long as in float32; auto takes what is fast.",
    "float16": "trainer.precision=%s: the %s here has no instructions for it, so a step takes "
    "several times as long as in float32; auto takes what is fast.",
}
"""The warnings about those that a device can but emulate."""

PACKAGES = ("torch", "torchvision", "numpy", "hydra-core", "omegaconf", "datasets", "scikit-learn")

Precision = Literal["float32", "tf32", "bfloat16", "float16", "auto"]


def choose_device(name: str) -> torch.device:
    """The device that ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps`` means here.

    ``auto`` takes the first CUDA device, else Apple's, else the CPU. Of several processes that
    torchrun has started each has a CUDA device of its own. Raises :class:`UserError` where there
    is no such device, naming those that there are.
    """
    processes = environment.local_world_size() if environment.world_size() > 1 else 1
    present = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        present.append("mps")
    if name == "auto":
        wanted = next((d for d in ("cuda:0", "mps") if d in present), "cpu")
    else:
        wanted = "cuda:0" if name == "cuda" else name
    if processes > 1 and wanted != "cpu":
        if name not in ("auto", "cuda"):
            raise UserError(
                f"{name} is one device, and torchrun has started {processes} processes here. Take "
                "device=cuda, which gives each its own, or device=cpu."
            )
        if f"cuda:{processes - 1}" not in present:
            raise UserError(
                f"torchrun has started {processes} processes here, and there are "
                f"{', '.join(present)}. Start as many as there are CUDA devices, or take "
                "device=cpu."
            )
        wanted = f"cuda:{environment.local_rank()}"
    if wanted not in present:
        raise UserError(
            f"there is no {name!r} on this machine. There {'are' if present[1:] else 'is'} "
            f"{', '.join(present)}; 'auto' takes the best."
        )
    return torch.device(wanted)


def choose_precision(name: Precision, device: torch.device) -> Precision:
    """The precision that a name such as ``bfloat16`` or ``auto`` means on ``device``.

    ``auto`` takes bfloat16 where there are instructions to multiply it, else float32. That another
    is slow there is said. Raises :class:`UserError` for ``tf32`` where there is no CUDA device.
    """
    if name == "tf32" and device.type != "cuda":
        raise UserError(f"precision=tf32 is of CUDA devices, and this is {device}")
    if name == "auto":
        return "bfloat16" if is_multiplied("bfloat16", device) else "float32"
    if name in REDUCED and not is_multiplied(name, device):
        logger.warning(SLOW[name], name, device.type)
    return name


def describe(device: torch.device, precision: str) -> dict[str, Any]:
    """Versions, device, precision and git commit, as ``environment.json`` has them."""
    return {
        "dltrain": version("dltrain"),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": {name: version(name) for name in PACKAGES},
        "device": str(device),
        "device_name": _device_name(device),
        "precision": precision,
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "git_commit": _git_commit(),
    }


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()


def _git_commit() -> str | None:
    """The commit of the working directory, where it is a git checkout."""
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):  # no git here: then there is no commit to tell
        return None
    return answer.stdout.strip() or None
