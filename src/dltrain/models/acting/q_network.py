"""The value of each action."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from dltrain.models.acting.encoder import dense, eyes, require_layers
from dltrain.models.layers.activations import Activation


class QNetwork(nn.Module):
    """Observations (n, *input_shape) to values (n, outputs), one for each action.

    Dense layers of ``hidden`` units; before them, of images of at least 36x36, the convolutions of
    Mnih et al. 2015 (theirs are followed by one layer of 512). With ``dueling`` the last hidden
    layer is two: of one the value of the state is computed, of the other what each action adds to
    the mean of all (Wang et al. 2016).
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        outputs: int,
        hidden: Sequence[int] = (256, 256),
        activation: Activation = "relu",
        dueling: bool = False,
    ) -> None:
        super().__init__()
        require_layers(hidden)
        self.eyes, width = eyes(input_shape, activation)
        self.trunk, width = dense(width, hidden[:-1], activation)
        last = hidden[-1:]
        branch, end = dense(width, last, activation)
        self.advantage = nn.Sequential(*branch, nn.Linear(end, outputs))
        self.value: nn.Sequential | None = None
        if dueling:
            branch, end = dense(width, last, activation)
            self.value = nn.Sequential(*branch, nn.Linear(end, 1))

    def forward(self, observation: Tensor) -> Tensor:
        """The return to expect after each action."""
        features = self.trunk(self.eyes(observation))
        advantage: Tensor = self.advantage(features)
        if self.value is None:
            return advantage
        value: Tensor = self.value(features)
        return value + advantage - advantage.mean(1, keepdim=True)
