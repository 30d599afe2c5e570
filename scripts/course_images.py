"""What the course's pages 12 to 17 show: convolutions, the classic networks, pixels and objects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import dltrain
from course_runs import COLORS, Rows, Run, Shown, image, lines, mean_and_std, panels, percent, runs
from dltrain.models.vision.alexnet import AlexNet
from dltrain.models.vision.lenet import LeNet5
from result_rows import splits, test_batches


def convolution(outputs: Path) -> Shown:
    """A digit, six kernels, and what they make of it before and after pooling."""
    (run,) = runs(outputs)
    network = dltrain.load(run.path).model
    _, _, inputs, _ = splits(run.path)
    digit = torch.as_tensor(inputs[:1]).float()
    first = next(one for one in network.modules() if isinstance(one, nn.Conv2d))
    with torch.no_grad():
        maps = first(digit).relu()
        pooled = nn.functional.max_pool2d(maps, 2)
    figure, axes = panels(7, 8.4, 3.9, rows=3)
    for axis in axes:
        axis.set_axis_off()
    image(axes[0], digit[0, 0], "a digit, 8x8")
    axes[7].text(0, 0.4, "feature maps", fontsize=8)
    axes[14].text(0, 0.4, "pooled", fontsize=8)
    for k in range(6):
        image(axes[1 + k], first.weight[k, 0].detach(), f"kernel {k + 1}")
        image(axes[8 + k], maps[0, k])
        image(axes[15 + k], pooled[0, k])
    return Shown(figure, {"shapes": shapes(), "result": [[percent(run.test())]]})


def shapes() -> Rows:
    """Layers on an image of 32x32 with three channels: outputs, parameters, multiply-adds."""
    layers: list[tuple[str, nn.Module]] = [
        ("`Conv2d(3, 6, 5)`", nn.Conv2d(3, 6, 5)),
        ("`MaxPool2d(2)`", nn.MaxPool2d(2)),
        ("`Conv2d(6, 16, 5)`", nn.Conv2d(6, 16, 5)),
        ("`MaxPool2d(2)`", nn.MaxPool2d(2)),
    ]
    rows, at = [], torch.zeros(1, 3, 32, 32)
    for name, layer in layers:
        before = at.shape[1]
        at = layer(at)
        _, channels, height, width = at.shape
        work = height * width * channels * 25 * before if isinstance(layer, nn.Conv2d) else 0
        rows.append([name, f"{height}x{width}x{channels}", f"{parameters(layer):,}", f"{work:,}"])
    dense = nn.Linear(32 * 32 * 3, 28 * 28 * 6, device="meta")
    work = dense.in_features * dense.out_features
    rows.append(["`Linear(3072, 4704)`", "4704", f"{parameters(dense):,}", f"{work:,}"])
    return rows


def parameters(network: nn.Module) -> int:
    return sum(one.numel() for one in network.parameters())


def lenet(outputs: Path) -> Shown:
    """Both variants' validation losses, and where the modern one is wrong."""
    figure, (curves, confusion) = panels(2, 8.0, 3.1)
    found, rows = {}, []
    every = runs(outputs)
    for run in every:
        name = str(run.value("model.variant"))
        found[name] = run.curve("validation")
        rows.append([f"`model.variant={name}`", f"{run.summary['parameters']:,}",
                     percent(run.test()), f"{run.test('loss'):.3f}"])  # fmt: skip
    lines(curves, found, xlabel="epoch", ylabel="validation loss", yscale="log")
    _, _, inputs, targets = splits(every[0].path)
    with torch.no_grad():
        said = dltrain.load(every[0].path).model(torch.as_tensor(inputs).float()).argmax(1).numpy()
    matrix = np.zeros((10, 10), int)
    np.add.at(matrix, (targets, said), 1)
    wrong = matrix * (1 - np.eye(10, dtype=int))
    confusion.imshow(wrong, cmap="Oranges", vmin=0, vmax=max(2, wrong.max()))
    for row, column in zip(*np.nonzero(matrix), strict=True):
        confusion.text(column, row, matrix[row, column], ha="center", va="center", fontsize=7)
    confusion.set(xlabel="predicted", ylabel="true", xticks=range(10), yticks=range(10))
    layers = layers_of(LeNet5((1, 28, 28), 10), (1, 1, 28, 28))
    return Shown(figure, {"variants": rows, "layers": layers})


def layers_of(network: nn.Module, size: tuple[int, ...]) -> Rows:
    """Its layers that have parameters: the shape of what they give, and how many parameters."""
    rows: Rows = []

    def note(layer: nn.Module, _: object, output: Tensor) -> None:
        kind = type(layer).__name__
        shape = "x".join(map(str, [*output.shape[2:], output.shape[1]]))
        rows.append([f"`{kind}`", shape, f"{parameters(layer):,}"])

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(note)
    network.eval()(torch.zeros(size, device=next(network.parameters()).device))
    rows.append(["", "", f"{parameters(network):,}"])
    return rows


