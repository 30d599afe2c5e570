"""One measurement of scripts/benchmark.py, in a process of its own.

    python scripts/contestants.py by_hand lenet5 --batch 128 --steps 400

Prints one line of JSON: microseconds a step over ``--steps`` steps, the seconds from ``--started``
(a clock time; default: now) to the end of the first step, and the process's largest memory in MiB.
With ``--look-every N`` it also looks at MNIST's test split every N steps, and tells after how many
seconds 97, 98 and 99 % of it were right; it stops when all are reached.

Each trains the same network from the same first weights' distribution by the same optimizer on the
same batches' size; MNIST is read from DLTRAIN_DATA, linreg has points on a line, alexnet noise in
CIFAR-10's shape. None of them imports what it does not need.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loops_by_hand import (
    CARTS,
    DISCOUNT,
    EPOCHS,
    GAE,
    LENGTH,
    boltzmann_by_hand,
    carts_by_hand,
    series_by_hand,
)
from peers import gpt2, ultralytics

if TYPE_CHECKING:
    from torch import Tensor, nn

WORKLOADS = (
    *("linreg", "mlp", "lenet5", "cnn", "alexnet", "dcgan", "lstm", "seq2seq", "unet", "yolo"),
    *("lstm_language", "transformer_language", "audio_cnn", "fast_style", "adain"),
    *("matrix_factorization", "ppo", "rbm", "linear"),
)
MEAN, STD = 0.1307, 0.3081
POINTS = 8_000
"""Of linreg's line."""
NOISE = 10_000
"""Images of alexnet's noise."""
CELLS = (240, 320)
"""Height and width of yolo's images."""
SLICES, SIDE = 40, 128
"""Images of unet's noise, and of those that are styled; and their side."""
VGG = {2: (3, 64), 5: (64, 64), 9: (64, 128), 12: (128, 128), 16: (128, 256)}
"""Channels of the convolutions of VGG-19 as far as relu3_1, by their places in its file."""
UNET = {"width": 16, "depth": 4, "padding": "same", "batch_norm": True, "dropout": 0.0}
LEVELS = (0.97, 0.98, 0.99)
"""Test accuracies whose times are taken."""


