"""The table of layers: what each costs, beside what a reader with a pencil counts."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from dltrain.models.sequence.recurrent import GRU, LSTM, RNN, Recurrent
from dltrain.runs.model_summary import summarize
from dltrain.tasks.classification import Classification
from dltrain.tasks.text import TextClassification
from tests.asking import classes, texts
from tests.specs import words

WORDS, WIDTH, HIDDEN, STEPS = 50, 4, 8, 10


@pytest.mark.parametrize(("kind", "gates"), [(RNN, 1), (GRU, 3), (LSTM, 4)])
def test_a_recurrent_layer_multiplies_by_its_matrices_at_every_step(
    kind: type[Recurrent], gates: int
) -> None:
    model = kind(words(WORDS), 2, bidirectional=False, hidden_size=HIDDEN, embedding_size=WIDTH)
    task = TextClassification(model, texts([str(word) for word in range(WORDS)], ["no", "yes"]))
    rows = summarize(task, {"input": torch.randint(2, WORDS, (3, STEPS))}).rows
    costs = {row[0]: row[3] for row in rows}
    layer = STEPS * gates * HIDDEN * (WIDTH + HIDDEN)
    assert costs[f"layers.0.0 ({kind.__name__})"] == layer
    assert costs["total"] == layer + HIDDEN * 2


class Attention(nn.Module):
    """Of images' rows, two heads of 14 numbers."""

    def __init__(self, causal: bool = False) -> None:
        super().__init__()
        self.causal = causal

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (n, 1, 28, 28) to (n, 2 * 28 * 14)."""
        heads = images.flatten(1, 2).unflatten(2, (2, 14)).transpose(1, 2)
        made = functional.scaled_dot_product_attention(heads, heads, heads, is_causal=self.causal)
        return made.flatten(1)


class Heads(nn.Module):
    """torch's own layer, four heads of 7 numbers; it multiplies by itself if asked for weights."""

    def __init__(self, weights: bool) -> None:
        super().__init__()
        self.weights = weights
        self.inner = nn.MultiheadAttention(28, 4, batch_first=True)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (n, 1, 28, 28) to (n, 28 * 28)."""
        rows = images.flatten(1, 2)
        return self.inner(rows, rows, rows, need_weights=self.weights)[0].flatten(1)


def heads(count: int, size: int) -> int:
    """Each of 28 rows meets each of 28, and then sums up as many, `size` numbers each time."""
    return count * 28 * 28 * (size + size)


# Rows to queries, keys and values; between them; the heads' answers to rows.
MULTIHEAD = 28 * 28 * 3 * 28 + heads(4, 7) + 28 * 28 * 28

# Of a convolution: numbers in the output times those that one kernel reads; of a transposed one:
# numbers in the input times those that one kernel writes.
NETWORKS = {
    "linear": (nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), 784 * 10),
    "no bias": (nn.Sequential(nn.Flatten(), nn.Linear(784, 10, bias=False)), 784 * 10),
    "convolution": (
        # Five taps two apart are 9 wide; 28 + 2 pixels have 11 places for them, two apart.
        nn.Sequential(nn.Conv2d(1, 8, 5, stride=2, padding=1, dilation=2), nn.Flatten()),
        (8 * 11 * 11) * (1 * 5 * 5),
    ),
    "groups": (
        nn.Sequential(nn.Conv2d(1, 8, 3), nn.Conv2d(8, 4, 3, groups=4), nn.Flatten()),
        (8 * 26 * 26) * (1 * 3 * 3) + (4 * 24 * 24) * (2 * 3 * 3),
    ),
    "transposed": (
        nn.Sequential(nn.Conv2d(1, 6, 3), nn.ConvTranspose2d(6, 4, 4, 2), nn.Flatten()),
        (6 * 26 * 26) * (1 * 3 * 3) + (6 * 26 * 26) * (4 * 4 * 4),
    ),
    "in groups": (
        nn.Sequential(nn.Conv2d(1, 6, 3), nn.ConvTranspose2d(6, 4, 4, 2, groups=2), nn.Flatten()),
        (6 * 26 * 26) * (1 * 3 * 3) + (6 * 26 * 26) * (2 * 4 * 4),
    ),
    "rows": (
        nn.Sequential(nn.Flatten(1, 2), nn.Conv1d(28, 4, 3), nn.Linear(26, 5), nn.Flatten()),
        (4 * 26) * (28 * 3) + 4 * 26 * 5,
    ),
    "attention": (nn.Sequential(Attention(), nn.Linear(784, 2)), heads(2, 14) + 784 * 2),
    # What a mask hides is multiplied all the same.
    "causal": (nn.Sequential(Attention(causal=True), nn.Linear(784, 2)), heads(2, 14) + 784 * 2),
    "heads": (Heads(weights=False), MULTIHEAD),
    "heads and weights": (Heads(weights=True), MULTIHEAD),
    "encoder": (
        nn.Sequential(
            nn.Flatten(1, 2), nn.TransformerEncoderLayer(28, 4, 16, batch_first=True), nn.Flatten()
        ),
        MULTIHEAD + 28 * 28 * 16 + 28 * 16 * 28,
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_multiply_adds_are_those_of_a_pencil(name: str) -> None:
    network, expected = NETWORKS[name]
    task = Classification(network, classes("0123456789", 1, 28, 28)).eval()

    rows = summarize(task, {"input": torch.rand(3, 1, 28, 28)}).rows

    assert rows[-1][3] == expected
    assert torch.backends.mha.get_fastpath_enabled()


class Several(nn.Module):
    """A layer that answers by name, and has nothing at all to say first."""

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor | None]:
        return {"nothing": None, "answer": images.flatten(1)[:, :10]}


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = Several()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.layer(images)["answer"]
        return answer


def test_a_layer_may_answer_by_name() -> None:
    task = Classification(Named(), classes("0123456789", 1, 28, 28))
    rows = summarize(task, {"input": torch.rand(3, 1, 28, 28)}).rows
    assert rows[0][:2] == ("layer (Several)", "10")


def test_looking_changes_no_answer() -> None:
    task = Classification(NETWORKS["encoder"][0], classes("0123456789", 1, 28, 28)).eval()
    images = {"input": torch.rand(3, 1, 28, 28)}
    with torch.no_grad():
        before = task.forward(images)["logits"]
        summarize(task, images)
        torch.testing.assert_close(task.forward(images)["logits"], before, rtol=0, atol=0)
