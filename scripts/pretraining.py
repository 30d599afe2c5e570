"""What pre-training gives deep sigmoid networks: the table in docs/deep_belief.md.

    python scripts/pretraining.py --seeds 0 1 2 [--depths 2 5] [--output-dir DIR]

Each network is trained twice on the bundled digits, once after pre-training and once from random
weights, for as many epochs of fine-tuning with the same optimizer. Runs in DIR that have finished
are not trained again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "deep_belief.md"
BEGIN, END = "<!-- pretraining -->\n", "<!-- /pretraining -->"
DEPTHS = (2, 5)
WIDTH = 100
PRETRAINING, FINE_TUNING = 20, 20


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
    if not place.exists():
        line = [sys.executable, "-m", "dltrain", *arguments]
        subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
    (summary,) = place.glob("*/2*/summary.json")
    assert json.loads(summary.read_text())["status"] == "finished", place
    return 100 * json.loads(summary.read_text())["test"]["accuracy"]


def table(depths: Sequence[int], seeds: Sequence[int], outputs: Path) -> str:
    """Lines of Markdown."""
    lines = [
        f"| layers of {WIDTH} | from random weights | after {PRETRAINING} epochs a machine |",
        "|---|---|---|",
    ]
    for depth in depths:
        cells = []
        for pretraining in (0, PRETRAINING):
            found = [accuracy(depth, pretraining, seed, outputs) for seed in seeds]
            spread = f" ± {statistics.stdev(found):.1f}" if len(found) > 1 else ""
            cells.append(f"{statistics.mean(found):.1f}{spread} %")
            print(depth, pretraining, found, flush=True)
        lines.append(f"| {depth} | {' | '.join(cells)} |")
    which = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
    told = f"{FINE_TUNING} epochs of fine-tuning, accuracy on the test split, {which}."
    return "\n".join([f"`data=digits`, {told}", "", *lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output-dir", type=Path, help="where the runs go (default: nowhere)")
    parser.add_argument("--depths", type=int, nargs="+", default=DEPTHS, help="layers")
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1, 2))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        found = table(asked.depths, asked.seeds, asked.output_dir or Path(made))
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}{found}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
