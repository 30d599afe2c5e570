"""Time a training step of dltrain against a hand-written loop, side by side.

    python scripts/benchmark.py                  # lenet5 and mlp, batch 128, MNIST
    python scripts/benchmark.py --rounds 9 --workloads lenet5
    python scripts/benchmark.py --readme         # and write the table into README.md

Each measurement is a fresh process; the two kinds take turns, so that a machine that slows
down slows both. dltrain runs its whole command with everything on (progress, TensorBoard,
figures, checkpoints, metrics); the other is what one would write by hand: float tensors that are
already normalised and lie on the device, the same model class, optimizer and batch size. Both
times are of all training steps of the run, the slow first ones included, evaluation excluded.
MNIST is read from DLTRAIN_DATA, else from ../shared/data.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

EPOCHS = 3
BATCH = 128
HERE = Path(__file__).resolve().parent
WORKLOADS = ("lenet5", "mlp")
BEGIN, END = "<!-- benchmark: begin -->", "<!-- benchmark: end -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--readme", action="store_true")
    parser.add_argument("--loop", choices=WORKLOADS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.loop:
        print(hand_written_loop(arguments.loop))
        return
    lines = [
        "| workload | hand-written, µs a step | dltrain, µs a step | ratio | spread |",
        "|---|---|---|---|---|",
    ]
    print("\n".join(lines))
    for workload in arguments.workloads:
        pairs = [measure(workload) for _ in range(arguments.rounds)]
        by_hand, ours = zip(*pairs, strict=True)
        ratios = sorted(mine / hand for hand, mine in pairs)
        lines.append(
            f"| {workload}, batch {BATCH} | {statistics.median(by_hand):,.0f} | "
            f"{statistics.median(ours):,.0f} | {statistics.median(ratios):.3f} | "
            f"{ratios[0]:.3f} to {ratios[-1]:.3f} |"
        )
        print(lines[-1], flush=True)
    if arguments.readme:
        readme = HERE.parent / "README.md"
        head, _, rest = readme.read_text().partition(BEGIN)
        _, _, tail = rest.partition(END)
        readme.write_text(f"{head}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{tail}")


def measure(workload: str) -> tuple[float, float]:
    """One turn of each: microseconds a step by hand, and of dltrain."""
    command = [sys.executable, __file__, "--loop", workload]
    by_hand = float(subprocess.check_output(command, text=True))
    return by_hand, dltrain(workload)


def dltrain(workload: str) -> float:
    """Microseconds a step of the whole command."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-m", "dltrain", f"model={workload}", "data=mnist"),
            *(f"data.root={data_root()}", "data.validation=0", f"data.batch_size={BATCH}"),
            *("schedule=constant", f"trainer.epochs={EPOCHS}", f"output_dir={folder}"),
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        summary = json.loads((Path(folder) / "latest" / "summary.json").read_text())
    return summary["seconds"]["train"] / summary["steps"] * 1e6


def hand_written_loop(workload: str) -> float:
    """Microseconds a step of the loop that one would write by hand."""
    import torch
    from torch.nn import functional

    from dltrain.data.mnist import Mnist
    from dltrain.models.lenet import LeNet5
    from dltrain.models.mlp import MLP

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    columns, _ = Mnist(root=data_root()).read()
    inputs = columns["input"].to(device).float().div(255).sub(0.1307).div(0.3081)
    targets = columns["target"].to(device)
    model = {"lenet5": LeNet5, "mlp": MLP}[workload]((1, 28, 28), 10).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    steps = 0
    started = time.perf_counter()
    for _ in range(EPOCHS):
        order = torch.randperm(len(inputs)).to(device)
        for chosen in order.split(BATCH):
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(inputs[chosen]), targets[chosen])
            loss.backward()
            optimizer.step()
            steps += 1
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / steps * 1e6


def data_root() -> str:
    return os.environ.get("DLTRAIN_DATA") or str(HERE.parent.parent / "shared" / "data")


if __name__ == "__main__":
    main()
