"""Measure what activation checkpointing, released gradients, 8-bit means and float16 save.

    python scripts/memory_saved.py                  # on the CPU: 9 processes of about 10 s
    python scripts/memory_saved.py --device cuda    # also with compiled updates

Each row is a process of its own, which makes a few steps of a run as the command would. What is
kept from step to step is weights, gradients and what the optimizer has gathered; what a step takes
on top is its peak over what the process has between two: resident memory on the CPU (Linux's
VmHWM), allocated memory on CUDA. The last steps are timed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

WIDE = ("model=mlp", "data=digits", "model.hidden=[2048,2048,2048,2048,2048]", "data.batch_size=32")
DEEP = (
    *("model=transformer", "data=text_file", "data.path=text.txt", "data.window=256"),
    *("data.batch_size=8", "data.test=600", "data.validation=600", "model.layers=6"),
    *("model.embedding_size=256", "model.heads=4", "optimizer=adamw"),
)
COMMON = ("callbacks=none", "trainer.steps=100", "trainer.evaluate_steps=100")
RELEASED = "trainer.release_gradients=true"
ROWS: dict[str, tuple[str, ...]] = {
    "wide, adamw": (*WIDE, "optimizer=adamw"),
    "wide, adamw, released": (*WIDE, "optimizer=adamw", RELEASED),
    "wide, adamw_8bit": (*WIDE, "optimizer=adamw_8bit"),
    "wide, adamw_8bit, released": (*WIDE, "optimizer=adamw_8bit", RELEASED),
    "deep": DEEP,
    "deep, activation checkpointing": (*DEEP, "modifier=activation_checkpointing"),
    "deep, bfloat16": (*DEEP, "trainer.precision=bfloat16"),
    "deep, bfloat16, activation checkpointing": (
        *(*DEEP, "trainer.precision=bfloat16", "modifier=activation_checkpointing"),
    ),
    "deep, float16": (*DEEP, "trainer.precision=float16"),
}
CUDA = {
    "wide, adamw_8bit, compiled": (*WIDE, "optimizer=adamw_8bit", "optimizer.compile=true"),
    "wide, adamw_8bit, compiled, released": (
        *(*WIDE, "optimizer=adamw_8bit", "optimizer.compile=true", RELEASED),
    ),
    "wide, float16": (*WIDE, "optimizer=adamw", "trainer.precision=float16"),
}
PLAIN = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""An allocator that returns what is freed, else resident memory is what it ever was."""
WARM = 3
"""Steps before the peak is looked at and time is taken."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--only", default="", help="rows whose name has this")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    rows = ROWS | (CUDA if asked.device.startswith("cuda") else {})
    if asked.row:
        print(json.dumps(measured(rows[asked.row], asked.device, asked.steps)))
        return
    print(
        "| what | weights | kept, MiB | on top, MiB | ms a step | loss |\n|---|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as folder:
        letters = random.Random(0).choices("abcdefgh \n", k=40_000)
        (Path(folder) / "text.txt").write_text("".join(letters), encoding="utf-8")
        for name in rows:
            if asked.only not in name:
                continue
            command = [sys.executable, str(Path(__file__).resolve()), "--row", name]
            command += ["--device", asked.device, "--steps", str(asked.steps)]
            done = subprocess.run(
                command, cwd=folder, env=PLAIN, capture_output=True, text=True, check=False
            )
            if done.returncode:
                print(f"| {name} | failed: {done.stderr.strip().splitlines()[-1]} |", flush=True)
                continue
            found = json.loads(done.stdout.splitlines()[-1])
            print(
                f"| {name} | {found['weights']:,} | {found['kept']:,.0f} | {found['peak']:,.0f} | "
                f"{found['ms']:,.0f} | {found['loss']:.4f} |",
                flush=True,
            )


def measured(overrides: tuple[str, ...], device: str, steps: int) -> dict[str, float]:
    """What a few steps of a run take."""
    import torch

    from dltrain import messages
    from dltrain.assemble import Assembly
    from dltrain.config import compose
    from dltrain.engine.precision import autocast
    from dltrain.training import Run

    config = compose.compose([*COMMON, *overrides, f"device={device}"])
    if device.startswith("cuda"):
        torch.zeros(1, device=device)
    peak, forget = _counters(device)
    before = 0.0
    with Assembly(config) as assembly, messages.shown() as shown:
        parts = assembly.read()
        run = Run(config, parts, shown, 0.0)
        task, batches, took, loss = parts.task.train(), run.streams["train"].batches(0), [], 0.0
        for number in range(WARM + steps):
            if number == WARM:
                forget()
                before = peak()
            started = time.perf_counter()
            with autocast(parts.settings.precision, parts.settings.device):
                metrics = task.train_step(next(batches), run.optimize)
            value = metrics["loss"]
            loss = float(value[0] if isinstance(value, tuple) else value)  # waits for the device
            took.append(time.perf_counter() - started)
        weights = sum(p.numel() for p in task.parameters())
        mean = 1e3 * sum(took[WARM:]) / steps
        highest, kept = peak() - before, _kept(run.optimize.state_dict(), task.parameters())
        return {"weights": weights, "peak": highest, "kept": kept, "ms": mean, "loss": loss}


def _kept(state: Any, weights: Iterable[Any]) -> float:
    """MiB of all tensors."""

    def size(value: Any) -> int:
        if isinstance(value, dict):
            return sum(map(size, value.values()))
        if isinstance(value, list):
            return sum(map(size, value))
        return value.numel() * value.element_size() if hasattr(value, "numel") else 0

    return (size(state) + size(list(weights))) / 2**20


def _counters(device: str) -> tuple[Callable[[], float], Callable[[], object]]:
    """What tells the peak in MiB since it was last forgotten, and what forgets it."""
    import torch

    if device.startswith("cuda"):
        return lambda: torch.cuda.max_memory_allocated() / 2**20, (
            torch.cuda.reset_peak_memory_stats
        )

    def peak() -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        (line,) = (line for line in lines if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024

    return peak, lambda: Path("/proc/self/clear_refs").write_text("5")


if __name__ == "__main__":
    main()
