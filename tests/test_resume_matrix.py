"""Wherever a run is interrupted, once resumed it ends as one that never was.

One family of runs after the other, each with all that it draws, counts and carries from step to
step; evaluated within epochs, in the middle of an accumulation.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dltrain import training as run
from dltrain.contracts.metric import Evaluation
from dltrain.contracts.run import Callback, Modifier, Progress, View
from dltrain.runs.finding import latest
from tests.boxes import Boxes, write_yolo
from tests.conftest import Compose
from tests.photos import write_photos
from tests.series import write_series
from tests.sounds import write_folder

STEPS = 12
EVERY = tuple(range(1, STEPS + 1))
EVALUATED = (5, 10, STEPS)
COMMON = (
    "callbacks=none",
    "device=cpu",
    "schedule=cosine",
    "trainer.precision=float32",
    f"trainer.steps={STEPS}",
    "trainer.accumulate=3",
    f"trainer.evaluate_steps={EVALUATED[0]}",
    "trainer.log_every=2",
    "data.validation=12",
)
# Of the images and rows, 48 are trained on: 3 batches an epoch.
BATCHES = "data.batch_size=16"
CART = ("data=gym", "data.environment=CartPole-v1", "data.environments=3", "data.test=2")
IMAGES = ("data=digits", "data.limit=48")
FAMILIES: dict[str, tuple[str, ...]] = {
    "classification": (
        *IMAGES,
        *("model=mlp", "model.hidden=[8]", "model.dropout=0.5", "model.batch_norm=true"),
        *("data.augment.shift=1", "data.augment.mixup=0.2", "optimizer=momentum"),
        *("regularizer=[l1,max_norm]", "modifier=[ema,unfreeze]", "trainer.clip_norm=1"),
        # In the middle of an accumulation, with a rate of its own.
        *("modifiers.unfreeze.steps=4", "optimizer.groups={layers.*:{lr:0.05}}"),
        *("callbacks=[early_stopping]", "callbacks.early_stopping.patience=9"),
    ),
    "pruned": (
        *(*IMAGES, "model=mlp", "model.hidden=[8]", "modifier=[prune,ema]"),
        *("modifiers.prune.begin=0.3", "modifiers.prune.end=0.8", "modifiers.prune.every=2"),
    ),
    "text": (
        *("data=toy_reviews", "data.examples=60", "data.test_examples=12"),
        *("data.augment.word_dropout=0.2", "model=lstm", "model.hidden_size=4"),
        *("model.embedding_size=4", "model.dropout=0.5", "model.embedding_dropout=0.2"),
    ),
    "language": (
        *("data=text_file", "data.path=text.txt", "data.window=5", "data.test=40"),
        *("model=lstm", "model.hidden_size=4", "model.embedding_size=4", "model.tied=true"),
        *("model.dropout=0.3", "model.word_dropout=0.2", "model.recurrent_dropout=0.2"),
    ),
    "fusion": (
        *("data=csv", "data.path=photos.csv", "data.target=kind", "data.images=[photo]"),
        *("data.texts=[title]", "data.embed=[city]", "data.augment.drop=0.3", "model=fusion"),
        *("model.width=4", "model.hidden=[4]", "model.image_channels=[2]"),
        *("model.text_filters=2", "model.embedding_size=3"),
    ),
    "forecast": (
        *("data=series", "data.path=series.csv", "data.target=a", "data.history=5"),
        *("data.horizon=3", "data.test=12", "model=lstm", "model.hidden_size=4"),
        *("model.dropout=0.3", "task.level=last"),
    ),
    "regression": ("data=diabetes", "data.limit=48", "data.augment.noise=0.1", "model=linreg"),
    "vae": (
        *IMAGES,
        *("model=vae", "model.hidden=[8]", "model.latent_size=2"),
        "task.importance_samples=2",
    ),
    "gan": (
        *IMAGES,
        *("model=gan", "model.conditional=true", "model.noise_size=4"),
        *("model.generator_hidden=[8]", "model.discriminator_hidden=[8]", "model.dropout=0.3"),
        "task.n_critic=2",
    ),
    "gan of clusters": (
        *IMAGES,
        *("model=gan", "model.clusters=3", "model.noise_size=4"),
        *("model.generator_hidden=[8]", "model.discriminator_hidden=[8]", "task.loss=wasserstein"),
        *("task.n_critic=3", "task.gradient_penalty=1"),
    ),
    "Boltzmann machine": (
        *(*IMAGES, "model=rbm", "model.hidden=6", "task.cd_steps=2", "task.persistent=true"),
    ),
    "deep belief net": (
        *(*IMAGES, "model=dbn", "model.hidden=[6,5]", "task.pretraining_epochs=1"),
        *("task.persistent=true", "model.dropout=0.3"),
    ),
    "federated averaging": (
        *(*IMAGES, "model=mlp", "model.hidden=[6]", "model.batch_norm=true", "model.dropout=0.3"),
        *("federated=fedprox", "federated.clients=6", "federated.per_round=2"),
        *("federated.local_epochs=2", "data.augment.shift=1"),
    ),
    "denoising": (
        *IMAGES,
        *("model=autoencoder", "model.hidden=[8]", "model.latent_size=2"),
        *("task.noise=0.5", "task.masking=0.2"),
    ),
    "perceptron": (*IMAGES, "model=perceptron"),
    "images in files": (
        *("data=image_folder", "data.path=images", "data.root=kept", "data.memory_limit=0"),
        *("data.workers=0", "data.augment.rotate=10", "model=logreg"),
    ),
    "detection": (
        *("data=yolo_txt", "data.path=boxes", "data.root=kept", "data.augment.mosaic=0.5"),
        *("data.augment.rotate=10", "data.augment.mixup=8", "model=yolo", "model.width=2"),
    ),
    "sounds": (
        *("data=audio_folder", "data.path=sounds", "data.root=kept", "model=audio_cnn"),
        *("model.channels=[2,2]", "data.augment.speed=0.1", "data.augment.noise=0.5"),
        *("data.augment.time_masks=1", "data.augment.shift=0.01"),
    ),
    "segmentation": (
        *("data=image_masks", "data.path=masked", "data.root=kept", "data.crop_size=4"),
        *("data.augment.flip=0.5", "data.augment.elastic_alpha=2", "data.touching_weight=2"),
        *("model=unet", "model.width=2", "model.depth=1", "model.padding=same"),
        *("model.batch_norm=true", "task.dice=0.5"),
    ),
    "translation": (
        *("data=parallel", "data.path=pairs.txt", "data.source=1", "data.target=2"),
        *("data.vocabulary_size=290", "data.tokens_per_batch=250", "model=seq2seq"),
        *("model.embedding_size=4", "model.hidden_size=4", "task.beam=2"),
        *("modifier=average", "modifiers.average.every_steps=2"),
    ),
    "ranking": (
        *("data=ratings", "data.path=rated.csv", "data.test=0.17", "task=ranking"),
        *("data.duplicates=last", "data.batch_size=13"),
        *("model=matrix_factorization", "model.factors=4", "model.implicit=true"),
        "modifier=ema",
    ),
    "replay": (
        *(*CART, "model=dqn", "model.hidden=[8]", "model.dueling=true", "task.prioritized=true"),
        *("task.n_step=2", "task.warmup=20", "task.collect=9", "task.updates=2"),
        *("task.capacity=45", "task.target_every=3", "task.explore_steps=40"),
    ),
    "rollouts": (
        *(*CART, "model=ppo", "model.hidden=[8]", "task.steps=9", "task.epochs=2"),
        *("task.batch_size=16", "data.max_episode_steps=12"),
    ),
    "in float16": (
        *(*IMAGES, "model=mlp", "model.hidden=[8]", "trainer.precision=float16"),
        *("optimizer=momentum", "modifier=ema"),
    ),
    "released gradients": (
        *(*IMAGES, "model=mlp", "model.hidden=[8]", "model.batch_norm=true", "optimizer=muon"),
        *("trainer.accumulate=1", "trainer.release_gradients=true", "model.dropout=0.3"),
        *("modifier=[activation_checkpointing,ema]",),
        "modifiers.activation_checkpointing.blocks=[layers.*]",
    ),
    "whole episodes": (*CART, "model=reinforce", "model.hidden=[8]"),
}
FEW = {"ranking", "pruned", "fusion", "detection", "segmentation", "translation", "sounds"}
FEW |= {"in float16", "released gradients"}
"""Families with no state of their own in the loop, or little: they are cut once."""
FULL = {"classification", "gan"}
"""Families that are cut in every step; others in every fourth, beginning with one after the other.

