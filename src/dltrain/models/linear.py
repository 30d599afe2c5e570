"""Linear models: regression, and classification by linear scores."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from dltrain.models.layers.init import Init, initialize


class LinearRegression(nn.Module):
    """``y = W x + b``: inputs (batch, *input_shape) to outputs (batch, outputs)."""

    def __init__(self, input_shape: Sequence[int], outputs: int, init: Init = "default") -> None:
        super().__init__()
        self.linear = nn.Linear(math.prod(input_shape), outputs)
        initialize(self, init)

    def forward(self, inputs: Tensor) -> Tensor:
        """Flatten everything but the batch, and map it."""
        return self.linear(inputs.flatten(1))


class LinearClassifier(nn.Module):
    """One dense layer of class scores: inputs (batch, *input_shape) to logits (batch, outputs).

    Trained by cross-entropy it is softmax regression, by the perceptron criterion Rosenblatt's
    perceptron. Two classes need but one score (Cox 1958: the log-odds of the second class; a
    threshold unit's sum): then there is one row of weights, and the first class's logit is 0.

    Raises ValueError for fewer than two classes.
    """

    def __init__(self, input_shape: Sequence[int], outputs: int, init: Init = "zeros") -> None:
        super().__init__()
        if outputs < 2:
            raise ValueError(f"this model tells classes apart; the data asks for {outputs} number")
        self.one_score = outputs == 2
        self.linear = nn.Linear(math.prod(input_shape), 1 if self.one_score else outputs)
        initialize(self, init)

    def forward(self, inputs: Tensor) -> Tensor:
        """Flatten everything but the batch, and score each class."""
        scores = self.linear(inputs.flatten(1))
        return functional.pad(scores, (1, 0)) if self.one_score else scores
