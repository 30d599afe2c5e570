"""What the course's pages 01 to 11 show: layers, descent, overfitting and its remedies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import dltrain
from course_runs import (
    COLORS,
    Rows,
    Run,
    Shown,
    image,
    lines,
    mean_and_std,
    panels,
    percent,
    regions,
    runs,
)
from dltrain.models.mlp import MLP
from result_rows import splits


def linear_regression(outputs: Path) -> Shown:
    """How fast the loss of y = 2x falls at three rates, and what two common slips make of it."""
    figure, (falls,) = panels(1, 6.4, 3.0)
    found, rows = {}, []
    x = torch.tensor([1.0, 2.0, 3.0, 4.0])
    design = torch.stack([x, torch.ones(4)], 1)
    curvatures = torch.linalg.eigvalsh(2 * design.T @ design / 4)
    for run in runs(outputs):
        rate = run.value("optimizer.lr")
        found[f"lr = {rate}"] = steps, losses = run.curve("steps", by="step")
        # The slowest direction alone is left by step 100.
        late = [(s, v) for s, v in zip(steps, losses, strict=True) if s >= 100 and v > 1e-10]
        (s, v), (t, w) = late[0], late[-1]
        measured = (w / v) ** (1 / (2 * (t - s)))
        expected = float((1 - rate * curvatures).abs().max())
        rows.append(
            [
                f"`optimizer.lr={rate}`",
                f"{run.test('loss'):.2g}",
                f"{expected:.4f}",
                f"{measured:.4f}",
            ]
        )
    lines(falls, found, xlabel="step", ylabel="mean squared error", yscale="log")
    falls.set_ylim(1e-13, 1e2)
    return Shown(figure, {"rates": rows, "slips": line_slips()})


def line_slips() -> Rows:
    """The same regression by hand, right, and with two slips of published code."""
    x = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    flat = (2 * x).flatten()

    def fitted(targets: Tensor, forget: bool) -> list[str]:
        torch.manual_seed(0)
        line = nn.Linear(1, 1)
        optimizer = torch.optim.SGD(line.parameters(), lr=0.05)
        for _ in range(1000):
            if not forget:
                optimizer.zero_grad()
            loss = (line(x) - targets).square().mean()
            loss.backward()
            optimizer.step()
        error = float((line(x).flatten() - flat).abs().max().detach())
        found = (float(one.detach()) for one in line.parameters())
        return [*(f"{one:.3f}" for one in found), f"{error:.2g}"]

    return [
        ["`loss = (output - y).square().mean()`, `y` of shape (4, 1)", *fitted(2 * x, False)],
        ["`y` of shape (4,): the difference is (4, 4)", *fitted(flat, False)],
        ["without `optimizer.zero_grad()`", *fitted(2 * x, True)],
    ]


def perceptron(outputs: Path) -> Shown:
    """Four gates by a perceptron, and XOR by eight hidden units."""
    figure, axes = panels(5, 10.0, 2.4)
    rows = []
    for axis, run in zip(axes, runs(outputs), strict=True):
        gate = run.value("data.gate")
        hidden = run.config["model"].get("hidden")
        regions(axis, run, (-0.5, -0.5), (1.5, 1.5))
        for a in (0, 1):
            for b in (0, 1):
                one = {"AND": a & b, "OR": a | b, "NAND": 1 - (a & b), "XOR": a ^ b}[gate]
                axis.plot(a, b, "o" if one else "x", color=COLORS[one], markersize=9)
        axis.set_title(f"{gate}, {'8 hidden units' if hidden else 'perceptron'}", fontsize=9)
        axis.set(xticks=(0, 1), yticks=(0, 1))
        name = "`model=mlp`" if hidden else "`model=perceptron`"
        rows.append([f"{name} `data.gate={gate}`", percent(run.test(), 0)])
    return Shown(figure, {"gates": rows})


def logistic_regression(outputs: Path) -> Shown:
    """The sigmoid over the test split's scores; the losses' slopes; and softmax taken twice."""
    (run,) = runs(outputs)
    figure, (scores, slopes) = panels(2, 8.0, 2.9)
    z = np.linspace(-8, 8, 200)
    p = 1 / (1 + np.exp(-z))
    _, _, inputs, targets = map(torch.as_tensor, splits(run.path))
    with torch.no_grad():
        logits = dltrain.load(run.path).model(inputs.float()).numpy()
    score = (logits[:, 1] - logits[:, 0]).clip(-8, 8)
    jitter = np.random.default_rng(0).normal(0, 0.02, len(score))
    scores.plot(z, p, color="black", linewidth=1.2)
    for label, name in enumerate(("malignant", "benign")):
        mine = targets.numpy() == label
        scores.plot(
            score[mine], label + jitter[mine], ".", color=COLORS[label], markersize=4, label=name
        )
    scores.legend(fontsize=8, frameon=False)
    scores.set(xlabel="score (difference of the logits)", ylabel="probability of benign")
    lines(
        slopes,
        {
            "cross-entropy: p - 1": (z, p - 1),
            "squared error: 2 (p - 1) p (1 - p)": (z, 2 * (p - 1) * p * (1 - p)),
        },
        xlabel="score of an example of class 1",
        ylabel="slope of its loss",
    )
    rows = [[percent(run.validation(), 1), f"{run.validation('loss'):.3f}", percent(run.test(), 1),
             f"{run.test('loss'):.3f}"]]  # fmt: skip
    return Shown(figure, {"result": rows, "softmax": softmax_twice()})


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """scikit-learn's digits, 1,437 to train on and 360 to test: inputs of mean 0 and std 1."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    inputs = torch.from_numpy(x / 16).float()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    inputs, targets = ((inputs - inputs.mean()) / inputs.std())[order], torch.from_numpy(y)[order]
    return inputs[:1437], targets[:1437], inputs[1437:], targets[1437:]


