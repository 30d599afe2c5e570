"""Metrics of models that generate images: reconstructions, latent spaces, the ELBO, samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dltrain.contracts.data import Batch
from dltrain.contracts.metric import Evaluation, Metric, Mode, Outputs
from dltrain.metrics.accumulators import spread
from dltrain.reports.plane import Plane

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from typing_extensions import Self

SHOWN = 20
"""Images of which reconstructions are drawn."""
WAYS, STEPS = 8, 9
"""Interpolations from image to image, and the images decoded on each."""
PLACES = 20
"""Along each side of the latent plane."""
OUTLIERS = 0.005
"""The fraction of codes that each side of the latent plane leaves out."""
ACTIVE = 0.01
"""The variance over a split above which a dimension's mean is in use (Burda et al. 2016)."""
BIT = math.log(2)
"""Nats."""
COLLAPSED = (
    "the posterior has collapsed: the codes carry {:.2g} nats an image, less than one bit, so the "
    "decoder makes its images without them. Train longer, lower task.beta, or set "
    "task.free_bits=0.1."
)
COMPARED = 2_000
"""Images of a split that samples are compared with."""

Decode = Callable[[Tensor], Tensor]
"""Codes (n, latent_size), any number of them, to images (n, channels, height, width) of 0..1."""


