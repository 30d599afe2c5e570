"""Export a run of every choice of model, in both formats, and see how far each is from its run.

    python scripts/check_exports.py --write           # all; rows go into docs/export.md
    python scripts/check_exports.py lstm resnet18     # rows whose command has one of these words

Each run is of two steps. Images are drawn, so that no data is needed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from dltrain import training
from dltrain.config import compose
from dltrain.errors import UserError
from dltrain.inference.export import FORMATS, export
from dltrain.inference.predictor import Predictor
from dltrain.runs.examples import examples_of_run
from dltrain.runs.finding import find_run

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "export.md"
BEGIN, END = "<!-- exports: begin -->\n", "<!-- exports: end -->\n"
QUICK = ("trainer.steps=2", "callbacks=none", "device=cpu", "data.batch_size=8")
IMAGES = "data=image_folder data.path={images} data.size=64"
SMALL = f"{IMAGES} model.dense=[64,64]"
TABLE = "data=csv data.path={table} data.missing=mean"
TEXTS, NUMBERS = "data=toy_reviews", "data=adding data.length=20"
TORCHVISION = (
    *("alexnet", "vgg11_bn", "squeezenet1_1", "resnet50", "resnext50_32x4d", "densenet121"),
    *("mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2_x0_5", "mnasnet0_5", "efficientnet_b0"),
    *("efficientnet_v2_s", "regnet_y_400mf", "convnext_tiny", "vit_b_16", "swin_t", "swin_v2_t"),
    "googlenet",
)
"""One of each family, but Inception v3 and MaxViT, which need larger images."""
ROWS = [
    "model=linreg data=diabetes",
    "model=linreg data=line",
    f"model=mlp {TABLE} data.target=price",
    f"model=mlp {TABLE} data.target=price data.target_transform=log",
    f"model=mlp {TABLE} data.target=kind",
    "model=mlp data=diabetes task/loss=quantile",
    "model=mlp data=diabetes task/loss=poisson",
    "model=logreg data=breast_cancer",
    "model=logreg data=iris",
    "model=perceptron data=gates",
    "model=mlp data=digits",
    "model=lenet5 data=digits",
    "model=cnn data=digits model.batch_norm=true",
    "model=cnn data=digits task.mirrored=true task.shifted=1",
    f"model=alexnet {SMALL}",
    f"model=alexnet_one_column {SMALL}",
    f"model=alexnet_small {SMALL}",
    f"model=airbench {IMAGES}",
    f"model=resnet18 {IMAGES}",
    f"model=resnet18 {IMAGES} data.labels={{labels}}",
    *(f"model=torchvision model.name={name} {IMAGES}" for name in TORCHVISION),
    *(f"model={name} {TEXTS}" for name in ("rnn", "gru", "lstm", "attention", "ngrams")),
    f"model=rnn {TEXTS} model.nonlinearity=relu model.layers=2 model.pooling=last",
    f"model=lstm {TEXTS} model.embedding=onehot model.ngrams=2 model.pooling=attention",
    f"model=gru {TEXTS} model.normalize_embedding=true model.pooling=mean",
    f"model=attention {TEXTS} model.positions=sinusoidal",
    f"model=attention {TEXTS} model.positions=learned",
    f"model=ngrams {TEXTS} model.length=5",
    *(f"model={name} {NUMBERS}" for name in ("rnn", "gru", "lstm", "attention")),
    "model=autoencoder data=digits",
    "model=conv_autoencoder data=digits",
    "model=vae data=digits",
    "model=conv_vae data=digits model.decoder=gaussian task.binarize=none",
    "model=gan data=digits",
    "model=gan data=digits model.clusters=5",
    "model=dcgan data=digits model.conditional=true",
    "model=wgan_gp data=digits",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", help="only rows that have one of these in them")
    parser.add_argument("--format", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--write", action="store_true", help="into docs/export.md")
    asked = parser.parse_args()
    chosen = [row for row in ROWS if not asked.words or any(w in row for w in asked.words)]
    lines = [f"| run of | {' | '.join(asked.format)} |", "|---|" + "---|" * len(asked.format)]
    print("\n".join(lines), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        places = data(Path(folder))
        for row in chosen:
            lines.append(tried(row, places, asked.format))
            print(lines[-1], flush=True)
            if asked.write:
                write(lines)
    sys.exit(any("refused" in line for line in lines))


def write(lines: list[str]) -> None:
    """Put the rows into the page's table, in place of older ones of the same runs."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    table, _, after = rest.partition(END)
    rows = {line.split("|")[1]: line for line in [*table.splitlines(), *lines]}
    order = [f" `{shown(row)}` " for row in ROWS]
    kept = [*lines[:2], *(rows[name] for name in order if name in rows)]
    table = "".join(f"{line}\n" for line in kept)
    PAGE.write_text(before + BEGIN + table + END + after, encoding="utf-8")


def shown(row: str) -> str:
    """The command without the paths of one machine."""
    return row.format(images="IMAGES", labels="LABELS.csv", table="TABLE.csv")


def data(root: Path) -> dict[str, Path]:
    """Drawn images in two folders, their labels, and a table with every kind of column."""
    draw = np.random.default_rng(0)
    labels = ["file,label"]
    for number in range(40):
        path = root / "images" / ("first", "second")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (64, 64, 3), np.uint8)).save(path)
        labels.append(f"{path.relative_to(root / 'images')},{('a', 'b', 'a|b')[number % 3]}")
    (root / "labels.csv").write_text("\n".join(labels) + "\n")
    rows = ["size,color,new,sold,price,kind"]
    for number in range(60):
        color = ("red", "green", "blue")[number % 3]
        day = f"2024-{number % 12 + 1:02}-{number % 28 + 1:02}"
        size = "" if number % 9 == 5 else f"{number * 1.5}"
        truth = ("yes", "no")[number % 2]
        rows.append(f"{size},{color},{truth},{day},{100_000 + 950 * number},{'ab'[number % 2]}")
    (root / "table.csv").write_text("\n".join(rows) + "\n")
    return {"images": root / "images", "labels": root / "labels.csv", "table": root / "table.csv"}


def tried(row: str, places: dict[str, Path], formats: list[str]) -> str:
    """A line of the table: the largest difference of any network, in each format."""
    typed = row.format(**places).split()
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            config = compose.compose([*QUICK, "name=run", *typed])
            training.train({**config, "output_dir": folder})
        run = find_run("latest", Path(folder))
        cells = []
        for format in formats:
            began = time.perf_counter()
            try:
                made = export(Predictor(run), examples_of_run(run), format, run.path / format)
                networks = made.about["networks"].values()
                largest = max(network["largest_difference"] for network in networks)
                cells.append(f"{largest:.0e}, {time.perf_counter() - began:.0f} s")
            except UserError as error:
                cells.append(f"refused: {error}")
    return f"| `{shown(row)}` | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
