"""Pre-train a deep belief net machine by machine, then fine-tune a classifier of its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from dltrain.contracts.data import Batch, DataSpec, Draw
from dltrain.contracts.metric import Metric, Outputs
from dltrain.contracts.structure import has_members
from dltrain.contracts.task import Metrics, Optimize, Phase, Predictions
from dltrain.metrics.generative import Reconstructions
from dltrain.models.layers.denormalize import Pixels
from dltrain.tasks.boltzmann import (
    GibbsSamples,
    Machines,
    on_device,
    reconstructed,
    reconstruction_metrics,
    refuse_labels,
)
from dltrain.tasks.classification import Classification
from dltrain.tasks.losses.contrastive_divergence import ContrastiveDivergence

FINE_TUNE = "fine-tune"


class Stacked(Machines):
    """A network of machines and of a classifier that takes their weights."""

    classifier: nn.Module

    def hand_over(self, number: int) -> None:
        """Give the classifier's layer ``number`` the weights of that machine."""


class DeepBelief(Classification):
    """Machines one by one by contrastive divergence; then classification with their weights.

    The phases ``rbm1``, ``rbm2``, … are ``pretraining_epochs`` long each (one number for all, or
    one a machine), and what is left of the run is ``fine-tune``. Each goes through the whole
    learning-rate schedule, and has a group of parameters of its name, the last one ``model``. A
    machine learns from the means of the hidden units of the one below (Hinton, Osindero and Teh
    2006); when it has learned, the classifier's layer gets its weights. Those of machines with 0
    epochs stay random.

    ``cd_steps``, ``persistent`` and ``gibbs_steps`` are as of
    :class:`~dltrain.tasks.boltzmann.BoltzmannMachine`, ``label_smoothing`` as of
    :class:`~dltrain.tasks.classification.Classification`. Images are sampled from the machines,
    which fine-tuning leaves as they were.

    Raises ValueError for a network that is no deep belief net, for what is no number of epochs,
    and for targets that are no classes.
    """

    replayable = False
    conditional = False
    """The machines know no classes, so images of one cannot be asked for."""

    def __init__(
        self,
        model: nn.Module,
        spec: DataSpec,
        pretraining_epochs: int | Sequence[int] = 10,
        cd_steps: int = 1,
        persistent: bool = False,
        gibbs_steps: int = 200,
        label_smoothing: float = 0.0,
    ) -> None:
        if not has_members(model, Stacked):
            raise ValueError(f"{type(model).__name__} is no deep belief net: take model=dbn")
        super().__init__(cast(nn.Module, model), spec, label_smoothing)
        self._count = len(model.machines)
        self._epochs = _each(pretraining_epochs, self._count)
        self._divergence = ContrastiveDivergence(cd_steps, persistent)
        self._pixels = Pixels(spec.input)
        self._samples = GibbsSamples(model, gibbs_steps, self._pixels)
        self._names = [f"rbm{number + 1}" for number in range(self._count)]
        self._machine: int | None = None
        """Which machine this phase is about, counted from 0; None: fine-tuning."""

    @property
    def _net(self) -> Any:
        # torch's types take whatever a module has for a tensor.
        return self.model

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """One a machine, and ``model``, the classifier."""
        machines = {
            name: list(machine.parameters())
            for name, machine in zip(self._names, self._net.machines, strict=True)
        }
        return {**machines, "model": list(self._net.classifier.parameters())}

    def phases(self, steps: int, steps_per_epoch: Mapping[str, int | None]) -> Sequence[Phase]:
        """A phase a machine, and one of all that is left."""
        each = steps_per_epoch["train"]
        if each is None:
            raise ValueError("task.pretraining_epochs: this data never ends, so has no epochs.")
        found = [
            Phase(name, epochs * each, scheduled=True)
            for name, epochs in zip(self._names, self._epochs, strict=True)
            if epochs
        ]
        left = steps - sum(phase.steps for phase in found)
        if left < 1:
            raise ValueError(
                f"task.pretraining_epochs: {' + '.join(map(str, self._epochs))} epochs of "
                f"{each:,} steps leave none of the run's {steps:,} steps to fine-tune. "
                f"Set trainer.epochs above {sum(self._epochs)}."
            )
        return [*found, Phase(FINE_TUNE, left, scheduled=True)]

    def enter(self, phase: Phase) -> None:
        """Turn to a machine, or to the classifier."""
        self._machine = self._names.index(phase.name) if phase.name in self._names else None

    def leave(self, phase: Phase) -> None:
        """Hand over what a machine has learned; the next one's chains begin anew."""
        if phase.name in self._names:
            self._net.hand_over(self._names.index(phase.name))
        self._divergence.chains = None

    def train_step(self, batch: Batch, optimize: Optimize) -> Metrics:
        """A step of the machine whose turn it is, or of the classifier."""
        if self._machine is None:
            return self._told(batch, super().train_step(batch, optimize))
        name = self._names[self._machine]
        with torch.no_grad():
            visible = self._net.up(self._net.visible(batch["input"]), self._machine)
        terms = self._divergence(self._net.layer(self._machine), visible)
        optimize(terms.loss, name)
        values = (terms.reconstruction, terms.free_energy)
        return self._told(batch, dict(zip(_told_of(name), values, strict=True)))

    def eval_step(self, batch: Batch, draw: Draw) -> Outputs:
        """Of a machine what :func:`~dltrain.tasks.boltzmann.reconstructed` gives, and ``image``.

        Else as a classification; in the end with ``image`` and ``reconstruction`` besides, by the
        means of all machines.
        """
        image, visible = self._pixels.shown(batch["input"]), self._net.visible(batch["input"])
        if self._machine is not None:
            visible = self._net.up(visible, self._machine)
            found = reconstructed(self.model, visible, self._machine + 1, draw.generator)
            return {"image": image, **found}
        outputs = super().eval_step(batch, draw)
        if draw.final:
            hidden = self._net.up(visible, self._count)
            outputs["image"] = image
            outputs["reconstruction"] = self._net.images(self._net.down(hidden, self._count))
        return outputs

    def metrics(self, final: bool) -> Sequence[Metric]:
        """Those of the machine whose turn it is, or of a classification."""
        if self._machine is not None:
            return reconstruction_metrics(f"/{self._names[self._machine]}")
        images = {"original": "image", "reconstruction": "reconstruction"}
        return [*super().metrics(final), *([Reconstructions(images)] if final else [])]

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

    def _told(self, batch: Batch, values: Mapping[str, Any]) -> Metrics:
        """Metrics by all their names; those of other phases have no weight."""
        device = self._pixels.mean.device
        weight = torch.full((), float(len(batch["input"])), device=device)
        nothing = torch.zeros((), device=device)
        names = ["loss", "accuracy", *(told for name in self._names for told in _told_of(name))]
        return {n: (values[n], weight) if n in values else (nothing, nothing) for n in names}


def _told_of(name: str) -> tuple[str, str]:
    """What the metrics of the machine ``name`` are called."""
    return f"reconstruction/{name}", f"free_energy/{name}"


def _each(epochs: int | Sequence[int], count: int) -> list[int]:
    """Epochs of each of ``count`` machines."""
    found = [epochs] * count if isinstance(epochs, int) else list(epochs)
    if len(found) != count:
        raise ValueError(
            f"pretraining_epochs has {len(found)} numbers, and model.hidden has {count} machines"
        )
    if min(found) < 0:
        raise ValueError(f"pretraining_epochs must be >= 0, got {min(found)}")
    return found
