"""What scikit-learn makes of the parts of a set of scripts/fusion_set.py, and of both together.

    python scripts/fusion_baseline.py DIR

Names: TF-IDF of pieces of 1 to 3 letters and logistic regression. Images: a perceptron with
256 hidden units on pixels in 0..1. Both: logistic regression on the logarithms of what the two say,
which for training rows is said by models of the other folds. Each line has the accuracy on
DIR/test.csv.
"""

from __future__ import annotations

import argparse
import csv
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline

FOLDS = 3
EPOCHS = 20
LEAST = 1e-6
"""Of a probability whose logarithm is taken."""


def read(folder: Path, split: str, most: int | None) -> tuple[Any, list[str], list[str]]:
    """Pixels (rows, 784), names and digits of a split."""
    with (folder / f"{split}.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[:most]
    pixels = [np.asarray(Image.open(folder / row["photo"]), np.float32) / 255 for row in rows]
    names, digits = ([row[column] for row in rows] for column in ("name", "digit"))
    return np.stack(pixels).reshape(len(rows), -1), names, digits


def main() -> None:
    """Fit, and print."""
    warnings.simplefilter("ignore", ConvergenceWarning)  # so many epochs will do
    described = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=described)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, help="training rows; all where nobody says")
    asked = parser.parse_args()
    images, names, digits = read(asked.folder, "train", asked.rows)
    test_images, test_names, truth = read(asked.folder, "test", None)
    pieces = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 3))
    parts = {
        "names": (make_pipeline(pieces, LogisticRegression(C=10, max_iter=500)), names, test_names),
        "images": (MLPClassifier((256,), max_iter=EPOCHS, random_state=0), images, test_images),
    }
    said, test_said = [], []
    for name, (model, inputs, tested) in parts.items():
        started = time.process_time()
        out_of_fold = cross_val_predict(model, inputs, digits, cv=FOLDS, method="predict_proba")
        said.append(np.log(out_of_fold + LEAST))
        answers = model.fit(inputs, digits).predict_proba(tested)
        test_said.append(np.log(answers + LEAST))
        report(name, model.classes_[answers.argmax(1)], truth, started)
    started = time.process_time()
    both = LogisticRegression(max_iter=500).fit(np.hstack(said), digits)
    report("both", both.predict(np.hstack(test_said)), truth, started)


def report(name: str, answers: Any, truth: list[str], started: float) -> None:
    """A line."""
    accuracy, seconds = float((answers == np.array(truth)).mean()), time.process_time() - started
    print(f"{name:7} accuracy {accuracy:.4f}  ({seconds:.0f} s of a processor)")


if __name__ == "__main__":
    main()
