"""Train a restricted Boltzmann machine of images, and draw images from such machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dltrain.contracts.data import Batch, DataSpec, Draw
from dltrain.contracts.metric import Metric, Outputs
from dltrain.contracts.structure import has_members
from dltrain.contracts.task import Metrics, Monitor, Optimize, Predictions, Task
from dltrain.engine.eval_mode import eval_mode
from dltrain.errors import require_at_least
from dltrain.metrics.generative import Reconstructions
from dltrain.metrics.mean import Mean
from dltrain.models.layers.boltzmann import BoltzmannLayer
from dltrain.models.layers.denormalize import Pixels
from dltrain.tasks.losses.contrastive_divergence import ContrastiveDivergence


class Machines(Protocol):
    """A network of restricted Boltzmann machines, one on the other."""

    machines: nn.ModuleList

    def layer(self, number: int) -> BoltzmannLayer:
        """Machine ``number``, counted from 0."""

    def visible(self, inputs: Tensor) -> Tensor:
        """What the lowest visible units are."""

    def images(self, visible: Tensor) -> Tensor:
        """Images of 0..1, of the lowest visible units."""

    def up(self, visible: Tensor, count: int) -> Tensor:
        """From the lowest visible units to the hidden ones of machine ``count`` - 1."""

    def down(self, hidden: Tensor, count: int) -> Tensor:
        """And back."""

    def chains(self, count: int, steps: int, generator: torch.Generator) -> Tensor:
        """Hidden units of the top machine, after so many Gibbs steps."""


class GibbsSamples:
    """Images by Gibbs sampling in the top machine of ``model``, each seed's own chains.

    ``steps`` of them; from there the means of the units lead down to the pixels.
    """

    def __init__(self, model: Any, steps: int, pixels: Pixels) -> None:
        require_at_least(1, gibbs_steps=steps)
        self._model, self._steps, self._pixels = model, steps, pixels

    def sample(self, count: int, seed: int) -> Predictions:
        """A column ``image`` (count, c, h, w) of 0..1."""
        return self._made(self._ends(count, seed))

    def interpolate(self, rows: int, steps: int, seed: int) -> Predictions:
        """Images (rows * steps, c, h, w) between the hidden units of two chains' ends each."""
        starts, ends = self._ends(2 * rows, seed).chunk(2)
        fractions = torch.linspace(0, 1, steps, device=starts.device)[:, None]
        return self._made(torch.lerp(starts[:, None], ends[:, None], fractions).flatten(0, 1))

    def _ends(self, count: int, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        with eval_mode(self._model), torch.no_grad():
            return self._model.chains(count, self._steps, generator)

    def _made(self, hidden: Tensor) -> Predictions:
        model = self._model
        with eval_mode(model), torch.no_grad():
            images = model.images(model.down(hidden, len(model.machines)))
        return Predictions({"image": images}, {"image": self._pixels.field})


def reconstructed(model: Any, visible: Tensor, count: int, generator: torch.Generator) -> Outputs:
    """What is known of ``visible`` units (n, units) of machine ``count`` - 1 in an evaluation.

    ``free_energy`` (n,), and ``error`` (n,): the mean squared error of a unit after one step of
    Gibbs sampling; ``reconstruction`` (n, c, h, w), what that step leads to in the pixels.
    """
    machine = model.layer(count - 1)
    inputs = machine.hidden_input(visible)
    means = machine.down(machine.draw_hidden(machine(visible), generator))
    return {
        "free_energy": machine.free_energy(visible, inputs),
        "error": (means - visible).square().mean(1),
        "reconstruction": model.images(model.down(means, count - 1)),
    }


def reconstruction_metrics(of: str = "") -> list[Metric]:
    """Means of what :func:`reconstructed` gives, ``of`` behind their names; some images."""
    return [
        Mean(f"reconstruction{of}", lambda out, batch: out["error"].sum()),
        Mean(f"free_energy{of}", lambda out, batch: out["free_energy"].sum()),
        Reconstructions({"original": "image", "reconstruction": "reconstruction"}),
    ]


class PseudoLikelihood(Mean):
    """An estimate of the log-pseudolikelihood, in nats an image (Besag 1975).

    How likely each binary pixel is, given all others: one of them, drawn, stands for all.
    """

    better: Mapping[str, Any] = {"pseudo_likelihood": "max"}

    def __init__(self) -> None:
        super().__init__("pseudo_likelihood", lambda out, batch: out["pseudo_likelihood"].sum())


class BoltzmannMachine(Task):
    """A restricted Boltzmann machine on images (batch, c, h, w), by contrastive divergence.

    ``cd_steps`` of Gibbs sampling make what the data are set against; with ``persistent`` the
    chains go on from batch to batch
    (:class:`~dltrain.tasks.losses.contrastive_divergence.ContrastiveDivergence`). ``loss`` is a
    difference of free energies, which says little; ``reconstruction`` is the mean squared error of
    a unit after one step, and ``free_energy`` that of images: where it is lower in training than in
    validation, the machine memorizes. Of Bernoulli units there is ``pseudo_likelihood``, which is
    that of images made binary by their gray values.

    Samples are the ends of Gibbs chains of ``gibbs_steps`` steps.

    Raises ValueError for a network that is no Boltzmann machine, and for no steps.
    """

    monitor = Monitor("reconstruction", "min")
    needs_target = False
    conditional = False
    """Classes play no part, so images of one cannot be asked for."""

    def __init__(
        self,
        model: nn.Module,
        spec: DataSpec,
        cd_steps: int = 1,
        persistent: bool = False,
        gibbs_steps: int = 200,
    ) -> None:
        super().__init__()
        if not has_members(model, Machines) or len(model.machines) != 1:
            raise ValueError(
                f"{type(model).__name__} is no restricted Boltzmann machine: take model=rbm"
            )
        self.model: Any = model
        self._divergence = ContrastiveDivergence(cd_steps, persistent)
        self._pixels = Pixels(spec.input)
        self._samples = GibbsSamples(model, gibbs_steps, self._pixels)

    def train_step(self, batch: Batch, optimize: Optimize) -> Metrics:
        """Lower the free energy of the batch, and raise that of what the machine makes."""
        terms = self._divergence(self.model.layer(0), self.model.visible(batch["input"]))
        optimize(terms.loss)
        return {
            "loss": terms.loss.detach(),
            "reconstruction": terms.reconstruction,
            "free_energy": terms.free_energy,
        }

    def forward(self, batch: Batch) -> Outputs:
        """``reconstruction`` (batch, c, h, w) of 0..1, by means."""
        return {"reconstruction": self.model(batch["input"])}

    def eval_step(self, batch: Batch, draw: Draw) -> Outputs:
        """``image``, and what :func:`reconstructed` gives; ``pseudo_likelihood`` (batch,)."""
        visible = self.model.visible(batch["input"])
        outputs = {
            "image": self._pixels.shown(batch["input"]),
            **reconstructed(self.model, visible, 1, draw.generator),
        }
        if self._is_binary:
            machine = self.model.layer(0)
            outputs["pseudo_likelihood"] = _pseudo_likelihood(machine, visible, draw.generator)
        return outputs

    def metrics(self, final: bool) -> Sequence[Metric]:
        """Means over images, and some of them beside their reconstructions."""
        likelihood: list[Metric] = [PseudoLikelihood()] if self._is_binary else []
        return [*reconstruction_metrics(), *likelihood]

    def predict(self, batch: Batch) -> Predictions:
        """A column ``image``: reconstructions (batch, c, h, w) of 0..1."""
        return Predictions(
            {"image": self.forward(batch)["reconstruction"].clamp(0, 1)},
            {"image": self._pixels.field},
        )

    def sample(self, count: int, seed: int, labels: Tensor | None = None) -> Predictions:
        """Images (count, c, h, w) of 0..1. Raises ValueError for labels: there are none."""
        refuse_labels(labels)
        return self._samples.sample(count, seed)

    def interpolate(self, rows: int, steps: int, seed: int) -> Predictions:
        """Images between the ends of two chains each."""
        return self._samples.interpolate(rows, steps, seed)

    def training_state(self) -> dict[str, Any]:
        """Where the persistent chains are."""
        return {"chains": self._divergence.chains}

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._divergence.chains = on_device(state["chains"], self._pixels.mean)

    @property
    def _is_binary(self) -> bool:
        machine = self.model.layer(0)
        return machine.visible_units == machine.hidden_units == "bernoulli"


def on_device(chains: Tensor | None, beside: Tensor) -> Tensor | None:
    """Saved chains, where the tensor ``beside`` is."""
    return None if chains is None else chains.to(beside.device)


def refuse_labels(labels: Tensor | None) -> None:
    """Raise ValueError where images of some classes are asked for."""
    if labels is not None:
        raise ValueError("this model knows no classes: no labels can be asked for")


def _pseudo_likelihood(
    machine: BoltzmannLayer, visible: Tensor, generator: torch.Generator
) -> Tensor:
    """The log-probability of one binary pixel of each image given the others, times the pixels."""
    pixels = machine.draw_visible(visible, generator)
    drawn = torch.randint(visible.shape[1], (len(visible), 1), generator=generator)
    drawn = drawn.to(visible.device)
    turned = pixels.scatter(1, drawn, 1 - pixels.gather(1, drawn))
    difference = machine.free_energy(turned) - machine.free_energy(pixels)
    return visible.shape[1] * nn.functional.logsigmoid(difference)
