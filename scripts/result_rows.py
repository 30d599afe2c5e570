"""The rows of the tables of results: commands, and what is measured of their runs.

``$CLASSIFIER`` in a command is the folder of a run that trained a classifier on the same images;
scripts/results.py trains one where the variable is not set.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from language_figures import (
    five_gram_perplexity,
    lines_alike,
    meter_kept,
    meter_of_text,
    of_test,
    text_alike,
)


def accuracy(folder: Path) -> float:
    """Per cent of the test split."""
    return 100 * json.loads((folder / "summary.json").read_text())["test"]["accuracy"]


def episode_return(folder: Path) -> float:
    """Mean over the episodes of the test split, which are of seeds that nothing else has."""
    return json.loads((folder / "summary.json").read_text())["test"]["return"]


def error(folder: Path) -> float:
    """Per cent of the test split that is wrong."""
    return 100 - accuracy(folder)


def mean_squared_error(folder: Path) -> float:
    """Of the test split."""
    return json.loads((folder / "summary.json").read_text())["test"]["mse"]


def largest_error(folder: Path) -> float:
    """The largest distance of a prediction from its target."""
    with (folder / "tables" / "test_predictions.csv").open(newline="") as file:
        return max(abs(float(r["target"]) - float(r["prediction"])) for r in csv.DictReader(file))


def robust_accuracy(folder: Path) -> float:
    """Per cent of the test split under PGD-40 with 9 more restarts, epsilon 0.3."""
    from dltrain.inference.attacked import attack_of
    from dltrain.inference.evaluate import evaluate_run
    from dltrain.runs.folder import RunFolder

    typed = ["attack=pgd", "attack.epsilon=0.3", "attack.steps=40", "attack.restarts=9"]
    ((node,), _, _) = attack_of([*typed, "attack.step_size=0.01"])
    found = evaluate_run(RunFolder(folder), "test", attack=node).evaluation.scalars
    return 100 * found["accuracy"]


def integer_accuracy(folder: Path) -> float:
    """Per cent of the test split, by the file of 8-bit integers that this exports."""
    inputs, targets = int8_file(folder)
    return 100 * float((inputs == targets).mean())


def int8_file(folder: Path) -> tuple[Any, Any]:
    """What an exported file of 8-bit integers says of the test split, and its classes."""
    import numpy as np
    import onnxruntime

    from dltrain.inference.export import export
    from dltrain.inference.int8 import training_examples
    from dltrain.inference.network import networks_of
    from dltrain.inference.predictor import Predictor
    from dltrain.runs.examples import examples_of_run
    from dltrain.runs.folder import RunFolder

    run = RunFolder(folder)
    predictor, out = Predictor(run), folder / "export" / "int8"
    export(predictor, examples_of_run(run), "onnx", out, training_examples(run))
    session = onnxruntime.InferenceSession(str(out / "model.onnx"))
    said, targets = [], []
    for batch in test_batches(folder):
        one = {"input": batch["input"]}
        steps = predictor.reader.preprocessing()
        (network,) = networks_of(predictor.task, predictor.spec, one, steps)
        given = {name: column.numpy() for name, column in network.inputs.items()}
        said.append(session.run(["class"], given)[0])
        targets.append(batch["target"].numpy())
    return np.concatenate(said), np.concatenate(targets)


def times_smaller(folder: Path) -> float:
    """The ONNX file of floats over that of integers, as :func:`integer_accuracy` has left them."""
    path = folder / "export" / "int8" / "export.json"
    model = json.loads(path.read_text())["networks"]["model"]
    return model["float_bytes"] / model["bytes"]


def sparsity(folder: Path) -> float:
    """Per cent of the weights that are pruned."""
    return 100 * json.loads((folder / "summary.json").read_text())["test"]["sparsity"]


def style_fraction(folder: Path) -> float:
    """Per cent of the content image's style loss that is left at the end."""
    with (folder / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["name"] == "style_fraction"]
    return 100 * float(rows[-1]["value"])


