"""First runs on small sets of texts: dltrain at its defaults beside a bag of n-grams.

    python scripts/small_texts.py --data DIR                            # three seeds of each
    python scripts/small_texts.py --data DIR --sets movies --models attention --also model.layers=1

DIR has the folders imdb (parquet), trec-qc, sms-spam and chnsenticorp as they are published.
``movies`` are the last sentences, of up to 35 words, of 9,613 reviews of imdb's training split.
The run's own validation split chooses the epoch; the test split is only looked at. Of chnsenticorp
there is also the score without the test texts that stand in its training split.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from dltrain.runs.finding import find_run, latest

Rows = list[tuple[str, str]]
COUNT, WORDS, SENTENCES = 9613, 35, 25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("DLTRAIN_DATA"))
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--models", nargs="+", default=["ngrams", "lstm", "attention"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--also", nargs="+", default=[], help="settings of every run")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        for chosen in arguments.sets:
            folder = Path(name) / chosen
            folder.mkdir()
            splits = SETS[chosen](arguments.data)
            for split, rows in splits.items():
                write(folder / f"{split}.csv", rows)
            print(
                f"{chosen}: a bag of n-grams (scikit-learn) {bag(folder, splits):.2f}", flush=True
            )
            for model in arguments.models:
                settings = [f"model={model}", *arguments.also]
                found = [tested(folder, splits, settings, seed) for seed in arguments.seeds]
                columns = (f"{mean(column)}" for column in zip(*found, strict=True))
                print(f"| {chosen} | {model} | {' | '.join(columns)} |", flush=True)


def movies(data: Path) -> dict[str, Rows]:
    """How reviews end, with the verdict of the whole."""
    from pyarrow import parquet

    rows = parquet.read_table(next((data / "imdb").glob("train-*.parquet"))).to_pylist()
    random.Random(0).shuffle(rows)
    found = {}
    for row in rows:
        sentences = re.split(r"(?<=[.!?])\s+", re.sub(r"<[^>]+>", " ", row["text"]))
        words: list[str] = []
        while sentences and len(words) < SENTENCES:
            words = sentences.pop().split() + words
        found[" ".join(words[-WORDS:])] = ("negative", "positive")[row["label"]]
    return {"train": list(found.items())[:COUNT]}


def trec(data: Path) -> dict[str, Rows]:
    """Questions of six classes."""
    found = {}
    for split, name in (("train", "train_5500.label"), ("test", "TREC_10.label")):
        lines = (data / "trec-qc" / name).read_text(encoding="latin-1").splitlines()
        pairs = [line.split(" ", 1) for line in lines if line.strip()]
        found[split] = [(text, label.partition(":")[0]) for label, text in pairs]
    return found


def sms(data: Path) -> dict[str, Rows]:
    """Messages, of which 13 % are spam."""
    lines = (data / "sms-spam" / "SMSSpamCollection").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("\t", 1) for line in lines if line.strip()]
    return {"train": [(text, label) for label, text in pairs]}


def chinese(data: Path) -> dict[str, Rows]:
    """Reviews in Chinese, in the published splits."""
    found = {}
    for split, name in (("train", "train"), ("validation", "dev"), ("test", "test")):
        lines = (data / "chnsenticorp" / f"{name}.tsv").read_text(encoding="utf-8").splitlines()
        pairs = [line.split("\t", 1) for line in lines[1:]]
        found[split] = [(text, label) for label, text in pairs]
    return found


SETS: dict[str, Callable[[Path], dict[str, Rows]]] = {
    "movies": movies,
    "trec": trec,
    "sms": sms,
    "chnsenticorp": chinese,
}


def write(path: Path, rows: Rows) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows(rows)


def bag(folder: Path, splits: dict[str, Rows]) -> float:
    """Per cent of the test texts that logistic regression on n-grams has right."""
    import torch
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    from dltrain.data.streams.division import hold_out_test

    train, test = splits["train"], splits.get("test")
    if test is None:
        names = sorted({label for _, label in train})
        own, other = hold_out_test(torch.tensor([names.index(label) for _, label in train]), 0.2)
        train, test = [train[i] for i in own], [train[i] for i in other]
    kind = "char" if folder.name == "chnsenticorp" else "word"
    grams = TfidfVectorizer(analyzer=kind, ngram_range=(1, 2), sublinear_tf=True)
    model = LogisticRegression(C=10, max_iter=1000)
    model.fit(grams.fit_transform([text for text, _ in train]), [label for _, label in train])
    right = model.score(grams.transform([t for t, _ in test]), [label for _, label in test])
    return 100 * float(right)


def tested(
    folder: Path, splits: dict[str, Rows], settings: Sequence[str], seed: int
) -> tuple[float, ...]:
    """Per cent right of the test split, seconds of training; per cent of texts not trained on."""
    command = [
        *(sys.executable, "-m", "dltrain", "data=text_csv", f"data.path={folder / 'train.csv'}"),
        *("data.text=text", "data.label=label", f"data.root={folder}", "callbacks=none"),
        *(f"output_dir={folder / 'runs'}", f"seed={seed}", *settings),
        *(f"data.{s}={folder / s}.csv" for s in splits if s != "train"),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    run = latest(folder / "runs")
    assert run is not None
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    found = (100 * summary["test"]["accuracy"], summary["seconds"]["train"])
    if "test" not in splits:
        return found
    known = {text for text, _ in splits["train"]}
    return (*found, unseen(run, [row for row in splits["test"] if row[0] not in known]))


def unseen(run: Path, rows: Rows) -> float:
    """Per cent of ``rows`` that a run has right."""
    import torch

    from dltrain.runs.load import load, reader_of_run, spec_of_run

    names = spec_of_run(find_run(str(run), run.parent)).target.names
    task, reader = load(run), reader_of_run(run)
    right = 0
    with torch.inference_mode():
        for first in range(0, len(rows), 100):
            part = rows[first : first + 100]
            said = task.predict(reader.read([text for text, _ in part])).columns["class"]
            labels = [names[i] for i in said.tolist()]
            right += sum(a == b for a, (_, b) in zip(labels, part, strict=True))
    return 100 * right / len(rows)


def mean(values: Sequence[float]) -> str:
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}"


if __name__ == "__main__":
    main()