def softmax_twice() -> Rows:
    """Softmax regression of digits: CrossEntropyLoss of logits, and of their softmax."""
    inputs, targets, test_inputs, test_targets = digits()
    rows = []
    for name, first in (
        ("`CrossEntropyLoss()(logits, y)`", nn.Identity()),
        ("`CrossEntropyLoss()(softmax(logits), y)`", nn.Softmax(1)),
    ):
        torch.manual_seed(0)
        layer = nn.Linear(64, 10)
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
        for _ in range(500):
            optimizer.zero_grad()
            loss = functional.cross_entropy(first(layer(inputs)), targets)
            loss.backward()
            optimizer.step()
        right = float((layer(test_inputs).argmax(1) == test_targets).float().mean())
        rows.append([name, f"{float(loss.detach()):.3f}", percent(right)])
    return rows


def activations(outputs: Path) -> Shown:
    """The gradient's norm by layer before training, and what twenty epochs make of each."""
    figure, (norms, curves) = panels(2, 8.0, 2.9)
    inputs, targets, _, _ = digits()
    found, losses, rows = {}, {}, []
    for run in runs(outputs):
        name = run.value("model.activation")
        torch.manual_seed(0)
        network = MLP((64,), 10, run.value("model.hidden"), name, "kaiming")
        functional.cross_entropy(network(inputs), targets).backward()
        weights = [layer.weight for layer in network.layers if isinstance(layer, nn.Linear)]
        gradients = [float(weight.grad.norm()) for weight in weights]
        found[name] = (range(1, len(gradients) + 1), gradients)
        losses[name] = run.curve("train")
        ratio = gradients[0] / gradients[-1]
        rows.append([f"`model.activation={name}`", f"{ratio:.2g}", percent(run.test())])
    lines(norms, found, xlabel="layer", ylabel="norm of the gradient", yscale="log")
    lines(curves, losses, xlabel="epoch", ylabel="training loss")
    return Shown(figure, {"activations": rows})


def initialization(outputs: Path) -> Shown:
    """How large activations are by layer, and how the loss falls, for each way to begin."""
    figure, (sizes, curves) = panels(2, 8.0, 2.9)
    inputs, _, _, _ = digits()
    found, losses, rows = {}, {}, []
    for run in runs(outputs):
        name = run.value("model.init")
        torch.manual_seed(0)
        network = MLP((64,), 10, run.value("model.hidden"), "tanh", name)
        stds, hidden = [float(inputs.std())], inputs
        for layer in network.layers:
            hidden = layer(hidden)
            if isinstance(layer, nn.Tanh):
                stds.append(float(hidden.std().detach()))
        found[name] = (range(len(stds)), stds)
        losses[name] = run.curve("train")
        first = dltrain.load(run.path).model.layers[1].weight.detach()
        different = len(torch.unique(first.round(decimals=6), dim=0))
        rows.append([f"`model.init={name}`", f"{different} of {len(first)}", percent(run.test())])
    lines(sizes, found, xlabel="layer", ylabel="standard deviation of its outputs")
    lines(curves, losses, xlabel="epoch", ylabel="training loss")
    return Shown(figure, {"initialization": rows})


