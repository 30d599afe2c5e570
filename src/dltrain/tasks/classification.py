"""Say which of several classes an example belongs to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from dltrain.contracts.attack import AttackScores
from dltrain.contracts.data import Batch, DataSpec, Draw, Field
from dltrain.contracts.metric import Metric, Outputs
from dltrain.contracts.task import Metrics, Monitor, Optimize, Phase, Predictions, Task
from dltrain.errors import UserError
from dltrain.metrics.classification import (
    Calibration,
    ConfusionMatrix,
    DecisionBoundary,
    ImageExamples,
    Rankings,
)
from dltrain.metrics.examples import PerExample
from dltrain.metrics.mean import Mean
from dltrain.metrics.sounds import ClassifiedSounds
from dltrain.models.layers.denormalize import Pixels
from dltrain.models.layers.tta import mean_over_views
from dltrain.tasks.losses.classification import ClassWeights, WeightedCrossEntropy, weights_of


class Classification(Task):
    """Cross-entropy over logits (batch, classes) against integer targets (batch,).

    In training, a target may also be probabilities (batch, classes), as mixed images have;
    accuracy then asks for the most probable class.

    ``label_smoothing`` moves that fraction of each target's weight evenly to all classes
    (Szegedy et al. 2016, section 7); it acts in training only. ``mirrored`` and ``shifted`` act
    after it only: test-time augmentation, the mean over versions of an image
    (:func:`~dltrain.models.layers.tta.mean_over_views`).

    For classes of unequal size ``class_weights`` multiplies the loss of each class's examples:
    ``balanced`` weighs all classes alike, a mapping or list says how much each counts.
    ``focal_gamma`` above 0 counts an example the less the surer its class is already. Both act in
    training only (:class:`~dltrain.tasks.losses.classification.WeightedCrossEntropy`).

    Raises ValueError for targets that are no classes, for what is no fraction, for weights that do
    not fit the classes, and for test-time augmentation of what is no image.
    """

    monitor = Monitor("accuracy", "max")
    replayable = True
    probabilistic = True
    """Whether the loss makes the softmax a probability; only then is there a calibration."""

    def __init__(
        self,
        model: nn.Module,
        spec: DataSpec,
        label_smoothing: float = 0.0,
        mirrored: bool = False,
        shifted: int = 0,
        class_weights: ClassWeights = None,
        focal_gamma: float = 0.0,
    ) -> None:
        super().__init__()
        if spec.target.kind != "class":
            raise ValueError(
                f"{type(self).__name__} needs classes, and this data's target is of another "
                f"kind: {spec.target.kind}"
            )
        if not 0 <= label_smoothing < 1:
            raise ValueError(
                f"label_smoothing is a fraction from 0 to below 1, got {label_smoothing}"
            )
        if shifted < 0:
            raise ValueError(f"shifted is a number of pixels, not negative; got {shifted}")
        if (mirrored or shifted) and spec.input.kind != "image":
            raise ValueError("test-time augmentation is for images: mirrored=false and shifted=0")
        if any(field.kind == "audio" for field in spec.of("input")):
            self.replayable = False  # batches are of many lengths
        self.model = model
        self.spec = spec
        self.class_names = list(spec.target.names or map(str, range(spec.target.size or 0)))
        if focal_gamma < 0:
            raise ValueError(f"focal_gamma must be >= 0, got {focal_gamma}")
        self.label_smoothing = label_smoothing
        self.loss: Callable[[Tensor, Tensor], Tensor] = partial(
            functional.cross_entropy, label_smoothing=label_smoothing
        )
        """The mean cross-entropy that training minimizes, 0-d, of logits and targets."""
        if class_weights is not None or focal_gamma:
            weights = weights_of(spec.target, class_weights)
            self.loss = WeightedCrossEntropy(weights, focal_gamma, label_smoothing)
        self._lacks_counts = class_weights == "balanced" and not spec.target.counts
        self.mirrored, self.shifted = mirrored, shifted

    def enter(self, phase: Phase) -> None:
        """Raise :class:`UserError` where weights are to balance classes that nobody counted."""
        if self._lacks_counts:
            raise UserError(
                "task.class_weights=balanced: this data does not tell how many training examples "
                "each class has; give a weight for each class."
            )

    def train_step(self, batch: Batch, optimize: Optimize) -> Metrics:
        """Minimize the mean cross-entropy of the batch."""
        logits, targets = self.model(*self.spec.inputs(batch)), batch["target"]
        loss = self.loss(logits, targets)
        optimize(loss)
        return self.training_metrics(loss, logits, targets)

    def evaluation_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The sum over a batch of what an evaluation reports the mean of as ``loss``, 0-d."""
        return functional.cross_entropy(logits, targets, reduction="sum")

    def example_losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """What each example (batch,) adds to :meth:`evaluation_loss`."""
        return functional.cross_entropy(logits, targets, reduction="none")

    def attack_scores(self, batch: Batch) -> AttackScores:
        """The loss of each example, and whether its most probable class is another."""
        logits, targets = self.forward(batch)["logits"].float(), batch["target"]
        return AttackScores(self.example_losses(logits, targets), logits.argmax(1) != targets)

    def training_metrics(self, loss: Tensor, logits: Tensor, targets: Tensor) -> Metrics:
        """What a training step tells: its loss, and the fraction of the batch that is right."""
        likeliest = targets.argmax(1) if targets.is_floating_point() else targets
        hits = logits.detach().argmax(1) == likeliest
        return {"loss": loss.detach(), "accuracy": hits.mean(dtype=torch.float32)}

    def forward(self, batch: Batch) -> Outputs:
        """``logits`` (batch, classes)."""
        if not (self.mirrored or self.shifted):
            return {"logits": self.model(*self.spec.inputs(batch))}
        views = mean_over_views(self.model, batch["input"], self.mirrored, self.shifted)
        return {"logits": views}

    def eval_step(self, batch: Batch, draw: Draw) -> Outputs:
        """``logits`` in float32, the most probable ``class`` and its ``confidence`` (batch,)."""
        return self._answers(batch)

    def metrics(self, final: bool) -> Sequence[Metric]:
        """The mean loss, ratios, curves, and what can be shown of such inputs."""
        names, sources = self.class_names, self.spec.of("input")
        metrics: list[Metric] = [
            Mean("loss", lambda out, batch: self.evaluation_loss(out["logits"], batch["target"])),
            ConfusionMatrix(names),
            Rankings(names),
        ]
        if self.probabilistic:
            metrics.append(Calibration())
        if len(sources) > 1:
            return metrics
        source = self.spec.input
        if source.kind == "image":
            metrics.append(ImageExamples(names, Pixels(source).shown))
        if source.kind == "audio":
            metrics.append(ClassifiedSounds(self.spec, names))
        if source.kind == "number" and source.shape == (2,):
            metrics.append(DecisionBoundary(names, source.names, self._logits))
        if final:
            metrics.append(PerExample({"accuracy": _hits, "loss": self._example_losses}))
        return metrics

    @torch.no_grad()
    def predict(self, batch: Batch) -> Predictions:
        """``class`` (batch,), and ``probability`` (batch, classes).

        Where the loss makes the softmax no probability, there is ``score`` for it, the logits.
        """
        out = self._answers(batch)
        name, values = "score", out["logits"]
        if self.probabilistic:
            name, values = "probability", values.softmax(1)
        names = tuple(self.class_names)
        fields = {
            "class": Field((), "class", size=len(names), names=names),
            name: Field((len(names),), "number", names=names),
        }
        return Predictions({"class": out["class"], name: values}, fields)

    def _example_losses(self, outputs: Outputs, batch: Batch) -> Tensor:
        return self.example_losses(outputs["logits"], batch["target"])

    def _answers(self, batch: Batch) -> Outputs:
        logits = self.forward(batch)["logits"].float()
        confidence, predicted = logits.softmax(1).max(1)
        return {"logits": logits, "class": predicted, "confidence": confidence}

    def _logits(self, inputs: Tensor) -> Tensor:
        return self.forward({"input": inputs})["logits"]


def _hits(outputs: Outputs, batch: Batch) -> Tensor:
    return outputs["class"] == batch["target"]
