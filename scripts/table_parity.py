"""Tables of numbers, words and dates: dltrain's figures beside those of scikit-learn's pipeline.

    python scripts/table_parity.py [--data DIR]

Six real tables: four that scikit-learn bundles; with ``--data DIR`` also MovieLens 100K's users
(``ml-100k``) and the hours of ``etth1``. Every seventh cell of wine's first column is left empty.
scikit-learn fits a linear model on its own pipeline's features of the training rows (imputed,
standardized, one-hot). A run of dltrain on the same rows, from csv and from Parquet, begins with
its coefficients and learns nothing (``init_from``, ``optimizer.lr=0``). So whatever differs is
reading, encoding, scaling, the network's arithmetic in float32 or the metrics: of the features the
largest difference, of the test figures the largest relative one, as the run reports them and from
what ``dltrain.load(run).predict(rows)`` says of the raw rows. Exit code 1 where one is above 1e-6.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn import datasets as bundled
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import (
    accuracy_score,
    log_loss,
    mean_absolute_error,
    mean_squared_error,
    r2_score,
)
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

import dltrain
from dltrain.inference.answers import Answers
from dltrain.runs.finding import latest
from dltrain.runs.load import reader_of_run

BOUND = 1e-6


@dataclass
class Table:
    """Rows to learn from and to test on; ``target`` is the column to predict."""

    train: pd.DataFrame
    test: pd.DataFrame
    target: str
    words: list[str] = field(default_factory=list)
    dates: list[str] = field(default_factory=list)
    settings: list[str] = field(default_factory=list)

    @property
    def classes(self) -> bool:
        return not pd.api.types.is_numeric_dtype(self.train[self.target])


def bundled_table(load: Any, holes: bool = False) -> Table:
    """One of scikit-learn's, a fifth of its rows for the test."""
    found = load(as_frame=True, **({"scaled": False} if load is bundled.load_diabetes else {}))
    target = found.target
    if "target_names" in found:
        target = target.map(dict(enumerate(map(str, found.target_names))))
    frame = found.data.assign(answer=target)
    if holes:
        frame.iloc[::7, 0] = np.nan
    stratify = target if "target_names" in found else None
    train, test = train_test_split(frame, test_size=0.2, random_state=0, stratify=stratify)
    return Table(train, test, "answer")


def users(data: Path) -> Table:
    """943 people's sex by age and occupation."""
    names = ["id", "age", "sex", "occupation", "zip"]
    frame = pd.read_csv(data / "ml-100k" / "u.user", sep="|", names=names, dtype={"zip": str})
    frame = frame[["age", "occupation", "sex"]]
    train, test = train_test_split(frame, test_size=0.2, random_state=0, stratify=frame["sex"])
    # One of the occupations is "none".
    return Table(train, test, "sex", ["occupation"], settings=["data.missing_values=[]"])


def hours(data: Path) -> Table:
    """The oil temperature of 17,420 hours by six loads and the date; the last fifth is the test."""
    frame = pd.read_csv(data / "etth1" / "ETTh1.csv")
    cut = len(frame) * 4 // 5
    return Table(frame[:cut], frame[cut:], "OT", dates=["date"])


def date_parts(frame: pd.DataFrame) -> pd.DataFrame:
    """Year, month, weekday, days since 1970 and their fraction, hour."""
    found = pd.DatetimeIndex(frame.iloc[:, 0])
    days = (found - pd.Timestamp(1970, 1, 1)) / pd.Timedelta(days=1)
    parts = {"year": found.year, "month": found.month, "weekday": found.day_of_week}
    return pd.DataFrame(parts | {"days": days, "hour": found.hour})


def pipeline(table: Table) -> ColumnTransformer:
    """scikit-learn's features of a table, in the order of its columns."""
    steps: list[tuple[str, Any, list[str]]] = []
    for name in table.train.columns:
        if name == table.target:
            continue
        if name in table.words:
            step: Any = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
        elif name in table.dates:
            step = make_pipeline(FunctionTransformer(date_parts), StandardScaler())
        else:
            step = make_pipeline(SimpleImputer(), StandardScaler())
        steps.append((name, step, [name]))
    return ColumnTransformer(steps)