def batches(outputs: Path) -> Shown:
    """The same rate with one example, 32 and all of them in a step."""
    figure, (by_epoch, by_step) = panels(2, 8.0, 2.9)
    epochs, steps, rows = {}, {}, []
    for run in runs(outputs):
        size = run.value("data.batch_size")
        name = {1: "1: stochastic", "full": "full: batch"}.get(size, f"{size}: mini-batch")
        epochs[name], steps[name] = run.curve("train"), run.curve("steps", by="step")
        summary = run.summary
        seconds = summary["seconds"]["train"]
        rows.append([f"`data.batch_size={size}`", f"{summary['steps']:,}", f"{seconds:.1f}",
                     f"{run.curve('train')[1][-1]:.3f}", percent(run.test())])  # fmt: skip
    lines(by_epoch, epochs, xlabel="epoch", ylabel="training loss", yscale="log")
    lines(by_step, steps, xlabel="step", ylabel="loss of 50 steps", xscale="log", yscale="log")
    return Shown(figure, {"batches": rows})


def optimizers(outputs: Path) -> Shown:
    """Their ways down a narrow valley, and their losses on digits."""
    figure, (valley, curves) = panels(2, 8.6, 3.1)
    makers: dict[str, Callable[..., torch.optim.Optimizer]] = {
        "sgd": lambda p: torch.optim.SGD(p, lr=0.09),
        "momentum": lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9),
        "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.1),
        "adam": lambda p: torch.optim.Adam(p, lr=0.3),
    }
    x, y = np.meshgrid(np.linspace(-4.5, 4.5, 80), np.linspace(-2, 2, 80))
    valley.contour(x, y, 0.5 * (x**2 + 20 * y**2), levels=12, colors="lightgray", linewidths=0.7)
    ways = {}
    for name, make in makers.items():
        point = torch.tensor([-4.0, 1.5], requires_grad=True)
        optimizer, way = make([point]), []
        for _ in range(40):
            way.append(point.detach().clone().numpy())
            optimizer.zero_grad()
            (0.5 * (point[0] ** 2 + 20 * point[1] ** 2)).backward()
            optimizer.step()
        ways[name] = tuple(np.stack(way).T)
    lines(valley, ways, title="40 steps on (x² + 20 y²) / 2")
    found, rows = {}, []
    for run in runs(outputs):
        name = choice(run, "optimizer")
        found[name] = run.curve("train")
        rows.append([f"`optimizer={name}`", f"{run.value('optimizer.lr'):g}",
                     f"{run.curve('train')[1][-1]:.4f}", percent(run.test())])  # fmt: skip
    lines(curves, found, xlabel="epoch", ylabel="training loss", yscale="log")
    return Shown(figure, {"optimizers": rows})


def choice(run: Run, group: str) -> str:
    """What was typed for a group."""
    typed = (run.path / "overrides.txt").read_text().split()
    return next(line.partition("=")[2] for line in typed if line.startswith(f"{group}="))


def bias_and_variance(outputs: Path) -> Shown:
    """Too small, right, too large: the plane that each divides, and its three losses."""
    figure, axes = panels(3, 9.0, 2.9)
    rows = []
    for axis, run in zip(axes, runs(outputs), strict=True):
        inputs, targets, _, _ = splits(run.path)
        regions(axis, run, (-2.2, -1.7), (3.2, 2.2))
        for label in (0, 1):
            mine = inputs[targets == label]
            axis.plot(
                mine[:, 0],
                mine[:, 1],
                "x" if label == 0 else "o",
                color=COLORS[label],
                markersize=4,
            )
        hidden = ",".join(map(str, run.value("model.hidden")))
        axis.set_title(f"hidden: [{hidden}]", fontsize=9)
        train = run.curve("train", "accuracy")[1][-1]
        rows.append([f"`model.hidden=[{hidden}]`", f"{run.summary['parameters']:,}",
                     percent(train), percent(run.validation()), percent(run.test()),
                     f"{run.test('loss'):.2f}"])  # fmt: skip
    return Shown(figure, {"sizes": rows})