class Watch:
    """Notes when the first step ends, when the last does, and when accuracies are reached."""

    def __init__(
        self,
        started: float,
        steps: int,
        look_every: int = 0,
        clock: Callable[[], float] = time.perf_counter,
        device: str = "cpu",
    ) -> None:
        self.started, self.left, self.clock = started, steps, clock
        self.look_every, self.device = look_every, device
        self.reached: dict[float, float] = {}
        self.first = 0.0
        self._begun = clock()
        self._steps = steps
        self.step_time = 0.0

    def begin(self) -> None:
        """Training begins."""
        self._wait()
        self._begun = self.clock()

    def _wait(self) -> None:
        """Until the device has done all that it was told."""
        if self.device != "cpu":
            import torch

            torch.cuda.synchronize()

    def step(self, accuracy: Callable[[], float]) -> bool:
        """A step is over; whether to stop. ``accuracy`` looks at the test split."""
        if not self.first:
            self._wait()
            self.first = time.time() - self.started
        self.left -= 1
        if not self.left:
            self._wait()
            self.step_time = (self.clock() - self._begun) / self._steps
        if self.look_every and self.left % self.look_every == 0:
            self.note(accuracy(), time.time())
        return not self.left or len(self.reached) == len(LEVELS)

    def note(self, accuracy: float, when: float) -> None:
        """So much of the test split was right at a clock time."""
        for level in LEVELS:
            if accuracy >= level:
                self.reached.setdefault(level, when - self.started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("contestant", choices=CONTESTANTS)
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--started", type=float, default=time.time())
    parser.add_argument("--look-every", type=int, default=0)
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    asked = parser.parse_args()
    if asked.device != "cpu" and (asked.workload in OWN_LOOPS or asked.look_every):
        parser.error(f"{asked.workload}, and looks, are for a processor")
    clock = time.process_time if asked.cpu_time else time.perf_counter
    watch = Watch(asked.started, asked.steps, asked.look_every, clock, asked.device)
    CONTESTANTS[asked.contestant](asked.workload, asked.batch, watch)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    levels = {f"{level:.0%}": watch.reached.get(level) for level in LEVELS}
    figures = {"step": watch.step_time * 1e6, "first": watch.first, "memory": memory}
    print(json.dumps(figures | levels))


def network(workload: str) -> nn.Module:
    """The same for all."""
    if workload == "linreg":
        from torch import nn

        return nn.Linear(1, 1)
    if workload == "alexnet":
        from dltrain.models.vision.alexnet import AlexNet

        return AlexNet(
            (3, 32, 32),
            10,
            channels=(32, 96, 192, 128, 128),
            kernels=(3, 3, 3, 3, 3),
            stride=1,
            padding=1,
            groups=1,
            dense=(256, 256),
            response_norm=False,
            batch_norm=True,
            init="kaiming",
            unit_biases=False,
        )
    if workload == "lenet5":
        from torch import nn

        # Layer by layer: dltrain's own computes its first two as one.
        return nn.Sequential(
            *(nn.Conv2d(1, 6, 5, padding=2), nn.MaxPool2d(2), nn.ReLU()),
            *(nn.Conv2d(6, 16, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten()),
            *(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
        )
    from dltrain.models.mlp import MLP
    from dltrain.models.vision.cnn import CNN

    return {"mlp": MLP, "cnn": CNN}[workload]((1, 28, 28), 10)


def learner(workload: str, model: nn.Module) -> tuple[Any, Callable[[Tensor, Tensor], Tensor]]:
    """An optimizer as one writes it, and the loss."""
    import torch
    from torch.nn import functional

    if workload == "linreg":
        return torch.optim.SGD(model.parameters(), lr=0.01), functional.mse_loss
    return torch.optim.Adam(model.parameters(), lr=1e-3), functional.cross_entropy


def line() -> tuple[Tensor, Tensor]:
    import torch

    inputs = torch.rand(POINTS, 1)
    return inputs, 2 * inputs


def mnist(split: str) -> tuple[Tensor, Tensor]:
    """Images (n, 1, 28, 28) of 0..1 and their classes; ``split`` is train or t10k."""
    import numpy as np
    import torch

    folder = Path(os.environ["DLTRAIN_DATA"]) / "MNIST" / "raw"
    images = np.fromfile(folder / f"{split}-images-idx3-ubyte", np.uint8)[16:]
    labels = np.fromfile(folder / f"{split}-labels-idx1-ubyte", np.uint8)[8:]
    inputs = torch.from_numpy(images).view(-1, 1, 28, 28).float().div_(255)
    return inputs, torch.from_numpy(labels).long()


def by_hand(workload: str, batch: int, watch: Watch) -> None:
    """A loop over float tensors that lie in memory, already normalized."""
    import torch

    if workload in OWN_LOOPS:
        OWN_LOOPS[workload](batch, watch)
        return
    if workload == "linreg":
        inputs, targets = line()
    elif workload == "alexnet":
        inputs, targets = torch.randn(NOISE, 3, 32, 32), torch.randint(10, (NOISE,))
    else:
        inputs, targets = mnist("train")
        inputs = inputs.sub_(MEAN).div_(STD)
    inputs, targets = inputs.to(watch.device), targets.to(watch.device)
    model = network(workload).to(watch.device)

    def accuracy() -> float:
        images, classes = mnist("t10k")
        model.eval()
        with torch.inference_mode():
            right = model(images.sub_(MEAN).div_(STD)).argmax(1) == classes
        model.train()
        return float(right.float().mean())

    optimizer, loss_of = learner(workload, model)
    watch.begin()
    while True:
        for chosen in torch.randperm(len(inputs), device=watch.device).split(batch):
            optimizer.zero_grad()
            loss_of(model(inputs[chosen]), targets[chosen]).backward()
            optimizer.step()
            if watch.step(accuracy):
                return


def never() -> float:
    """The accuracy of what does not classify."""
    return 0.0


def adversaries_by_hand(batch: int, watch: Watch) -> None:
    """The usual two updates a batch, as PyTorch's own tutorial orders them."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

    from dltrain.contracts.data import DataSpec, Field
    from dltrain.models.generative.dcgan import DCGAN

    images = mnist("train")[0].mul_(2).sub_(1)
    pair = DCGAN(DataSpec({"image": Field((1, 28, 28), "image", "input")}))
    generator, discriminator = pair.generator, pair.discriminator
    generate, discriminate = (
        torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.5, 0.999))
        for network in (generator, discriminator)
    )
    watch.begin()
    while True:
        for chosen in torch.randperm(len(images)).split(batch):
            real = images[chosen]
            ones, zeros = torch.ones(len(real)), torch.zeros(len(real))
            made = generator(torch.randn(len(real), pair.noise_size))
            discriminator.zero_grad()
            cross_entropy(discriminator(real), ones).backward()
            cross_entropy(discriminator(made.detach()), zeros).backward()
            discriminate.step()
            generator.zero_grad()
            cross_entropy(discriminator(made), ones).backward()
            generate.step()
            if watch.step(never):
                return


def reviews_by_hand(batch: int, watch: Watch) -> None:
    """Reviews drawn at random, each batch padded to its longest."""
    import torch
    from torch.nn.functional import cross_entropy
    from torch.nn.utils.rnn import pad_sequence

    from dltrain.contracts.data import Placement
    from dltrain.data.text.imdb import Imdb
    from dltrain.models.sequence.recurrent import LSTM

    source = Imdb(copies=os.environ["DLTRAIN_DATA"], root="~/.cache/dltrain", validation=0)
    spec = source.read(0)
    stream = source.open(Placement(torch.device("cpu"), 0))["train"]
    pairs = [pair for b in stream.plain() for pair in zip(b["input"], b["target"], strict=True)]
    reviews = [(ids[ids != 0], target) for ids, target in pairs]
    model = LSTM(spec, spec.facts()["outputs"])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    torch.set_flush_denormal(True)
    watch.begin()
    while True:
        for chosen in torch.randperm(len(reviews)).split(batch):
            rows, targets = zip(*(reviews[row] for row in chosen.tolist()), strict=True)
            optimizer.zero_grad()
            inputs = pad_sequence(list(rows), batch_first=True)
            cross_entropy(model(inputs), torch.stack(targets)).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            if watch.step(never):
                return


def digits(folder: Path) -> list[str]:
    """Spoken digits."""
    path = f"{os.environ['DLTRAIN_DATA']}/fsdd/recordings"
    return ["data=audio_folder", f"data.path={path}", "data.pattern='{label}_{speaker}_{index}'"]


def sounds_by_hand(batch: int, watch: Watch) -> None:
    """Spoken digits drawn at random, each batch padded to its longest; frames as they are drawn."""
    import torch
    from torch.nn.functional import cross_entropy
    from torch.nn.utils.rnn import pad_sequence

    from dltrain.contracts.data import Placement
    from dltrain.data.audio.features import Features, FeatureSettings
    from dltrain.data.audio.folder import AudioFolder
    from dltrain.models.sequence.audio_cnn import AudioCNN

    source = AudioFolder(
        f"{os.environ['DLTRAIN_DATA']}/fsdd/recordings",
        pattern="{label}_{speaker}_{index}",
        validation=0,
    )
    spec = source.read(0)
    stream = source.open(Placement(torch.device("cpu"), 0))["train"]
    columns = ("sound", "sound_length", "target")
    pairs = [row for b in stream.plain() for row in zip(*(b[c] for c in columns), strict=True)]
    sounds = [(samples[:length].float() / 32768, target) for samples, length, target in pairs]
    features = Features(FeatureSettings(), 8000, torch.device("cpu"))
    mean, std = torch.tensor(spec.input.mean), torch.tensor(spec.input.std)
    model = AudioCNN(spec, spec.facts()["outputs"])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    torch.set_flush_denormal(True)
    watch.begin()
    while True:
        for chosen in torch.randperm(len(sounds)).split(batch):
            rows, targets = zip(*(sounds[row] for row in chosen.tolist()), strict=True)
            optimizer.zero_grad()
            frames = (features(pad_sequence(list(rows), batch_first=True)) - mean) / std
            lengths = features.lengths(torch.tensor([len(row) for row in rows]))
            cross_entropy(model(frames, lengths), torch.stack(targets)).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            if watch.step(never):
                return


def boxes_by_hand(batch: int, watch: Watch) -> None:
    """Blood cells that lie in memory as floats, with their boxes padded to the longest list."""
    import torch
    from torch.nn.functional import one_hot
    from torchvision.ops import generalized_box_iou_loss

    from dltrain.contracts.data import Placement
    from dltrain.data.detection.voc import Voc
    from dltrain.models.vision.yolo import Yolo
    from dltrain.tasks.losses.detection import Truth, assign, varifocal

    source = Voc(
        f"{os.environ['DLTRAIN_DATA']}/bccd",
        root="~/.cache/dltrain",
        size=CELLS,
        splits={"train": "trainval", "test": "test"},
        validation=0,
        evaluation_batch_size=1000,
    )
    spec = source.read(0)
    stream = source.open(Placement(torch.device("cpu"), 0))["train"]
    parts = list(stream.plain())
    images, boxes, labels, counts = (
        torch.cat([part[name] for part in parts])
        for name in ("input", "boxes", "labels", "boxes_length")
    )
    real = torch.arange(boxes.shape[1]) < counts[:, None]
    model = Yolo(spec).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    torch.set_flush_denormal(True)
    watch.begin()
    while True:
        for chosen in torch.randperm(len(images)).split(batch):
            truth = Truth(boxes[chosen], labels[chosen], real[chosen], ~real[chosen] & False)
            cells = model(images[chosen].contiguous(memory_format=torch.channels_last))
            chances = cells.logits.detach().sigmoid()
            goal = assign(chances, cells.boxes.detach(), cells.centers, cells.strides, truth)
            targets = goal.scores[..., None] * one_hot(goal.labels, chances.shape[2])
            total = goal.scores.sum().clamp(min=1)
            giou = generalized_box_iou_loss(cells.boxes, goal.boxes)
            loss = (varifocal(cells.logits, targets).sum() + 2 * (giou * goal.scores).sum()) / total
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if watch.step(never):
                return


def segmentation_by_hand(batch: int, watch: Watch) -> None:
    """Images of noise and their masks, in memory."""
    import torch
    from torch.nn.functional import cross_entropy

    from dltrain.contracts.data import DataSpec, Field
    from dltrain.models.vision.unet import UNet

    inputs = torch.randn(SLICES, 1, SIDE, SIDE)
    targets = torch.randint(2, (SLICES, SIDE, SIDE))
    image = Field((1, None, None), "image", "input")
    mask = Field((None, None), "mask", "target", size=2)
    model = UNet(DataSpec({"input": image, "target": mask}), **UNET)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    watch.begin()
    while True:
        for chosen in torch.randperm(len(inputs)).split(batch):
            optimizer.zero_grad()
            cross_entropy(model(inputs[chosen]), targets[chosen]).backward()
            optimizer.step()
            if watch.step(never):
                return


WINDOW, CHARACTERS = 128, 65
"""Tokens of a window of text, and different ones."""
LANGUAGE = {
    "lstm_language": {"hidden_size": 384, "embedding_size": 128},
    "transformer_language": {"layers": 4, "heads": 4, "embedding_size": 128},
}


def letters() -> str:
    """A million letters by chance, as many different ones as tiny Shakespeare has."""
    import random

    return "".join(random.Random(0).choices([chr(48 + n) for n in range(CHARACTERS)], k=10**6))


def language_by_hand(workload: str, batch: int, watch: Watch) -> None:
    """A text in memory, read along its lanes; the state is carried over."""
    import torch
    from torch.nn.functional import cross_entropy

    from dltrain.contracts.data import DataSpec, Field
    from dltrain.models.sequence.decoder import Decoder
    from dltrain.models.sequence.recurrent import LSTM

    size = CHARACTERS + 2
    ids = torch.tensor([ord(letter) - 46 for letter in letters()])
    fields = {
        name: Field((WINDOW,), "tokens", name, size=size, fill=0) for name in ("input", "target")
    }
    kind: Any = LSTM if workload == "lstm_language" else Decoder
    model = kind(DataSpec(fields), size, **LANGUAGE[workload])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    lanes = ids[: (len(ids) - 1) // batch * batch].view(batch, -1)
    torch.set_flush_denormal(True)
    watch.begin()
    while True:
        state = model.initial_state(batch)
        for low in range(0, lanes.shape[1] - WINDOW - 1, WINDOW):
            window = lanes[:, low : low + WINDOW + 1]
            logits, after = model.read_on(window[:, :-1], state)
            state = tuple(part.detach() for part in after) if model.carries else ()
            loss = cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            if watch.step(never):
                return


def style_by_hand(workload: str, batch: int, watch: Watch) -> None:
    """Images of noise in memory, seen by a VGG-19 of noise, which takes as long as any other."""
    import torch
    from torch import nn
    from torch.nn.functional import mse_loss

    from dltrain.models.generative.adain import AdaptiveStyle
    from dltrain.models.generative.transform_net import TransformNet

    stages, layers = nn.ModuleList(), [nn.Conv2d(3, 3, 1)]
    for place, (inputs, outputs) in VGG.items():
        if place in (9, 16):
            layers.append(nn.MaxPool2d(2, 2, ceil_mode=True))
        layers += [nn.ReflectionPad2d(1), nn.Conv2d(inputs, outputs, 3), nn.ReLU()]
        if place in (2, 9, 16):  # relu1_1, relu2_1, relu3_1
            stages.append(nn.Sequential(*layers))
            layers = []
    stages.requires_grad_(False)

    def seen(images: Tensor) -> list[Tensor]:
        found = []
        for stage in stages:
            images = stage(images)
            found.append(images)
        return found

    def gram(features: Tensor) -> Tensor:
        flat = features.flatten(2)
        return flat @ flat.mT / flat.shape[2]

    def moments(features: Tensor) -> tuple[Tensor, Tensor]:
        return features.mean((2, 3)), (features.var((2, 3)) + 1e-5).sqrt()

    images, style = torch.rand(SLICES, 3, SIDE, SIDE), torch.rand(1, 3, SIDE, SIDE)
    learning: nn.Module
    if workload == "adain":
        learning = AdaptiveStyle((3, SIDE, SIDE)).decoder
        wanted: list[Any] = [moments(features) for features in seen(style)]
    else:
        learning = TransformNet((3, SIDE, SIDE))
        wanted = [gram(features) for features in seen(style)]
    optimizer = torch.optim.Adam(learning.parameters(), lr=1e-3)
    watch.begin()
    while True:
        for chosen in torch.randperm(len(images)).split(batch):
            with torch.no_grad():
                content = seen(images[chosen])[-1]
            optimizer.zero_grad()
            if workload == "adain":
                (mean, std), (to_mean, to_std) = moments(content), wanted[-1]
                scaled = (content - mean[:, :, None, None]) / std[:, :, None, None]
                content = scaled * to_std[:, :, None, None] + to_mean[:, :, None, None]
                after = seen(learning(content))
                loss = mse_loss(after[-1], content)
                for features, others in zip(after, wanted, strict=True):
                    for own, other in zip(moments(features), others, strict=True):
                        loss = loss + 10 * mse_loss(own, other.expand_as(own))
            else:
                after = seen(learning((images[chosen] - 0.5) / 0.25))
                loss = mse_loss(after[-1], content)
                for features, other in zip(after, wanted, strict=True):
                    loss = loss + 100 * mse_loss(gram(features), other.expand(len(chosen), -1, -1))
            loss.backward()
            optimizer.step()
            if watch.step(never):
                return


def translations_by_hand(batch: int, watch: Watch) -> None:
    """Pairs drawn at random, each batch padded to its longest on either side."""
    import torch
    from torch.nn.functional import cross_entropy, pad
    from torch.nn.utils.rnn import pad_sequence

    from dltrain.contracts.data import Placement
    from dltrain.data.parallel.source import ParallelText
    from dltrain.data.text.pieces import BEGIN_INDEX
    from dltrain.models.sequence.seq2seq import Seq2Seq

    source = ParallelText(f"{os.environ['DLTRAIN_DATA']}/multi30k/task1/raw", "de", "en")
    spec = source.read(0)
    stream = source.open(Placement(torch.device("cpu"), 0))["train"]
    pairs = [pair for b in stream.plain() for pair in zip(b["input"], b["target"], strict=True)]
    pairs = [(read[read != 0], said[said != 0].long()) for read, said in pairs]
    model = Seq2Seq(spec)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    torch.set_flush_denormal(True)
    watch.begin()
    while True:
        for chosen in torch.randperm(len(pairs)).split(batch):
            sides = zip(*(pairs[row] for row in chosen.tolist()), strict=True)
            read, said = (pad_sequence(list(rows), batch_first=True) for rows in sides)
            optimizer.zero_grad()
            logits = model(read, pad(said[:, :-1], (1, 0), value=BEGIN_INDEX))
            loss = cross_entropy(
                logits.flatten(0, 1), said.flatten(), ignore_index=0, label_smoothing=0.1
            )
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            if watch.step(never):
                return


def ratings_by_hand(batch: int, watch: Watch) -> None:
    """SVD++ in the usual lines: each rating's user is looked up, and the sum over what it has."""
    import torch
    from torch.nn.functional import mse_loss

    rows = torch.tensor(
        [
            [int(cell) for cell in line.split("\t")[:3]]
            for line in Path(f"{os.environ['DLTRAIN_DATA']}/ml-100k/u.data")
            .read_text()
            .splitlines()
        ]
    )
    user, item, value = rows[:, 0], rows[:, 1], rows[:, 2].float()
    shape = (int(user.max()) + 1, int(item.max()) + 1)
    has = torch.zeros(shape)
    has[user, item] = 1
    has /= has.sum(1, keepdim=True).clamp_min(1).sqrt()
    vectors = [torch.randn(size, 50).mul_(0.1).requires_grad_() for size in (*shape, shape[1])]
    biases = [torch.zeros(size, requires_grad=True) for size in shape]
    optimizer = torch.optim.Adam([*vectors, *biases], lr=1e-3)
    mean = value.mean()
    torch.set_flush_denormal(True)
    watch.begin()
    while True:
        for chosen in torch.randperm(len(value)).split(batch):
            optimizer.zero_grad()
            u, i = user[chosen], item[chosen]
            of_users = vectors[0][u] + has[u] @ vectors[2]
            said = mean + biases[0][u] + biases[1][i] + (of_users * vectors[1][i]).sum(1)
            mse_loss(said, value[chosen]).backward()
            optimizer.step()
            if watch.step(never):
                return


def acting_by_hand(batch: int, watch: Watch) -> None:
    """PPO on CartPole."""
    carts_by_hand(batch, watch.begin, partial(watch.step, never))


def machine_by_hand(batch: int, watch: Watch) -> None:
    """A restricted Boltzmann machine of MNIST's digits."""
    boltzmann_by_hand(mnist("train")[0].flatten(1), batch, watch.begin, partial(watch.step, never))


def forecasts_by_hand(batch: int, watch: Watch) -> None:
    """Seven series of ETTh1."""
    series_by_hand(batch, watch.begin, partial(watch.step, never))


def text_of_letters(workload: str, folder: Path) -> list[str]:
    """What has the command read the same text."""
    path = folder / "letters.txt"
    path.write_text(letters(), encoding="utf-8")
    sizes = [f"model.{name}={value}" for name, value in LANGUAGE[workload].items()]
    return ["data=text_file", f"data.path={path}", "data.test=0", "callbacks=default", *sizes]


OWN_LOOPS: dict[str, Callable[[int, Watch], None]] = {
    "dcgan": adversaries_by_hand,
    "lstm": reviews_by_hand,
    "seq2seq": translations_by_hand,
    "matrix_factorization": ratings_by_hand,
    **{name: partial(language_by_hand, name) for name in LANGUAGE},
    "yolo": boxes_by_hand,
    "ppo": acting_by_hand,
    "rbm": machine_by_hand,
    "linear": forecasts_by_hand,
    "audio_cnn": sounds_by_hand,
    "unet": segmentation_by_hand,
    "fast_style": partial(style_by_hand, "fast_style"),
    "adain": partial(style_by_hand, "adain"),
}
"""What has a loop of its own."""


def translations(folder: Path) -> list[str]:
    """What has the command translate captions, so many pairs at a time."""
    path = f"data.path={os.environ['DLTRAIN_DATA']}/multi30k/task1/raw"
    language = ["data.source=de", "data.target=en", "data.test=test_2016_flickr"]
    return ["data=parallel", path, *language, "data.tokens_per_batch=null"]


def ratings(folder: Path) -> list[str]:
    """What has the command learn ratings by SVD++."""
    path = f"data.path={os.environ['DLTRAIN_DATA']}/ml-100k/u.data"
    return [
        "data=ratings",
        path,
        "data.test=0.001",
        "model.implicit=true",
        "model.dropout=0",
        "model.l2=0",
    ]


def carts(folder: Path) -> list[str]:
    """What has the command act as by hand."""
    ours = [f"task.discount={DISCOUNT}", f"task.gae={GAE}", f"task.steps={LENGTH}"]
    return [
        *("data=gym", "data.environment=CartPole-v1", f"data.environments={CARTS}", "data.test=2"),
        *(*ours, f"task.epochs={EPOCHS}", "schedule=constant"),
    ]


def series(folder: Path) -> list[str]:
    """What has the command forecast all series of ETTh1."""
    path = f"data.path={os.environ['DLTRAIN_DATA']}/etth1/ETTh1.csv"
    return ["data=series", path, "data.target=all", "data.train=8640", "data.test=2880"]


def noise_as_cifar(folder: Path) -> list[str]:
    """What has the command read images of noise, from files in CIFAR-10's binary format."""
    import numpy as np

    from dltrain.data.images.cifar import PIXELS, TEST, TRAIN

    place = folder / "cifar-10-batches-bin"
    place.mkdir()
    generator = np.random.default_rng(0)
    for name in (*TRAIN, *TEST):
        rows = generator.integers(0, 256, (NOISE // len(TRAIN), 1 + PIXELS), np.uint8)
        rows[:, 0] %= 10
        rows.tofile(place / f"{name}.bin")
    return ["data=cifar10", f"data.root={folder}"]


def cells(folder: Path) -> list[str]:
    """What has the command read blood cells with their boxes."""
    return [
        *("data=voc", f"data.path={os.environ['DLTRAIN_DATA']}/bccd"),
        *(f"data.size={list(CELLS)}".replace(" ", ""), "data.splits={train:trainval,test:test}"),
    ]


def noise_with_masks(folder: Path) -> list[str]:
    """What has the command read images of noise with masks; an epoch of it is by hand's."""
    import numpy as np
    from PIL import Image

    generator = np.random.default_rng(0)
    for split, count in (("train", SLICES), ("test", 4)):
        for number in range(count):
            for place, most in (("images", 256), ("masks", 2)):
                path = folder / "noise" / split / place / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = generator.integers(0, most, (SIDE, SIDE), np.uint8)
                Image.fromarray(pixels).save(path)
    settings = [f"model.{name}={str(value).lower()}" for name, value in UNET.items()]
    place = [f"data.path={folder / 'noise'}", f"data.root={folder}"]
    return ["data=image_masks", *place, *settings]


def noise_to_style(folder: Path, workload: str) -> list[str]:
    """What has the command read images of noise, a style, and a VGG-19 that learned nothing."""
    import numpy as np
    import torch
    from PIL import Image

    generator = np.random.default_rng(0)
    for split, count in (("train", SLICES), ("test", 4), ("style", 1)):
        (folder / "noise" / split).mkdir(parents=True)
        for number in range(count):
            pixels = generator.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
            Image.fromarray(pixels).save(folder / "noise" / split / f"{number}.png")
    style, features = folder / "style.png", folder / "vgg.pth"
    (folder / "noise" / "style" / "0.png").rename(style)
    tensors = {"0.weight": torch.eye(3)[:, :, None, None], "0.bias": torch.zeros(3)}
    for place, (inputs, outputs) in VGG.items():
        tensors[f"{place}.weight"] = torch.randn(outputs, inputs, 3, 3) / (3 * inputs**0.5)
        tensors[f"{place}.bias"] = torch.zeros(outputs)
    torch.save(tensors, features)
    place = ["data=image_folder", f"data.path={folder / 'noise'}", f"data.root={folder}"]
    if workload == "adain":
        return [*place, f"task.styles={style}", f"model.pretrained={features}"]
    return [*place, f"task.style={style}", f"task.features={features}"]


def data_loader(workload: str, batch: int, train: bool = True) -> Any:
    """What tutorials have: each image is opened, made a tensor and normalized on its own."""
    from torch.utils.data import DataLoader, TensorDataset

    if workload == "linreg":
        return DataLoader(TensorDataset(*line()), batch_size=batch, shuffle=True)
    from torchvision import datasets, transforms

    made = transforms.Compose([transforms.ToTensor(), transforms.Normalize((MEAN,), (STD,))])
    data = datasets.MNIST(os.environ["DLTRAIN_DATA"], train=train, transform=made)
    return DataLoader(data, batch_size=batch, shuffle=train)


def tested(model: nn.Module) -> float:
    """The accuracy on the test split, by a DataLoader."""
    import torch

    right = 0
    model.eval()
    with torch.inference_mode():
        for inputs, targets in data_loader("", 1000, train=False):
            right += int((model(inputs).argmax(1) == targets).sum())
    model.train()
    return right / 10_000


def tutorial(workload: str, batch: int, watch: Watch) -> None:
    """The tutorials' loop over a DataLoader, which prints its loss now and then."""
    model = network(workload).to(watch.device)
    optimizer, loss_of = learner(workload, model)
    loader = data_loader(workload, batch)
    watch.begin()
    while True:
        for number, (inputs, targets) in enumerate(loader):
            optimizer.zero_grad()
            loss = loss_of(model(inputs.to(watch.device)), targets.to(watch.device))
            loss.backward()
            optimizer.step()
            if number % 100 == 0:
                print(f"step {number} loss {loss.item():.4f}", file=sys.stderr)
            if watch.step(partial(tested, model)):
                return


def lightning(workload: str, batch: int, watch: Watch) -> None:
    """Lightning with what its template has: progress bar, TensorBoard, checkpoints, metrics."""
    import lightning
    import torch
    from lightning.pytorch.loggers import TensorBoardLogger

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = network(workload)
            self.optimizer, self.loss_of = learner(workload, self.model)

        def training_step(self, batch: tuple[Tensor, Tensor], number: int) -> Tensor:
            inputs, targets = batch
            outputs = self.model(inputs)
            loss = self.loss_of(outputs, targets)
            self.log("train_loss", loss, on_step=False, on_epoch=True, prog_bar=True)
            if workload != "linreg":
                right = (outputs.argmax(1) == targets).float().mean()
                self.log("train_accuracy", right, on_step=False, on_epoch=True, prog_bar=True)
            return loss

        def configure_optimizers(self) -> Any:
            return self.optimizer

    class Clock(lightning.Callback):
        def on_train_start(self, *_: Any) -> None:
            watch.begin()

        def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
            trainer.should_stop = watch.step(partial(tested, module.model))

    torch.set_float32_matmul_precision("highest")
    with tempfile.TemporaryDirectory() as folder:
        trainer = lightning.Trainer(
            accelerator=watch.device,
            max_steps=watch.left,
            logger=TensorBoardLogger(folder),
            callbacks=[Clock()],
            default_root_dir=folder,
        )
        trainer.fit(Module(), data_loader(workload, batch))


def surprise(workload: str, batch: int, watch: Watch) -> None:
    """SVD++ of Surprise, which steps with each rating: so many of them are taken for a step."""
    from surprise import Dataset, Reader, SVDpp

    path = f"{os.environ['DLTRAIN_DATA']}/ml-100k/u.data"
    known = Dataset.load_from_file(path, Reader("ml-100k")).build_full_trainset()
    epochs, left = divmod(watch.left * batch, known.n_ratings)
    assert not left, "whole epochs"
    watch.begin()
    SVDpp(n_factors=50, n_epochs=epochs, random_state=0).fit(known)
    while not watch.step(never):
        pass


def stable_baselines3(workload: str, batch: int, watch: Watch) -> None:
    """PPO of Stable-Baselines3 on CartPole."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env

    class Enough(Exception):
        """All steps are made."""

    def after(*_: object) -> None:
        if watch.step(never):
            raise Enough

    learner = PPO(
        *("MlpPolicy", make_vec_env("CartPole-v1", CARTS, seed=0)),
        **{"n_steps": LENGTH, "batch_size": batch, "n_epochs": EPOCHS, "learning_rate": 1e-3},
        **{"gamma": DISCOUNT, "gae_lambda": GAE, "device": "cpu", "seed": 0},
    )
    learner.policy.optimizer.register_step_post_hook(after)
    watch.begin()
    with contextlib.suppress(Enough):
        learner.learn(watch.left * CARTS * LENGTH)


def dltrain(workload: str, batch: int, watch: Watch, *extra: str) -> None:
    """The whole command, everything on."""
    from dltrain import cli
    from dltrain.engine import clock as own_clock
    from dltrain.runs.finding import latest

    steps = watch.left
    with tempfile.TemporaryDirectory() as folder:
        if workload == "linreg":
            data = ["data=line", f"trainer.epochs={steps}", f"trainer.evaluate_every={steps}"]
        else:
            named = {
                "alexnet": noise_as_cifar,
                "lstm": lambda _: ["data=imdb"],
                "seq2seq": translations,
                "matrix_factorization": ratings,
                "unet": noise_with_masks,
                "yolo": cells,
                "ppo": carts,
                "linear": series,
                **{name: partial(text_of_letters, name) for name in LANGUAGE},
                "audio_cnn": digits,
                "fast_style": partial(noise_to_style, workload=workload),
                "adain": partial(noise_to_style, workload=workload),
            }.get(workload, lambda _: ["data=mnist"])
            size = {"ppo": "task.batch_size"}.get(workload, "data.batch_size")
            data = [*named(Path(folder)), "data.validation=0", f"{size}={batch}"]
        model = {"alexnet": "alexnet_small"}.get(workload, workload).removesuffix("_language")
        sys.argv = [
            *("dltrain", f"model={model}", *data, f"trainer.steps={steps}", *extra),
            *("schedule=constant", "schedule._target_=clock.FirstStep", f"output_dir={folder}"),
            f"device={watch.device}",
        ]
        if watch.look_every:
            sys.argv += [f"trainer.evaluate_steps={watch.look_every}"]
            sys.argv += ["+callbacks.looks._target_=clock.Looks"]
        os.environ["BENCHMARK_FIRST_STEP"] = str(Path(folder) / "first")
        os.environ["BENCHMARK_LOOKS"] = str(Path(folder) / "looks")
        sys.path.insert(0, str(Path(__file__).parent))
        sys.stdout = sys.stderr
        own_clock.seconds = watch.clock
        with contextlib.suppress(SystemExit):
            cli.main()
        sys.stdout = sys.__stdout__
        watch.first = float((Path(folder) / "first").read_text()) - watch.started
        if watch.look_every:
            for line in (Path(folder) / "looks").read_text().splitlines():
                watch.note(*map(float, line.split()))
        summary = json.loads((latest(Path(folder)) / "summary.json").read_text())
    watch.step_time = summary["seconds"]["train"] / summary["steps"]


def dltrain_bfloat16(workload: str, batch: int, watch: Watch) -> None:
    """The same in bfloat16."""
    dltrain(workload, batch, watch, "trainer.precision=bfloat16")


CONTESTANTS: dict[str, Callable[[str, int, Watch], None]] = {
    "by_hand": by_hand,
    "dltrain": dltrain,
    "dltrain_bfloat16": dltrain_bfloat16,
    "tutorial": tutorial,
    "lightning": lightning,
    "surprise": surprise,
    "stable_baselines3": stable_baselines3,
    "transformers": lambda _, batch, watch: gpt2(batch, watch),
    "ultralytics": lambda _, batch, watch: ultralytics(batch, watch),
}

if __name__ == "__main__":
    main()
