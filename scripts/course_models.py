"""What the course's pages 23 to 28 show: what generates, recommends, acts, is stacked, is small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import dltrain
from course_runs import Rows, Shown, image, lines, panels, percent, runs


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


SECTIONS = {"23": generative, "25": recommenders, "26": acting, "27": boltzmann, "28": small}