def penalties(outputs: Path) -> Shown:
    """Histograms of the weights without a penalty, with L1, with L2."""
    figure, axes = panels(3, 9.0, 2.6)
    rows = []
    for axis, run, name in zip(axes, runs(outputs), ("none", "l1", "l2"), strict=True):
        weights = dltrain.load(run.path).model.linear.weight.detach().flatten().numpy()
        axis.hist(weights, bins=np.linspace(-0.8, 0.8, 41), color=COLORS[0])
        axis.set_title(f"regularizer={name}", fontsize=9)
        zero = np.mean(np.abs(weights) < 0.01)
        rows.append([f"`regularizer={name}`", percent(zero, 0), f"{np.linalg.norm(weights):.2f}",
                     percent(run.test()), f"{run.test('loss'):.3f}"])  # fmt: skip
    return Shown(figure, {"penalties": rows})


def dropout(outputs: Path) -> Shown:
    """Validation losses with and without, three seeds each."""
    return _by_seed(outputs, "model.dropout")


def _by_seed(outputs: Path, key: str) -> Shown:
    figure, (train, validation) = panels(2, 8.0, 2.9)
    found: dict[str, list[Run]] = {}
    for run in runs(outputs):
        found.setdefault(f"{key}={run.value(key):g}", []).append(run)
    for axis, split in ((train, "train"), (validation, "validation")):
        curves = {}
        for name, every in found.items():
            values = np.mean([run.curve(split)[1] for run in every], 0)
            curves[name] = (every[0].curve(split)[0], values)
        lines(axis, curves, xlabel="epoch", ylabel=f"{split} loss")
    rows = [
        [
            f"`{name}`",
            mean_and_std([run.curve("train", "accuracy")[1][-1] for run in every]),
            mean_and_std([run.test() for run in every]),
            f"{np.mean([run.test('loss') for run in every]):.2f}",
        ]
        for name, every in found.items()
    ]
    return Shown(figure, {"seeds": rows})


def augmentation(outputs: Path) -> Shown:
    """A digit as six epochs see it, and what that is worth."""
    from dltrain.config.build import build
    from dltrain.contracts.data import Placement, Source

    shown = _by_seed(outputs, "data.augment.shift")
    config = next(run.config for run in runs(outputs) if run.value("data.augment.shift"))
    config["data"] |= {"batch_size": 1, "limit": 4, "validation": 0}
    source = build(config["data"], Source, "data")
    source.read(0)
    stream = source.open(Placement(torch.device("cpu"), 0))["train"]
    seen: dict[int, list[Tensor]] = {}
    for epoch in range(8):
        for batch in stream.batches(epoch):
            seen.setdefault(int(batch["target"]), []).append(batch["input"][0, 0])
    figure, axes = panels(8, 9.0, 2.6, rows=2)
    for axis, pixels in zip(
        axes, [one for every in list(seen.values())[:2] for one in every[:8]], strict=True
    ):
        image(axis, pixels)
    return Shown(figure, shown.tables | {"splits": split_after_augmentation()})


def split_after_augmentation() -> Rows:
    """The nearest neighbor's accuracy on 40 of 200 digits with 8 variants each, split two ways."""
    from sklearn.neighbors import KNeighborsClassifier

    inputs, targets, _, _ = digits()
    noise = torch.Generator().manual_seed(0)
    varied = inputs[:200].repeat_interleave(8, 0)
    varied += 0.5 * torch.randn(varied.shape, generator=noise)
    classes, digit = targets[:200].repeat_interleave(8), torch.arange(200).repeat_interleave(8)
    rows = []
    for name, tested in (
        ("variants at random", torch.randperm(1600, generator=noise) < 320),
        ("digits, then variants", digit >= 160),
    ):
        nearest = KNeighborsClassifier(1).fit(varied[~tested], classes[~tested])
        rows.append([name, percent(nearest.score(varied[tested], classes[tested]))])
    return rows


SECTIONS = {
    "01": linear_regression,
    "02": perceptron,
    "03": logistic_regression,
    "04": activations,
    "05": initialization,
    "06": batches,
    "07": optimizers,
    "08": bias_and_variance,
    "09": penalties,
    "10": dropout,
    "11": augmentation,
}
