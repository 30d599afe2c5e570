"""A layer of a restricted Boltzmann machine: energies of two layers of units, and draws of them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Units = Literal["bernoulli", "gaussian"]
"""Of 0 or 1, or of any number with a standard deviation of 1."""

STD = 0.01
"""Of initial weights (Hinton 2010, section 8)."""


class BoltzmannLayer(nn.Module):
    """Visible and hidden units that know of each other, but not of their own kind.

    The energy of ``v`` (visible,) and ``h`` (hidden,) is ``-h W v - b v - c h``; of Gaussian units
    half their square is added. So units of one layer are independent given the other
    (Smolensky 1986; Hinton 2002). ``weight`` is (hidden, visible), as of a dense layer.

    Raises ValueError where both are Gaussian: nothing would bound the energy.
    """

    def __init__(
        self,
        visible: int,
        hidden: int,
        visible_units: Units = "bernoulli",
        hidden_units: Units = "bernoulli",
    ) -> None:
        super().__init__()
        if visible_units == hidden_units == "gaussian":
            raise ValueError(
                "visible and hidden units are not both gaussian: their energy has no bound"
            )
        self.visible_units, self.hidden_units = visible_units, hidden_units
        self.weight = nn.Parameter(torch.empty(hidden, visible))
        nn.init.normal_(self.weight, std=STD)
        self.visible_bias = nn.Parameter(torch.zeros(visible))
        self.hidden_bias = nn.Parameter(torch.zeros(hidden))

    def forward(self, visible: Tensor) -> Tensor:
        """The means (n, hidden) of hidden units, given ``visible`` (n, visible)."""
        return _mean(self.hidden_input(visible), self.hidden_units)

    def down(self, hidden: Tensor) -> Tensor:
        """The means (n, visible) of visible units, given ``hidden`` (n, hidden)."""
        inputs = functional.linear(hidden, self.weight.t(), self.visible_bias)
        return _mean(inputs, self.visible_units)

    def hidden_input(self, visible: Tensor) -> Tensor:
        """What hidden units are told (n, hidden) by ``visible`` (n, visible)."""
        return functional.linear(visible, self.weight, self.hidden_bias)

    def draw_hidden(self, means: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Hidden units of these ``means``, by ``generator`` (None: the run's own)."""
        return drawn(means, self.hidden_units, generator)

    def draw_visible(self, means: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Visible units of these ``means``, by ``generator`` (None: the run's own)."""
        return drawn(means, self.visible_units, generator)

    def free_energy(self, visible: Tensor, inputs: Tensor | None = None) -> Tensor:
        """Minus the logarithm of what ``visible`` (n, visible) sums to over hidden units, (n,).

        Up to a constant of Gaussian units; in float32, for it is a sum of many terms. ``inputs``
        are those of :meth:`hidden_input`, where they are known already.
        """
        inputs = (self.hidden_input(visible) if inputs is None else inputs).float()
        visible = visible.float()
        if self.hidden_units == "bernoulli":
            energy = -functional.softplus(inputs).sum(1)
        else:
            energy = -inputs.square().sum(1) / 2
        energy = energy - (visible * self.visible_bias).sum(1)
        if self.visible_units == "gaussian":
            energy = energy + visible.square().sum(1) / 2
        return energy

    def chain(
        self, visible: Tensor, steps: int, generator: torch.Generator | None = None
    ) -> Tensor:
        """The means (n, visible) of visible units after ``steps`` steps of Gibbs sampling.

        Both layers are drawn in every step, but for the last visible units.
        """
        means = visible
        for step in range(steps):
            if step:
                visible = self.draw_visible(means, generator)
            means = self.down(self.draw_hidden(self(visible), generator))
        return means


def drawn(means: Tensor, units: Units, generator: torch.Generator | None = None) -> Tensor:
    """Units of these ``means``, by ``generator``, drawn where that lies (None: the run's own)."""
    where = means.device if generator is None else generator.device
    if units == "bernoulli":
        chances = torch.rand(means.shape, generator=generator, device=where)
        return (chances.to(means.device) < means).to(means.dtype)
    noise = torch.randn(means.shape, generator=generator, device=where)
    return means + noise.to(means.device)


def _mean(inputs: Tensor, units: Units) -> Tensor:
    return inputs.sigmoid() if units == "bernoulli" else inputs