With DLTRAIN_EVERY_STEP=1 in the environment all are, which takes about a minute.
"""


def cuts(family: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The steps and the evaluations in which a family's run is interrupted."""
    if os.environ.get("DLTRAIN_EVERY_STEP") or family in FULL:
        return EVERY, EVALUATED
    if family in FEW:
        return (4,), ()
    number = [*FAMILIES].index(family)
    return EVERY[number % 4 :: 4], (EVALUATED[number % 3],)


class Cutting(Modifier):
    """Ends the run as a machine that is shut down does, in the middle of its step ``last``."""

    last: int | None = None

    def before_step(self, progress: Progress) -> None:
        """The loop asks as the step after ``progress.step`` others begins."""
        if progress.step + 1 == Cutting.last:
            os.kill(os.getpid(), signal.SIGTERM)


class CuttingEvaluation(Callback):
    """Does so in the middle of the evaluation after step ``last``."""

    last: int | None = None

    def evaluated(self, view: View, split: str, evaluation: Evaluation) -> None:
        """The validation split is yet to be evaluated."""
        if split == "train" and view.progress.step == CuttingEvaluation.last:
            os.kill(os.getpid(), signal.SIGTERM)


def draw_images(folder: Path) -> None:
    """Some of noise, in two classes."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 30), ("test", 6)):
        for name in ("dark", "light"):
            place = folder / split / name
            place.mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 256, (4, 4), dtype=np.uint8)
                Image.fromarray(pixels // (1 + (name == "dark"))).save(place / f"{number}.png")


def draw_masks(folder: Path) -> None:
    """Noise, and where it is bright."""
    generator = np.random.default_rng(0)
    for place in ("images", "masks"):
        (folder / place).mkdir(parents=True)
    for number in range(72):
        pixels = generator.integers(0, 256, (6, 6), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
        Image.fromarray(pixels // 128).save(folder / "masks" / f"{number}.png")


def draw_pairs(file: Path) -> None:
    """Numbers in two languages."""
    digits = (["null", "eins", "zwei", "drei", "vier"], ["zero", "one", "two", "three", "four"])
    lines = []
    for number in range(120):
        places = (number // 25, number // 5 % 5, number % 5)
        lines.append("\t".join(" ".join(words[place] for place in places) for words in digits))
    file.write_text("\n".join(lines), encoding="utf-8")


def write_ratings(file: Path) -> None:
    """Every user has rated some items; the last rows are those of a test file."""
    rows = [f"{n % 9},{n * n % 8 + n // 36},{n % 5}" for n in range(72)]
    file.write_text("\n".join(["user,item,value", *dict.fromkeys(rows)]), encoding="utf-8")


def draw_boxes(folder: Path) -> None:
    """Images with none, one or two boxes."""
    for split, count in (("train", 60), ("test", 8)):
        images: dict[str, Boxes] = {
            f"{number:02}": [("cat", number % 9, 2, 20, 30), ("dog", 24, 3, 44, 20)][: number % 3]
            for number in range(count)
        }
        write_yolo(folder, images, split)


def write_text(path: Path) -> None:
    """Letters by chance."""
    letters = np.random.default_rng(0).choice([*"abc \n"], 600)
    path.write_text("".join(letters), encoding="utf-8")


def record_sounds(folder: Path) -> None:
    """Two classes of 38 sounds; 60 are no test, of which 48 are trained on."""
    write_folder(folder, 38, 0.001)


DRAWN = {
    "images": draw_images,
    "masked": draw_masks,
    "boxes": draw_boxes,
    "sounds": record_sounds,
    "pairs.txt": draw_pairs,
    "text.txt": write_text,
    "rated.csv": write_ratings,
    "photos.csv": lambda path: write_photos(path, 75),  # 60 are no test
    "series.csv": lambda path: write_series(path, 79),  # 48 windows to train on
}
"""What makes the folders and files that families name as data.path."""


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_run_may_be_interrupted_in_every_step_and_evaluation(
    family: str, compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DLTRAIN_PACKAGES", "tests")
    monkeypatch.chdir(tmp_path)
    batches = () if "data=gym" in FAMILIES[family] else (BATCHES,)
    config = compose(*COMMON, *batches, *FAMILIES[family])
    if name := config["data"].get("path"):
        DRAWN[name](tmp_path / name)
    config["modifiers"]["cutting"] = {"_target_": f"{__name__}.Cutting"}
    config["callbacks"]["cutting"] = {"_target_": f"{__name__}.CuttingEvaluation"}
    assert run.train({**config, "output_dir": "whole"})["status"] == "finished"
    whole = contents(latest(Path("whole")))
    steps, evaluations = cuts(family)
    places = [(Cutting, step) for step in steps]
    for where, step in [*places, *((CuttingEvaluation, step) for step in evaluations)]:
        output_dir = f"{where.__name__}-{step}"
        with monkeypatch.context() as patch:
            patch.setattr(where, "last", step)
            cut = run.train({**config, "output_dir": output_dir})
        assert (cut["status"], cut["steps"]) == ("interrupted", step)
        folder = latest(Path(output_dir))
        assert run.resume(str(folder), tmp_path)["status"] == "finished"
        found = contents(folder)
        different = [name for name in whole.keys() | found if not same(whole, found, name)]
        assert not different, output_dir


def contents(folder: Path) -> dict[str, Any]:
    """All that a run has learned and told, by name; but not how long it took."""
    found = {"metrics.csv": (folder / "metrics.csv").read_bytes()}
    for path in folder.glob("tables/*.csv"):
        found[path.name] = path.read_bytes()
    for name in ("last", "best"):
        path = folder / "checkpoints" / f"{name}.pt"
        found |= leaves(torch.load(path, weights_only=True), name)
    return {name: value for name, value in found.items() if ".loop.seconds." not in name}


def leaves(value: Any, where: str) -> dict[str, Any]:
    """What lies in mappings and lists, each by the way to it."""
    if isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {n: leaf for k, item in items for n, leaf in leaves(item, f"{where}.{k}").items()}
    return {where: value}


def same(one: dict[str, Any], other: dict[str, Any], name: str) -> bool:
    if name not in one or name not in other:
        return False
    ours, theirs = one[name], other[name]
    if isinstance(ours, torch.Tensor) and isinstance(theirs, torch.Tensor):
        return ours.dtype == theirs.dtype and ours.equal(theirs)
    return type(ours) is type(theirs) and ours == theirs
