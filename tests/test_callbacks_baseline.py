"""The simplest models beside a result: scikit-learn's own, on the training split alone."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from dltrain.callbacks.baseline import Baseline
from dltrain.contracts.data import Source
from dltrain.contracts.metric import Evaluation
from dltrain.contracts.run import Setup
from dltrain.contracts.task import Task
from dltrain.data.images.digits import Digits
from dltrain.data.tables.line import Line
from dltrain.data.tables.source import Diabetes, Iris
from dltrain.data.text.toy_reviews import ToyReviews
from dltrain.tasks.classification import Classification
from tests.asking import classes
from tests.streams import opened, whole
from tests.watching import FakeView

TASK: Task = Classification(nn.Linear(1, 2), classes("ab", 1))
"""A baseline does not look at it."""


def found(
    source: Source, metrics: tuple[str, ...] = ("accuracy", "rmse"), step: int = 10, **settings: Any
) -> tuple[Baseline, Evaluation, FakeView]:
    """What the baselines of a source say of its test split as a run of 10 steps ends."""
    streams = opened(source)
    baseline, view = Baseline(**settings), FakeView()
    view.progress.step = step
    baseline.check(Setup(source.spec(source._splits), frozenset(streams), metrics, []))  # type: ignore[attr-defined]
    for split in ("train", "validation"):
        assert baseline.look(TASK, streams, view, split) == Evaluation()
    return baseline, baseline.look(TASK, streams, view, "test"), view


def columns(source: Source, split: str) -> tuple[Any, Any]:
    batch = whole(opened(source)[split])
    return batch["input"].flatten(1).double().numpy(), batch["target"].numpy()


def test_of_classes_it_is_the_most_frequent_and_a_logistic_regression() -> None:
    _, evaluation, _ = found(Iris(batch_size=16))
    inputs, targets = columns(Iris(batch_size=16), "train")
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200)).fit(inputs, targets)
    test, true = columns(Iris(), "test")

    scalars = evaluation.scalars
    assert scalars["baseline_linear_accuracy"] == pytest.approx(model.score(test, true))
    majority = np.bincount(targets).argmax()
    assert scalars["baseline_majority_accuracy"] == pytest.approx((true == majority).mean())
    assert set(scalars) == {
        f"baseline_{name}_{measure}"
        for name in ("majority", "linear")
        for measure in ("accuracy", "f1")
    }


def test_of_numbers_it_is_the_mean_and_a_ridge_regression() -> None:
    _, evaluation, _ = found(Diabetes())
    inputs, targets = columns(Diabetes(), "train")
    model = make_pipeline(StandardScaler(), Ridge()).fit(inputs, targets)
    test, true = columns(Diabetes(), "test")

    errors = {"linear": model.predict(test).reshape(-1, 1) - true, "mean": true - targets.mean()}
    assert evaluation.scalars == pytest.approx(
        {f"baseline_{name}_rmse": np.sqrt(np.square(e).mean()) for name, e in errors.items()},
        rel=1e-5,
    )


def test_of_texts_it_is_a_bag_of_words() -> None:
    scalars = found(ToyReviews(root=None, examples=3000))[1].scalars
    assert scalars["baseline_words_accuracy"] > scalars["baseline_majority_accuracy"] + 0.1


def test_of_images_it_is_a_linear_model() -> None:
    scalars = found(Digits(limit=300))[1].scalars
    assert scalars["baseline_linear_accuracy"] > 0.8


def test_what_it_is_fitted_to_is_limited_and_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "dltrain"):
        baseline, evaluation, view = found(Digits(batch_size=50), examples=120)
        baseline.evaluated(view, "test", evaluation | Evaluation({"accuracy": 1.0}))
    assert "Fitted to 150 of 1,293 training examples" in caplog.text
    assert "accuracy of the most frequent class" in caplog.text
    assert "no better" not in caplog.text


@pytest.mark.parametrize(
    ("own", "unbeaten"),
    [(0.99, ""), (0.3, "the most frequent class and a linear model"), (0.6, "a linear model")],
)
def test_a_network_that_is_no_better_is_told(
    own: float, unbeaten: str, caplog: pytest.LogCaptureFixture
) -> None:
    baseline, _, view = found(Iris())
    both = {"baseline_majority_accuracy": 0.3, "baseline_linear_accuracy": 0.95}
    baseline.evaluated(view, "test", Evaluation({"accuracy": own, **both}))
    assert ("no better than" in caplog.text) is bool(unbeaten)
    assert unbeaten in caplog.text


def test_what_is_neither_classification_nor_regression_has_none() -> None:
    assert found(Digits(limit=100), metrics=("loss", "mse"))[1] == Evaluation()
    assert found(Iris(), step=9)[1] == Evaluation(), "an interrupted run was not asked"


def test_what_cannot_be_fitted_costs_a_note_and_not_the_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*arguments: object) -> None:
        raise np.linalg.LinAlgError("singular")

    monkeypatch.setattr("dltrain.callbacks.baseline._gathered", refuse)
    baseline, evaluation, view = found(Iris())
    baseline.evaluated(view, "test", Evaluation({"accuracy": 0.1}))
    assert evaluation == Evaluation()
    assert "no baseline could be fitted: singular" in caplog.text


def test_a_few_points_are_enough() -> None:
    scalars = found(Line())[1].scalars
    assert scalars["baseline_linear_rmse"] < scalars["baseline_mean_rmse"]
    assert torch.is_grad_enabled()