def test_batches(folder: Path) -> Any:
    """The batches of the run's test split."""
    import torch
    import yaml

    from dltrain.config.build import build
    from dltrain.contracts.data import Placement, Source

    config = yaml.safe_load((folder / "config.yaml").read_text())
    source = build(config["data"], Source, "data")
    source.read(config["seed"])
    return source.open(Placement(torch.device("cpu"), config["seed"]))["test"].plain()


def splits(folder: Path) -> tuple[Any, Any, Any, Any]:
    """The run's training and test inputs and targets, as its network saw them."""
    import torch
    import yaml

    from dltrain.config.build import build
    from dltrain.contracts.data import Placement, Source, Stream

    config = yaml.safe_load((folder / "config.yaml").read_text())
    source = build(config["data"], Source, "data")
    source.read(config["seed"])
    streams = source.open(Placement(torch.device("cpu"), config["seed"]))

    def whole(stream: Stream) -> tuple[Any, Any]:
        batches = list(stream.plain())
        columns = [torch.cat([b[name] for b in batches]) for name in ("input", "target")]
        return columns[0].double().numpy(), columns[1].numpy()

    return *whole(streams["train"]), *whole(streams["test"])


def distance_from_least_squares(folder: Path) -> float:
    """The largest relative difference of a coefficient from the closed-form solution's."""
    import numpy as np

    import dltrain

    inputs, targets, _, _ = splits(folder)
    design = np.hstack([inputs, np.ones((len(inputs), 1))])
    exact = np.linalg.lstsq(design, targets.astype(float), rcond=None)[0].ravel()
    model = dltrain.load(folder).model
    found = np.concatenate([p.detach().double().numpy().ravel() for p in model.parameters()])
    return float(np.abs(found - exact).max() / np.abs(exact).max())


def distance_from_sklearn(folder: Path) -> float:
    """Percentage points between the test accuracy and that of scikit-learn's own."""
    from sklearn.linear_model import LogisticRegression

    inputs, targets, test_inputs, test_targets = splits(folder)
    theirs = LogisticRegression(max_iter=10_000).fit(inputs, targets)
    return abs(accuracy(folder) - 100 * theirs.score(test_inputs, test_targets))


def by_classifier(name: str, times: float = 1.0) -> Callable[[Path], float]:
    """A figure of the test split by a classifier, whose hash ends its name."""

    def measure(folder: Path) -> float:
        found = json.loads((folder / "summary.json").read_text())["test"]
        (value,) = [v for key, v in found.items() if key.rpartition("_")[0] == name]
        return times * value

    return measure


def over_the_floor(folder: Path) -> float:
    """Samples' Fréchet distance to the test images, in distances of the training images."""
    return by_classifier("frechet")(folder) / by_classifier("frechet_floor")(folder)


def negative_log_likelihood(folder: Path) -> float:
    """Of the test split, by importance sampling, in nats."""
    return json.loads((folder / "summary.json").read_text())["test"]["nll"]


def average_precision(name: str) -> Callable[[Path], float]:
    """A mean average precision of the test split, in per cent."""

    def measure(folder: Path) -> float:
        return 100 * json.loads((folder / "summary.json").read_text())["test"][name]

    return measure


@dataclass(frozen=True)
class Figure:
    """One number of a run."""

    unit: str
    measure: Callable[[Path], float]
    bound: float | None
    """None: only reported."""
    at_most: bool = False
    digits: str | None = None
    """How a value is shown, such as .4f; None: by its size."""


@dataclass(frozen=True)
class Row:
    """One line of the table: a command, what it must reach, what others report."""

    arguments: str
    figures: tuple[Figure, ...]
    anchor: str = ""
    seconds: float | None = None
    """How long a run may take."""
    seeds: Sequence[int] = (1, 2, 3)
    """Those of its runs."""


def per_cent(name: str) -> Callable[[Path], float]:
    """A figure of the test split in per cent, such as miou."""

    def measure(folder: Path) -> float:
        return 100 * json.loads((folder / "summary.json").read_text())["test"][name]

    return measure


def dice_of(name: str) -> Callable[[Path], float]:
    """The Dice coefficient of a class's pixels in the test split, in per cent."""

    def measure(folder: Path) -> float:
        with (folder / "tables" / "test_pixels.csv").open(newline="") as file:
            (value,) = [float(r["dice"]) for r in csv.DictReader(file) if r["class"] == name]
        return 100 * value

    return measure


