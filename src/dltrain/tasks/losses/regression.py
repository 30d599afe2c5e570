"""What a regression minimizes; each class is a choice of the config group ``task/loss``."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional


class NumberLoss(nn.Module, ABC):
    """The loss of each predicted number.

    The network's outputs and the targets are scaled: of a target with mean and std in training,
    ``unit`` tells what is subtracted and divided by. A loss of scaled numbers, times that divisor
    to the power ``degree``, is the loss in the target's own unit.
    """

    degree: int = 1

    @abstractmethod
    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of each number: all three tensors are (batch, ...)."""

    def mean(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of a batch, 0-d, which training minimizes."""
        return self(outputs, targets).mean()

    def unit(self, mean: float, std: float) -> tuple[float, float]:
        """Offset and divisor, above 0, of targets with that mean and std."""
        return mean, std if std > 0 else 1.0

    def answer(self, outputs: Tensor) -> Tensor:
        """The scaled predictions (batch, ...) that the network's outputs stand for."""
        return outputs


class SquaredError(NumberLoss):
    """The squared error; its minimum is the mean."""

    degree = 2

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """``(output - target)²``."""
        return functional.mse_loss(outputs, targets, reduction="none")

    def mean(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """In one operation: a small network's step would feel two."""
        return functional.mse_loss(outputs, targets)


class AbsoluteError(NumberLoss):
    """The absolute error; its minimum is the median, which outliers do not move."""

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """``|output - target|``."""
        return functional.l1_loss(outputs, targets, reduction="none")


class Huber(NumberLoss):
    """Half the squared error up to ``delta``, linear beyond (Huber 1964).

    ``delta`` is in standard deviations of the target in training, where the data tells them, else
    in the target's unit. Raises ValueError where it is not above 0.
    """

    degree = 2

    def __init__(self, delta: float = 1.0) -> None:
        super().__init__()
        if not delta > 0:
            raise ValueError(f"delta must be above 0, got {delta}")
        self.delta = delta

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """``e²/2`` or ``delta (|e| - delta/2)`` of an error e."""
        return functional.huber_loss(outputs, targets, reduction="none", delta=self.delta)


class Quantile(NumberLoss):
    """The pinball loss, whose minimum is the quantile ``level`` (Koenker and Bassett 1978).

    Raises ValueError for a level that is not between 0 and 1.
    """

    def __init__(self, level: float = 0.5) -> None:
        super().__init__()
        if not 0 < level < 1:
            raise ValueError(f"level is a fraction between 0 and 1, got {level}")
        self.level = level

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """``level`` times what the output is too low by, ``1 - level`` times what too high."""
        errors = targets - outputs
        return torch.maximum(self.level * errors, (self.level - 1) * errors)


class Poisson(NumberLoss):
    """The Poisson negative log-likelihood of counts, up to what depends on the targets alone.

    The network's output is the logarithm of the predicted rate over the mean count in training.
    A negative target has no likelihood: its loss is NaN, which stops the run and names it.
    """

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """``exp(output) - target * output``."""
        losses = functional.poisson_nll_loss(outputs, targets, log_input=True, reduction="none")
        return losses.where(targets >= 0, torch.nan)

    def unit(self, mean: float, std: float) -> tuple[float, float]:
        """Counts are divided by their mean and keep their zero."""
        return 0.0, mean if mean > 0 else 1.0

    def answer(self, outputs: Tensor) -> Tensor:
        """Rates."""
        return outputs.exp()
