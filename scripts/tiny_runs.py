"""Runs of a second, one or more of each kind, and what is the same of two that went the same way.

What scripts/kill_runs.py and the scripts beside it interrupt, damage and starve. In a command,
{made} is the folder of the files that scripts/baseline_commands.py makes, {own} one that only this
run has.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import forks
from baseline_commands import make_files

COMMON = (
    "seed=3 device=cpu trainer.precision=float32 trainer.log_every=2 name=run output_dir=outputs"
)
SMALL = "data=digits data.limit=48 data.validation=16 data.batch_size=16"
TABLE = "data=csv data.path={made}/table.csv data.missing=mean data.categorical=[code]"
TEXTS = "data=text_csv data.path={made}/texts.csv data.text=says data.label=mood data.root={own}"
REVIEWS = "data=toy_reviews data.examples=60 data.test_examples=12 data.batch_size=16"
FOLDER = "data=image_folder data.path={made}/images data.size=12 data.root={own} data.workers=1"
GAN = "model.noise_size=4 model.generator_hidden=[8] model.discriminator_hidden=[8]"
SCALED = "model.generator_width=4 model.discriminator_width=4"

RUNS = {
    # Images in memory.
    "lenet5": f"model=lenet5 {SMALL} trainer.epochs=3 trainer.test_weights=best",
    "mlp_modified": f"model=mlp model.hidden=[8] model.dropout=0.5 model.batch_norm=true {SMALL} "
    "data.augment.shift=1 data.augment.mixup=0.2 optimizer=momentum regularizer=[l1,max_norm] "
    "modifier=[ema,unfreeze] modifiers.unfreeze.steps=4 optimizer.groups={layers.*:{lr:0.05}} "
    "trainer.clip_norm=1 callbacks=[early_stopping,jsonl] callbacks.early_stopping.patience=9 "
    "trainer.steps=12 trainer.evaluate_steps=5",
    "cnn_accumulated": f"model=cnn model.channels=[4,8] {SMALL} trainer.accumulate=3 "
    "trainer.steps=14 trainer.evaluate_steps=4 trainer.log_every=5 schedule=onecycle "
    "callbacks=jsonl regularizer=[dropout,label_smoothing]",
    "cnn_muon": f"model=cnn model.channels=[4] {SMALL} optimizer=muon task.mirrored=true "
    "trainer.epochs=3 callbacks=tensorboard",
    "perceptron": f"model=perceptron {SMALL} trainer.epochs=3 callbacks=none",
    "perceptron_gates": "model=perceptron data=gates data.gate=OR trainer.steps=12 "
    "trainer.evaluate_every=4 callbacks=[default,decision_boundary]",
    "logreg_weights": "model=logreg data=breast_cancer data.limit=120 trainer.epochs=3 "
    "callbacks=[tensorboard,weights] callbacks.weights.gradients=true",
    "mlp_moons": "model=mlp data=moons data.limit=60 data.test_examples=60 trainer.epochs=3 "
    "callbacks=[decision_boundary,figures]",
    # Regression.
    "linreg": "model=linreg data=diabetes data.limit=60 data.augment.noise=0.1 trainer.epochs=3 "
    "regularizer=elastic_net callbacks=tensorboard",
    "lstm_adding": "model=lstm model.hidden_size=4 data=adding data.length=8 data.examples=64 "
    "data.test_examples=16 data.validation=16 data.batch_size=8 trainer.epochs=1 "
    "trainer.evaluate_steps=3 callbacks=none",
    # Tables of one's own: classes, numbers, several labels; learned vectors; by way of a hub.
    "csv_classes": f"model=mlp {TABLE} data.target=kind data.batch_size=16 trainer.epochs=3",
    "csv_numbers": f"model=tabular {TABLE} data.embed=[color] data.target=price "
    "data.batch_size=16 trainer.epochs=4 callbacks=[tensorboard,baseline] trainer.evaluate_every=2",
    "hub_table": "model=mlp data=hub_table data.path={made}/hub_table data.target=kind "
    "data.batch_size=16 trainer.epochs=3 trainer.evaluate_every=1 callbacks=none",
    # Texts.
    "lstm": f"model=lstm model.hidden_size=4 model.embedding_size=4 model.dropout=0.5 {REVIEWS} "
    "data.augment.word_dropout=0.2 trainer.steps=10 trainer.evaluate_steps=4",
    "gru_adversarial": f"model=gru model.hidden_size=4 model.embedding_size=4 {REVIEWS} "
    "regularizer=adversarial trainer.steps=9 callbacks=none",
    "attention": f"model=attention model.ngrams=2 model.embedding_size=8 model.heads=2 {REVIEWS} "
    "trainer.steps=8 callbacks=none",
    "ngrams": f"model=ngrams {TEXTS} data.batch_size=16 trainer.epochs=3 "
    "callbacks=[tensorboard,throughput,projector]",
    "ngrams_bpe": "model=ngrams data=text_csv data.path={made}/texts.csv data.text=sounds "
    "data.label=mood data.root={own} data.tokens=bpe data.vocabulary_size=12 "
    "data.tokens_per_batch=200 trainer.epochs=2 callbacks=none",
    # Image files, in memory and one by one; with several labels each.
    "image_folder": f"model=cnn model.channels=[4] {FOLDER} data.batch_size=16 "
    "data.augment.shift=1 data.augment.flip=0.5 trainer.epochs=2 callbacks=none",
    "image_folder_streamed": f"model=logreg {FOLDER} data.memory_limit=0 data.batch_size=16 "
    "data.augment.rotate=10 trainer.epochs=2 callbacks=none",
    "multilabel": f"model=cnn model.channels=[4] {FOLDER} data.labels={{made}}/labels.csv "
    "data.batch_size=16 trainer.epochs=2 callbacks=tensorboard",
    # Images through a bottleneck, and the ELBO.
    "denoising": f"model=autoencoder model.hidden=[8] model.latent_size=2 {SMALL} task.noise=0.5 "
    "task.masking=0.2 trainer.epochs=2",
    "vae": f"model=vae model.hidden=[8] model.latent_size=2 {SMALL} task.importance_samples=2 "
    "trainer.epochs=3 callbacks=none",
    "conv_vae": f"model=conv_vae model.channels=[4,4] {SMALL} task.importance_samples=2 "
    "trainer.epochs=2 callbacks=[samples,figures]",
    # Two networks.
    "gan": f"model=gan {GAN} model.conditional=true model.dropout=0.3 {SMALL} task.n_critic=2 "
    "trainer.steps=9 callbacks=none optimizer.generator.lr=1e-3",
    "gan_clusters": f"model=gan {GAN} model.clusters=3 {SMALL} task.loss=wasserstein "
    "task.n_critic=3 task.gradient_penalty=1 trainer.steps=9 callbacks=samples",
    "dcgan_ema": f"model=dcgan {SCALED} {SMALL} modifier=ema_generator trainer.epochs=2 "
    "callbacks=none",
    # Several phases: see Alternating.
    "phases": f"model=mlp model.hidden=[8] {SMALL} trainer.steps=12 trainer.evaluate_steps=5 "
    "callbacks=tensorboard",
}
PHASED = {"phases"}
"""Runs whose plan no config key gives: only a process that :func:`alternate` has prepared."""


def words(name: str, made: Path, own: Path, *more: str) -> list[str]:
    """What is typed after ``dltrain`` for the run ``name``, in the folder ``own``."""
    command = f"{COMMON} {RUNS[name]}".replace("{made}", str(made))
    return [*shlex.split(command.replace("{own}", str(own / "cache"))), *more]


def make(place: Path, names: Sequence[str] = tuple(RUNS)) -> None:
    """The files that the commands of these runs read."""
    if not any("{made}" in RUNS[name] for name in names):
        return
    make_files(place)
    with (place / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("file", "label"))
        for number, path in enumerate(sorted((place / "images").rglob("*.png"))):
            several = [
                name for bit, name in enumerate(("dark", "odd", "round")) if number >> bit & 1
            ]
            writer.writerow((path.relative_to(place / "images").as_posix(), "|".join(several)))


def alternate() -> None:
    """Have runs of this process train in phases of five steps and of two."""
    import dltrain.assemble
    from dltrain.contracts.task import Phase
    from dltrain.core.loop import OwnPhases

    class Alternating(OwnPhases):
        """As a task with a rehearsal would have it."""

        def phases(self, steps: int, steps_per_epoch: Mapping[str, int | None]) -> Sequence[Phase]:
            found: list[Phase] = []
            while steps:
                name, most = (("learn", 5), ("rehearse", 2))[len(found) % 2]
                found.append(Phase(name, min(most, steps), "train"))
                steps -= found[-1].steps
            return found

    dltrain.assemble.OwnPhases = Alternating  # type: ignore[misc]


def run_folder(outputs: Path) -> Path | None:
    """The run in ``outputs``, the newest of several; None before there is its config."""
    found = sorted(outputs.glob("*/*/config.yaml"))
    return found[-1].parent if found else None


def a_day_later(outputs: Path) -> None:
    """Have what was left over here be of yesterday: only what is that old is surely nobody's."""
    for path in outputs.rglob(".*.tmp"):
        os.utime(path, (0, 0))


