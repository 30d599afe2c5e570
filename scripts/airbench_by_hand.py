"""CIFAR-10 by airbench94's recipe (Jordan 2024) in a loop by hand, to tell what a copy costs.

    python scripts/airbench_by_hand.py DIR --seed 1           # DIR has Parquet files: img, label
    python scripts/airbench_by_hand.py DIR --validation 5000  # tested on images set aside

airbench94 has 94.0 % on the original CIFAR-10 after 9.9 epochs. What it has on a copy whose images
were compressed with losses tells what the copy costs. The network is ``dltrain``'s ``airbench``
with norms that learn no scale; the rest is as published: Nesterov momentum, biases of norms with 64
times the rate, a look ahead every fifth step, whitening biases that are kept after the third epoch,
alternating flips, crops out of edges that are mirrored, label smoothing, six views in testing.
Needs a CUDA device; one run takes about a minute, most of it reading.
"""

from __future__ import annotations

import argparse
import io
import json
import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from dltrain.models.vision.airbench import Airbench

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
RATE, DECAY, MOMENTUM, BIASES = 11.5, 0.0153, 0.85, 64
"""Of 1,024 examples; decoupled; Nesterov's; how many times the rate of weights."""
CROP, SIDE = 2, 32
KEPT_AFTER = 3
"""Epochs in which the whitening layer's biases are learned."""
SMOOTHING = 0.2
EVERY = 5
"""Steps from one look ahead to the next."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=float, default=9.9)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--validation", type=int, default=0)
    parser.add_argument("--device", default="cuda")
    asked = parser.parse_args()
    torch.manual_seed(asked.seed)
    train, test = (read(asked.source, split, asked.device) for split in ("train", "test"))
    if asked.validation:
        order = torch.randperm(len(train[0]), generator=torch.Generator().manual_seed(0))
        held, kept = order.to(asked.device).tensor_split([asked.validation])
        train, test = tuple(x[kept] for x in train), tuple(x[held] for x in train)
    network = learned(*train, asked.epochs, asked.batch)
    print(json.dumps({"seed": asked.seed, "accuracy": accuracy(network, *test)}))


def read(source: Path, split: str, device: str) -> tuple[Tensor, Tensor]:
    """Images (n, 3, 32, 32), normalized, and their classes."""
    table = pq.read_table(next(source.glob(f"{split}*.parquet")))
    coded = (io.BytesIO(row["bytes"]) for row in table["img"].to_pylist())
    images = torch.from_numpy(np.stack([np.asarray(Image.open(file)) for file in coded]))
    images = (images.to(device) / 255 - torch.tensor(MEAN, device=device)).div_(
        torch.tensor(STD, device=device)
    )
    classes = torch.tensor(table["label"].to_pylist(), device=device)
    return images.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last), classes


def learned(images: Tensor, classes: Tensor, epochs: float, batch: int) -> nn.Module:
    """A network trained for so many epochs; what does not fill a batch is left out."""
    device = images.device
    network = Airbench((3, SIDE, SIDE), 10).to(device, memory_format=torch.channels_last).train()
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.weight.requires_grad_(False)
    whitening = network.features[0]
    whitening._measure(images[:5000])
    optimizer, rates = descent(network, batch)
    slow = {name: value.clone() for name, value in averaged(network).items()}
    a_pass = len(images) // batch
    last, step, epoch = math.ceil(a_pass * epochs), 0, 0
    flipped = torch.rand(len(images), device=device) < 0.5
    while step < last:
        whitening.conv.bias.requires_grad_(epoch < KEPT_AFTER)
        moved = cropped(torch.where(flipped[:, None, None, None], images.flip(3), images))
        order = torch.randperm(len(images), device=device)
        for chosen in order.split(batch)[: min(a_pass, last - step)]:
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * triangle(step / last)
            with torch.autocast(device.type, torch.float16):
                logits = network(moved[chosen])
            loss = functional.cross_entropy(
                logits.float(), classes[chosen], label_smoothing=SMOOTHING, reduction="sum"
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            if step % EVERY == 0:
                look_ahead(network, slow, 0.95**EVERY * (step / last) ** 3)
        epoch, flipped = epoch + 1, ~flipped
    look_ahead(network, slow, 1.0)
    return network.eval()


def descent(network: Airbench, batch: int) -> tuple[torch.optim.SGD, list[float]]:
    """The optimizer, and the greatest rates of its groups."""
    examples = 1024 * (1 + 1 / (1 - MOMENTUM))
    rate, decay = RATE / examples, DECAY * batch / examples
    learn = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in learn if p.ndim < 2], "lr": BIASES * rate},
        {"params": [p for p in learn if p.ndim > 1], "lr": rate},
    ]
    for group in groups:
        group["weight_decay"] = decay / group["lr"]
    rates = [group["lr"] for group in groups]
    return torch.optim.SGD(groups, momentum=MOMENTUM, nesterov=True), rates


def triangle(part: float) -> float:
    """What the rate is multiplied by at a part of the run."""
    return 0.2 + 0.8 * part / 0.23 if part < 0.23 else 1 - 0.93 * (part - 0.23) / 0.77


def averaged(network: nn.Module) -> dict[str, Tensor]:
    """What a look ahead averages: all but counters."""
    state = network.state_dict()
    return {name: value for name, value in state.items() if value.is_floating_point()}


def look_ahead(network: nn.Module, slow: dict[str, Tensor], decay: float) -> None:
    """Move slow weights towards the network's, and the network to where they then are."""
    for name, value in averaged(network).items():
        value.copy_(slow[name].lerp_(value, 1 - decay))


def cropped(images: Tensor) -> Tensor:
    """Each image moved by up to two pixels in each direction, its edges mirrored."""
    padded = functional.pad(images, (CROP,) * 4, "reflect")
    down, right = torch.randint(2 * CROP + 1, (2, len(images), 1), device=images.device)
    moved = torch.empty_like(images)
    along = torch.arange(SIDE, device=images.device)
    # Piece by piece: an index of all images at once would take gigabytes.
    for rows in torch.arange(len(images), device=images.device).split(5000):
        at = (rows[:, None, None], slice(None), (down[rows] + along)[:, :, None])
        moved[rows] = padded[(*at, (right[rows] + along)[:, None])].permute(0, 3, 1, 2)
    return moved


@torch.inference_mode()
def accuracy(network: nn.Module, images: Tensor, classes: Tensor) -> float:
    """By the mean of an image, two that are moved, and the mirror images of all."""

    def both(views: Tensor) -> Tensor:
        return network(views).float() + network(views.flip(3)).float()

    right = 0
    with torch.autocast(images.device.type, torch.float16):
        for some, truth in zip(images.split(1000), classes.split(1000), strict=True):
            padded = functional.pad(some, (1,) * 4, "reflect")
            shifted = both(padded[:, :, :SIDE, :SIDE]) + both(padded[:, :, 2:, 2:])
            answers = (both(some) / 2 + shifted / 4).argmax(1)
            right += int((answers == truth).sum())
    return right / len(images)


if __name__ == "__main__":
    main()
