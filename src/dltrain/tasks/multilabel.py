"""Say which of several labels an example has: any number of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from dltrain.contracts.data import Batch, DataSpec, Draw, Field
from dltrain.contracts.metric import Metric, Outputs
from dltrain.contracts.task import Metrics, Monitor, Optimize, Predictions, Task
from dltrain.metrics.examples import PerExample
from dltrain.metrics.mean import Mean
from dltrain.metrics.multilabel import LabelRatios

HALF = 0.5


class Multilabel(Task):
    """Binary cross-entropy over logits (batch, labels) against targets (batch, labels), 0 or 1.

    The loss is the mean over examples and labels. ``threshold`` is the probability from which on a
    label is taken to be there: one for all, or a mapping from labels to theirs, with 0.5 for the
    others.

    Raises ValueError for targets that are no labels, and for what is no threshold of one.
    """

    monitor = Monitor("map", "max")
    replayable = True
    _least: Tensor
    """(labels,): the logits from which on a label is there."""

    def __init__(
        self, model: nn.Module, spec: DataSpec, threshold: float | Mapping[str, float] = HALF
    ) -> None:
        super().__init__()
        if spec.target.kind != "labels":
            raise ValueError(
                "Multilabel needs any number of labels an example, and this data's target is of "
                f"another kind: {spec.target.kind}"
            )
        self.model, self.spec = model, spec
        self.label_names = list(spec.target.names)
        self.thresholds = _thresholds(threshold, self.label_names)
        logits = torch.tensor(self.thresholds, dtype=torch.float64).logit()
        self.register_buffer("_least", logits.float(), persistent=False)

    def train_step(self, batch: Batch, optimize: Optimize) -> Metrics:
        """Minimize the mean cross-entropy of the batch."""
        logits, targets = self.model(batch["input"]), batch["target"]
        loss = functional.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype))
        optimize(loss)
        return {"loss": loss.detach()}

    def forward(self, batch: Batch) -> Outputs:
        """``logits`` (batch, labels)."""
        return {"logits": self.model(batch["input"])}

    def eval_step(self, batch: Batch, draw: Draw) -> Outputs:
        """``logits`` in float32, and ``labels`` (batch, labels): whether each is there."""
        return self._answers(batch)

    def metrics(self, final: bool) -> Sequence[Metric]:
        """The mean loss, and what :class:`LabelRatios` has."""
        metrics: list[Metric] = [
            Mean("loss", _loss),
            LabelRatios(self.label_names, self.thresholds),
        ]
        if final:
            metrics.append(PerExample({"loss": _losses, "subset_accuracy": _all_right}))
        return metrics

    @torch.no_grad()
    def predict(self, batch: Batch) -> Predictions:
        """``labels`` (batch, labels), 0 or 1, and the ``probability`` of each."""
        out, names = self._answers(batch), tuple(self.label_names)
        fields = {
            "labels": Field((len(names),), "labels", size=len(names), names=names),
            "probability": Field((len(names),), "number", names=names),
        }
        columns = {"labels": out["labels"].long(), "probability": out["logits"].sigmoid()}
        return Predictions(columns, fields)

    def _answers(self, batch: Batch) -> Outputs:
        logits = self.forward(batch)["logits"].float()
        return {"logits": logits, "labels": logits >= self._least}


def _loss(outputs: Outputs, batch: Batch) -> Tensor:
    return _losses(outputs, batch).sum()


def _losses(outputs: Outputs, batch: Batch) -> Tensor:
    logits = outputs["logits"]
    losses = functional.binary_cross_entropy_with_logits(
        logits, batch["target"].to(logits.dtype), reduction="none"
    )
    return losses.mean(1)


def _all_right(outputs: Outputs, batch: Batch) -> Tensor:
    return (outputs["labels"] == batch["target"].bool()).all(1)


def _thresholds(threshold: float | Mapping[str, float], names: Sequence[str]) -> list[float]:
    """One a label. Raises ValueError for what is no probability and for names of no label."""
    given = threshold if isinstance(threshold, Mapping) else dict.fromkeys(names, threshold)
    for name, value in given.items():
        if name not in names:
            raise ValueError(f"threshold: there is no label {name!r}, but {', '.join(names)}")
        if not 0 < value < 1:
            raise ValueError(f"threshold is a probability between 0 and 1, got {value}")
    return [float(given.get(name, HALF)) for name in names]
