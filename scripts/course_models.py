"""What the course's pages 23 to 28 show: what generates, recommends, acts, is stacked, is small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import dltrain
from course_runs import Rows, Run, Shown, image, lines, panels, percent, runs


def generative(outputs: Path) -> Shown:
    """Latent planes of an autoencoder and a VAE, decoded; and what a GAN makes of noise."""
    figure, axes = panels(3, 9.0, 3.2)
    rows: Rows = []
    for axis, run in zip(axes, runs(outputs), strict=True):
        name = run.path.parent.name.partition("-")[0]
        predictor = dltrain.load(run.path)
        if name == "gan":
            made = predictor.task.sample(100, 0).columns["image"]
        else:
            # Where a standard normal distribution has its deciles, in both dimensions.
            side = torch.special.ndtri(torch.linspace(0.05, 0.95, 10))
            plane = torch.cartesian_prod(-side, side)[:, [1, 0]]
            with torch.no_grad():
                made = predictor.model.decode(plane).sigmoid()
        image(axis, sheet(made, 10), name, vmin=0, vmax=1)
        test = run.summary["test"]
        metric = {"autoencoder": "mse", "vae": "elbo", "gan": "sliced_wasserstein"}[name]
        rows.append([f"`model={name}`", f"{run.summary['parameters']:,}",
                     metric.replace("_", " "), f"{test[metric]:.3f}"])  # fmt: skip
    return Shown(figure, {"models": rows})


def sheet(images: Tensor, columns: int) -> np.ndarray:
    """Images (n, 1, h, w) side by side, a pixel apart."""
    padded = torch.nn.functional.pad(images[:, 0].float(), (0, 1, 0, 1), value=1.0)
    _, height, width = padded.shape
    grid = padded.reshape(-1, columns, height, width).transpose(1, 2)
    return grid.reshape(-1, columns * width).numpy()


def style(outputs: Path) -> Shown:
    """A house, two styles, the house painted by its pixels in each, and by a network in one."""
    from PIL import Image

    folder = outputs.parent / "paintings"
    eyes, waves, dots, fast = runs(outputs)
    figure, axes = panels(6, 10.2, 2.0)
    shown = [(np.asarray(Image.open(folder / f"{name}.png")), name) for name in ("house", "waves")]
    shown.append(
        (pixels_of(dltrain.load(waves.path).task.sample(1, 0).columns["image"][0]), "its pixels")
    )
    shown.append(
        (
            pixels_of(dltrain.load(fast.path).predict([folder / "house.png"]).images[0]),
            "a network",
        )
    )
    shown.append((np.asarray(Image.open(folder / "dots.png")), "dots"))
    shown.append(
        (pixels_of(dltrain.load(dots.path).task.sample(1, 0).columns["image"][0]), "its pixels")
    )
    for axis, (pixels, title) in zip(axes, shown, strict=True):
        image(axis, pixels, title)
    rows: Rows = []
    for run, name in ((waves, "waves"), (dots, "dots")):
        left = [
            run.curve("train", of, by="step")[1][-1] for of in ("content_loss", "style_fraction")
        ]
        rows.append(
            [
                f"`model=style`, {name}",
                f"{run.summary['parameters']:,}",
                f"{left[0]:.2f}",
                percent(left[1]),
            ]
        )
    test = [f"{fast.test('content_loss'):.2f}", percent(fast.test("style_fraction"))]
    rows.append(["`model=fast_style`, waves", f"{fast.summary['parameters']:,}", *test])
    return Shown(figure, {"painted": rows, "grams": grams(eyes, folder)})


def pixels_of(made: Tensor) -> np.ndarray:
    """An image (3, h, w) of 0..1 as it is seen (h, w, 3)."""
    return made.detach().float().clamp(0, 1).permute(1, 2, 0).numpy()


def grams(eyes: Run, folder: Path) -> Rows:
    """How far a quarter of a painting is from all of it, by Gram matrices of means and of sums."""
    from dltrain.data.images.style import read_image
    from dltrain.tasks.losses.style import gram

    network = dltrain.load(eyes.path).model
    norm = dltrain.load(eyes.path).spec.input
    mean, std = (torch.tensor(one).view(-1, 1, 1) for one in (norm.mean, norm.std))

    @torch.no_grad()
    def seen(pixels: Tensor) -> Tensor:
        return network.features[:8](((pixels - mean) / std)[None])

    whole, house = (seen(read_image(folder / f"{name}.png", 128)) for name in ("waves", "house"))
    part = seen(read_image(folder / "waves.png", 128)[:, :64, :64])
    rows = []
    for name, by in (
        ("mean over places", gram),
        ("sum over places", lambda one: gram(one) * one.shape[2] * one.shape[3]),
    ):
        far = [(by(one) - by(whole)).square().mean() for one in (part, house)]
        rows.append([name, percent(float(far[0] / far[1]))])
    return rows


def recommenders(outputs: Path) -> Shown:
    """Validation errors by the number of factors, beside what needs none."""
    figure, (curves,) = panels(1, 6.0, 2.9)
    found, rows = {}, []
    every = runs(outputs)
    test = every[0].summary["test"]
    for name, key in (("mean of all", "mean"), ("mean and biases", "biases")):
        rows.append([name, *(f"{test[f'baseline_{key}_{of}']:.3f}" for of in ("rmse", "mae"))])
    for run in every:
        setting = f"model.factors={run.value('model.factors')}"
        found[setting] = run.curve("validation", "rmse")
        rows.append([f"`{setting}`", *(f"{run.test(of):.3f}" for of in ("rmse", "mae"))])
    lines(curves, found, xlabel="epoch", ylabel="validation RMSE, stars")
    return Shown(figure, {"errors": rows})


def acting(outputs: Path) -> Shown:
    """The return of validation episodes by step."""
    (run,) = runs(outputs)
    figure, (curve,) = panels(1, 6.0, 2.9)
    lines(curve, {"PPO": run.curve("validation", "return", by="step")},
          xlabel="step", ylabel="return of an episode")  # fmt: skip
    curve.axhline(500, linestyle="--", color="lightgray")
    rows = [[f"{run.validation('return'):.0f}", f"{run.test('return'):.0f}"]]
    return Shown(figure, {"returns": rows})


def boltzmann(outputs: Path) -> Shown:
    """What hidden units look for, and images that the machine makes of noise."""
    (run,) = runs(outputs)
    predictor = dltrain.load(run.path)
    figure, (units, made) = panels(2, 6.6, 3.2)
    weights = next(one for one in predictor.model.parameters() if one.dim() == 2).detach()
    fields = weights if weights.shape[1] == 64 else weights.T
    largest = fields.norm(dim=1).argsort(descending=True)[:100]
    shown = fields[largest].reshape(-1, 1, 8, 8)
    shown = (shown - shown.amin((2, 3), True)) / (
        shown.amax((2, 3), True) - shown.amin((2, 3), True)
    )
    image(units, sheet(shown, 10), "weights of 100 hidden units")
    image(
        made, sheet(predictor.task.sample(100, 0).columns["image"], 10), "samples", vmin=0, vmax=1
    )
    test = run.summary["test"]
    rows = [[f"{test[name]:.3f}" for name in ("reconstruction", "pseudo_likelihood")]]
    return Shown(figure, {"result": rows})


def small(outputs: Path) -> Shown:
    """Accuracy by the number of weights that are not 0."""
    figure, (places,) = panels(1, 5.6, 3.0)
    rows: Rows = []
    for run in runs(outputs):
        name = run.path.parent.name
        weights = dltrain.load(run.path).model.parameters()
        alive = sum(int((one != 0).sum()) for one in weights)
        places.plot(alive, 100 * run.test(), "o")
        places.annotate(
            name, (alive, 100 * run.test()), xytext=(5, 4), textcoords="offset points", fontsize=8
        )
        rows.append([name, f"{run.summary['parameters']:,}", f"{alive:,}", percent(run.test()),
                     f"{run.test('loss'):.3f}"])  # fmt: skip
    places.set(xscale="log", xlabel="parameters that are not 0", ylabel="test accuracy, %")
    return Shown(figure, {"networks": rows})


SECTIONS = {
    "23": generative,
    "24": style,
    "25": recommenders,
    "26": acting,
    "27": boltzmann,
    "28": small,
}
