"""All that needs a CUDA device, in one call: tests, times of a step, seconds to 99 % on MNIST.

    python scripts/gpu_check.py                    # exit code 2 where there is no such device
    python scripts/gpu_check.py --steps 500

First tests/test_cuda.py: no hidden sync in a step, the same learning as on the CPU, replayed steps
that are plain ones, exact resume. Then the time of a whole run's steps, everything on but images,
by how a step is made; ``trainer.cuda_graph`` replays a recorded one. Last ``mnist_fast``. MNIST is
read from DLTRAIN_DATA, else from ../shared/data; its output is kept in docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from dltrain.runs.finding import latest

ROOT = Path(__file__).resolve().parents[1]
WORKLOADS = ("linreg", "mlp", "lenet5", "cnn", "vae", "dcgan")
WAYS: dict[str, list[str]] = {
    "as it is": [],
    "tf32": ["trainer.precision=tf32"],
    "bfloat16": ["trainer.precision=bfloat16"],
    "compiled": ["trainer.compile=on"],
    "replayed": ["trainer.cuda_graph=auto"],
    "replayed, bfloat16": ["trainer.cuda_graph=auto", "trainer.precision=bfloat16"],
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--device", default="cuda", help="cpu: to try the script itself")
    arguments = parser.parse_args()
    import torch

    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("There is no CUDA device here.", file=sys.stderr)
        return 2
    if arguments.device == "cuda":
        print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}\n", flush=True)
    os.environ.setdefault("DLTRAIN_DATA", str(ROOT.parent / "shared" / "data"))
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n0", "-rs", "tests/test_cuda.py"],
        cwd=ROOT,
        check=False,
    )
    print("\n| workload | step | µs | times as it is | notes |\n|---|---|---|---|---|")
    for workload in WORKLOADS:
        plain = 0.0
        for way, settings in WAYS.items():
            time, said = step_time(workload, settings, arguments.steps, arguments.device)
            plain = plain or time
            print(f"| {workload} | {way} | {time:,.0f} | {time / plain:.2f} | {said} |", flush=True)
    summary, _ = trained("experiment=mnist_fast", f"device={arguments.device}")
    accuracy, seconds = summary["test"]["accuracy"], summary["seconds"]
    print(f"\nmnist_fast: {accuracy:.2%} after {seconds['train']:.2f} s of training")
    return tests.returncode


def step_time(workload: str, settings: list[str], steps: int, device: str) -> tuple[float, str]:
    """Microseconds a step, the first ones left out, and what the run said of how it steps."""
    data = "data=line" if workload == "linreg" else "data=mnist"
    common = (f"model={workload}", data, f"device={device}", "callbacks=none", *settings)
    long, said = trained(*common, f"trainer.steps={2 * steps}")
    short, _ = trained(*common, f"trainer.steps={steps}")
    return (long["seconds"]["train"] - short["seconds"]["train"]) / steps * 1e6, said


def trained(*overrides: str) -> tuple[dict[str, Any], str]:
    """The summary of a run by the command, and its line about the step, if there is one."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "dltrain", *overrides, f"output_dir={folder}"]
        command.append("trainer.evaluate_every=1000000")
        said = subprocess.check_output(command, text=True)
        summary = json.loads((latest(Path(folder)) / "summary.json").read_text())
    notes = (line.removeprefix("note: ") for line in said.splitlines())
    return summary, " ".join(line for line in notes if line.startswith("trainer."))


if __name__ == "__main__":
    sys.exit(main())