def scored(name: str) -> Callable[[Path], float]:
    """A score of the test split that is 0 to 100 already."""

    def measure(folder: Path) -> float:
        return json.loads((folder / "summary.json").read_text())["test"][name]

    return measure


def translated(greedy: float | None, beam: float | None) -> tuple[Figure, ...]:
    """BLEU of both searches, and chrF."""
    return (
        Figure("BLEU, greedy", scored("bleu"), greedy),
        Figure("BLEU, beam of 5", scored("beam_bleu"), beam),
        Figure("chrF, beam of 5", scored("beam_chrf"), None),
    )


def validated(name: str, label: str | None = None) -> Callable[[Path], float]:
    """A figure of the validation split in per cent; of one class ``label``, where that is given."""

    def measure(folder: Path) -> float:
        if label is None:
            return 100 * json.loads((folder / "summary.json").read_text())["validation"][name]
        with (folder / "tables" / "validation_per_class.csv").open(newline="") as file:
            (value,) = [float(r[name]) for r in csv.DictReader(file) if r["class"] == label]
        return 100 * value

    return measure


def by_threshold(name: str) -> Callable[[Path], float]:
    """What one threshold of gray reaches, chosen on the training split for the Dice of class 0.

    ``name`` is dice, or pixel_accuracy, for which it is chosen for that.
    """

    def measure(folder: Path) -> float:
        import numpy as np
        import torch
        import yaml

        from dltrain.config.build import build
        from dltrain.contracts.data import Placement, Source

        config = yaml.safe_load((folder / "config.yaml").read_text())
        source = build(config["data"], Source, "data")
        spec = source.read(config["seed"])
        streams = source.open(Placement(torch.device("cpu"), config["seed"]))
        levels = np.zeros((2, 2, 256), np.int64)
        for place, split in enumerate(("train", "test")):
            for batch in streams[split].plain():
                image = batch["input"] * spec.input.std[0] + spec.input.mean[0]
                gray = (image[:, 0] * 255).round().long().clamp(0, 255)
                for one in range(2):
                    own = gray[batch["target"] == one]
                    levels[place, one] += np.bincount(own.numpy(), minlength=256)
        # Class 0 is what is darker: how many of each class are at most so light.
        below = levels.cumsum(2)
        hits, others = below[:, 0], below[:, 1]
        total = levels.sum(2)
        figures = {
            "dice": 2 * hits / np.maximum(1, hits + others + total[:, :1]),
            "pixel_accuracy": (hits + total[:, 1:] - others) / total.sum(1)[:, None],
        }[name]
        return float(100 * figures[1, figures[0].argmax()])

    return measure


def accurate(bound: float | None) -> Figure:
    """Per cent of the test split."""
    return Figure("% accuracy", accuracy, bound)


def confident(bound: float | None) -> Figure:
    """Samples with a class of at least 0.9, over the same fraction of test images."""
    return Figure("confidence ratio", by_classifier("confidence_ratio"), bound)


EVERY_CLASS = Figure("% of samples in the rarest class", by_classifier("smallest_class", 100), 3.0)
FORECAST = (Figure("MSE", scored("mse"), None), Figure("MAE", scored("mae"), None))
FRECHET = Figure("times the floor's Fréchet distance", over_the_floor, None)

