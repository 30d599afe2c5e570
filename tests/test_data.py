"""Data sets and loaders: what is in a split, in which order, and as which numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dltrain.data.digits import Digits
from dltrain.data.line import Line
from dltrain.data.loaders import Draw, FirstBatches, TensorLoader
from dltrain.data.mnist import Mnist
from dltrain.errors import UserError
from dltrain.types import Batch, Loader, Loaders, Source

CPU = torch.device("cpu")
DIGITS = 1797
TEST = 360
TRAIN = DIGITS - TEST


def whole(loader: Loader) -> Batch:
    """An epoch in one piece."""
    batches = list(loader)
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


def pictures(loader: Loader | None) -> set[bytes]:
    """The pictures of a split, to be compared as sets; digits has no two alike."""
    assert loader is not None
    return {picture.numpy().tobytes() for picture in whole(loader)["input"]}


def digits(seed: int = 0, **settings: Any) -> Loaders:
    return Digits(**settings).loaders(CPU, seed)


def loader(
    seed: int = 0, count: int = 10, batch_size: int = 4, shuffle: bool = True
) -> TensorLoader:
    """Examples that are their own numbers; what is random in preparing them shows in ``noise``."""

    def prepare(batch: Batch, draw: Draw | None) -> Batch:
        if draw is not None:
            batch["noise"] = torch.rand(len(batch["input"]), generator=draw.generator)
        return batch

    return TensorLoader({"input": torch.arange(count)}, batch_size, CPU, prepare, seed, shuffle)


def epoch_of(loader: Loader, epoch: int, start: int = 0) -> list[Batch]:
    loader.set_epoch(epoch)
    return list(loader.batches(start))


def same(first: list[Batch], second: list[Batch]) -> bool:
    return len(first) == len(second) and all(
        a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
        for a, b in zip(first, second, strict=True)
    )


def test_the_line_is_four_points_and_its_own_test() -> None:
    loaders = Line(batch_size="full", validation=0).loaders(CPU, 0)

    for split in (loaders.train, loaders.test):
        points = whole(split)
        assert sorted(points["input"].flatten().tolist()) == [1, 2, 3, 4]
        assert torch.equal(points["target"], 2 * points["input"])
    assert len(loaders.train) == 1
    assert loaders.validation is None


def test_digits_has_every_picture_once_in_one_split() -> None:
    loaders = digits(validation=0.1)
    train, validation, test = map(pictures, (loaders.train, loaders.validation, loaders.test))

    assert (len(train), len(validation), len(test)) == (TRAIN - 144, 144, TEST)
    assert len(train | validation | test) == DIGITS
    targets = whole(loaders.test)["target"]
    assert targets.dtype == torch.int64
    assert targets.bincount(minlength=10).min() > 20


def test_the_validation_split_is_the_seeds_and_nothing_elses() -> None:
    kept = [
        pictures(digits(seed, batch_size=size).validation) for seed in (0, 0, 1) for size in (8,)
    ]
    other = pictures(digits(0, batch_size=50, evaluation_batch_size=7).validation)

    assert kept[0] == kept[1] == other
    assert kept[0] != kept[2]


def test_neither_seed_nor_limit_nor_validation_touches_the_test_split() -> None:
    expected = whole(digits(0).test)
    for loaders in (
        digits(5),
        digits(0, limit=100),
        digits(0, validation=0),
        digits(0, validation=700),
    ):
        found = whole(loaders.test)
        assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("settings", "train", "validation"),
    [
        ({"validation": 0}, TRAIN, 0),
        ({"validation": 0.25}, TRAIN - 359, 359),
        ({"validation": 37}, TRAIN - 37, 37),
        ({"validation": 1}, TRAIN - 1, 1),
        ({"validation": 0, "limit": 50}, 50, 0),
        ({"validation": 0.2, "limit": 50}, 40, 10),
        ({"validation": 10, "limit": 11}, 1, 10),
        ({"validation": 0, "limit": TRAIN}, TRAIN, 0),
    ],
)
def test_validation_and_limit_count_what_they_say(
    settings: dict[str, Any], train: int, validation: int
) -> None:
    loaders = digits(**settings)

    assert loaders.train.examples == train
    assert (loaders.validation.examples if loaders.validation else 0) == validation
    together = pictures(loaders.train)
    if loaders.validation:
        together |= pictures(loaders.validation)
    assert len(together) == train + validation
    assert not together & pictures(loaders.test)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"validation": 50, "limit": 50}, "leaves none to train on"),
        ({"validation": 5000}, "leaves none to train on"),
        ({"limit": TRAIN + 1}, f"has {TRAIN} examples"),
    ],
)
def test_a_split_that_leaves_nothing_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        digits(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"batch_size": 0},
        {"batch_size": -1},
        {"validation": -0.1},
        {"limit": 0},
        {"evaluation_batch_size": 0},
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        Digits(**settings)


def test_a_full_batch_is_the_whole_training_split() -> None:
    loaders = digits(batch_size="full", validation=37)

    assert len(loaders.train) == 1
    assert len(next(iter(loaders.train))["input"]) == TRAIN - 37


def test_a_batch_larger_than_the_split_is_the_split() -> None:
    assert [len(batch["input"]) for batch in loader(count=3, batch_size=8)] == [3]


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(("count", "sizes"), [(10, [4, 4, 2]), (8, [4, 4]), (9, [4, 4, 1])])
def test_the_last_batch_may_be_smaller_and_none_is_lost(
    shuffle: bool, count: int, sizes: list[int]
) -> None:
    made = loader(count=count, shuffle=shuffle)

    batches = list(made)
    assert [len(batch["input"]) for batch in batches] == sizes
    assert len(made) == len(sizes)
    assert made.examples == count
    assert sorted(whole(made)["input"].tolist()) == list(range(count))


def test_evaluation_keeps_the_order_and_draws_nothing() -> None:
    made = loader(shuffle=False)

    for epoch in (0, 3):
        batches = epoch_of(made, epoch)
        assert torch.cat([batch["input"] for batch in batches]).tolist() == list(range(10))
        assert all(set(batch) == {"input"} for batch in batches)


def test_an_epoch_is_decided_by_seed_and_number_alone() -> None:
    walked, jumped = loader(seed=3), loader(seed=3)
    torch.manual_seed(0)
    before = [epoch_of(walked, epoch) for epoch in range(4)]
    torch.manual_seed(1)

    assert same(epoch_of(jumped, 3), before[3])
    assert same(epoch_of(walked, 1), before[1])
    assert not torch.equal(before[0][0]["input"], before[1][0]["input"])
    assert not same(epoch_of(loader(seed=4), 0), before[0])


def test_drawing_an_epoch_leaves_the_global_generators_alone() -> None:
    state = torch.get_rng_state()

    epoch_of(loader(), 2)

    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("start", [0, 1, 2, 3])
def test_starting_at_a_batch_is_skipping_those_before_it(start: int) -> None:
    assert same(epoch_of(loader(), 5, start), epoch_of(loader(), 5)[start:])


def test_breaking_off_and_starting_again_repeats_what_was_drawn() -> None:
    made = loader()
    made.set_epoch(1)
    first = next(made.batches(1))

    assert same([next(made.batches(1))], [first])


def test_no_two_batches_of_a_run_draw_alike() -> None:
    drawn = [
        tuple(batch["noise"][:2].tolist())
        for seed in range(3)
        for epoch in range(4)
        for batch in epoch_of(loader(seed=seed), epoch)
    ]

    assert len(set(drawn)) == len(drawn)


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_batch_can_be_traced_to_its_examples(shuffle: bool) -> None:
    made = loader(shuffle=shuffle)
    for epoch in (0, 2):
        for number, batch in enumerate(epoch_of(made, epoch)):
            assert made.indices(number).tolist() == batch["input"].tolist()


def test_the_first_batches_are_the_same_every_epoch() -> None:
    first = epoch_of(loader(), 0)[:2]
    kept = FirstBatches(loader(), 2)

    assert (len(kept), kept.examples) == (2, 8)
    assert same(epoch_of(kept, 0), first)
    assert same(epoch_of(kept, 7), first)
    assert same(epoch_of(kept, 7, start=1), first[1:])
    assert kept.indices(1).tolist() == first[1]["input"].tolist()
    assert len(FirstBatches(loader(), 99)) == 3


def assert_normalised(loaders: Loaders, tolerance: float) -> None:
    inputs = whole(loaders.train)["input"].double()
    assert inputs.mean().item() == pytest.approx(0, abs=tolerance)
    assert inputs.std().item() == pytest.approx(1, abs=tolerance)


def test_digits_are_normalised() -> None:
    assert_normalised(digits(validation=0), 0.005)


def test_any_mean_and_deviation_may_be_given() -> None:
    plain = whole(digits(mean=[0.0], std=[1.0]).test)["input"]
    shifted = whole(digits(mean=[0.5], std=[0.25]).test)["input"]

    assert (plain.min().item(), plain.max().item()) == (0.0, pytest.approx(1.0))
    torch.testing.assert_close(shifted, (plain - 0.5) / 0.25)
    with pytest.raises(ValueError, match="above 0"):
        digits(std=[0.0])


def test_mnist_reads_the_real_files(mnist_root: str) -> None:
    def counts(loader: Loader) -> list[int]:
        return sum(batch["target"].bincount(minlength=10) for batch in loader).tolist()

    loaders = Mnist(root=mnist_root, validation=0, batch_size=5000).loaders(CPU, 0)

    # The class counts and the first labels that every description of MNIST gives.
    train = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert counts(loaders.train) == train
    assert counts(loaders.test) == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    first = next(iter(loaders.test))
    assert first["target"][:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert first["input"].shape[1:] == (1, 28, 28)


def test_mnist_is_normalised(mnist_root: str) -> None:
    assert_normalised(Mnist(root=mnist_root, validation=0, limit=6000).loaders(CPU, 0), 0.01)


@pytest.mark.parametrize("source", [Line(), Digits()])
def test_facts_say_what_the_batches_are(source: Source) -> None:
    batch = next(iter(source.loaders(CPU, 0).train))

    assert tuple(batch["input"].shape[1:]) == source.facts["input_shape"]
    assert batch["input"].dtype == torch.float32
    if "class_names" in source.facts:
        assert len(source.facts["class_names"]) == source.facts["outputs"]
        assert batch["target"].max() < source.facts["outputs"]
    else:
        assert tuple(batch["target"].shape[1:]) == (source.facts["outputs"],)
