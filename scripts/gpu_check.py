"""All that needs a CUDA device, in one call: tests, times of a step, seconds to 99 % on MNIST.

    python scripts/gpu_check.py                    # exit code 2 where there is no such device
    python scripts/gpu_check.py --steps 500 --no-tests

First tests/test_cuda.py: no hidden sync in a step, the same learning as on the CPU, replayed steps
that are plain ones, exact resume. Then the time of a whole run's steps, everything on but images,
by how a step is made; ``trainer.cuda_graph`` replays a recorded one. Runs are made in one process,
after a first one that is not timed. Last ``mnist_fast``, from command to prompt. MNIST is read from
DLTRAIN_DATA, else from ../shared/data; its output is kept in docs/performance.md.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from dltrain.config.compose import compose
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
    parser.add_argument("--no-tests", action="store_true", help="times only")
    parser.add_argument("--workloads", nargs="*", default=WORKLOADS, choices=WORKLOADS)
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=list(WAYS))
    arguments = parser.parse_args()
    import torch

    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("There is no CUDA device here.", file=sys.stderr)
        return 2
    if arguments.device == "cuda":
        print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}\n", flush=True)
    os.environ.setdefault("DLTRAIN_DATA", str(ROOT.parent / "shared" / "data"))
    failed = 0
    if not arguments.no_tests:
        command = [sys.executable, "-m", "pytest", "-q", "-n0", "-rs", "tests/test_cuda.py"]
        failed = subprocess.run(command, cwd=ROOT, check=False).returncode
    print("\n| workload | step | µs | times as it is | notes |\n|---|---|---|---|---|")
    for workload in arguments.workloads:
        plain = 0.0
        for way in arguments.ways:
            taken, said = step_time(workload, WAYS[way], arguments.steps, arguments.device)
            plain = plain or taken
            print(
                f"| {workload} | {way} | {taken:,.0f} | {taken / plain:.2f} | {said} |", flush=True
            )
    summary, wall = fast_mnist(arguments.device)
    accuracy, seconds = summary["test"]["accuracy"], summary["seconds"]["train"]
    print(f"\nmnist_fast: {accuracy:.2%}, {seconds:.2f} s of training, {wall:.1f} s in all")
    return failed


def step_time(workload: str, settings: list[str], steps: int, device: str) -> tuple[float, str]:
    """Microseconds a step, the first ones left out, and what the run said of how it steps."""
    data = "data=line" if workload == "linreg" else "data=mnist"
    common = (f"model={workload}", data, f"device={device}", "callbacks=none", *settings)
    trained(*common, "trainer.steps=20")
    short, _ = trained(*common, f"trainer.steps={steps}")
    long, said = trained(*common, f"trainer.steps={3 * steps}")
    return (long - short) / (2 * steps) * 1e6, said


def trained(*overrides: str) -> tuple[float, str]:
    """The seconds that a run of this process trained for, and its line about the step, if any."""
    from dltrain import training

    said = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(said):
        config = compose((*overrides, f"output_dir={folder}", "trainer.evaluate_every=1000000"))
        summary = training.train(config)
    notes = (line.removeprefix("note: ") for line in said.getvalue().splitlines())
    return summary["seconds"]["train"], " ".join(n for n in notes if n.startswith("trainer."))


def fast_mnist(device: str) -> tuple[dict[str, Any], float]:
    """The summary of a run by the command, and the seconds from command to prompt."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "dltrain", "experiment=mnist_fast", f"device={device}"]
        started = time.perf_counter()
        subprocess.run([*command, f"output_dir={folder}"], stdout=subprocess.DEVNULL, check=True)
        wall = time.perf_counter() - started
        return json.loads((latest(Path(folder)) / "summary.json").read_text()), wall


if __name__ == "__main__":
    sys.exit(main())
