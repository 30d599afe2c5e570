"""Data sets and loaders: what is in a split, in which order, and as which numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dltrain.contracts.data import Batch, Draw, Placement, Stream, Streams
from dltrain.data.images.digits import Digits
from dltrain.data.images.mnist import Mnist
from dltrain.data.streams.first_batches import FirstBatches
from dltrain.data.streams.in_memory import Batching, Limits, TensorStream
from dltrain.data.tables.line import Line
from dltrain.errors import UserError
from tests.streams import CPU, first, opened, same, whole

DIGITS = 1797
TEST = 360
TRAIN = DIGITS - TEST


def images(loader: Stream) -> set[bytes]:
    """The images of a split, to be compared as sets; digits has no two alike."""
    return {image.numpy().tobytes() for image in whole(loader)["input"]}


def digits(seed: int = 0, **settings: Any) -> Streams:
    return opened(Digits(**settings), seed)


def loader(
    seed: int = 0, count: int = 10, batch_size: int = 4, shuffle: bool = True
) -> TensorStream:
    """Examples that are their own numbers; what is random in preparing them shows in ``noise``."""

    def prepare(batch: Batch, draw: Draw | None) -> Batch:
        if draw is not None:
            batch["noise"] = torch.rand(len(batch["input"]), generator=draw.generator)
        return batch

    batching = Batching(Limits(batch_size), CPU, prepare, seed, shuffle)
    return TensorStream({"input": torch.arange(count)}, batching)


def epoch_of(stream: Stream, epoch: int, start: int = 0) -> list[Batch]:
    return list(stream.batches(epoch, start))


def test_the_line_is_four_points_and_its_own_test() -> None:
    loaders = opened(Line(batch_size="full", validation=0), 0)

    for split in (loaders["train"], loaders["test"]):
        points = whole(split)
        assert sorted(points["input"].flatten().tolist()) == [1, 2, 3, 4]
        assert torch.equal(points["target"], 2 * points["input"])
    assert loaders["train"].steps_per_epoch == 1
    assert "validation" not in loaders


def test_digits_has_every_image_once_in_one_split() -> None:
    loaders = digits(validation=0.1)
    splits = ("train", "validation", "test")
    train, validation, test = (images(loaders[split]) for split in splits)

    assert (len(train), len(validation), len(test)) == (TRAIN - 144, 144, TEST)
    assert len(train | validation | test) == DIGITS
    targets = whole(loaders["test"])["target"]
    assert targets.dtype == torch.int64
    assert targets.bincount(minlength=10).min() > 20


def test_the_validation_split_is_the_seeds_and_nothing_elses() -> None:
    kept = [
        images(digits(seed, batch_size=size)["validation"]) for seed in (0, 0, 1) for size in (8,)
    ]
    other = images(digits(0, batch_size=50, evaluation_batch_size=7)["validation"])

    assert kept[0] == kept[1] == other
    assert kept[0] != kept[2]


def test_neither_seed_nor_limit_nor_validation_touches_the_test_split() -> None:
    expected = whole(digits(0)["test"])
    for loaders in (
        digits(5),
        digits(0, limit=100),
        digits(0, validation=0),
        digits(0, validation=700),
    ):
        found = whole(loaders["test"])
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

    assert loaders["train"].examples == train
    assert (loaders["validation"].examples if "validation" in loaders else 0) == validation
    together = images(loaders["train"])
    if "validation" in loaders:
        together |= images(loaders["validation"])
    assert len(together) == train + validation
    assert not together & images(loaders["test"])


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

    assert loaders["train"].steps_per_epoch == 1
    assert len(first(loaders["train"])["input"]) == TRAIN - 37


def test_a_batch_larger_than_the_split_is_the_split() -> None:
    assert [len(batch["input"]) for batch in epoch_of(loader(count=3, batch_size=8), 0)] == [3]


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(("count", "sizes"), [(10, [4, 4, 2]), (8, [4, 4]), (9, [4, 4, 1])])
def test_the_last_batch_may_be_smaller_and_none_is_lost(
    shuffle: bool, count: int, sizes: list[int]
) -> None:
    made = loader(count=count, shuffle=shuffle)

    batches = epoch_of(made, 0)
    if shuffle and sizes[-1] == 1:  # in training a single example joins the batch before
        sizes = [*sizes[:-2], sizes[-2] + 1]
    assert [len(batch["input"]) for batch in batches] == sizes
    assert made.steps_per_epoch == len(sizes)
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
    second = next(made.batches(1, 1))

    assert same([next(made.batches(1, 1))], [second])


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
            assert made.rows(epoch, number).tolist() == batch["input"].tolist()


def test_the_first_batches_are_the_same_every_epoch() -> None:
    two = epoch_of(loader(), 0)[:2]
    kept = FirstBatches(loader(), 2)

    assert (kept.steps_per_epoch, kept.examples) == (2, 8)
    assert same(epoch_of(kept, 0), two)
    assert same(epoch_of(kept, 7), two)
    assert same(epoch_of(kept, 7, start=1), two[1:])
    assert kept.rows(0, 1).tolist() == two[1]["input"].tolist()
    assert same(list(kept.plain()), list(loader().plain())[:2])
    assert FirstBatches(loader(), 99).steps_per_epoch == 3


def assert_normalized(loaders: Streams, tolerance: float) -> None:
    inputs = whole(loaders["train"])["input"].double()
    assert inputs.mean().item() == pytest.approx(0, abs=tolerance)
    assert inputs.std().item() == pytest.approx(1, abs=tolerance)


def test_digits_are_normalized() -> None:
    assert_normalized(digits(validation=0), 0.005)


def test_any_mean_and_std_may_be_given() -> None:
    plain = whole(digits(mean=[0.0], std=[1.0])["test"])["input"]
    shifted = whole(digits(mean=[0.5], std=[0.25])["test"])["input"]

    assert (plain.min().item(), plain.max().item()) == (0.0, pytest.approx(1.0))
    torch.testing.assert_close(shifted, (plain - 0.5) / 0.25)
    with pytest.raises(ValueError, match="above 0"):
        digits(std=[0.0])


def test_mnist_reads_the_real_files(mnist_root: str) -> None:
    def counts(stream: Stream) -> list[int]:
        return whole(stream)["target"].bincount(minlength=10).tolist()

    loaders = opened(Mnist(root=mnist_root, validation=0, batch_size=5000), 0)

    # The class counts and the first labels that every description of MNIST gives.
    train = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert counts(loaders["train"]) == train
    assert counts(loaders["test"]) == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    batch = first(loaders["test"])
    assert batch["target"][:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert batch["input"].shape[1:] == (1, 28, 28)


def test_mnist_is_normalized(mnist_root: str) -> None:
    assert_normalized(opened(Mnist(root=mnist_root, validation=0, limit=6000), 0), 0.01)


def test_an_order_asked_for_is_the_same_whatever_was_asked_before() -> None:
    made = loader(seed=3)
    expected = {
        epoch: torch.cat([b["input"] for b in epoch_of(made, epoch)]) for epoch in (0, 1, 2)
    }
    walking = made.batches(1)
    found = [next(walking)["input"]]
    assert made.rows(2, 0).tolist() == expected[2][:4].tolist()
    assert torch.cat([b["input"] for b in made.plain()]).tolist() == expected[0].tolist()
    found += [batch["input"] for batch in walking]
    assert torch.cat(found).tolist() == expected[1].tolist()


def test_two_walks_at_once_draw_what_each_draws_alone() -> None:
    made = loader(seed=3)
    alone = [epoch_of(loader(seed=3), epoch) for epoch in (0, 1)]
    together = list(zip(made.batches(0), made.batches(1), strict=True))
    assert all(same([pair[epoch] for pair in together], alone[epoch]) for epoch in (0, 1))


def test_opening_twice_gives_the_same_batches() -> None:
    source = Digits(batch_size=100)
    source.read(1)
    streams = [source.open(Placement(CPU, 1)) for _ in range(2)]
    assert same(*(epoch_of(found["train"], 2) for found in streams))


def test_a_spec_counts_the_classes_of_the_rows_that_are_trained_on() -> None:
    source = Digits(limit=100, validation=20)
    spec = source.read(3)
    targets = whole(opened(source, 3)["train"])["target"]
    assert spec.target.counts == tuple(targets.bincount(minlength=10).tolist())
    assert sum(spec.target.counts) == 80
    assert source.outline().target.counts == ()
    assert (spec.input.mean, spec.input.std) == ((0.305,), (0.376,))
