"""The commands that scripts/baseline.py records, and the files that they read.

In a command, {made} is the folder of the files that are made here, {data} where MNIST lies, and
{classifier} the folder of the run of ``CLASSIFIER``.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

CLASSIFIER = "lenet5_digits"
COMMON = "seed=3 device=cpu trainer.precision=float32 trainer.log_every=5 trainer.evaluate_every=1"
WARPS = (
    "data.augment.shift=2 data.augment.rotate=10 data.augment.scale=0.1 data.augment.shear=5 "
    "data.augment.elastic_alpha=34"
)
COLORS = (
    "data.augment.brightness=0.2 data.augment.contrast=0.2 data.augment.saturation=0.2 "
    "data.augment.crop=2 data.augment.alternating_flip=true data.augment.cutout=6"
)
TABLE = "data=csv data.path={made}/table.csv data.missing=mean data.categorical=[code]"
FOLDER = "data=image_folder data.path={made}/images data.size=16 data.root={made}/cache"
HUB = "data.path={made}/hub_"

COMMANDS = {
    # Classification.
    CLASSIFIER: "trainer.epochs=3",
    "lenet5_1998_mnist_warped": "model=lenet5 model.variant=1998 data=mnist data.root={data} "
    f"data.limit=640 data.validation=128 data.batch_size=64 {WARPS} trainer.steps=12",
    "mlp_mnist_mixed": "model=mlp model.batch_norm=true data=mnist data.root={data} data.limit=640 "
    "data.validation=128 data.augment.cutout=8 data.augment.mixup=0.2 data.augment.cutmix=1 "
    "regularizer=[dropout,label_smoothing,l2] trainer.steps=12",
    "cnn_fashion": "model=cnn model.channels=[4,8] data=fashion_mnist data.root={data} "
    "data.limit=384 data.validation=128 data.augment.flip=0.5 optimizer=nesterov schedule=linear "
    "schedule.warmup_steps=3 trainer.steps=4 callbacks=none",
    "cnn_bfloat16": "model=cnn model.channels=[8,16] model.batch_norm=true data.limit=600 "
    "trainer.precision=bfloat16 trainer.epochs=2 trainer.accumulate=3 trainer.clip_norm=1 "
    "trainer.test_weights=best optimizer=adamw schedule=onecycle schedule.warmup_percent=10",
    "airbench_cifar10": "model=airbench model.channels=[16,32,32] data=cifar10 data.root={made} "
    f"data.batch_size=25 data.validation=25 {COLORS} data.augment.mixup=0.2 optimizer=muon "
    "task.mirrored=true task.shifted=1 task.label_smoothing=0.2 trainer.epochs=3",
    "alexnet_small_cifar10": "model=alexnet_small model.channels=[8,16,16,16,16] data=cifar10 "
    "data.root={made} data.batch_size=25 data.validation=25 trainer.epochs=2 callbacks=none",
    "resnet18_frozen": "model=resnet18 model.freeze=[network.layer1] trainer.steps=4 "
    "data.limit=200 callbacks=none optimizer=momentum trainer.deterministic=true",
    "torchvision": "model=torchvision data.limit=100 trainer.steps=3 callbacks=none",
    "digits_overfit": "model=mlp regularizer=[l1,max_norm] trainer.overfit=2 trainer.epochs=4 "
    "optimizer=adagrad schedule=exponential schedule.warmup_epochs=1 callbacks=none",
    "logreg_iris": "model=logreg data=iris optimizer=sgd regularizer=l2 trainer.epochs=3 "
    "callbacks=none",
    "logreg_breast_cancer": "model=logreg data=breast_cancer regularizer=elastic_net "
    "optimizer=rmsprop schedule=step schedule.every_epochs=1 schedule.warmup_epochs=1 "
    "data.augment.noise=0.1 trainer.epochs=3 callbacks=[default,weights]",
    "mlp_moons": "model=mlp data=moons data.limit=200 data.test_examples=200 "
    "callbacks=[default,weights,decision_boundary] callbacks.weights.gradients=true "
    "regularizer=[dropout,max_norm] optimizer=momentum schedule=cosine schedule.warmup_steps=5 "
    "trainer.epochs=3",
    "mlp_circles_stopped": "model=mlp data=circles data.limit=200 optimizer=nesterov "
    "callbacks=early_stopping callbacks.early_stopping.patience=1 trainer.epochs=20 "
    "callbacks.early_stopping.min_delta=0.5 schedule=constant schedule.warmup_percent=5",
    "xor_experiment": "experiment=xor_mlp trainer.steps=30 trainer.evaluate_every=10",
    # The perceptron.
    "perceptron_gates": "model=perceptron data=gates data.gate=OR trainer.steps=12 "
    "trainer.evaluate_every=4 callbacks=[default,decision_boundary]",
    "perceptron_iris": "model=perceptron data=iris trainer.epochs=2 callbacks=none",
    # Regression.
    "linreg_line": "model=linreg data=line trainer.steps=30 trainer.evaluate_every=10",
    "linreg_diabetes": "model=linreg data=diabetes regularizer=[l1,l2] trainer.epochs=3 "
    "optimizer.lr=0.01",
    "lstm_adding": "model=lstm data=adding data.length=20 data.examples=600 "
    "data.test_examples=200 data.validation=100 trainer.epochs=2",
    "gru_adding_bare": "model=gru model.layers=2 model.dropout=0.1 data=adding data.length=20 "
    "data.examples=400 data.test_examples=100 data.validation=0 trainer.epochs=1 callbacks=none",
    # Texts.
    "lstm_reviews": "model=lstm model.hidden_size=32 data=toy_reviews data.limit=400 "
    "data.test_examples=200 regularizer=[word_dropout,label_smoothing] trainer.steps=12",
    "gru_reviews_adversarial": "model=gru model.hidden_size=32 data=toy_reviews data.limit=400 "
    "data.test_examples=200 regularizer=adversarial trainer.steps=12 callbacks=none",
    "rnn_reviews_onehot": "model=rnn model.embedding=onehot model.pooling=mean data=toy_reviews "
    "data.limit=400 data.test_examples=200 trainer.steps=12 callbacks=none",
    "attention_reviews": "model=attention model.ngrams=2 data=toy_reviews data.limit=400 "
    "data.test_examples=200 trainer.steps=12",
    "ngrams_csv": "model=ngrams data=text_csv data.path={made}/texts.csv data.text=says "
    "data.label=mood data.root={made}/cache data.batch_size=16 trainer.epochs=3 "
    "callbacks=[default,throughput,projector]",
    "ngrams_bpe": "model=ngrams data=text_csv data.path={made}/texts.csv data.text=sounds "
    "data.label=mood data.root={made}/cache data.tokens=bpe data.vocabulary_size=12 "
    "data.tokens_per_batch=200 trainer.epochs=2 callbacks=none",
    "ngrams_hub": f"model=ngrams model.length=1 data=hub_text {HUB}texts "
    "data.root={made}/cache data.batch_size=16 trainer.epochs=2 callbacks=none",
    # Tables and images of one's own.
    "csv_classes": f"model=mlp {TABLE} data.target=kind data.batch_size=16 trainer.epochs=3",
    "csv_numbers": f"model=mlp {TABLE} data.target=price data.missing=drop data.batch_size=16 "
    "trainer.epochs=3",
    "hub_table": f"model=mlp data=hub_table {HUB}table data.target=kind data.batch_size=16 "
    "trainer.epochs=2 callbacks=none",
    "hub_images": f"model=cnn data=hub {HUB}images data.image=img data.label=label "
    "data.root={made}/cache data.size=12 data.batch_size=16 trainer.epochs=2 callbacks=none",
    "image_folder": f"model=cnn {FOLDER} data.batch_size=16 data.augment.shift=1 "
    f"{COLORS} trainer.epochs=2",
    "image_folder_streamed": f"model=cnn {FOLDER} data.memory_limit=0 data.batch_size=16 "
    "data.augment.shift=1 data.fit=pad data.channels=1 trainer.epochs=2 callbacks=none",
    # Images through a bottleneck, and the ELBO.
    "autoencoder": "model=autoencoder model.latent_size=2 data.limit=300 trainer.epochs=2",
    "denoising": "model=conv_autoencoder model.channels=[8,16] task.noise=0.3 task.masking=0.1 "
    "task.loss=mse data.limit=300 trainer.epochs=2",
    "vae": "model=vae model.latent_size=2 model.hidden=[64] task.importance_samples=10 "
    "data.limit=300 trainer.epochs=2",
    "conv_vae_gaussian": "model=conv_vae model.channels=[8,16] model.decoder=gaussian "
    "task.binarize=none task.beta=0.5 task.free_bits=0.1 task.importance_samples=5 "
    "data.limit=300 trainer.epochs=2 callbacks.sample_quality.run={classifier} "
    "callbacks.sample_quality.samples=200",
    # Two networks.
    "gan_sample_quality": "model=gan data.limit=300 trainer.epochs=2 "
    "callbacks.sample_quality.run={classifier} callbacks.sample_quality.samples=300 "
    "callbacks.sample_quality.training_samples=100",
    "gan_hinge": "model=gan model.spectral_norm=true model.dropout=0.1 task.loss=hinge task.r1=1 "
    "data.limit=300 trainer.epochs=2 callbacks=none optimizer.generator.lr=1e-3",
    "dcgan_clusters": "model=dcgan model.generator_width=8 model.discriminator_width=8 "
    "model.clusters=5 data.limit=300 trainer.epochs=3 callbacks.sample_quality.samples=200",
    "dcgan_conditional": "model=dcgan model.generator_width=8 model.discriminator_width=8 "
    "model.conditional=true task.loss=lsgan data.limit=300 trainer.epochs=2 "
    "callbacks.sample_quality.run={classifier} callbacks.sample_quality.samples=200",
    "wgan_gp": "model=wgan_gp model.generator_width=8 model.discriminator_width=8 "
    "task.n_critic=2 data.limit=300 trainer.epochs=2 callbacks=samples",
}


def make_files(place: Path) -> None:
    """Tables, texts and images of everyone's own, the same ones every time."""
    import datasets
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    place.mkdir()
    kinds = random.integers(0, 3, 120)
    sizes = random.normal(kinds, 0.5)
    rows: list[dict[str, Any]] = [
        {
            "size": "" if row % 17 == 5 else round(size, 3),
            "color": ["red", "green", "blue"][row * 7 % 3],
            "code": row % 4,
            "price": round(2 * size + row % 4, 3),
            "kind": ["ash", "birch", "cedar"][kind],
        }
        for row, (size, kind) in enumerate(zip(sizes, kinds, strict=True))
    ]
    words = ["a", "fine", "dull", "bright", "slow", "film", "plot", "with", "no", "hope,", "point"]
    # Which piece of a word that begins with ## comes first is drawn by the tokenizers library in
    # each process; so of single ones, from which longer ones are made, there is ##a alone.
    sounds = ["ba", "baa", "baaa", "ma", "maa", "oa", "a", "aaa"]
    texts = [
        {
            "says": " ".join(random.choice(words, 4 + row % 9)),
            "sounds": " ".join(random.choice(sounds, 3 + row % 7)),
            "mood": ["bad", "good"][row % 2],
        }
        for row in range(120)
    ]
    for name, table in (("table", rows), ("texts", texts)):
        with (place / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(table[0]))
            writer.writeheader()
            writer.writerows(table)
    archive = place / "cifar-10-batches-bin"
    archive.mkdir()
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        records = random.integers(0, 256, (30, 1 + 3 * 32 * 32), np.uint8)
        records[:, 0] = np.arange(30) % 10
        (archive / f"{name}.bin").write_bytes(records.tobytes())
    images: dict[str, list[Any]] = {"img": [], "label": []}
    for row in range(60):
        kind = row % 3
        folder = place / "images" / ["ant", "bee", "cat"][kind]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(80 * kind, 80 * kind + 90, (16 + row % 5, 16, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{row:02}.png")
        images["img"].append({"bytes": (folder / f"{row:02}.png").read_bytes()})
        images["label"].append(kind)
    labels = {
        "images": {"img": datasets.Image(), "label": datasets.ClassLabel(3)},
        "texts": {"text": datasets.Value("string"), "label": datasets.ClassLabel(2)},
    }
    columns: dict[str, dict[str, list[Any]]] = {
        "images": images,
        "texts": {"text": [t["says"] for t in texts], "label": [0, 1] * 60},
        "table": {name: [row[name] for row in rows] for name in ("price", "color", "kind")},
    }
    for name, content in columns.items():
        (place / f"hub_{name}").mkdir()
        features = datasets.Features(labels[name]) if name in labels else None
        written = datasets.Dataset.from_dict(content, features)
        written.to_parquet(place / f"hub_{name}" / "train-00000-of-00001.parquet")