def fitted(table: Table) -> tuple[NDArray[Any], dict[str, float], dict[str, torch.Tensor]]:
    """scikit-learn's test features and figures; its coefficients as dltrain's network has them."""
    features = pipeline(table)
    inputs = features.fit_transform(table.train)
    tested = features.transform(table.test)
    answers, truth = table.train[table.target], table.test[table.target]
    if table.classes:
        model = LogisticRegression(max_iter=10_000, tol=1e-8).fit(inputs, answers)
        figures = {
            "accuracy": accuracy_score(truth, model.predict(tested)),
            "loss": log_loss(truth, model.predict_proba(tested), labels=model.classes_),
        }
        weight, bias = model.coef_, model.intercept_
    else:
        model = LinearRegression().fit(inputs, answers)
        said = model.predict(tested)
        figures = {
            "mse": mean_squared_error(truth, said),
            "mae": mean_absolute_error(truth, said),
            "r2": r2_score(truth, said),
        }
        # The network learns a target of mean 0 and std 1.
        weight = model.coef_[None] / answers.std()
        bias = np.array([(model.intercept_ - answers.mean()) / answers.std()])
    state = {"model.linear.weight": weight, "model.linear.bias": bias}
    return tested, figures, {name: torch.tensor(value).float() for name, value in state.items()}


def compared(table: Table, suffix: str, folder: Path) -> dict[str, float]:
    """The largest differences of a run's features, its figures, and those of its predictions."""
    expected, figures, weights = fitted(table)
    for split, rows in (("train", table.train), ("test", table.test)):
        path = folder / f"{split}.{suffix}"
        rows.to_csv(path, index=False) if suffix == "csv" else rows.to_parquet(path, index=False)
    torch.save(weights, folder / "weights.pt")
    settings = [
        *("data=csv", f"data.path={folder}/train.{suffix}", f"data.test={folder}/test.{suffix}"),
        *(f"data.target={table.target}", "data.missing=mean", "data.validation=0"),
        *(f"model={'logreg' if table.classes else 'linreg'}", f"init_from={folder}/weights.pt"),
        *("optimizer=sgd", "optimizer.lr=0", "trainer.steps=1", "callbacks=none", "device=cpu"),
        *table.settings,
    ]
    command = [sys.executable, "-m", "dltrain", *settings, f"output_dir={folder}/{suffix}"]
    subprocess.run(command, check=True, capture_output=True)
    run = latest(folder / suffix)
    if suffix == "csv":
        with (folder / "test.csv").open() as file:
            rows: list[Any] = list(csv.DictReader(file))
    else:
        rows = pd.read_parquet(folder / "test.parquet").to_dict("records")
    found = reader_of_run(run).read(rows)["input"].numpy()
    summary = json.loads((run / "summary.json").read_text())["test"]
    predicted = of_predictions(table, dltrain.load(run).predict(rows))
    return {
        "features": float(np.abs(found - expected).max()),
        "run": max(relative(summary[name], value) for name, value in figures.items()),
        "predict": max(relative(predicted[name], value) for name, value in figures.items()),
    } | figures


def of_predictions(table: Table, said: Answers) -> dict[str, float]:
    """Figures of what ``predict`` says of the test rows."""
    truth = table.test[table.target]
    if not table.classes:
        answer = said.tensors["prediction"].flatten().double().numpy()
        return {
            "mse": mean_squared_error(truth, answer),
            "mae": mean_absolute_error(truth, answer),
            "r2": r2_score(truth, answer),
        }
    names = said.fields["class"].names
    probabilities = said.tensors["probability"].double().numpy()
    probabilities /= probabilities.sum(1, keepdims=True)  # float32's add up to 1 up to rounding
    answers = [names[index] for index in said.tensors["class"]]
    return {
        "accuracy": accuracy_score(truth, answers),
        "loss": log_loss(truth, probabilities, labels=names),
    }


def relative(one: float, other: float) -> float:
    return abs(one - other) / abs(other)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("DLTRAIN_DATA"))
    data = parser.parse_args().data
    tables = {
        "iris": bundled_table(bundled.load_iris),
        "wine": bundled_table(bundled.load_wine, holes=True),
        "breast cancer": bundled_table(bundled.load_breast_cancer),
        "diabetes": bundled_table(bundled.load_diabetes),
    }
    if data is not None:
        tables |= {"ml-100k, users": users(data), "etth1": hours(data)}
    worst = 0.0
    print("| table | rows | file | features | the run's figures | predict's | scikit-learn's |")
    print("|---|---|---|---|---|---|---|")
    for name, table in tables.items():
        for suffix in ("csv", "parquet"):
            with tempfile.TemporaryDirectory() as folder:
                found = compared(table, suffix, Path(folder))
            differences = [found.pop(key) for key in ("features", "run", "predict")]
            worst = max(worst, *differences)
            shown = ", ".join(f"{key} {value:.6g}" for key, value in found.items())
            cells = [f"{value:.0e}" for value in differences]
            rows = f"{len(table.train):,} + {len(table.test):,}"
            print(f"| {name} | {rows} | {suffix} | {' | '.join(cells)} | {shown} |", flush=True)
    sys.exit(int(worst > BOUND))


if __name__ == "__main__":
    main()
