"""Restricted Boltzmann machines of images, one or a stack of them: a deep belief net."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from dltrain.contracts.data import DataSpec
from dltrain.errors import require_at_least, require_units
from dltrain.models.layers.boltzmann import BoltzmannLayer, Units
from dltrain.models.layers.denormalize import Pixels
from dltrain.models.layers.shapes import image_shape
from dltrain.models.mlp import MLP


class _Stack(nn.Module):
    """``machines``, each of which has the hidden units of the one below for visible ones.

    Bernoulli units see pixels of 0..1 as how likely they are 1, Gaussian ones normalized pixels.
    """

    def __init__(
        self,
        name: str,
        input_shape: Sequence[int],
        spec: DataSpec,
        hidden: Sequence[int],
        visible: Units,
        top: Units,
    ) -> None:
        super().__init__()
        image_shape(name, input_shape)
        self._shape = tuple(input_shape)
        self._pixels = Pixels(spec.input)
        inner: list[Units] = ["bernoulli"] * (len(hidden) - 1)
        kinds = [visible, *inner, top]
        widths = [math.prod(input_shape), *hidden]
        self.machines = nn.ModuleList(
            BoltzmannLayer(*sides, *units)
            for sides, units in zip(pairwise(widths), pairwise(kinds), strict=True)
        )

    def layer(self, number: int) -> BoltzmannLayer:
        """Machine ``number``, counted from 0; -1 is the top one."""
        found = self.machines[number]
        assert isinstance(found, BoltzmannLayer)
        return found

    def visible(self, inputs: Tensor) -> Tensor:
        """What the lowest visible units are (n, units), of images as a source gives them."""
        if self.layer(0).visible_units == "bernoulli":
            inputs = self._pixels.shown(inputs)
        return inputs.flatten(1)

    def images(self, visible: Tensor) -> Tensor:
        """Images (n, c, h, w) of 0..1, of the lowest visible units (n, units)."""
        shaped = visible.unflatten(1, self._shape)
        if self.layer(0).visible_units == "gaussian":
            return self._pixels.shown(shaped)
        return shaped

    def up(self, visible: Tensor, count: int) -> Tensor:
        """The means of the hidden units of machine ``count`` - 1, by those of all below it."""
        for number in range(count):
            visible = self.layer(number)(visible)
        return visible

    def down(self, hidden: Tensor, count: int) -> Tensor:
        """The lowest visible units' means, of the hidden units of machine ``count`` - 1."""
        for number in reversed(range(count)):
            hidden = self.layer(number).down(hidden)
        return hidden

    def chains(self, count: int, steps: int, generator: torch.Generator) -> Tensor:
        """Hidden units of the top machine (count, units), as means, after so many Gibbs steps.

        A chain begins with visible units drawn by their biases alone.
        """
        top = self.layer(-1)
        begin = top.down(top.weight.new_zeros(count, len(top.weight)))
        visible = top.draw_visible(begin, generator)
        return top(top.chain(visible, steps, generator))


class RBM(_Stack):
    """One restricted Boltzmann machine of ``hidden`` units on the pixels of images.

    ``visible`` and ``units`` are the kinds of the visible and the hidden ones. Raises ValueError
    for what is no image, no units, and Gaussian units in both layers.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        spec: DataSpec,
        hidden: int = 500,
        visible: Units = "bernoulli",
        units: Units = "bernoulli",
    ) -> None:
        require_at_least(1, hidden=hidden)
        name = "a restricted Boltzmann machine"
        super().__init__(name, input_shape, spec, [hidden], visible, units)

    def forward(self, inputs: Tensor) -> Tensor:
        """Reconstructions (n, c, h, w) of 0..1 by the means of the hidden units."""
        return self.images(self.down(self.up(self.visible(inputs), 1), 1))


class DBN(_Stack):
    """A deep belief net (Hinton, Osindero and Teh 2006), and a classifier of the same layers.

    ``hidden`` are the units of each machine, of which the lowest has ``visible`` ones for pixels.
    ``classifier`` is an MLP of sigmoid units with as many, and weights of its own:
    :meth:`hand_over` makes them those of the machines, which thereby stay what they were and still
    generate images. ``dropout`` and ``input_dropout`` are the classifier's.

    Raises ValueError for what is no image, no machine, and layers without units.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        spec: DataSpec,
        outputs: int,
        hidden: Sequence[int] = (500, 500, 2000),
        visible: Units = "bernoulli",
        dropout: float = 0.0,
        input_dropout: float = 0.0,
    ) -> None:
        require_units(hidden=hidden)
        require_at_least(1, machines=len(hidden))
        super().__init__("a deep belief net", input_shape, spec, hidden, visible, "bernoulli")
        self.classifier = MLP(
            input_shape, outputs, hidden, "sigmoid", dropout=dropout, input_dropout=input_dropout
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (n, outputs), by the classifier."""
        return self.classifier(self.visible(inputs))

    @torch.no_grad()
    def hand_over(self, number: int) -> None:
        """Give the classifier's layer ``number``, from 0, the weights of that machine."""
        dense = [one for one in self.classifier.modules() if isinstance(one, nn.Linear)][number]
        machine = self.layer(number)
        dense.weight.copy_(machine.weight)
        dense.bias.copy_(machine.hidden_bias)
