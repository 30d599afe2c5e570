"""Learn a distribution of pictures by way of codes: the evidence lower bound."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor, nn

from dltrain.evaluate import noise_at
from dltrain.tasks.evidence import Variation, divergence, drawn, importance_weighted
from dltrain.tasks.latent import SHOWN, CodedSplit, at_rest, between, decoded, rows_of
from dltrain.tasks.pixels import Pixels
from dltrain.types import Batch, Evaluation, Metrics, Optimize, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ACTIVE = 0.01
"""The variance over a split above which a dimension's mean is in use (Burda et al. 2016)."""
DEVIATIONS = (1.0, 2.0, 3.0)


class Terms(NamedTuple):
    """Of each picture, in nats: log p(x|z) (n,) of a code z, each dimension's KL (n, latent_size).

    And the means of the codes (n, latent_size), and the outputs (n, c, h, w) for z.
    """

    explained: Tensor
    divergences: Tensor
    means: Tensor
    outputs: Tensor


class Variational(Task):
    """The evidence lower bound of pictures (batch, c, h, w) of 0..1 (Kingma and Welling 2014).

    The loss is the mean over pictures of ``reconstruction`` (-log p(x|z) of one code z drawn from
    the posterior) plus ``beta`` times ``kl`` (of that posterior from the standard normal), in nats;
    ``elbo`` is minus the sum of the two. With ``beta`` above 1 the dimensions of codes come to
    mean single things (Higgins et al. 2017). ``free_bits``, in nats, is what each dimension may
    cost, in the mean of a batch, before it costs anything (Kingma et al. 2016, appendix C.8).

    ``binarise="dynamic"`` makes every pixel 1 with its grey value as probability, else 0: anew
    each time in training, always alike where it is judged. With ``none`` pictures stay grey, and
    to a Bernoulli decoder the terms are cross-entropies and no log-probabilities.

    Of the test split at the end, ``nll`` is an estimate of -log p(x) from ``importance_samples``
    codes a picture (Burda, Grosse and Salakhutdinov 2016); 0 leaves it out.

    Raises ValueError for a network that is no variational autoencoder, negative settings, and
    binary pixels for a decoder of grey ones.
    """

    conditional = False
    """Classes play no part, so pictures of one cannot be asked for."""

    recordable = True

    def __init__(
        self,
        model: nn.Module,
        beta: float = 1.0,
        free_bits: float = 0.0,
        binarise: Literal["dynamic", "none"] = "dynamic",
        importance_samples: int = 500,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(model, Variation):
            raise ValueError(
                f"{type(model).__name__} has no distribution of codes: take model=vae or conv_vae"
            )
        if min(beta, free_bits, importance_samples) < 0:
            raise ValueError(
                "beta, free_bits and importance_samples are not negative; "
                f"got {beta}, {free_bits} and {importance_samples}"
            )
        if binarise == "dynamic" and model.likelihood.grey:
            raise ValueError(
                "model.decoder=gaussian explains grey values, but binarise=dynamic leaves none: "
                "set task.binarise=none"
            )
        self.model = model
        self.beta, self.free_bits = beta, free_bits
        self.importance_samples = importance_samples
        self.class_names = class_names
        self._binarises = binarise == "dynamic"
        self._pixels = Pixels(mean, std)

    def train_step(self, batch: Batch, optimize: Optimize) -> Metrics:
        """Raise the bound of the batch."""
        pictures = self._pixels.shown(batch["input"])
        if self._binarises:
            pictures = torch.bernoulli(pictures)
        terms = self._terms(pictures, None)
        reconstruction, divergences = -terms.explained.mean(), terms.divergences.mean(0)
        loss = self._loss(reconstruction, divergences)
        optimize(loss)
        return {
            "loss": loss.detach(),
            "reconstruction": reconstruction.detach(),
            "kl": divergences.sum().detach(),
        }

    def predict(self, batch: Batch) -> Tensor:
        """Expected pictures (batch, c, h, w) of 0..1, given each one's mean code."""
        return self.model.likelihood.mean(self.model(batch["input"])).clamp(0, 1)

    def evaluate(self, batches: Iterable[Batch]) -> Evaluation:
        """The bound and its terms, and how many latent dimensions are in use."""
        return self._evaluated(batches, importance_samples=0)

    def evaluate_test(self, batches: Iterable[Batch]) -> Evaluation:
        """Besides, the importance-weighted estimate ``nll``, over the same pictures."""
        return self._evaluated(batches, self.importance_samples)

    def _evaluated(self, batches: Iterable[Batch], importance_samples: int) -> Evaluation:
        found: list[Tensor] = []
        explained: list[Tensor] = []
        divergences: list[Tensor] = []
        split = CodedSplit(self.class_names)
        shown: dict[str, Tensor] = {}
        for position, batch in enumerate(batches):
            noise = noise_at(position)
            pictures = self._judged(batch, noise)
            terms = self._terms(pictures, noise)
            if importance_samples:
                own = torch.Generator(pictures.device)
                own.manual_seed(int(torch.randint(2**62, (), generator=noise)))
                inputs = self._pixels.normalised(pictures)
                found.append(
                    importance_weighted(self.model, inputs, pictures, importance_samples, own)
                )
            explained.append(terms.explained)
            divergences.append(terms.divergences)
            split.add(batch, pictures, terms.means)
            if not shown:
                likely = self.model.likelihood.mean(terms.outputs[:SHOWN])
                shown = {"original": pictures[:SHOWN].clone(), "reconstruction": likely}
        each = torch.cat(divergences).cpu().double().mean(0)
        reconstruction = -torch.cat(explained).cpu().double().mean()
        active = int((split.codes().var(0, correction=0) > ACTIVE).sum())
        figures = self._figures(split, shown)
        figures["latent_use"] = partial(_draw_use, each, active)
        scalars = {
            "loss": float(self._loss(reconstruction, each)),
            "reconstruction": float(reconstruction),
            "kl": float(each.sum()),
            "elbo": float(-reconstruction - each.sum()),
            "active_units": active,
        }
        if found:
            scalars["nll"] = -float(torch.cat(found).cpu().double().mean())
        return Evaluation(scalars=scalars, figures=figures)

    def sample(self, count: int, seed: int, labels: Tensor | None = None) -> Tensor:
        """Expected pictures (count, c, h, w) of 0..1 of codes drawn from the prior.

        Raises ValueError for ``labels``.
        """
        if labels is not None:
            raise ValueError("this model makes pictures of no class in particular: no labels")
        return self._from_prior(self._prior(count, seed))

    def interpolate(self, rows: int, steps: int, seed: int) -> Tensor:
        """Pictures (rows * steps, c, h, w) of 0..1 between two codes drawn from the prior each."""
        starts, ends = self._prior(2 * rows, seed).chunk(2)
        return self._from_prior(between(starts, ends, steps).flatten(0, 1))

    def _prior(self, count: int, seed: int) -> Tensor:
        # On the CPU, so that a seed has the same codes everywhere.
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(count, self.model.latent_size, generator=generator)

    def _from_prior(self, codes: Tensor) -> Tensor:
        with at_rest(self):
            return decoded(codes.to(self._pixels.mean.device), self._decode)

    def _decode(self, codes: Tensor) -> Tensor:
        return self.model.likelihood.mean(self.model.decode(codes).float()).clamp(0, 1)

    def _terms(self, pictures: Tensor, generator: torch.Generator | None) -> Terms:
        """Draw a code for each picture, by ``generator`` (None: the run's own), and judge it."""
        mean, log_variance = (
            part.float() for part in self.model.posterior(self._pixels.normalised(pictures))
        )
        outputs = self.model.decode(drawn(mean, log_variance, generator)).float()
        explained = self.model.likelihood.log_probability(outputs, pictures)
        return Terms(explained, divergence(mean, log_variance), mean, outputs)

    def _loss(self, reconstruction: Tensor, divergences: Tensor) -> Tensor:
        """What is minimised, of a mean (0-d) and the means of the dimensions' KL (latent_size,)."""
        # Not by 0, which is where rounding may put what is unused: it would lose its gradient.
        if self.free_bits:
            divergences = divergences.clamp_min(self.free_bits)
        return reconstruction + self.beta * divergences.sum()

    def _judged(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """A batch's pictures as they are judged, binarised by ``generator``."""
        pictures = self._pixels.shown(batch["input"])
        if self._binarises:
            # On the CPU, so that all devices judge the same pictures.
            lots = torch.rand(pictures.shape, generator=generator).to(pictures.device)
            pictures = (lots < pictures).to(pictures.dtype)
        return pictures

    def _figures(
        self, split: CodedSplit, shown: dict[str, Tensor]
    ) -> dict[str, Callable[[], Figure]]:
        figures = {
            "reconstructions": rows_of(**shown),
            "interpolation": split.ways(self._decode),
        }
        if self.model.latent_size == 2:
            figures["latent_plane"] = split.plane(self._decode, DEVIATIONS)
        return figures


def _draw_use(divergences: Tensor, active: int) -> Figure:
    from dltrain.figures.latent import draw_latent_use

    return draw_latent_use(divergences.numpy(), active)
