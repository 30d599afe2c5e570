"""What pre-training gives deep sigmoid networks: the table in docs/deep_belief.md.

    python scripts/pretraining.py [--output-dir DIR]

Each network is trained twice on the bundled digits, once after pre-training and once from random
weights, for as many epochs with the same optimizer; the mean and the spread of three seeds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "deep_belief.md"
BEGIN, END = "<!-- pretraining -->\n", "<!-- /pretraining -->"
DEPTHS = (2, 5)
WIDTH = 100
PRETRAINING, FINE_TUNING = 10, 20
SEEDS = (0, 1, 2)


def accuracy(depth: int, pretraining: int, seed: int, outputs: Path) -> float:
    """Per cent of the test split, of one run."""
    place = outputs / f"{depth}-{pretraining}-{seed}"
    machines = [f"optimizer.rbm{number + 1}.momentum=0.9" for number in range(depth)]
    arguments = [
        *("model=dbn", "data=digits", "callbacks=none", "device=cpu", "data.validation=0"),
        f"model.hidden=[{','.join([str(WIDTH)] * depth)}]",
        *("optimizer=sgd", "optimizer.lr=0.1", "schedule=linear", "data.batch_size=20"),
        *(f"+{line}" for line in machines),
        *("+optimizer.model._target_=torch.optim.Adam", "+optimizer.model.lr=1e-3"),
        f"task.pretraining_epochs={pretraining}",
        f"trainer.epochs={depth * pretraining + FINE_TUNING}",
        *("trainer.evaluate_every=100", f"seed={seed}", f"output_dir={place}"),
    ]
    line = [sys.executable, "-m", "dltrain", *arguments]
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
    (summary,) = place.glob("*/*/summary.json")
    return 100 * json.loads(summary.read_text())["test"]["accuracy"]


def table(outputs: Path) -> str:
    """Lines of Markdown."""
    lines = [
        f"| layers of {WIDTH} | from random weights | after {PRETRAINING} epochs a machine |",
        "|---|---|---|",
    ]
    for depth in DEPTHS:
        cells = []
        for pretraining in (0, PRETRAINING):
            found = [accuracy(depth, pretraining, seed, outputs) for seed in SEEDS]
            cells.append(f"{statistics.mean(found):.1f} ± {statistics.stdev(found):.1f} %")
            print(depth, pretraining, found, flush=True)
        lines.append(f"| {depth} | {' | '.join(cells)} |")
    told = f"{FINE_TUNING} epochs of fine-tuning, test accuracy, {len(SEEDS)} seeds."
    return "\n".join([f"`data=digits`, {told}", "", *lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output-dir", type=Path, help="where the runs go (default: nowhere)")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        found = table(asked.output_dir or Path(made))
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}{found}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
