"""In which type of number a step is computed, and where that is slow."""

from __future__ import annotations

import contextlib
from typing import Any

import torch

REDUCED = {"bfloat16": torch.bfloat16, "float16": torch.float16}
"""Precisions that autocast mixes with float32."""


def autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """While inside, operations that bear it are computed in ``precision``, on ``device``."""
    kind = REDUCED.get(precision)
    if kind is None:
        return contextlib.nullcontext()
    return torch.autocast(device.type, kind)


def is_multiplied(precision: str, device: torch.device) -> bool:
    """Whether ``device`` has instructions that multiply in ``precision``.

    Elsewhere torch converts each number on the way, which takes longer than float32.
    """
    known = {
        ("cpu", "bfloat16"): lambda: _has("amx_tile", "avx512_bf16", "bf16"),
        ("cpu", "float16"): lambda: _has("amx_fp16", "avx512_fp16", "fp16_arith"),
        ("cuda", "bfloat16"): lambda: torch.cuda.is_bf16_supported(including_emulation=False),
        ("cuda", "float16"): lambda: True,
        ("mps", "float16"): lambda: True,
    }
    return known.get((device.type, precision), bool)()


def _has(*instructions: str) -> bool:
    """Whether the processor has one of them; the last of each kind is ARM's.

    The public torch.cpu.get_capabilities is newer than the oldest torch that we take, and the
    private questions of that one know of Intel's alone.
    """
    if hasattr(torch.cpu, "get_capabilities"):
        found = torch.cpu.get_capabilities()
        return any(found.get(name) for name in instructions)
    return any(getattr(torch.cpu, f"_is_{name}_supported", bool)() for name in instructions)
