"""Say which of several classes a text belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional

from dltrain.contracts.data import Batch, DataSpec
from dltrain.contracts.metric import Metric
from dltrain.contracts.task import Metrics, Optimize
from dltrain.metrics.text import Reviews, Words
from dltrain.tasks.classification import Classification
from dltrain.tasks.losses.classification import ClassWeights

TINY = torch.finfo(torch.float32).tiny


@runtime_checkable
class Embedding(Protocol):
    """A network whose words can be embedded once and read twice."""

    def embed(self, ids: Tensor) -> Tensor:
        """Vectors (batch, time, width) of ``ids`` (batch, time); what drops words acts here."""

    def read(self, vectors: Tensor, ids: Tensor | None) -> Tensor:
        """Logits (batch, classes); ``ids`` tell what is padding."""


@runtime_checkable
class Attentive(Protocol):
    """A network that may weigh words."""

    def attention_weights(self, ids: Tensor) -> Tensor | None:
        """How much each word of ``ids`` counts (batch, time); padding 0. None: no weights."""


class TextClassification(Classification):
    """Cross-entropy over logits (batch, classes) for token ids (batch, time).

    The data's spec names the tokens of all ids and the id that pads. With ``adversarial`` above 0,
    each step also minimizes the loss on embeddings that were moved so far, in the direction in
    which that text's loss rises most (Miyato, Dai and Goodfellow 2016, equations 1 and 5). That
    asks for a network with ``embed`` and ``read``; dropped words and values of the embedding are
    the same in both passes. The loss that is reported is that of the text as it is.

    Raises ValueError for inputs that are no tokens, for a negative length, and for a network that
    cannot be trained so.
    """

    replayable = False  # batches are of many lengths

    def __init__(
        self,
        model: nn.Module,
        spec: DataSpec,
        label_smoothing: float = 0.0,
        adversarial: float = 0.0,
        class_weights: ClassWeights = None,
        focal_gamma: float = 0.0,
    ) -> None:
        super().__init__(
            model, spec, label_smoothing, class_weights=class_weights, focal_gamma=focal_gamma
        )
        pad_index = spec.input.fill
        if spec.input.kind != "tokens" or not isinstance(pad_index, int):
            raise ValueError(
                "text classification needs token ids with an id that pads, and this data's input "
                f"is of kind {spec.input.kind}"
            )
        if adversarial < 0:
            raise ValueError(f"adversarial is a length, not negative; got {adversarial}")
        if adversarial and not isinstance(model, Embedding):
            raise ValueError(
                f"adversarial needs a model that embeds words, which {type(model).__name__} "
                "does not; set it to 0"
            )
        self.pad_index = pad_index
        self.words = Words(spec.input.names, pad_index)
        self.adversarial = adversarial

    def train_step(self, batch: Batch, optimize: Optimize) -> Metrics:
        """Minimize the mean cross-entropy of the batch; count its tokens, padding left out."""
        if self.adversarial:
            metrics = self._adversarial_step(batch, optimize)
        else:
            metrics = super().train_step(batch, optimize)
        ids = batch["input"]
        return {**metrics, "tokens": (ids != self.pad_index).sum() / len(ids)}

    def _adversarial_step(self, batch: Batch, optimize: Optimize) -> Metrics:
        assert isinstance(self.model, Embedding)
        ids, targets = batch["input"], batch["target"]
        vectors = self.model.embed(ids)
        # A leaf, so that the first pass is over, and its memory free, before the second begins.
        leaf = vectors.detach().requires_grad_()
        logits = self.model.read(leaf, ids)
        loss = self.loss(logits, targets)
        parameters = [p for p in self.parameters() if p.requires_grad]
        # The backward pass already knows the dtypes that the forward pass chose.
        with torch.autocast(loss.device.type, enabled=False):
            slope, *slopes = torch.autograd.grad(loss, [leaf, *parameters], allow_unused=True)
        moved = self.model.read(vectors + self.adversarial * direction(slope), ids)
        known = linear([slope, *slopes], [vectors, *parameters])
        optimize(self.loss(moved, targets) + known + (loss - known).detach())
        return self.training_metrics(loss, logits, targets)

    def metrics(self, final: bool) -> Sequence[Metric]:
        """Those of any classification, and reviews to read."""
        return [
            *super().metrics(final),
            Reviews(self.words, self.class_names, self._attend),
        ]

    def _attend(self, ids: Tensor) -> Tensor | None:
        """What the network says of the weight of each word; None where it weighs none."""
        if not isinstance(self.model, Attentive):
            return None
        return self.model.attention_weights(ids.to(next(self.model.parameters()).device))


def linear(slopes: Sequence[Tensor | None], variables: Sequence[Tensor]) -> Tensor:
    """A 0-d tensor whose gradient by ``variables`` is ``slopes``, those that are not None."""
    products = [
        (slope * variable).sum()
        for slope, variable in zip(slopes, variables, strict=True)
        if slope is not None
    ]
    return torch.stack(products).sum()


def direction(slope: Tensor) -> Tensor:
    """``slope`` (batch, time, width) at length 1 for each example; 0 where there is none.

    It is brought to a middling size first: the squares of a sure answer's slope would be 0.
    """
    flat = slope.float().flatten(1)
    flat = flat / flat.abs().amax(1, keepdim=True).clamp_min(TINY)
    return functional.normalize(flat).view_as(slope).to(slope.dtype)
