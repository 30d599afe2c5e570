"""The table of layers: what each costs, whether or not torch's own counter sees into it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from dltrain.models.recurrent import GRU, LSTM, RNN, Recurrent
from dltrain.summary import summarise
from dltrain.tasks.classification import Classification
from dltrain.tasks.text import TextClassification
from tests.specs import words

WORDS, WIDTH, HIDDEN, STEPS = 50, 4, 8, 10


@pytest.mark.parametrize(("kind", "gates"), [(RNN, 1), (GRU, 3), (LSTM, 4)])
def test_a_recurrent_layer_multiplies_by_its_matrices_at_every_step(
    kind: type[Recurrent], gates: int
) -> None:
    model = kind(words(WORDS), 2, bidirectional=False, hidden_size=HIDDEN, embedding_size=WIDTH)
    task = TextClassification(model, ["no", "yes"], [str(word) for word in range(WORDS)])
    rows = summarise(task, {"input": torch.randint(2, WORDS, (3, STEPS))}).rows
    costs = {row[0]: row[3] for row in rows}
    layer = STEPS * gates * HIDDEN * (WIDTH + HIDDEN)
    assert costs[f"layers.0.0 ({kind.__name__})"] == layer
    assert costs["total"] == layer + HIDDEN * 2


class Attention(nn.Module):
    """Of pictures' rows, one head of 14 numbers at a time."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Pictures (n, 1, 28, 28) to (n, 2 * 28 * 14)."""
        heads = pictures.flatten(1, 2).unflatten(2, (2, 14)).transpose(1, 2)
        return functional.scaled_dot_product_attention(heads, heads, heads).flatten(1)


NETWORKS = {
    "linear": nn.Sequential(nn.Flatten(), nn.Linear(784, 10)),
    "no bias": nn.Sequential(nn.Flatten(), nn.Linear(784, 10, bias=False)),
    "convolution": nn.Sequential(nn.Conv2d(1, 8, 5, stride=2, padding=1, dilation=2), nn.Flatten()),
    "groups": nn.Sequential(nn.Conv2d(1, 8, 3), nn.Conv2d(8, 4, 3, groups=4), nn.Flatten()),
    "transposed": nn.Sequential(nn.Conv2d(1, 6, 3), nn.ConvTranspose2d(6, 4, 4, 2), nn.Flatten()),
    "in groups": nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.ConvTranspose2d(6, 4, 4, 2, groups=2), nn.Flatten()
    ),
    "rows": nn.Sequential(nn.Flatten(1, 2), nn.Conv1d(28, 4, 3), nn.Linear(26, 5), nn.Flatten()),
    "bilinear": nn.Sequential(Attention(), nn.Linear(784, 2)),
    "encoder": nn.Sequential(
        nn.Flatten(1, 2), nn.TransformerEncoderLayer(28, 4, 16, batch_first=True), nn.Flatten()
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_multiply_adds_are_half_of_what_torch_counts(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Classification(NETWORKS[name], [str(n) for n in range(10)]).eval()
    pictures = torch.rand(3, 1, 28, 28)

    rows = summarise(task, {"input": pictures}).rows

    assert torch.backends.mha.get_fastpath_enabled()
    # It cannot look into these kernels; we look again without them.
    monkeypatch.setattr(torch.backends.mha, "_is_fastpath_enabled", False)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        task.predict({"input": pictures[:1]})
    assert rows[-1][3] * 2 == counter.get_total_flops() > 0
