"""The nearest right name to a mistyped one, and nothing where none is near."""

from __future__ import annotations

import pytest

from dltrain.config.suggest import nearest

KEYS = [
    *("seed", "device", "name", "output_dir", "model", "data", "task", "optimizer", "trainer"),
    *("model.hidden", "model.dropout", "model.activation", "task.label_smoothing", "task.shifted"),
    *("optimizer.lr", "optimizer.betas", "optimizer.weight_decay", "schedule.warmup_percent"),
    *("data.batch_size", "data.evaluation_batch_size", "data.validation", "data.limit"),
    *("data.path", "data.augment.flip", "data.augment.shift", "trainer.epochs", "trainer.steps"),
    *("trainer.test_weights", "trainer.clip_norm", "trainer.precision", "trainer.accumulate"),
]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        # misspelled in its own group
        ("optimizer.rl", "optimizer.lr"),
        ("optimizer.learning_rate", "optimizer.lr"),
        ("optimizer.wd", "optimizer.weight_decay"),
        ("optimizer.weight-decay", "optimizer.weight_decay"),
        ("data.batchsize", "data.batch_size"),
        ("data.valdation", "data.validation"),
        ("data.pth", "data.path"),
        ("data.augment.flips", "data.augment.flip"),
        ("trainer.epoch", "trainer.epochs"),
        ("trainer.clip", "trainer.clip_norm"),
        ("trainer.precison", "trainer.precision"),
        ("model.drop_out", "model.dropout"),
        ("model.activaton", "model.activation"),
        # the group is misspelled, left out, or another one
        ("optimiser.lr", "optimizer.lr"),
        ("optimzer.betas", "optimizer.betas"),
        ("trianer.epochs", "trainer.epochs"),
        ("lr", "optimizer.lr"),
        ("epochs", "trainer.epochs"),
        ("batch_size", "data.batch_size"),
        ("trainer.batch_size", "data.batch_size"),
        ("model.lr", "optimizer.lr"),
        ("sede", "seed"),
        ("modle", "model"),
        # nothing is near: of another group, or of the same with other words
        ("task.class_weights", None),
        ("task.weights", None),
        ("trainer.weight_decay_rate", None),
        ("model.layers", None),
        ("data.columns", None),
        ("callbacks.monitor", None),
        ("task.augment", None),
    ],
)
def test_what_is_near_and_of_the_same_group_is_suggested(typed: str, meant: str | None) -> None:
    assert nearest(typed, KEYS) == meant
