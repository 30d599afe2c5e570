"""Two networks against each other: one generates images, one tells them from real ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from dltrain.contracts.data import EVALUATION_SEED, Batch, DataSpec, Draw, Field
from dltrain.contracts.metric import Metric, Outputs
from dltrain.contracts.structure import has_members
from dltrain.contracts.task import Exportable, Monitor, Optimize, Predictions, Task
from dltrain.engine.eval_mode import eval_mode
from dltrain.metrics.generative import AdversarialScores, SampleDistance
from dltrain.models.layers.denormalize import Pixels
from dltrain.models.layers.online_kmeans import OnlineKMeans
from dltrain.tasks.latent import AT_ONCE, EXPORTED, between
from dltrain.tasks.losses.gan import LOSSES, gradient_penalty, has_batch_norm, r1_penalty

SUMMARY = ("loss_discriminator", "loss_generator", "accuracy_real", "accuracy_fake")


class Adversaries(Protocol):
    """A network that is two."""

    generator: nn.Module
    """Noise (batch, noise_size) and labels (batch,), or None, to images of -1..1."""
    discriminator: nn.Module
    """Images (batch, c, h, w) of -1..1 and labels, or None, to scores (batch,)."""
    noise_size: int
    conditional: bool
    clusters: int
    """k-means clusters of images that it is told of, where it knows of no classes; 0: none."""
    classes: int
    """How many labels there are, of classes or clusters."""


class AdversarialGame(Task):
    """A generator against a discriminator (Goodfellow et al. 2014), on images (batch, c, h, w).

    On each batch the discriminator makes a step, and on every ``n_critic``-th the generator does
    after it. ``loss`` is what they minimize: ``bce`` (the generator's does not saturate), ``lsgan``
    (Mao et al. 2017), ``hinge`` (Lim and Ye 2017) or ``wasserstein`` (Arjovsky et al. 2017).
    ``gradient_penalty`` is the weight of Gulrajani et al.'s (2017), ``r1`` that of Mescheder et
    al.'s (2018) on real images. ``label_smoothing`` lowers the target of real images, and
    theirs alone, from 1 (Salimans et al. 2016, section 3.4).

    A network with ``clusters`` is told which of so many an image is in, as another is
    told the class: they are found as training goes
    (:class:`~dltrain.models.layers.online_kmeans.OnlineKMeans`). Its samples are of each cluster as
    often as real images are.

    Metrics are each network's loss, without penalties, and the fraction of real and of generated
    images that the discriminator is right about: by the sign of the score, by 0.5 with ``lsgan``,
    and with ``wasserstein``, where only differences mean anything, by the middle between both
    means. None of them says whether images are good, so the ``monitor`` is ``sliced_wasserstein``:
    how far the pixels of samples are from those of the split's first images, in distribution.

    Raises ValueError for a network that is not two, and settings that contradict each other.
    """

    monitor = Monitor("sliced_wasserstein", "min")
    needs_target = False

    def __init__(
        self,
        model: nn.Module,
        spec: DataSpec,
        loss: Literal["bce", "lsgan", "hinge", "wasserstein"] = "bce",
        n_critic: int = 1,
        gradient_penalty: float = 0.0,
        r1: float = 0.0,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        if not has_members(model, Adversaries):
            raise ValueError(
                f"{type(model).__name__} has no generator and discriminator: take model=gan, "
                "dcgan or wgan_gp"
            )
        if n_critic < 1:
            raise ValueError(f"n_critic is at least 1, got {n_critic}")
        for name, weight in (("gradient_penalty", gradient_penalty), ("r1", r1)):
            if weight < 0:
                raise ValueError(f"{name} is not negative, got {weight}")
            if weight and has_batch_norm(model.discriminator):
                raise ValueError(
                    f"{name} is of each image alone, and batch norm mixes them: "
                    "set model.batch_norm=false"
                )
        if not 0 <= label_smoothing < 1:
            raise ValueError(
                f"label_smoothing is a fraction from 0 to below 1, got {label_smoothing}"
            )
        self._loss = LOSSES[loss]
        if label_smoothing and not self._loss.has_target:
            raise ValueError(f"label_smoothing has no meaning with loss={loss}: there is no target")
        self.model = model
        self.n_critic = n_critic
        self.gradient_penalty, self.r1 = gradient_penalty, r1
        self._target = 1 - label_smoothing
        self._pixels = Pixels(spec.input)
        self._class_names = spec.class_names
        self._clusters = (
            OnlineKMeans(model.clusters, spec.facts()["input_shape"]) if model.clusters else None
        )
        # On the host: whose turn it is must be known without asking the device.
        self._batches = 0

    @property
    def conditional(self) -> bool:
        """Whether images of a class can be asked for."""
        return self.model.conditional

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """One for each network."""
        networks = {"generator": self.model.generator, "discriminator": self.model.discriminator}
        return {
            name: [p for p in network.parameters() if p.requires_grad]
            for name, network in networks.items()
        }

    def train_step(self, batch: Batch, optimize: Optimize) -> dict[str, Tensor]:
        """A step of the discriminator, and one of the generator when it is its turn.

        Both see the same generated images. Where the generator has no turn, its loss is told as the
        discriminator's scores, from before its step, have it.
        """
        real, labels = self._real(batch)
        self._batches += 1
        turn = self._batches % self.n_critic == 0
        noise = torch.randn(len(real), self.model.noise_size, device=real.device)
        with torch.set_grad_enabled(turn):
            made = self.model.generator(noise, labels)
        seen, caught = self._scores(real, labels), self._scores(made.detach(), labels)
        discriminator_loss = loss = self._loss.discriminator(seen, caught, self._target)
        if self.gradient_penalty:
            penalty = gradient_penalty(self.model.discriminator, real, made.detach(), labels)
            loss = loss + self.gradient_penalty * penalty
        if self.r1:
            loss = loss + self.r1 * r1_penalty(self.model.discriminator, real, labels)
        optimize(loss, "discriminator")
        generator_loss = self._loss.generator(self._scores(made, labels) if turn else caught)
        if turn:
            optimize(generator_loss, "generator")
        return self._summary(
            discriminator_loss.detach(), generator_loss.detach(), seen.detach(), caught.detach()
        )

    def forward(self, batch: Batch) -> Outputs:
        """``score`` (batch,): the discriminator's of each image, its class left open."""
        return {"score": self.model.discriminator(2 * self._pixels.shown(batch["input"]) - 1, None)}

    def eval_step(self, batch: Batch, draw: Draw) -> Outputs:
        """``score_real`` and ``score_fake`` (n,), ``image`` of 0..1 and, if any, ``label`` (n,)."""
        real, labels = self._real(batch)
        fake = self.model.generator(self._noise(len(real), draw.generator), labels)
        outputs = {
            "image": _from_tanh(real),
            "score_real": self._scores(real, labels),
            "score_fake": self._scores(fake, labels),
        }
        return outputs if labels is None else outputs | {"label": labels}

    def metrics(self, final: bool) -> Sequence[Metric]:
        """The losses of a game on the whole split, and how near samples are to its images."""
        return [AdversarialScores(SUMMARY, self._game), SampleDistance(self._fixed)]

    def predict(self, batch: Batch) -> Predictions:
        """A column ``score`` (batch,): the higher, the more real an image seems."""
        score = Field((), "number", "target")
        return Predictions(dict(self.forward(batch)), {"score": score})

    def training_state(self) -> dict[str, Any]:
        """How many batches there were: whose turn it is."""
        return {"batches": self._batches}

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Go on counting."""
        self._batches = state["batches"]

    def sample(self, count: int, seed: int, labels: Tensor | None = None) -> Predictions:
        """Images (count, c, h, w) of 0..1, of ``labels`` or, if conditional, classes in turn.

        Raises ValueError for labels that a network cannot be asked for.
        """
        generator = torch.Generator().manual_seed(seed)
        noise = self._noise(count, generator)
        if labels is None:
            labels = self._unasked(count, generator)
        else:
            self._refuse(labels, count)
        return self._images(noise, labels)

    def interpolate(self, rows: int, steps: int, seed: int) -> Predictions:
        """Images (rows * steps, c, h, w) of 0..1 between two points each, a row of one label."""
        generator = torch.Generator().manual_seed(seed)
        starts, ends = self._noise(2 * rows, generator).chunk(2)
        labels = self._unasked(rows, generator)
        if labels is not None:
            labels = labels.repeat_interleave(steps)
        return self._images(between(starts, ends, steps).flatten(0, 1), labels)

    def exports(self, examples: Batch) -> Mapping[str, Exportable]:
        """``generator``: ``noise`` (batch, noise_size), normal, and ``label`` (batch,) if any.

        No discriminator: of some networks its score of an image depends on the others in a batch.
        """
        generator = torch.Generator().manual_seed(EVALUATION_SEED)
        inputs = {"noise": self._noise(EXPORTED, generator)}
        about: dict[str, dict[str, Any]] = {"noise": {"drawn": "normal"}}
        labels = self._unasked(EXPORTED, generator)
        if labels is not None:
            inputs["label"] = labels.to(self._pixels.mean.device)
            names = self._class_names if self.conditional else ()
            about["label"] = {"size": self.model.classes, "names": list(names)}
        network = Generating(self.model.generator, self._pixels.field)
        return {"generator": Exportable(network, inputs, about)}

    def _real(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """A batch's images in -1..1, and their classes or clusters (batch,) where they play a part.

        A mixed image, whose target is probabilities, is taken for its likeliest class.
        """
        images = 2 * self._pixels.shown(batch["input"]) - 1
        if self._clusters is not None:
            return images, (self._clusters.learn if self.training else self._clusters.of)(images)
        if not self.conditional:
            return images, None
        targets = batch["target"]
        return images, targets.argmax(1) if targets.is_floating_point() else targets

    def _scores(self, images: Tensor, labels: Tensor | None) -> Tensor:
        return self.model.discriminator(images, labels).float()

    def _game(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Of the scores (n,) of real and of generated images."""
        losses = self._loss.discriminator(real, fake, 1.0), self._loss.generator(fake)
        return self._summary(*losses, real, fake)

    def _summary(
        self, discriminator: Tensor, generator: Tensor, real: Tensor, made: Tensor
    ) -> dict[str, Tensor]:
        """Of the two losses, and the scores of real and of generated images."""
        border = self._loss.border(real, made)
        return {
            "loss_discriminator": discriminator,
            "loss_generator": generator,
            "accuracy_real": (real > border).mean(dtype=torch.float32),
            "accuracy_fake": (made < border).mean(dtype=torch.float32),
        }

    def _noise(self, count: int, generator: torch.Generator) -> Tensor:
        # Drawn on the CPU, so that a seed has the same images on every device.
        noise = torch.randn(count, self.model.noise_size, generator=generator)
        return noise.to(self._pixels.mean.device)

    def _fixed(self, count: int, labels: Tensor | None) -> Tensor:
        """Samples (count, c, h, w) of 0..1, of the same noise at every evaluation."""
        noise = self._noise(count, torch.Generator().manual_seed(EVALUATION_SEED))
        return self._samples(noise, labels)

    def _images(self, noise: Tensor, labels: Tensor | None) -> Predictions:
        return Predictions({"image": self._samples(noise, labels)}, {"image": self._pixels.field})

    def _samples(self, noise: Tensor, labels: Tensor | None) -> Tensor:
        """Images of 0..1, in parts."""
        parts = []
        with eval_mode(self), torch.no_grad():
            for number, some in enumerate(noise.split(AT_ONCE)):
                first = number * AT_ONCE
                whose = None if labels is None else labels[first : first + AT_ONCE].to(noise.device)
                parts.append(_from_tanh(self.model.generator(some, whose).float()))
        return torch.cat(parts)

    def _unasked(self, count: int, generator: torch.Generator) -> Tensor | None:
        """Labels (count,) for images for which no class was asked."""
        if self._clusters is not None:
            return self._clusters.drawn(count, generator)
        return torch.arange(count) % self.model.classes if self.conditional else None

    def _refuse(self, labels: Tensor, count: int) -> None:
        if not self.conditional:
            raise ValueError("this model knows no classes: no labels can be asked for")
        if labels.shape != (count,):
            raise ValueError(f"{count} images have as many labels, not {tuple(labels.shape)}")
        if count and not 0 <= int(labels.min()) <= int(labels.max()) < self.model.classes:
            raise ValueError(f"labels are from 0 to {self.model.classes - 1}")


class Generating(nn.Module):
    """Images of 0..1, of ``field``, by a generator of images of -1..1."""

    def __init__(self, generator: nn.Module, field: Field) -> None:
        super().__init__()
        self.generator, self.field = generator, field

    def forward(self, noise: Tensor, label: Tensor | None = None) -> Predictions:
        """A column ``image`` (batch, c, h, w)."""
        images = _from_tanh(self.generator(noise, label).float())
        return Predictions({"image": images}, {"image": self.field})


def _from_tanh(images: Tensor) -> Tensor:
    """From -1..1 to 0..1."""
    return (images + 1) / 2
