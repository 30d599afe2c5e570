"""Time dltrain's training steps, first step and memory beside other ways to train the same network.

    python scripts/benchmark.py                              # all that is installed
    python scripts/benchmark.py --rounds 9 --workloads lenet5 --contestants by_hand dltrain
    python scripts/benchmark.py --write       # the table into docs/performance.md, README.md's too
    python scripts/benchmark.py --to-accuracy                # seconds to 97, 98 and 99 % on MNIST
    python scripts/benchmark.py --device cuda --workloads mlp lenet5 cnn alexnet

Contestants: ``by_hand``, a loop over float tensors that lie in memory, already normalized;
``dltrain``, the whole command with everything on (progress, TensorBoard, figures, checkpoints,
metrics), and the same in bfloat16; ``tutorial``, a loop over torchvision's data set in a
DataLoader; ``lightning``, Lightning with progress bar, TensorBoard, checkpoints and metrics (``pip
install lightning``); ``surprise``, SVD++ of Surprise, which steps with each rating, so that its
step is of as many ratings and its first is its last (``pip install scikit-surprise``);
``stable_baselines3``, PPO of Stable-Baselines3; ``transformers``, its GPT-2, and ``ultralytics``,
its YOLOv8n (scripts/peers.py). All but the last two, which have networks of their own, have the
same network, batch, optimizer and threads; Surprise has its own optimizer and one thread. Each
measurement is a fresh process (see scripts/contestants.py) and the contestants take turns, so that
a machine that slows down slows all. Steps include the slow first ones, and exclude evaluation.
MNIST, IMDB, MovieLens 100K, ETTh1 and blood cells are read from DLTRAIN_DATA, else from
../shared/data.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from results import write_between

HERE = Path(__file__).resolve().parent
PAGE, README = HERE.parent / "docs" / "performance.md", HERE.parent / "README.md"
OURS = ("by_hand", "dltrain", "dltrain_bfloat16")
LIBRARIES = ("lightning", "surprise", "stable_baselines3", "transformers", "ultralytics")
"""Those that take part where a package of their name is installed."""
GENERAL = (*OURS, "tutorial", "lightning")
"""Those that train any network."""
CONTESTANTS = (*OURS, "tutorial", *LIBRARIES)
BEGIN, END = "<!-- benchmark: begin -->", "<!-- benchmark: end -->"


class Workload(NamedTuple):
    """What is trained: a network, examples a step, and steps."""

    network: str
    batch: int
    steps: int
    contestants: tuple[str, ...] = GENERAL


WORKLOADS = {
    "linreg": Workload("linreg", 4, 4000, ("by_hand", "dltrain", "tutorial", "lightning")),
    "mlp": Workload("mlp", 128, 1200),
    "lenet5_32": Workload("lenet5", 32, 1200),
    "lenet5": Workload("lenet5", 128, 600),
    "cnn": Workload("cnn", 128, 60),
    # Tutorials of these have other networks: only the loops are compared.
    "alexnet": Workload("alexnet", 128, 30, OURS),
    "dcgan": Workload("dcgan", 128, 40, OURS),
    "lstm": Workload("lstm", 64, 60, OURS),
    "lstm_language": Workload("lstm_language", 32, 30, OURS),
    "transformer_language": Workload("transformer_language", 32, 30, (*OURS, "transformers")),
    "seq2seq": Workload("seq2seq", 64, 60, OURS),
    "matrix_factorization": Workload("matrix_factorization", 1000, 200, (*OURS, "surprise")),
    "ppo": Workload("ppo", 256, 1000, (*OURS[:2], "stable_baselines3")),
    "rbm": Workload("rbm", 100, 600, OURS),
    "linear": Workload("linear", 32, 1500, OURS),
    "yolo": Workload("yolo", 8, 30, (*OURS, "ultralytics")),
    "audio_cnn": Workload("audio_cnn", 32, 150, OURS),
    "unet": Workload("unet", 4, 40, OURS),
    "fast_style": Workload("fast_style", 4, 10, OURS),
    "adain": Workload("adain", 4, 10, OURS),
}

ON_A_DEVICE = ["linreg", "mlp", "lenet5_32", "lenet5", "cnn", "alexnet"]
"""Those whose loops by hand can be on a CUDA device."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS)
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, default=None)
    parser.add_argument(
        "--cpu-time", action="store_true", help="steps by processor time, beside other work"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--write", action="store_true", help="the tables of the pages")
    parser.add_argument("--to-accuracy", action="store_true")
    arguments = parser.parse_args()
    on_cuda = arguments.device == "cuda"
    if on_cuda and (arguments.to_accuracy or arguments.cpu_time):
        parser.error("--device cuda is for the times of steps")
    workloads = arguments.workloads or (ON_A_DEVICE if on_cuda else list(WORKLOADS))
    contestants = arguments.contestants or [
        one for one in CONTESTANTS if one not in LIBRARIES or importlib.util.find_spec(one)
    ]
    os.environ.setdefault("DLTRAIN_DATA", str(HERE.parent.parent / "shared" / "data"))
    if arguments.to_accuracy:
        race(contestants, arguments.rounds)
        return
    lines = [
        "| workload | contestant | µs a step | times by hand | first step, s | memory, MiB |",
        "|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    for name in workloads:
        workload = WORKLOADS[name]
        options = ["--device", arguments.device, *["--cpu-time"] * arguments.cpu_time]
        here = [one for one in contestants if one in workload.contestants]
        rounds = [
            {one: measured(one, workload, *options) for one in here}
            for _ in range(arguments.rounds)
        ]
        for one in here:
            lines.append(row(workload, one, here[0], rounds))
            print(lines[-1], flush=True)
    if arguments.write:
        write_tables("\n".join(lines))


def write_tables(table: str) -> None:
    """Put the table between the markers of docs/performance.md, its ratios between the README's."""
    for path, text in ((PAGE, table), (README, ratios(table))):
        write_between(path, BEGIN, END, text)


def ratios(table: str) -> str:
    """The table's times by hand, a workload a row, for the networks that all have."""
    found: dict[str, dict[str, list[str]]] = {}
    for line in table.splitlines()[2:]:
        workload, contestant, *columns = line.strip("| ").split(" | ")
        found.setdefault(workload, {})[contestant] = columns
    names = [one.replace("_", " ") for one in GENERAL]
    lines = [
        f"| workload | by hand, µs a step | {' | '.join(names[1:])} |",
        f"|{'---|' * (len(names) + 1)}",
    ]
    for workload, known in found.items():
        if set(names) <= set(known):
            others = [known[name][1].partition(" ")[0] for name in names[1:]]
            lines.append(f"| {workload} | {known[names[0]][0]} | {' | '.join(others)} |")
    return "\n".join(lines)


def race(contestants: list[str], rounds: int) -> None:
    """LeNet-5 on MNIST: medians of the seconds from command to test accuracies, looks included.

    Each looks at the test split every 100 batches of 128, in its own way, for ten epochs at most.
    """
    workload = Workload("lenet5", 128, 4_690)
    turns = [
        {one: measured(one, workload, "--look-every", "100") for one in contestants}
        for _ in range(rounds)
    ]
    print("| contestant | 97 %, s | 98 %, s | 99 %, s |\n|---|---|---|---|")
    for one in contestants:
        cells = []
        for level in ("97%", "98%", "99%"):
            times = [turn[one][level] for turn in turns]
            cells.append("–" if None in times else f"{statistics.median(times):.1f}")
        print(f"| {one.replace('_', ' ')} | {' | '.join(cells)} |")


def measured(contestant: str, workload: Workload, *options: str) -> dict[str, Any]:
    """One turn: ``step`` in microseconds, ``first`` in seconds, ``memory`` in MiB."""
    answer = subprocess.run(
        [
            *(sys.executable, str(HERE / "contestants.py"), contestant, workload.network),
            *("--batch", str(workload.batch), "--steps", str(workload.steps)),
            *("--started", str(time.time()), *options),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode:
        sys.exit(answer.stderr)
    found: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return found


def row(
    workload: Workload, contestant: str, first: str, rounds: list[dict[str, dict[str, float]]]
) -> str:
    """Medians over the rounds; of the ratio also the extremes."""
    ratios = sorted(one[contestant]["step"] / one[first]["step"] for one in rounds)
    middle = {
        name: statistics.median(one[contestant][name] for one in rounds)
        for name in ("step", "first", "memory")
    }
    return (
        f"| {workload.network}, batch {workload.batch} | {contestant.replace('_', ' ')} "
        f"| {middle['step']:,.0f} | {statistics.median(ratios):.2f} "
        f"({ratios[0]:.2f} to {ratios[-1]:.2f}) | {middle['first']:.1f} "
        f"| {middle['memory']:,.0f} |"
    )


if __name__ == "__main__":
    main()
