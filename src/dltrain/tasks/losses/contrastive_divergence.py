"""What a restricted Boltzmann machine minimizes: contrastive divergence."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dltrain.errors import require_at_least
from dltrain.models.layers.boltzmann import BoltzmannLayer


class Terms(NamedTuple):
    """Of a batch, each 0-d.

    ``loss`` is what is minimized, the mean free energy of the data minus that of what the machine
    makes of them; ``free_energy`` the former; ``reconstruction`` the mean squared error of a unit
    after one step of Gibbs sampling.
    """

    loss: Tensor
    free_energy: Tensor
    reconstruction: Tensor


class ContrastiveDivergence:
    """CD-k (Hinton 2002), and persistent CD (Tieleman 2008).

    Gibbs chains of ``steps`` steps begin at each batch's data; with ``persistent`` they go on from
    batch to batch, as many as the first batch has examples, and begin at what the machine makes of
    those. The gradient is that of the difference of free energies, the chains' ends held fixed.

    Raises ValueError for fewer than one step.
    """

    def __init__(self, steps: int = 1, persistent: bool = False) -> None:
        require_at_least(1, cd_steps=steps)
        self.steps, self.persistent = steps, persistent
        self.chains: Tensor | None = None
        """Visible units (n, visible) where the persistent chains stand; None: they begin anew."""

    def __call__(self, machine: BoltzmannLayer, visible: Tensor) -> Terms:
        """The terms of a batch ``visible`` (n, visible); random numbers are the run's own."""
        inputs = machine.hidden_input(visible)
        with torch.no_grad():
            means = inputs.sigmoid() if machine.hidden_units == "bernoulli" else inputs
            first = machine.down(machine.draw_hidden(means))
            end = self._end(machine, first)
        free_energy = machine.free_energy(visible, inputs).mean()
        loss = free_energy - machine.free_energy(end).mean()
        error = (first - visible).square().mean()
        return Terms(loss, free_energy.detach(), error)

    def _end(self, machine: BoltzmannLayer, first: Tensor) -> Tensor:
        """Where the chains are, after their steps; those of the data have made the ``first``."""
        if not self.persistent:
            if self.steps == 1:
                return first
            return machine.chain(machine.draw_visible(first), self.steps - 1)
        begin = machine.draw_visible(first) if self.chains is None else self.chains
        self.chains = machine.draw_visible(machine.chain(begin, self.steps))
        return self.chains
