"""Classification of text: what a step minimizes, what it counts, and the reviews that are shown."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
import torch
from tensorboard import plugin_util
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.nn import functional

from dltrain.contracts.data import Batch
from dltrain.core.update import Optimize
from dltrain.optim.groups import groups_of
from dltrain.tasks.classification import Classification
from dltrain.tasks.text import TextClassification, direction
from tests.asking import classes, evaluated, texts
from tests.conftest import Train

CLASSES = ["bad", "good"]
WORDS = [
    "<pad>",
    "<unknown>",
    "a",
    "fine",
    "film",
    "dull",
    "a|b",
    "*so*",
    "<br>",
    "it's_",
    "\\n[x](y)",
]


class Bag(nn.Module):
    """Mean of embeddings, the smallest network with the text networks' methods."""

    def __init__(self, dropout: float = 0.0, words: int = len(WORDS)) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, 6, padding_idx=0)
        self.dense = nn.Linear(6, len(CLASSES))
        self.dropout = nn.Dropout(dropout)
        self.embedded: list[Tensor] = []

    def embed(self, ids: Tensor) -> Tensor:
        self.embedded.append(self.dropout(self.embedding(ids)))
        return self.embedded[-1]

    def read(self, vectors: Tensor, ids: Tensor | None) -> Tensor:
        assert ids is not None
        real = (ids != 0).unsqueeze(2)
        return self.dense((vectors * real).sum(1) / real.sum(1))

    def forward(self, ids: Tensor) -> Tensor:
        return self.read(self.embed(ids), ids)


class Told(nn.Module):
    """Says the class that a review's first id names, as surely as its second id."""

    def forward(self, ids: Tensor) -> Tensor:
        return functional.one_hot(ids[:, 0].long() - 1, len(CLASSES)) * ids[:, 1:2].float()


def batch(dtype: torch.dtype = torch.int64) -> Batch:
    ids = torch.tensor([[2, 3, 4, 0], [2, 5, 4, 4], [5, 0, 0, 0]], dtype=dtype)
    return {"input": ids, "target": torch.tensor([1, 0, 0])}


def task_of(model: nn.Module, **settings: Any) -> TextClassification:
    return TextClassification(model, texts(WORDS, CLASSES), **settings)