ROWS = {
    "xor": Row("experiment=xor_mlp", (accurate(100.0),), seeds=range(1, 21)),
    "diabetes": Row(
        "experiment=diabetes_linreg",
        (Figure("from least squares", distance_from_least_squares, 0.0001, at_most=True),),
        "the closed form",
    ),
    "iris": Row(
        "experiment=iris_logreg",
        (Figure("points from scikit-learn", distance_from_sklearn, 1.0, at_most=True),),
        "scikit-learn, same split",
    ),
    "breast_cancer": Row(
        "experiment=breast_cancer_logreg",
        (Figure("points from scikit-learn", distance_from_sklearn, 1.0, at_most=True),),
        "scikit-learn, same split",
    ),
    "line": Row(
        "model=linreg data=line", (Figure("largest error", largest_error, 0.001, at_most=True),)
    ),
    "digits": Row("", (accurate(98.0),), seconds=60),
    "logreg": Row("experiment=logreg_mnist", (accurate(92.0),), "91.8, softmax regression"),
    "mlp": Row("experiment=mlp_mnist", (accurate(98.4),), "97.5 to 97.8 in tutorials"),
    "mlp_best": Row(
        "experiment=mlp_mnist_best",
        (accurate(99.2),),
        "98.95 without augmentation, 99.30 with elastic",
        seconds=600,
    ),
    "lenet5": Row("experiment=lenet5_mnist", (accurate(99.0),), "99.05 (LeCun et al. 1998)"),
    "mnist_fast": Row("experiment=mnist_fast", (accurate(99.0),), seconds=20, seeds=range(1, 11)),
    "lenet5_best": Row(
        "experiment=lenet5_mnist_best",
        (accurate(99.5),),
        "99.2 with distortions (LeCun et al. 1998)",
        seconds=600,
    ),
    "lenet5_pruned": Row(
        "experiment=lenet5_mnist_best modifier=prune modifiers.prune.sparsity=0.9",
        (accurate(99.4), Figure("% pruned", sparsity, 89.9)),
        "12 times fewer weights without loss (Han et al. 2015)",
        seconds=600,
    ),
    "lenet5_int8": Row(
        "experiment=lenet5_mnist_best",
        (
            accurate(99.5),
            Figure("% accuracy as int8", integer_accuracy, 99.4),
            Figure("times smaller", times_smaller, 3.5),
        ),
        seconds=600,
    ),
    "lenet5_quantized": Row(
        "experiment=lenet5_mnist_best modifier=quantize",
        (accurate(99.4), Figure("% accuracy as int8", integer_accuracy, 99.4)),
        seconds=900,
    ),
    "mlp_alone": Row("experiment=lenet5_distilled task=classification", (accurate(None),)),
    "mlp_distilled": Row(
        "experiment=lenet5_distilled task.teacher=$CLASSIFIER",
        (accurate(None),),
        "0.3 points above the same network alone",
    ),
    "mnist_robust": Row(
        "experiment=mnist_robust",
        (accurate(None), Figure("% accuracy under PGD-40, 10 starts", robust_accuracy, 85.0)),
        "89 to 93 (Madry et al. 2018)",
        seconds=1800,
    ),
    "style": Row(
        "model=style data=style data.content=$DLTRAIN_DATA/style-images/tubingen.jpg "
        "data.style=$DLTRAIN_DATA/style-images/starry_night_google.jpg "
        "task.features=$DLTRAIN_DATA/vgg19-normalised/vgg_normalised_conv3_1.pth",
        (Figure("% of the style loss left", style_fraction, 2.0, at_most=True),),
        seconds=180,
    ),
    "cnn": Row("experiment=cnn_mnist", (accurate(99.2),), "99.22, Keras's example"),
    "alexnet": Row(
        "experiment=alexnet_cifar10 data=hub data.path=$DLTRAIN_DATA/cifar10 data.image=img "
        "data.label=label",
        (accurate(75.0),),
        "72.1 and 77.2 on the original; this is a copy of JPEGs",
        seconds=1200,
    ),
    "cifar10_fast": Row(
        "experiment=cifar10_fast data=hub data.path=$DLTRAIN_DATA/cifar10 data.image=img "
        "data.label=label",
        (accurate(None),),
        "94.0, airbench94 in 9.9 epochs (Jordan 2024), on the original; 90.6 on this copy of JPEGs",
    ),
    "cifar10_wide": Row(
        "experiment=cifar10_fast data=hub data.path=$DLTRAIN_DATA/cifar10 data.image=img "
        "data.label=label 'model.channels=[256,512,512]' task.label_smoothing=0.1 "
        "trainer.epochs=20 device=cuda",
        (accurate(91.5),),
        "94.0, airbench94, smaller, in 9.9 epochs (Jordan 2024), on the original",
    ),
    "hymenoptera": Row(
        "experiment=hymenoptera data.path=$DLTRAIN_DATA/hymenoptera",
        (accurate(93.0),),
        "93.5 and 96.1, ResNet-18 in PyTorch's tutorial",
    ),
    "detect_cells": Row(
        "experiment=detect_cells data.path=$DLTRAIN_DATA/bccd",
        (
            Figure("% mAP@0.5", average_precision("map_50"), 82.0),
            Figure("% mAP@[.5:.95]", average_precision("map"), None),
        ),
        "92.4, YOLOv8n with COCO's weights, on a split of its own",
        seconds=2700,
    ),
    "fasterrcnn_cells": Row(
        "model=fasterrcnn model.name=fasterrcnn_mobilenet_v3_large_320_fpn data=voc "
        "data.path=$DLTRAIN_DATA/bccd data.size=[240,320] "
        "'data.splits={train: trainval, test: test}' data.validation=0 data.augment.flip=0.5 "
        "trainer.epochs=20",
        (
            Figure("% mAP@0.5", average_precision("map_50"), None),
            Figure("% mAP@[.5:.95]", average_precision("map"), None),
        ),
        seeds=(1,),
    ),
    "unet_cells": Row(
        "experiment=unet_cells data.path=$DLTRAIN_DATA/isbi2012-em",
        (
            Figure("% pixel accuracy", per_cent("pixel_accuracy"), 92.5),
            Figure("% membrane Dice", dice_of("membrane"), 81.0),
            Figure("% accuracy by a threshold", by_threshold("pixel_accuracy"), None),
            Figure("% membrane Dice by a threshold", by_threshold("dice"), None),
        ),
        "97 on its own training slices in the usual notebook",
        seconds=1200,
    ),
    "unet_camvid": Row(
        "experiment=unet_camvid data.path=$DLTRAIN_DATA/camvid-half",
        (Figure("% mean IoU", per_cent("miou"), 50.0),),
        "46 to 60 SegNet, at full size",
        seconds=2700,
    ),
    "toy_bag": Row(
        "model=ngrams model.length=1 data=toy_reviews",
        (Figure("% accuracy", accuracy, 75.0, at_most=True),),
        "a bag of words knows no order",
    ),
    "toy_lstm": Row("model=lstm data=toy_reviews", (accurate(95.0),)),
    "toy_attention": Row("model=attention data=toy_reviews", (accurate(95.0),)),
    "ngrams": Row(
        "model=ngrams data=imdb",
        (accurate(None),),
        "91.2 with naive Bayes features (Wang and Manning 2012)",
    ),
    "rnn": Row("model=rnn data=imdb", (accurate(82.0),), "73.9 packed, 46 unpacked"),
    "gru": Row("model=gru data=imdb", (accurate(88.0),), "85.1"),
    "tinyshakespeare": Row(
        "experiment=tinyshakespeare",
        (Figure("nats a character", of_test("loss"), 1.55, at_most=True),),
        "1.88, nanoGPT in 3 minutes of a processor",
        seconds=180,
    ),
    "tinyshakespeare_best": Row(
        "experiment=tinyshakespeare_best",
        (Figure("nats a character", of_test("loss"), 1.46, at_most=True),),
        "1.47, nanoGPT on a GPU",
        seconds=1800,
    ),
    "tang_poems": Row(
        "experiment=tang_poems",
        (
            Figure("perplexity of a character", of_test("perplexity"), None),
            Figure("of a 5-gram", five_gram_perplexity, None),
            Figure("% of quatrains keep their meter", meter_kept, 90.0),
            Figure("% of those it has read", meter_of_text, None),
            Figure("% have four lines of one length", lines_alike, None),
            Figure("% of those it has read", text_alike, None),
        ),
        seconds=1800,
    ),
    "lstm": Row("model=lstm data=imdb", (accurate(88.0),), "85.1"),
    "imdb_rnn": Row("experiment=imdb_rnn", (accurate(None),), "46 to 74"),
    "imdb_bilstm": Row("experiment=imdb_bilstm", (accurate(None),), "83 to 86"),
    "imdb_best": Row(
        "experiment=imdb_best",
        (accurate(90.5),),
        "86.2 with GloVe; 91.9, the best published of the kind",
        seconds=2700,
    ),
    "trec_cnn": Row(
        "experiment=trec_cnn", (accurate(90.0),), "88.2 random vectors, 92.8 tuned word2vec"
    ),
    # Each seed is a fold of all but 1 % of the messages, and its 20 % are what is measured.
    "sms_spam": Row(
        "experiment=sms_spam data.test=0.01 data.folds=5 'data.fold=${seed}'",
        (
            Figure("% F1 of spam", validated("f1", "spam"), 95.5),
            Figure("% accuracy", validated("accuracy"), 98.8),
        ),
        "97.6 accuracy, an SVM (Almeida et al. 2011)",
        seeds=range(5),
    ),
    "chnsenticorp": Row(
        "experiment=chnsenticorp", (accurate(None),), "92.95 TextCNN on pretrained vectors"
    ),
    "multi30k_gru": Row(
        "experiment=multi30k_gru", translated(31.0, 31.0), "28.3, lower-cased", seconds=3600
    ),
    "multi30k_transformer": Row(
        "experiment=multi30k_transformer",
        translated(37.0, 37.0),
        "36.5, lower-cased",
        seconds=3600,
    ),
    "tatoeba_en_zh": Row("experiment=tatoeba_en_zh", translated(None, None), seconds=3600),
    # Each seed is a fold, u1 to u5.
    "movielens": Row(
        "experiment=movielens 'data.test=u${seed}.test'",
        (
            Figure("RMSE", scored("rmse"), 0.915, at_most=True, digits=".4f"),
            Figure("MAE", scored("mae"), None, digits=".4f"),
        ),
        "0.919 and 0.721, SVD++ of Surprise, five random folds",
        seconds=60,
        seeds=range(1, 6),
    ),
    "movielens_ranking": Row(
        "experiment=movielens_ranking",
        (
            Figure("% hit rate@10", per_cent("hit_rate@10"), None),
            Figure("% NDCG@10", per_cent("ndcg@10"), None),
            Figure("% NDCG@10 of the most popular", per_cent("baseline_popular_ndcg@10"), None),
            Figure("% NDCG@10 of the nearest", per_cent("baseline_neighbors_ndcg@10"), None),
        ),
    ),
    "fsdd": Row(
        "experiment=fsdd",
        (accurate(98.5),),
        "97, MFCC and a CNN, random tenth of an earlier version with 3 speakers",
    ),
    "fsdd_speaker": Row(
        "experiment=fsdd 'data.test_where={speaker: theo}'",
        (accurate(None),),
        "a speaker that the network never heard",
    ),
    "fsdd_bilstm": Row("experiment=fsdd model=lstm", (accurate(None),)),
    "yesno": Row(
        "experiment=yesno",
        (Figure("% WER", per_cent("wer"), 0.0, at_most=True),),
        "0.00, Kaldi's recipe",
    ),
    "digit_strings": Row(
        "experiment=digit_strings",
        (Figure("% WER", per_cent("wer"), 5.0, at_most=True),),
        seconds=900,
    ),
    "etth1": Row(
        "experiment=etth1",
        (
            Figure("MSE", scored("mse"), 0.40, at_most=True),
            Figure("MAE", scored("mae"), None),
            Figure("MSE, the last day again", scored("baseline_seasonal_naive_mse"), None),
        ),
        "0.399 linear, 0.499 transformer (MTS-Mixers)",
    ),
    # Chosen on the validation split, of which the linear model's MSE is 0.670.
    "etth1_lstm": Row(
        "experiment=etth1 model=lstm task.level=last optimizer.lr=2e-3 trainer.epochs=5",
        FORECAST,
    ),
    "etth1_gru": Row(
        "experiment=etth1 model=gru task.level=last trainer.epochs=5",
        FORECAST,
    ),
    "etth1_transformer": Row(
        "experiment=etth1 model=transformer model.layers=2 model.embedding_size=64 task.level=last"
        " trainer.epochs=3",
        FORECAST,
        "0.499 (MTS-Mixers)",
    ),
    "adding_rnn": Row(
        "model=rnn data=adding", (Figure("MSE", mean_squared_error, 0.1),), "0.167 by chance"
    ),
    "adding_gru": Row(
        "model=gru data=adding", (Figure("MSE", mean_squared_error, 0.01, at_most=True),)
    ),
    "adding_lstm": Row(
        "model=lstm data=adding", (Figure("MSE", mean_squared_error, 0.01, at_most=True),)
    ),
    "cartpole_dqn": Row(
        "experiment=cartpole_dqn",
        (Figure("mean return of 100 episodes", episode_return, 475.0),),
        "475 is solved, 500 the most there is",
        seeds=range(1, 6),
    ),
    "cartpole_ppo": Row(
        "experiment=cartpole_ppo",
        (Figure("mean return of 100 episodes", episode_return, 475.0),),
        "475 is solved, 500 the most there is",
        seeds=range(1, 6),
    ),
    "lunarlander_ppo": Row(
        "experiment=lunarlander_ppo",
        (Figure("mean return of 100 episodes", episode_return, 200.0),),
        "200 is solved",
        seconds=1800,
    ),
    "gan": Row(
        "experiment=gan_mnist callbacks.sample_quality.run=$CLASSIFIER",
        (confident(0.85), EVERY_CLASS, FRECHET),
        seconds=600,
    ),
    "dcgan": Row(
        "experiment=dcgan_mnist callbacks.sample_quality.run=$CLASSIFIER",
        (
            confident(0.95),
            EVERY_CLASS,
            Figure("times the floor's Fréchet distance", over_the_floor, 10.0, at_most=True),
        ),
        seconds=1200,
    ),
    "dcgan_conditional": Row(
        "experiment=dcgan_mnist_conditional callbacks.sample_quality.run=$CLASSIFIER",
        (
            Figure("% of the digit asked for", by_classifier("label_agreement", 100), 97.0),
            confident(None),
            FRECHET,
        ),
        seconds=1200,
    ),
    "wgan_gp": Row(
        "experiment=wgan_gp_mnist callbacks.sample_quality.run=$CLASSIFIER",
        (confident(None), EVERY_CLASS, FRECHET),
    ),
    "vae": Row(
        "experiment=vae_mnist",
        (Figure("nats, test NLL (k = 500)", negative_log_likelihood, 95.0, at_most=True),),
        "86.8, a VAE of one layer (Burda et al. 2016); 84.8, the best of its kind",
        seconds=600,
    ),
    "dbn": Row(
        "experiment=dbn_mnist",
        (Figure("% test error", error, 1.25, at_most=True),),
        "1.25 (Hinton et al. 2006), 1.15 fine-tuned further",
        seconds=1800,
        seeds=(1,),
    ),
    "fedavg": Row(
        "experiment=fedavg_mnist",
        (Figure("% test accuracy", accuracy, 99.0),),
        "99 after 34 rounds of a larger network (McMahan et al. 2017)",
        seeds=(1,),
    ),
    "fedavg_two_classes": Row(
        "experiment=fedavg_mnist federated.classes_per_client=2 optimizer.lr=0.1"
        " trainer.epochs=150",
        (Figure("% test accuracy", accuracy, 97.0),),
        "99 after 350 rounds of a larger network (McMahan et al. 2017)",
        seeds=(1,),
    ),
}

AREAS = {
    "xor": "Points, tables, digits",
    "lenet5_pruned": "Small networks, attacks, style",
    "cnn": "Images",
    "detect_cells": "Objects and pixels",
    "toy_bag": "Texts and language",
    "multi30k_gru": "Translation",
    "movielens": "Recommenders",
    "fsdd": "Sounds",
    "etth1": "Series and sequences",
    "cartpole_dqn": "Acting",
    "gan": "Generating",
    "dbn": "Phases and clients",
}
"""The heading of the area that begins with a row."""

BEST_KNOWN = (
    *("digits", "mlp", "lenet5", "cnn", "alexnet", "cifar10_fast", "hymenoptera"),
    *("lenet5_pruned", "detect_cells", "unet_camvid"),
    *("lstm", "imdb_best", "tinyshakespeare", "multi30k_transformer"),
    *("movielens", "fsdd", "etth1", "cartpole_ppo", "dcgan_conditional", "vae", "fedavg"),
)
"""The rows that README.md has: networks and data sets that courses and papers speak of most."""