def alexnet(outputs: Path) -> Shown:
    """Curves with and without batch norm; shapes that it is to tell; the layers of 2012."""
    figure, axes = panels(4, 9.0, 2.7)
    every = runs(outputs)
    _, _, inputs, targets = splits(every[0].path)
    for label, axis in enumerate(axes[:3]):
        kind = ("circle", "square", "triangle")[label]
        image(axis, pixels_of(inputs[targets == label][0]), kind)
    found, rows = {}, []
    for run in every:
        setting = f"model.batch_norm={str(run.value('model.batch_norm')).lower()}"
        found[setting.removeprefix("model.")] = run.curve("validation", "accuracy")
        rows.append([f"`{setting}`", f"{run.summary['parameters']:,}", percent(run.test())])
    lines(axes[3], found, xlabel="epoch", ylabel="validation accuracy")
    with torch.device("meta"):
        network = AlexNet((3, 224, 224), 1000)
    return Shown(figure, {"norm": rows, "layers": layers_of(network, (1, 3, 224, 224))})


def unet(outputs: Path) -> Shown:
    """Test images, their masks, and what the network says."""
    (run,) = runs(outputs)
    _, _, inputs, masks = splits(run.path)
    with torch.no_grad():
        said = dltrain.load(run.path).model(torch.as_tensor(inputs[:4]).float()).argmax(1).numpy()
    figure, axes = panels(6, 9.0, 3.3, rows=2)
    colors = {"cmap": "viridis", "vmin": 0, "vmax": 3}
    for k in range(4):
        image(axes[3 * k], pixels_of(inputs[k]), "image")
        image(axes[3 * k + 1], masks[k], "mask", **colors)
        image(axes[3 * k + 2], said[k], "prediction", **colors)
    rows = [["`model=unet`", *(percent(run.test(name)) for name in ("pixel_accuracy", "miou"))]]
    # Of "all is background": right wherever it is, and of four classes one has an IoU above 0.
    background = float((masks == 0).mean())
    rows.append(["background", percent(background), percent(background / 4)])
    return Shown(figure, {"result": rows})


def pixels_of(inputs: np.ndarray) -> np.ndarray:
    """A normalized image (c, h, w) as it is seen (h, w, c)."""
    return (inputs.transpose(1, 2, 0) * 0.25 + 0.5).clip(0, 1)


def detection(outputs: Path) -> Shown:
    """Objects that were found in test images, with their classes and scores."""
    from matplotlib.patches import Rectangle

    (run,) = runs(outputs)
    batch = next(iter(test_batches(run.path)))
    answers = dltrain.load(run.path).predict(batch)
    figure, axes = panels(4, 9.0, 2.4)
    for k, axis in enumerate(axes):
        image(axis, pixels_of(batch["input"][k].numpy()))
        drawn = []
        for found in answers[k]["objects"]:  # the surest first; one place may be of two classes
            if found["score"] < 0.5 or found["box"] in drawn:
                continue
            drawn.append(found["box"])
            left, top, right, bottom = found["box"]
            color = COLORS[("circle", "square", "triangle").index(found["class"])]
            size = (right - left, bottom - top)
            axis.add_patch(Rectangle((left, top), *size, fill=False, color=color, linewidth=2))
            name = f"{found['class']} {found['score']:.2f}"
            axis.text(left, top - 1, name, fontsize=7, color="white")
    rows = [[percent(run.test(name)) for name in ("map", "map_50", "map_75")]]
    return Shown(figure, {"result": rows})


def transfer(outputs: Path) -> Shown:
    """Validation accuracy by epoch, mean of three seeds, from random and from learned weights."""
    found: dict[str, list[Run]] = {}
    for run in runs(outputs):
        found.setdefault(run.path.parent.name, []).append(run)
    del found["first"]
    figure, (curve,) = panels(1, 6.0, 2.9)
    curves, rows = {}, []
    for name, every in found.items():
        values = np.mean([run.curve("validation", "accuracy")[1] for run in every], 0)
        curves[name] = (every[0].curve("validation", "accuracy")[0], values)
        loss = np.mean([run.test("loss") for run in every])
        rows.append([name, mean_and_std([run.test() for run in every]), f"{loss:.2f}"])
    lines(curve, curves, xlabel="epoch", ylabel="validation accuracy")
    return Shown(figure, {"transfer": rows})


SECTIONS = {
    "12": convolution,
    "13": lenet,
    "14": alexnet,
    "15": transfer,
    "16": unet,
    "17": detection,
}