def asked(task: TextClassification, given: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss that one step asks to be minimized, and what the step tells."""
    losses: list[Tensor] = []
    metrics = task.train_step(given, lambda loss, name="model": losses.append(loss))
    (loss,) = losses
    return loss, metrics


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_a_step_is_that_of_classification_and_counts_real_tokens(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model, given = Bag(), batch(dtype)
    loss, metrics = asked(task_of(model, label_smoothing=0.1), given)
    plain = Classification(model, texts(WORDS, CLASSES), label_smoothing=0.1)
    expected = plain.train_step(given, lambda loss, name="model": None)

    assert float(metrics.pop("tokens")) == pytest.approx(8 / 3)
    assert metrics == expected
    assert float(loss.detach()) == float(expected["loss"])


def test_adversarial_training_adds_the_loss_a_step_against_each_review() -> None:
    torch.manual_seed(1)
    model, given = Bag(), batch()
    loss, metrics = asked(task_of(model, adversarial=0.5), given)

    ids, targets = given["input"], given["target"]
    moved = model.embedding(ids).detach()
    for row in range(len(ids)):
        alone = slice(row, row + 1)
        vectors = moved[alone].clone().requires_grad_()
        own = functional.cross_entropy(model.read(vectors, ids[alone]), targets[alone])
        own.backward()
        assert vectors.grad is not None
        moved[row] += 0.5 * vectors.grad[0] / vectors.grad.norm()
    model.zero_grad()
    plain = functional.cross_entropy(model(ids), targets)
    against = functional.cross_entropy(model.read(moved, ids), targets)
    assert against > plain + 0.01
    torch.testing.assert_close(loss, plain + against)
    torch.testing.assert_close(metrics["loss"], plain)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_what_is_dropped_is_the_same_in_both_passes() -> None:
    """Embedded once: were it twice, the second pass would be over other dropped values."""
    torch.manual_seed(2)
    model = Bag(dropout=0.5)
    loss, metrics = asked(task_of(model, adversarial=1e-6), batch())

    assert len(model.embedded) == 1
    torch.testing.assert_close(loss.detach(), 2 * metrics["loss"])
    assert bool((model.embedded[0] == 0).any())


def test_the_gradient_is_that_of_both_losses_with_the_step_held_still() -> None:
    torch.manual_seed(3)
    model = Bag()
    task, given = task_of(model, adversarial=0.3), batch()
    loss, _ = asked(task, given)
    loss.backward()
    found = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()

    ids, targets = given["input"], given["target"]
    vectors = model.embedding(ids)
    plain = functional.cross_entropy(model.read(vectors, ids), targets)
    (slope,) = torch.autograd.grad(plain, vectors, retain_graph=True)
    shift = 0.3 * slope / slope.flatten(1).norm(dim=1)[:, None, None]
    moved = functional.cross_entropy(model.read(vectors + shift.detach(), ids), targets)
    (plain + moved).backward()
    for one, parameter in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad)


def test_an_adversarial_step_in_bfloat16_is_nearly_that_in_float32() -> None:
    torch.manual_seed(4)
    task = task_of(Bag(), adversarial=0.5)
    exact, _ = asked(task, batch())
    with torch.autocast("cpu", torch.bfloat16):
        rough, metrics = asked(task, batch())
    torch.testing.assert_close(rough.float(), exact, atol=0.02, rtol=0)
    rough.backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in task.parameters())
    assert not metrics["loss"].requires_grad


def test_accumulated_adversarial_steps_are_that_of_the_whole_batch() -> None:
    ids, targets = batch()["input"][:2], batch()["target"][:2]
    weights = []
    for parts in (1, 2):
        torch.manual_seed(5)
        task = task_of(Bag(), adversarial=0.5)
        optimizer = torch.optim.SGD(task.parameters(), lr=0.5)
        optimize = Optimize({"model": optimizer}, groups_of(task), {}, "cpu", accumulate=parts)
        for one, target in zip(ids.chunk(parts), targets.chunk(parts), strict=True):
            task.train_step({"input": one, "target": target}, optimize)
        weights.append(torch.cat([p.detach().flatten() for p in task.parameters()]))
    torch.testing.assert_close(*weights)


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_a_direction_has_length_one_for_each_review_of_any_slope(size: float) -> None:
    slope = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(6)) * size
    slope[1] = 0
    found = direction(slope)
    lengths = found.flatten(1).norm(dim=1)
    torch.testing.assert_close(lengths, torch.tensor([1.0, 0.0, 1.0]))
    torch.testing.assert_close(found[0] / found[0].max(), slope[0] / slope[0].max())


def test_a_model_that_embeds_nothing_cannot_be_trained_against() -> None:
    with pytest.raises(ValueError, match="adversarial needs a model that embeds words, which Told"):
        task_of(Told(), adversarial=1.0)
    with pytest.raises(ValueError, match="not negative"):
        task_of(Bag(), adversarial=-1.0)
    task_of(Told())


def test_a_text_is_ids_and_not_numbers() -> None:
    with pytest.raises(ValueError, match="token ids with an id that pads"):
        TextClassification(Bag(), classes(CLASSES, 4))


def test_two_words_are_no_point_in_a_plane() -> None:
    given = {"input": torch.tensor([[1, 2], [2, 3]]), "target": torch.tensor([0, 1])}
    plain = Classification(Told(), texts(WORDS, CLASSES))
    for task in (task_of(Told()), plain):
        assert "decision_boundary" not in evaluated(task, [given]).figures


def reviews(lengths: list[int], size: int) -> Iterator[Batch]:
    """Of each length a review of the class "bad", that every other is said to be."""
    for low in range(0, len(lengths), size):
        chosen = lengths[low : low + size]
        ids = torch.zeros(len(chosen), max(chosen), dtype=torch.int32)
        for row, length in enumerate(chosen):
            ids[row, :length] = 4
            ids[row, 0], ids[row, 1] = 1 + (low + row) % 2, 2 + (low + row) % 9
        yield {"input": ids, "target": torch.zeros(len(chosen), dtype=torch.int64)}


def test_an_evaluation_shows_reviews() -> None:
    lengths = [2, 9, 3, 7, 4, 8]
    evaluation = evaluated(task_of(Told()), list(reviews(lengths, 4)))

    assert "tokens" not in evaluation.scalars
    assert evaluation.scalars["accuracy"] == 0.5
    some, wrong = evaluation.texts["reviews"], evaluation.texts["mistakes"]
    assert some.startswith("6 of 6\n\n| truth | prediction | confidence | text |\n")
    assert len(rows(some)) == 6
    assert wrong.startswith("3 of 6 wrong\n\n")
    said = [row[:3] for row in rows(wrong)]
    # The second id is the logit: 7, 5 and 3 against 0.
    assert said == [["bad", "**good**", share] for share in ("99.9%", "99.3%", "95.3%")]


def rows(table: str) -> list[list[str]]:
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    return [line.removeprefix("| ").removesuffix(" |").split(" | ") for line in lines[2:]]


def test_the_same_reviews_are_shown_whatever_they_are_batched_with() -> None:
    lengths = [2 + n % 7 + n // 5 for n in range(60)]
    whole = evaluated(task_of(Told()), list(reviews(lengths, 60)))
    parts = evaluated(task_of(Told()), list(reviews(lengths, 7)))

    assert len(rows(whole.texts["reviews"])) == 16
    assert sorted(rows(whole.texts["reviews"])) == sorted(rows(parts.texts["reviews"]))
    assert parts.texts["mistakes"].startswith("30 of 60 wrong: the 16 most confident\n")


def test_a_long_review_is_shown_by_its_beginning_and_its_end() -> None:
    evaluation = evaluated(task_of(Told()), list(reviews([300], 1)))
    ((_, _, _, text),) = rows(evaluation.texts["reviews"])
    assert len(text.split()) == 61
    assert text.split()[40] == "…"


class Cells(HTMLParser):
    """The texts of a table's cells."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag == "td":
            self.found.append("")

    def handle_data(self, data: str) -> None:
        if self.found:
            self.found[-1] += data


def test_tensorboard_shows_words_as_they_are() -> None:
    given = {
        "input": torch.tensor([[2, 6, 7, 8, 9, 10]]),
        "target": torch.tensor([0]),
    }
    task = TextClassification(Bag(), texts(WORDS, ["b_a_d", "b_a_d"]))
    cells = Cells()
    cells.feed(plugin_util.markdown_to_safe_html(evaluated(task, [given]).texts["reviews"]))
    assert cells.found[0].strip() == "b_a_d"
    assert cells.found[3].strip() == " ".join(WORDS[i] for i in given["input"][0].tolist())


def test_a_run_on_reviews_trains_against_them_in_bfloat16_and_shows_them(train: Train) -> None:
    trained = train(
        *("data=toy_reviews", "data.examples=120", "data.test_examples=20"),
        *("model=lstm", "model.hidden_size=4", "model.pooling=attention", "model.dropout=0.2"),
        *("regularizer=adversarial", "trainer.precision=bfloat16", "trainer.accumulate=2"),
        *("trainer.epochs=1", "callbacks=[tensorboard,figures]"),
    )
    assert trained.summary["status"] == "finished"
    assert "tokens" not in trained.summary["test"]
    events = EventAccumulator(str(trained.folder), {"tensors": 0, "images": 0}).Reload()
    for split in ("validation", "test"):
        assert (trained.folder / "figures" / f"{split}_attention.png").exists()
        assert f"{split}/figures/attention" in events.Tags()["images"]
        assert {f"{split}/texts/reviews", f"{split}/texts/mistakes"} <= set(
            events.Tags()["tensors"]
        )