def status(folder: Path) -> str:
    """What the run's summary says of it; empty where it has none."""
    try:
        return str(json.loads((folder / "summary.json").read_text(encoding="utf-8"))["status"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def wrong(
    own: Path, expected: Mapping[str, Any], new: Sequence[str], began_in: Path | None = None
) -> list[str]:
    """What differs from an undisturbed run in a finished one, whose folder lies in ``own``.

    What lies around it, of a command that was killed before there was a run, must be gone once
    the command ``new`` has begun the next run, a day later.
    """
    folder = run_folder(own / "outputs")
    if folder is None:
        return ["there is no run"]
    lines = [] if status(folder) == "finished" else [f"its status is {status(folder)!r}"]
    lines += differences(expected, contents(folder, began_in))
    if list(_strays(own, folder)):
        a_day_later(own / "outputs")
        ended = forks.run(new, own)
        if ended.code:
            return [*lines, f"the next run ends with {ended.code}: {ended.last_line}"]
        next_one = run_folder(own / "outputs")
        strays = [p for p in _strays(own, folder) if next_one not in (p, *p.parents)]
        lines += [f"{path.relative_to(own)} stays behind" for path in strays]
    return lines


def told(lines: Sequence[str]) -> str:
    """The first of several lines, as one; empty where there are none."""
    more = f" and {len(lines) - 3} more" if len(lines) > 3 else ""
    return "; ".join(lines[:3]) + more


def _strays(own: Path, folder: Path) -> Iterator[Path]:
    """What lies around the run's folder but the pointer to it."""
    for path in (own / "outputs").rglob("*"):
        known = folder in (path, *path.parents) or path in folder.parents or path.name == "latest"
        if not known:
            yield path


CLOCKS = re.compile(r"^ *checkpoint_seconds: .*\n|^trainer\.checkpoint_seconds=.*\n", re.M)
EVENTS = re.compile(r"events\.out\.tfevents\..*")
TIMED = {"seconds", "samples_per_second", "sha256", "id"}
OWN_KEYS = {".run"}
"""Of a checkpoint: that tell the run from all others."""


def contents(folder: Path, began_in: Path | None = None) -> dict[str, Any]:
    """All that is in a run's folder, but what the clock says and where the folder lies.

    Tensors and numbers of checkpoints by their names; other files as their bytes. ``began_in`` is
    where the run began, if it was moved.
    """
    homes = [str(home) for home in (folder.resolve().parents[2], began_in) if home]
    found: dict[str, Any] = {}
    events: dict[str, Any] = {}
    for path in sorted(path for path in folder.rglob("*") if not path.is_dir()):
        name = path.relative_to(folder).as_posix()
        if path.name == ".lock":
            continue
        if EVENTS.match(path.name):
            events |= _events(path)
        elif name.startswith("checkpoints/") and path.suffix == ".pt" and path.name[0] != ".":
            found |= {
                f"{name}: {key}": value for key, value in leaves(_tensors(path)) if _kept(key)
            }
        elif name == "summary.json":
            summary = json.loads(path.read_text(encoding="utf-8"))
            kept = {key: value for key, value in summary.items() if key not in TIMED}
            found |= {f"{name}: {key}": value for key, value in leaves(kept)}
        elif path.suffix == ".sha256":
            found |= {f"{name}: {file}": "right" for file in _listed(path)}
        elif name == "train.log":  # as a person saw it, with every second and every start
            found[name] = "there"
        elif path.suffix in (".png", ".pt", ".gif", ".npy"):
            found[name] = path.read_bytes()
        else:
            text = path.read_bytes().decode("utf-8", "surrogateescape")
            for home in homes:
                text = text.replace(home, "")
            found[name] = CLOCKS.sub("", text)
    return found | {f"event {tag}": value for tag, value in events.items()}


def differences(one: Mapping[str, Any], other: Mapping[str, Any], extras: bool = True) -> list[str]:
    """What the second has not, has besides (``extras``), or has otherwise: a line each."""
    lines = [f"{name} is missing" for name in one if name not in other]
    lines += [f"{name} is there besides" for name in other if extras and name not in one]
    lines += [
        f"{name} differs" for name in one if name in other and not same(one[name], other[name])
    ]
    return lines


def _kept(key: str) -> bool:
    return ".seconds." not in key and "tfevents" not in key and key not in OWN_KEYS


def _listed(path: Path) -> Iterator[str]:
    """The files whose checksums a list has. Raises ValueError where one is not right."""
    for line in path.read_text(encoding="utf-8").splitlines():
        digest, _, name = line.partition("  ")
        if hashlib.sha256((path.parent / name).read_bytes()).hexdigest() != digest:
            raise ValueError(f"{path.name} has another checksum of {name}")
        yield EVENTS.sub("events", name)


def _tensors(path: Path) -> Any:
    import torch

    return torch.load(io.BytesIO(path.read_bytes()), weights_only=True)


def leaves(value: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """What lies in mappings and lists, each by the way to it."""
    if isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            yield from leaves(inner, f"{where}.{key}")
    else:
        yield where, value


def same(one: Any, other: Any) -> bool:
    """Whether two leaves are the same to the last bit."""
    import torch

    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and _bits(one) == _bits(other)
    return type(one) is type(other) and repr(one) == repr(other)


def _bits(tensor: Any) -> bytes:
    import torch

    return tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def _events(path: Path) -> dict[str, Any]:
    """The points of every curve that TensorBoard was given; of all else, that it was there."""
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event

    found: dict[str, Any] = {}
    for event in map(Event.FromString, RawEventFileLoader(str(path)).Load()):
        for value in event.summary.value:
            if value.HasField("simple_value") and not value.tag.endswith("_per_second"):
                found[f"{value.tag} {event.step}"] = value.simple_value
            else:
                found[value.tag] = "there"
    return found