class Rows:
    """Columns of a split's examples, in the order of the split whatever order they came in.

    With ``most``, only so many examples are kept: those that come first in the split or, with
    ``mixed``, some from all over it, whatever the order of its classes.
    """

    def __init__(self, most: int | None = None, mixed: bool = False) -> None:
        self._most, self._mixed = most, mixed
        self._rows: list[Tensor] = []
        self._columns: dict[str, list[Tensor]] = {}

    def add(self, rows: Tensor, **columns: Tensor) -> None:
        """Take in examples: their places in the split (n,), and columns (n, ...)."""
        if self._most is None:
            self._append(rows, columns)
            return
        # First the batch by itself: most of it need not be copied.
        self._append(*self._ordered(rows, columns))
        if len(self._rows) > 1:
            self._settle()

    def merge(self, other: Rows) -> None:
        """Take in what ``other`` has kept."""
        for place, rows in enumerate(other._rows):
            self.add(rows, **{name: parts[place] for name, parts in other._columns.items()})

    def columns(self) -> dict[str, Tensor]:
        """Everything kept, by column, on the device."""
        self._settle()
        return {name: parts[0] for name, parts in self._columns.items()}

    def state_dict(self) -> dict[str, Any]:
        """Tensors: ``rows``, and the columns by name."""
        if not self._rows:
            return {}
        columns = self.columns()
        return {"rows": self._rows[0], "columns": columns}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self._rows, self._columns = [], {}
        if state:
            self._append(state["rows"], state["columns"])

    def _append(self, rows: Tensor, columns: Mapping[str, Tensor]) -> None:
        self._rows.append(rows)
        for name, column in columns.items():
            self._columns.setdefault(name, []).append(column)

    def _settle(self) -> None:
        columns = {name: torch.cat(parts) for name, parts in self._columns.items()}
        rows, columns = self._ordered(torch.cat(self._rows), columns)
        self._rows, self._columns = [rows], {name: [column] for name, column in columns.items()}

    def _ordered(
        self, rows: Tensor, columns: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        order = (-spread(rows) if self._mixed else rows).argsort()[: self._most]
        chosen = {
            name: column.index_select(0, order.to(column.device))
            for name, column in columns.items()
        }
        return rows[order], chosen


class Moments:
    """Mean and variance over examples, in float64 (Chan, Golub and LeVeque 1983)."""

    def __init__(self) -> None:
        self.count = 0
        self._mean: Tensor | None = None
        self._squares: Tensor | None = None

    @property
    def mean(self) -> Tensor:
        """Of an example's shape."""
        assert self._mean is not None, "no examples"
        return self._mean

    @property
    def variance(self) -> Tensor:
        """Of an example's shape; the biased one."""
        assert self._squares is not None, "no examples"
        return self._squares / self.count

    def add(self, values: Tensor) -> None:
        """Take in examples (n, ...)."""
        values = _double(values)
        mean = values.mean(0)
        self._join(len(values), mean, (values - mean).square().sum(0))

    def merge(self, other: Moments) -> None:
        """Take in what ``other`` has seen."""
        if other.count:
            assert other._squares is not None
            self._join(other.count, other.mean, other._squares)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and a number."""
        return {"count": self.count, "mean": self._mean, "squares": self._squares}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self.count, self._mean, self._squares = state["count"], state["mean"], state["squares"]

    def _join(self, count: int, mean: Tensor, squares: Tensor) -> None:
        if self._mean is None or self._squares is None:
            self.count, self._mean, self._squares = count, mean, squares
            return
        total = self.count + count
        distance = mean - self._mean
        self._mean = self._mean + distance * (count / total)
        self._squares = self._squares + squares + distance.square() * (self.count * count / total)
        self.count = total


class PixelErrors(Metric):
    """Means over a split's pixels: ``loss``, and the squared error ``mse`` of reconstructions.

    With ``denoising`` there are besides ``corruption_mse``, that of the corrupted images
    themselves, and ``denoising_mse``, of what the network makes of them. ``loss`` gets logits and
    images (n, channels, height, width), and returns a sum (0-d).
    """

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor], denoising: bool) -> None:
        self._loss = loss
        self.names = ("loss", "mse", *(("corruption_mse", "denoising_mse") if denoising else ()))
        self.better = dict.fromkeys(self.names, "min")
        self._sums: dict[str, list[Tensor]] = {name: [] for name in self.names}
        self._pixels = 0

    def update(self, outputs: Outputs, batch: Batch, rows: Tensor) -> None:
        """Of ``logits``, ``reconstruction``, ``corrupted`` and ``restored`` beside ``image``."""
        images = outputs["image"]
        self._pixels += images.numel()
        self._sums["loss"].append(self._loss(outputs["logits"], images))
        compared = {
            "mse": "reconstruction",
            "corruption_mse": "corrupted",
            "denoising_mse": "restored",
        }
        for name in self.names[1:]:
            self._sums[name].append((outputs[compared[name]] - images).square().sum())

    def merge(self, other: Self) -> None:
        """Add the sums."""
        self._pixels += other._pixels
        for name, sums in other._sums.items():
            self._sums[name] += sums

    def compute(self) -> Evaluation:
        """The sums over the number of pixels."""
        return Evaluation(
            scalars={
                name: math.fsum(torch.stack(sums).tolist()) / self._pixels
                for name, sums in self._sums.items()
            },
            weights=dict.fromkeys(self._sums, self._pixels),
        )

    def state_dict(self) -> dict[str, Any]:
        """The sums of each batch, and the number of pixels."""
        return {"pixels": self._pixels, "sums": {name: [*s] for name, s in self._sums.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self._pixels = state["pixels"]
        self._sums = {name: [*sums] for name, sums in state["sums"].items()}


class Reconstructions(Metric):
    """The figure ``reconstructions``: some of a split's images, a row for each of their versions.

    ``versions`` maps what stands beside a row to a column of the outputs.
    """

    def __init__(self, versions: Mapping[str, str]) -> None:
        self._versions = dict(versions)
        self._some = Rows(SHOWN, mixed=True)

    def update(self, outputs: Outputs, batch: Batch, rows: Tensor) -> None:
        """Keep some images."""
        self._some.add(rows, **{column: outputs[column] for column in self._versions.values()})

    def merge(self, other: Self) -> None:
        """Keep some of both."""
        self._some.merge(other._some)

    def compute(self) -> Evaluation:
        """A figure."""
        shown = self._some.columns()
        versions = {
            name: shown[column].clamp(0, 1).cpu() for name, column in self._versions.items()
        }
        return Evaluation(figures={"reconstructions": partial(_draw_rows, versions)})

    def state_dict(self) -> dict[str, Any]:
        """Those images."""
        return self._some.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self._some.load_state_dict(state)


class LatentSpace(Metric):
    """The figures ``interpolation`` and, with a ``latent_size`` of 2, ``latent_plane``.

    The first has straight ways between pairs of codes of the split, the second all codes,
    colored by ``class_names`` where there are any. ``stds`` are the prior's standard
    standard deviations to draw circles at; the plane is a square where there are any.
    """

    def __init__(
        self,
        decode: Decode,
        latent_size: int,
        class_names: Sequence[str] = (),
        stds: Sequence[float] = (),
    ) -> None:
        self._decode = decode
        self._class_names, self._stds = list(class_names), tuple(stds)
        self._some = Rows(SHOWN, mixed=True)
        self._all = Rows() if latent_size == 2 else None

    def update(self, outputs: Outputs, batch: Batch, rows: Tensor) -> None:
        """Keep ``code`` (n, latent_size), and some of ``image``."""
        codes = outputs["code"].float()
        self._some.add(rows, image=outputs["image"], code=codes)
        if self._all is not None:
            targets = {"target": batch["target"]} if self._class_names else {}
            self._all.add(rows, code=codes, **targets)

    def merge(self, other: Self) -> None:
        """Keep some of both, and all codes."""
        self._some.merge(other._some)
        if self._all is not None and other._all is not None:
            self._all.merge(other._all)

    def compute(self) -> Evaluation:
        """Decode now, and draw later."""
        figures = {"interpolation": self._interpolation()}
        if self._all is not None:
            figures["latent_plane"] = self._plane(self._all.columns())
        return Evaluation(figures=figures)

    def state_dict(self) -> dict[str, Any]:
        """Some images, and codes."""
        everything = {} if self._all is None else self._all.state_dict()
        return {"some": self._some.state_dict(), "all": everything}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self._some.load_state_dict(state["some"])
        if self._all is not None:
            self._all.load_state_dict(state["all"])

    def _interpolation(self) -> Callable[[], Figure]:
        images, codes = self._some.columns().values()
        count = min(len(images) // 2, WAYS)
        starts, ends = (codes[which : 2 * count : 2] for which in (0, 1))
        fractions = torch.linspace(0, 1, STEPS, device=starts.device)[:, None]
        between = torch.lerp(starts[:, None], ends[:, None], fractions)
        decoded = self._decode(between.flatten(0, 1)).unflatten(0, between.shape[:2])
        columns = (images[0 : 2 * count : 2], decoded, images[1 : 2 * count : 2])
        return partial(_draw_ways, *(column.cpu() for column in columns))

    def _plane(self, columns: Mapping[str, Tensor]) -> Callable[[], Figure]:
        codes = columns["code"].cpu()
        limits = codes.quantile(torch.tensor([OUTLIERS, 1 - OUTLIERS]), dim=0)
        if self._stds:
            middle, reach = limits.mean(0), (limits[1] - limits[0]).max() / 2
            limits = torch.stack((middle - reach, middle + reach))
        plane = Plane.around(limits, PLACES)
        images = self._decode(plane.grid().to(columns["code"])).cpu()
        targets = columns["target"].cpu() if self._class_names else None
        return partial(_draw_plane, plane, images, codes, targets, self._class_names, self._stds)


class EvidenceLowerBound(Metric):
    """The ELBO and its terms, in nats an image, and how many latent dimensions are in use.

    Codes that diverge from the prior by less than one bit in all tell hardly two images apart: the
    posterior has collapsed, which is said with the ``final`` evaluation. ``loss`` makes of the
    mean reconstruction term (0-d) and the mean KL divergence of each dimension (latent_size,) what
    training minimizes (0-d).
    """

    names = ("loss", "reconstruction", "kl", "elbo", "active_units")
    better: Mapping[str, Mode] = {"loss": "min", "reconstruction": "min", "elbo": "max"}

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor], final: bool = False) -> None:
        self._loss, self._final = loss, final
        self._moments = {name: Moments() for name in ("explained", "divergence", "code")}

    def update(self, outputs: Outputs, batch: Batch, rows: Tensor) -> None:
        """Take in ``explained`` (n,), ``divergence`` and ``code``, (n, latent_size) both."""
        for name, moments in self._moments.items():
            moments.add(outputs[name])

    def merge(self, other: Self) -> None:
        """Add what it has seen."""
        for name, moments in other._moments.items():
            self._moments[name].merge(moments)

    def compute(self) -> Evaluation:
        """Scalars, and the figure ``latent_use``."""
        each = self._moments["divergence"].mean.cpu()
        reconstruction = -self._moments["explained"].mean.cpu()
        active = int((self._moments["code"].variance > ACTIVE).sum())
        means = {
            "loss": float(self._loss(reconstruction, each)),
            "reconstruction": float(reconstruction),
            "kl": float(each.sum()),
            "elbo": float(-reconstruction - each.sum()),
        }
        return Evaluation(
            scalars={**means, "active_units": active},
            weights=dict.fromkeys(means, self._moments["explained"].count),
            figures={"latent_use": partial(_draw_use, each, active)},
            warnings=[COLLAPSED.format(means["kl"])] if self._final and means["kl"] < BIT else [],
        )

    def state_dict(self) -> dict[str, Any]:
        """Counts, means and sums of squares."""
        return {name: moments.state_dict() for name, moments in self._moments.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        for name, moments in self._moments.items():
            moments.load_state_dict(state[name])


class NegativeLogLikelihood(Metric):
    """``nll``: the mean of -log p(x), in nats an image."""

    names = ("nll",)
    better: Mapping[str, Mode] = dict.fromkeys(names, "min")

    def __init__(self) -> None:
        self._moments = Moments()

    def update(self, outputs: Outputs, batch: Batch, rows: Tensor) -> None:
        """Take in ``log_likelihood`` (n,)."""
        self._moments.add(outputs["log_likelihood"])

    def merge(self, other: Self) -> None:
        """Add what it has seen."""
        self._moments.merge(other._moments)

    def compute(self) -> Evaluation:
        """One number."""
        return Evaluation({"nll": -float(self._moments.mean)}, weights={"nll": self._moments.count})

    def state_dict(self) -> dict[str, Any]:
        """A count and a mean."""
        return self._moments.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self._moments.load_state_dict(state)


class AdversarialScores(Metric):
    """What two adversaries' losses make of all scores of a split together.

    ``summarize`` gets the scores of real and of generated images, (n,) both, and returns 0-d
    tensors by the ``names``.
    """

    def __init__(
        self, names: Sequence[str], summarize: Callable[[Tensor, Tensor], Mapping[str, Tensor]]
    ) -> None:
        self.names = tuple(names)
        self._summarize = summarize
        self._scores = Rows()

    def update(self, outputs: Outputs, batch: Batch, rows: Tensor) -> None:
        """Keep ``score_real`` and ``score_fake``, (n,) both."""
        self._scores.add(rows, real=outputs["score_real"], fake=outputs["score_fake"])

    def merge(self, other: Self) -> None:
        """Keep its scores too."""
        self._scores.merge(other._scores)

    def compute(self) -> Evaluation:
        """Scalars."""
        scores = self._scores.columns()
        found = self._summarize(scores["real"], scores["fake"])
        return Evaluation(
            {name: float(found[name]) for name in self.names},
            weights=dict.fromkeys(self.names, len(scores["real"])),
        )

    def state_dict(self) -> dict[str, Any]:
        """The scores."""
        return self._scores.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self._scores.load_state_dict(state)


class SampleDistance(Metric):
    """``sliced_wasserstein``: how far the pixels of samples are from those of real images.

    The split's first images are compared with as many samples. ``sample`` makes ``count`` of them,
    of the ``labels`` (count,) that the outputs had, or None: images of 0..1.
    """

    names = ("sliced_wasserstein",)
    better: Mapping[str, Mode] = dict.fromkeys(names, "min")

    def __init__(self, sample: Callable[[int, Tensor | None], Tensor]) -> None:
        self._sample = sample
        self._first = Rows(COMPARED)

    def update(self, outputs: Outputs, batch: Batch, rows: Tensor) -> None:
        """Keep the first of ``image`` and, where there are any, of ``label``."""
        columns = {name: outputs[name] for name in ("image", "label") if name in outputs}
        self._first.add(rows, **columns)

    def merge(self, other: Self) -> None:
        """Keep the first of both."""
        self._first.merge(other._first)

    def compute(self) -> Evaluation:
        """Make samples, and compare."""
        first = self._first.columns()
        images = first["image"]
        samples = self._sample(len(images), first.get("label"))
        return Evaluation(
            {"sliced_wasserstein": sliced_wasserstein(samples.flatten(1), images.flatten(1))}
        )

    def state_dict(self) -> dict[str, Any]:
        """The first images and labels."""
        return self._first.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self._first.load_state_dict(state)


def _double(values: Tensor) -> Tensor:
    """In float64; on the CPU where the device has no such numbers."""
    return values.cpu().double() if values.device.type == "mps" else values.double()


def _draw_rows(versions: dict[str, Tensor]) -> Figure:
    from dltrain.reports.sheets import draw_rows

    return draw_rows({name: _last(version).numpy() for name, version in versions.items()})


def _draw_ways(starts: Tensor, between: Tensor, ends: Tensor) -> Figure:
    from dltrain.reports.sheets import draw_ways

    return draw_ways(_last(starts).numpy(), _last(between).numpy(), _last(ends).numpy())


def _draw_plane(
    plane: Plane,
    images: Tensor,
    codes: Tensor,
    targets: Tensor | None,
    class_names: Sequence[str],
    stds: Sequence[float],
) -> Figure:
    from dltrain.reports.latent import draw_latent_plane

    labels = None if targets is None else targets.numpy()
    return draw_latent_plane(plane, _last(images).numpy(), codes.numpy(), labels, class_names, stds)


def _draw_use(divergences: Tensor, active: int) -> Figure:
    from dltrain.reports.latent import draw_latent_use

    return draw_latent_use(divergences.numpy(), active)


def _last(images: Tensor) -> Tensor:
    """Channels last."""
    return images.float().movedim(-3, -1)


def sliced_wasserstein(one: Tensor, other: Tensor, directions: int = 128, seed: int = 0) -> float:
    """How far apart two sets of as many points (n, dimensions) are, as distributions.

    The mean over random directions of the Wasserstein-1 distance of what the points are along
    each (Bonneel et al. 2015, with their sums for its integral). The directions depend on
    ``seed`` and the dimensions alone, so distances can be compared.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(one.shape[1], directions, generator=generator, dtype=torch.float32)
    along = (drawn / drawn.norm(dim=0)).to(one.device)
    with torch.autocast(one.device.type, enabled=False):
        places = [(points.float() @ along).sort(dim=0).values for points in (one, other)]
    return float((places[0] - places[1]).abs().mean(dtype=torch.float64))
