"""Learn a distribution of images by way of codes: the ELBO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from dltrain.contracts.data import EVALUATION_SEED, Batch, DataSpec, Draw
from dltrain.contracts.metric import Metric, Outputs
from dltrain.contracts.structure import has_members
from dltrain.contracts.task import (
    Exportable,
    Metrics,
    Optimize,
    Predicting,
    Predictions,
    Task,
)
from dltrain.engine.eval_mode import eval_mode
from dltrain.metrics.examples import PerExample
from dltrain.metrics.generative import (
    EvidenceLowerBound,
    LatentSpace,
    NegativeLogLikelihood,
    Reconstructions,
)
from dltrain.models.layers.denormalize import Pixels
from dltrain.tasks.latent import EXPORTED, Decoding, between, decoded
from dltrain.tasks.losses.elbo import Variation, divergence, drawn, importance_weighted

STDS = (1.0, 2.0, 3.0)
"""Standard deviations of the prior at which circles are drawn."""


class Terms(NamedTuple):
    """Of each image, in nats: log p(x|z) (n,) of a code z, each dimension's KL (n, latent_size).

    And the means of the codes (n, latent_size), and the outputs (n, c, h, w) for z.
    """

    explained: Tensor
    divergences: Tensor
    means: Tensor
    outputs: Tensor


class Variational(Task):
    """The evidence lower bound (ELBO) of images (batch, c, h, w) of 0..1 (Kingma and Welling 2014).

    The loss is the mean over images of ``reconstruction`` (-log p(x|z) of one code z drawn from
    the posterior) plus ``beta`` times ``kl`` (of that posterior from the standard normal), in nats;
    ``elbo`` is minus the sum of the two. With ``beta`` above 1 the dimensions of codes come to
    mean single things (Higgins et al. 2017). ``free_bits``, in nats, is what each dimension may
    cost, in the mean of a batch, before it costs anything (Kingma et al. 2016, appendix C.8).

    ``binarize="dynamic"`` makes every pixel 1 with its gray value as probability, else 0: anew
    each time in training, always alike in evaluation. With ``none`` images stay gray, and to a
    Bernoulli decoder the terms are cross-entropies and no log-probabilities.

    Of the test split at the end, ``nll`` is an estimate of -log p(x) from ``importance_samples``
    codes an image (Burda, Grosse and Salakhutdinov 2016); 0 leaves it out.

    Raises ValueError for a network that is no variational autoencoder, negative settings, and
    binary pixels for a decoder of gray ones.
    """

    conditional = False
    """Classes play no part, so images of one cannot be asked for."""

    replayable = True
    needs_target = False

    def __init__(
        self,
        model: nn.Module,
        spec: DataSpec,
        beta: float = 1.0,
        free_bits: float = 0.0,
        binarize: Literal["dynamic", "none"] = "dynamic",
        importance_samples: int = 500,
    ) -> None:
        super().__init__()
        if not has_members(model, Variation):
            raise ValueError(
                f"{type(model).__name__} has no distribution of codes: take model=vae or conv_vae"
            )
        if min(beta, free_bits, importance_samples) < 0:
            raise ValueError(
                "beta, free_bits and importance_samples are not negative; "
                f"got {beta}, {free_bits} and {importance_samples}"
            )
        if binarize == "dynamic" and model.likelihood.gray:
            raise ValueError(
                "model.decoder=gaussian explains gray values, but binarize=dynamic leaves none: "
                "set task.binarize=none"
            )
        self.model = model
        self.beta, self.free_bits = beta, free_bits
        self.importance_samples = importance_samples
        self.class_names = spec.class_names
        self._binarizes = binarize == "dynamic"
        self._pixels = Pixels(spec.input)

    def train_step(self, batch: Batch, optimize: Optimize) -> Metrics:
        """Raise the bound of the batch."""
        images = self._pixels.shown(batch["input"])
        if self._binarizes:
            images = torch.bernoulli(images)
        terms = self._terms(images, None)
        reconstruction, divergences = -terms.explained.mean(), terms.divergences.mean(0)
        loss = self._loss(reconstruction, divergences)
        optimize(loss)
        return {
            "loss": loss.detach(),
            "reconstruction": reconstruction.detach(),
            "kl": divergences.sum().detach(),
        }

    def forward(self, batch: Batch) -> Outputs:
        """``reconstruction``: expected images (batch, c, h, w) of 0..1, given mean codes."""
        return {
            "reconstruction": self.model.likelihood.mean(self.model(batch["input"])).clamp(0, 1)
        }

    def eval_step(self, batch: Batch, draw: Draw) -> Outputs:
        """The terms of the bound for the images ``image``, and what they are of.

        ``explained`` (n,), ``divergence`` (n, latent_size), ``code`` (n, latent_size), the mean,
        ``reconstruction`` (n, c, h, w) and at the end of a run ``log_likelihood`` (n,).
        """
        images = self._pixels.shown(batch["input"])
        if self._binarizes:
            # On the CPU, so that all devices evaluate the same images.
            chances = torch.rand(images.shape, generator=draw.generator).to(images.device)
            images = (chances < images).to(images.dtype)
        terms = self._terms(images, draw.generator)
        outputs = {
            "image": images,
            "code": terms.means,
            "explained": terms.explained,
            "divergence": terms.divergences,
            "reconstruction": self.model.likelihood.mean(terms.outputs),
        }
        if draw.final and self.importance_samples:
            # So many codes are drawn on the device.
            own = torch.Generator(images.device)
            own.manual_seed(int(torch.randint(2**62, (), generator=draw.generator)))
            inputs = self._pixels.normalized(images)
            outputs["log_likelihood"] = importance_weighted(
                self.model, inputs, images, self.importance_samples, own
            )
        return outputs

    def metrics(self, final: bool) -> Sequence[Metric]:
        """The bound and its terms, what can be drawn of codes and, at the end, ``nll``."""
        stds = STDS if self.model.latent_size == 2 else ()
        metrics: list[Metric] = [
            Reconstructions({"original": "image", "reconstruction": "reconstruction"}),
            LatentSpace(self._decode, self.model.latent_size, self.class_names, stds),
            EvidenceLowerBound(self._loss, final),
        ]
        columns = {"elbo": _bound, "reconstruction": _reconstruction, "kl": _divergence}
        if final and self.importance_samples:
            metrics.append(NegativeLogLikelihood())
            columns["nll"] = _negative_log_likelihood
        if final:
            metrics.append(PerExample(columns))
        return metrics

    def predict(self, batch: Batch) -> Predictions:
        """A column ``image``: expected images (batch, c, h, w) of 0..1, given mean codes."""
        return self._images(self.forward(batch)["reconstruction"])

    def sample(self, count: int, seed: int, labels: Tensor | None = None) -> Predictions:
        """Expected images (count, c, h, w) of 0..1 of codes drawn from the prior.

        Raises ValueError for ``labels``.
        """
        if labels is not None:
            raise ValueError("this model knows no classes: no labels can be asked for")
        return self._images(self._from_prior(self._prior(count, seed)))

    def interpolate(self, rows: int, steps: int, seed: int) -> Predictions:
        """Images (rows * steps, c, h, w) of 0..1 between two codes drawn from the prior each."""
        starts, ends = self._prior(2 * rows, seed).chunk(2)
        return self._images(self._from_prior(between(starts, ends, steps).flatten(0, 1)))

    def exports(self, examples: Batch) -> Mapping[str, Exportable]:
        """``decoder``: ``code`` (batch, latent_size), normal, to images; ``model``: images to such.

        The latter are what is predicted.
        """
        codes = self._prior(EXPORTED, EVALUATION_SEED).to(self._pixels.mean.device)
        decoder = Decoding(self, self._expected, self._pixels.field)
        return {
            "decoder": Exportable(decoder, {"code": codes}, {"code": {"drawn": "normal"}}),
            "model": Exportable(Predicting(self, list(examples)), examples),
        }

    def _images(self, images: Tensor) -> Predictions:
        return Predictions({"image": images}, {"image": self._pixels.field})

    def _prior(self, count: int, seed: int) -> Tensor:
        # On the CPU, so that a seed has the same codes everywhere.
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(count, self.model.latent_size, generator=generator)

    def _from_prior(self, codes: Tensor) -> Tensor:
        with eval_mode(self), torch.no_grad():
            return self._decode(codes.to(self._pixels.mean.device))

    def _decode(self, codes: Tensor) -> Tensor:
        return decoded(codes, self._expected)

    def _expected(self, codes: Tensor) -> Tensor:
        return self.model.likelihood.mean(self.model.decode(codes).float()).clamp(0, 1)

    def _terms(self, images: Tensor, generator: torch.Generator | None) -> Terms:
        """Draw a code for each image, by ``generator`` (None: the run's own)."""
        mean, log_variance = (
            part.float() for part in self.model.posterior(self._pixels.normalized(images))
        )
        outputs = self.model.decode(drawn(mean, log_variance, generator)).float()
        explained = self.model.likelihood.log_probability(outputs, images)
        return Terms(explained, divergence(mean, log_variance), mean, outputs)

    def _loss(self, reconstruction: Tensor, divergences: Tensor) -> Tensor:
        """What is minimized, of a mean (0-d) and the means of the dimensions' KL (latent_size,)."""
        # Not by 0, which is where rounding may put what is unused: it would lose its gradient.
        if self.free_bits:
            divergences = divergences.clamp_min(self.free_bits)
        return reconstruction + self.beta * divergences.sum()


def _bound(outputs: Outputs, batch: Batch) -> Tensor:
    return outputs["explained"] - outputs["divergence"].sum(1)


def _reconstruction(outputs: Outputs, batch: Batch) -> Tensor:
    return -outputs["explained"]


def _divergence(outputs: Outputs, batch: Batch) -> Tensor:
    return outputs["divergence"].sum(1)


def _negative_log_likelihood(outputs: Outputs, batch: Batch) -> Tensor:
    return -outputs["log_likelihood"]
