"""Cross-entropy that weighs classes, and examples by how hard they are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from dltrain.contracts.data import Field

ClassWeights = Literal["balanced"] | Mapping[str, float] | Sequence[float] | None
"""``balanced``, or a number a class: by the classes' names, or in their order. None: all alike."""


class WeightedCrossEntropy(nn.Module):
    """The mean over a batch of the cross-entropy of each example, weighted by its class.

    ``weights`` (classes,) are a constant factor each: a batch of one class is weighted too, which
    it would not be if weights were divided by their sum. With ``focal_gamma`` above 0 an example
    of probability p counts ``(1 - p)^gamma`` times (Lin et al. 2017), so that what is sure already
    counts little. ``label_smoothing`` is that of :func:`torch.nn.functional.cross_entropy`.

    Logits are (batch, classes); targets (batch,), or probabilities (batch, classes).
    """

    def __init__(
        self, weights: Sequence[float], focal_gamma: float = 0.0, label_smoothing: float = 0.0
    ) -> None:
        super().__init__()
        self.focal_gamma, self.label_smoothing = focal_gamma, label_smoothing
        # Not persistent: it follows the network to its device, but is no part of a checkpoint.
        self.register_buffer("weights", torch.tensor(weights), persistent=False)
        self.weights: Tensor

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean, 0-d."""
        classes, logits = logits.shape[1], logits.float()
        if not targets.is_floating_point():
            targets = functional.one_hot(targets, classes).float()
        if self.label_smoothing:
            targets = targets * (1 - self.label_smoothing) + self.label_smoothing / classes
        logs = logits.log_softmax(1)
        if self.focal_gamma:
            # 1 - p, also where p is so near 1 that float32 rounds it there.
            logs = logs * (-torch.expm1(logs)).clamp_min(1e-12) ** self.focal_gamma
        return -(targets * self.weights * logs).sum(1).mean()


def weights_of(target: Field, given: ClassWeights) -> list[float]:
    """What ``given`` means for the classes of ``target``, a number each.

    ``balanced`` is the number of examples over the number of classes times the class's count, as
    scikit-learn has it, of the classes that occur; one that does not has weight 0. Raises
    ValueError for other than a weight, not negative, for each class.
    """
    names = list(target.names or map(str, range(target.size or 0)))
    if given is None:
        return [1.0] * len(names)
    if given == "balanced":
        counts = target.counts or (1,) * len(names)
        occurring = sum(count > 0 for count in counts)
        return [sum(counts) / (occurring * n) if n else 0.0 for n in counts]
    if isinstance(given, Mapping):
        weights = _by_name(names, {str(name): weight for name, weight in given.items()})
    else:
        weights = [float(weight) for weight in given]
        if len(weights) != len(names):
            raise ValueError(
                f"class_weights has {len(weights)} weights for {len(names)} classes: "
                f"{_listed(names)}"
            )
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
        raise ValueError("class_weights are finite and not negative, and one is above 0")
    return weights


def _by_name(names: Sequence[str], given: Mapping[str, float]) -> list[float]:
    unknown, missing = [n for n in given if n not in names], [n for n in names if n not in given]
    if unknown:
        raise ValueError(
            f"class_weights: there is no class {unknown[0]!r}; there are {_listed(names)}"
        )
    if missing:
        raise ValueError(f"class_weights: {_listed(missing)} has no weight")
    return [float(given[name]) for name in names]


def _listed(names: Sequence[str], most: int = 10) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more
